/** The comparison as one HTML page that needs nothing else. */

import { VERSION } from "../agent/version.ts";
import type { DelaysReport } from "../sim/experiments/delays.ts";
import type { RecoveryReport } from "../sim/experiments/trials.ts";
import { PAPER_BEST_TWO } from "./paper_figures.ts";

/** What the simulator gave. */
export interface Measured {
  readonly experiments: readonly {
    readonly title: string;
    /** The command that gives the same, less policy, profile, trials and seed. */
    readonly command: string;
    readonly results: Readonly<Record<string, RecoveryReport>>;
  }[];
  /** By policy. */
  readonly delays: Readonly<Record<string, DelaysReport>>;
  /** Exploration times of `random` in ms, by the number of broken paths. */
  readonly distributions: readonly { readonly broken: number; readonly timesMs: readonly number[] }[];
}

/** What a failover in the testbed gave. Times in ms. */
export interface TestbedRun {
  readonly policy: string;
  readonly silence_ms: number;
  readonly detection_ms: number;
  readonly exploration_ms: number;
  readonly resume_ms: number;
  readonly intact: boolean;
  readonly kill_t_ms: number;
  readonly timeline: readonly { readonly t_ms: number; readonly bytes: number }[];
}

/** A figure with its caption in HTML. */
export interface PageFigure {
  readonly file: string;
  readonly caption: string;
  readonly svg: string;
}

/** What was asked for. */
export interface RunDescription {
  readonly policies: readonly string[];
  readonly profile: string;
  readonly trials: number;
  readonly seed: number;
}

const STYLE = `body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:.6rem 0}th,td{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #e4e7eb}
th:first-child,td:first-child{text-align:left}code{background:#f2f4f7;padding:0 .2rem}figure{margin:1.5rem 0}
figcaption{color:#52606d}svg{max-width:100%;height:auto}td.bad{color:#c0392b;font-weight:bold}`;

/** The page. */
export function renderPage(
  run: RunDescription,
  measured: Measured,
  testbed: readonly TestbedRun[],
  figures: readonly PageFigure[],
): string {
  const common = `--profile ${run.profile} --seed ${run.seed}`;
  const parts = [
    `<h1>Path selection policies compared</h1>`,
    `<p>shim6-agent ${VERSION}; profile <code>${run.profile}</code>, ${run.trials} failures of each policy in each
experiment, seed ${run.seed}. Simulated hosts run the engine of the agent in virtual time, with one packet a second each
way. Exploration counts from leaving Operational until being back; recovery from the failure until both hosts send on
paths that work; messages are the probes of both hosts per failure.</p>`,
    ...measured.experiments.flatMap(({ title, command, results }) => [
      `<h2>${title}</h2>`,
      `<p><code>shim6-agent ${command} --trials ${run.trials} ${common} --policy …</code></p>`,
      recoveryTable(results),
    ]),
    `<h2>Paths with different delays</h2>`,
    `<p><code>shim6-agent sim delays --failures ${run.trials} ${common} --policy …</code>: path i of nine has a one-way
delay of 10 i ms. The paper: ${percent(PAPER_BEST_TWO.random)} best two with probes 500 ms apart,
${percent(PAPER_BEST_TWO.burst4)} with a burst of four.</p>`,
    delaysTable(measured.delays),
    ...(testbed.length === 0 ? [] : [
      `<h2>Testbed</h2>`,
      `<p>Two real agents in network namespaces, a TCP stream, the path in use dies in silence; one run each.
<code>shim6-agent lab failover --profile ${run.profile} --policy …</code></p>`,
      testbedTable(testbed),
    ]),
    `<h2>Figures</h2>`,
    ...figures.map(({ svg, caption }) => `<figure>${svg}<figcaption>${caption}</figcaption></figure>`),
    `<h2>How far to trust this</h2>`,
    `<ul><li>With ${run.trials} failures a share is uncertain by up to
${percent(1 / Math.sqrt(run.trials))} (95 %), and the 95th percentile rests on the slowest
${Math.max(1, Math.round(run.trials / 20))}.</li>
<li>The simulated paths have a fixed delay and lose nothing; hosts need no time for a packet.</li>
<li>Background probes of policies that send any are not failures' messages unless they fall between failure and recovery.</li>
<li>The paper's numbers are those of its text, marked where they belong. Its hosts ran other code on other machines;
docs/paper.md says which reading of the protocol each of them needs, and what does not match.</li>
<li>${
      testbed.length === 0
        ? "Nothing on this page was measured in the testbed (<code>--lab</code> does that), so figure 4 is missing."
        : "A testbed run is a single failure: an example, not a distribution."
    }</li></ul>`,
  ];
  return `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Path selection policies compared</title>
<style>${STYLE}</style></head><body>
${parts.join("\n")}
</body></html>
`;
}

function recoveryTable(results: Readonly<Record<string, RecoveryReport>>): string {
  const heads = [
    "policy",
    "exploration p50",
    "p95",
    "longest",
    "recovery p95",
    "messages",
    "excess RTT",
    "unrecovered",
  ];
  return table(
    heads,
    Object.entries(results).map(([policy, r]) => [
      policy,
      ms(r.exploration_ms.p50),
      ms(r.exploration_ms.p95),
      ms(r.exploration_ms.max),
      ms(r.recovery_ms.p95),
      r.messages_per_recovery.toFixed(1),
      ms(r.excess_rtt_ms),
      String(r.unrecovered),
    ]),
  );
}

function delaysTable(results: Readonly<Record<string, DelaysReport>>): string {
  return table(
    ["policy", "best two", "excess RTT", "exploration p95", "messages"],
    Object.entries(results).map(([policy, r]) => [
      policy,
      percent(r.best_two_share),
      ms(r.excess_rtt_ms),
      ms(r.exploration_ms.p95),
      r.messages_per_recovery.toFixed(1),
    ]),
  );
}

function testbedTable(runs: readonly TestbedRun[]): string {
  return table(
    ["policy", "silence", "detection", "exploration", "resume", "stream"],
    runs.map((r) => [
      r.policy,
      ...[r.silence_ms, r.detection_ms, r.exploration_ms, r.resume_ms].map(ms),
      r.intact ? "intact" : "damaged",
    ]),
  );
}

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map((cell) => `<${tag}>${cell}</${tag}>`).join("")}</tr>`;
  return `<table>\n${[row(heads, "th"), ...rows.map((cells) => row(cells, "td"))].join("\n")}\n</table>`;
}

function ms(value: number): string {
  if (!Number.isFinite(value)) return "–";
  return value >= 1_000 ? `${(value / 1_000).toFixed(1)} s` : `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
