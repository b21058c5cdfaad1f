/** The comparison as one HTML page that needs nothing else. */

import { VERSION } from "../agent/version.ts";
import { createPolicy } from "../policies/registry.ts";
import { agreement } from "../sim/experiments/agreement.ts";
import type { DelaysReport } from "../sim/experiments/delays.ts";
import type { StormReport } from "../sim/experiments/storm.ts";
import type { RecoveryReport } from "../sim/experiments/trials.ts";
import { PAUSE_MS } from "./experiments.ts";
import type { ByPolicy, Failover, Found, Measured, RunDescription } from "./measured.ts";
import { PAPER_BEST_TWO } from "./paper_figures.ts";

/** A figure with its caption in HTML. */
export interface PageFigure {
  /** Without folder. */
  readonly file: string;
  readonly caption: string;
  readonly svg: string;
}

/** How often curves of one distribution may be called different. */
const ALPHA = 0.01;

const STYLE = `body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;max-width:62rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem;border-bottom:2px solid #e4e7eb}table{border-collapse:collapse;margin:.6rem 0;font-size:14px}
th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #e4e7eb;font-variant-numeric:tabular-nums}
td{white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{vertical-align:bottom}code{background:#f2f4f7;padding:0 .2rem}
figure{margin:1.2rem 0}figcaption{color:#52606d}svg{max-width:100%;height:auto}.best{font-weight:bold;color:#14705b}
.bad{color:#c0392b;font-weight:bold}.lab{color:#a86b00}.wide{overflow-x:auto}dt{font-weight:bold}dd{margin:0 0 .3rem 1rem}`;

/** The page. Each figure stands where its key is asked for. */
export function renderPage(run: RunDescription, measured: Measured, figures: ReadonlyMap<string, PageFigure>): string {
  const common = `--profile ${run.profile} --seed ${run.seed}`;
  const inTestbed = measured.latenessMs !== undefined;
  const figure = (key: string): string => {
    const found = figures.get(key);
    return found === undefined ? "" : `<figure>${found.svg}<figcaption>${found.caption}</figcaption></figure>`;
  };
  const parts = [
    `<h1>Path selection policies compared</h1>`,
    `<p>When the path between two multihomed hosts dies, shim6 (RFC 5533) moves their traffic to another pair of
addresses, and REAP (RFC 5534) finds out which pairs work by sending probes. In which order the pairs are tried, and how
quickly, is a policy. This page sets policies against each other and against the measurements of LinShim6 with which this
question was first studied (<q>the paper</q>).</p>`,
    `<dl>${
      run.policies.map((name) => `<dt>${name}</dt><dd>${escape(createPolicy(name).summary)}</dd>`).join("\n")
    }</dl>`,
    `<h2>In short</h2>`,
    `<p>95th percentile of the exploration time, and probes of both hosts for each recovery; simulated. The quickest and the
thriftiest of each column stand out.</p>`,
    summaryTable(run, measured),
    ...measured.recoveries.flatMap(({ experiment, found }) => [
      `<h2>${capital(experiment.title)}</h2>`,
      commands(experiment.command, `--trials ${run.trials}`, `--trials ${run.labTrials}`, common, inTestbed),
      recoveryTable(found),
      figure(experiment.key),
    ]),
    `<h2>Paths with different delays</h2>`,
    `<p>Path i of nine has a one-way delay of 10 i ms; the paths in use break, again and again. The paper:
${percent(PAPER_BEST_TWO.random)} best two with probes 500 ms apart, ${percent(PAPER_BEST_TWO.burst4)} with a burst of
four. A perfect choice would alternate between the two best.</p>`,
    commands("delays", `--failures ${run.trials}`, `--failures ${run.labTrials}`, common, inTestbed),
    delaysTable(measured.delays),
    figure("figure6"),
    figure("figure7"),
    `<h2>A storm</h2>`,
    `<p>A host with ${run.stormContexts} peers, two locators at each end, loses the provider that all its contexts use, in
silence. Simulated only: the testbed has no room for so many peers.</p>`,
    `<p><code>shim6-agent sim storm --contexts ${run.stormContexts} --delay-ms 5-50 ${common} --policy …</code></p>`,
    stormTable(measured.storm),
    figure("storm"),
    `<h2>The paper's exploration times</h2>`,
    `<p><code>random</code> with the profile <code>paper</code>: n of 18 unidirectional paths break, among them both in
use.</p>`,
    figure("figure5"),
    curveAgreement(measured),
    ...(inTestbed
      ? [
        `<h2>A stream over a failure</h2>`,
        `<p>Two real agents in network namespaces, a TCP stream of some 50 Mbit/s, and the path in use dies in silence: no
link event, no ICMPv6 error. One run each. Silence is what the receiving program sees; it is the sum of detection,
exploration, and what it takes TCP to resume.</p>`,
        `<p><code>shim6-agent lab failover --delay-ms D --profile P --policy …</code></p>`,
        figure("figure4"),
        failoverTable(measured.paperFailovers),
        figure("figure4-policies"),
        failoverTable(measured.failovers),
      ]
      : []),
    `<h2>How far to trust this</h2>`,
    `<ul>
<li>shim6-agent ${VERSION}; profile <code>${run.profile}</code>, seed ${run.seed}. Simulated hosts run the engine of the
agent in virtual time, with one packet a second each way, as in the paper. With ${run.trials} failures a share is uncertain
by up to ${percent(1 / Math.sqrt(run.trials))} (95 %), and the 95th percentile rests on the slowest
${Math.max(1, Math.round(run.trials / 20))} failures.</li>
<li>Exploration counts from leaving Operational until being back; recovery from the failure until both hosts send on
paths that work; messages are the probes of both hosts per failure. Excess RTT is by how much the chosen paths are longer
than the best ones that worked.</li>
<li>The simulated paths have a fixed delay and lose nothing; hosts need no time for a packet.</li>
<li>Background probes of policies that send any are not failures' messages unless they fall between failure and recovery.</li>
<li>The paper's numbers are those of its text, marked where they belong. Its hosts ran other code on other machines;
docs/paper.md says which reading of the protocol each of them needs, and what does not match.</li>
<li>${
      inTestbed
        ? `In the testbed each policy had ${run.labTrials} failures in each experiment: its shares are uncertain by
${percent(1 / Math.sqrt(run.labTrials))}, and its p95 is nearly its longest. Its own timers were up to
${ms(measured.latenessMs!)} late (95 %): it says nothing about less. A failover is a single run: an example, not a
distribution.`
        : "Nothing on this page was measured in the testbed (<code>--lab</code> does that), so figure 4 is missing."
    }</li></ul>`,
  ];
  return `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Path selection policies compared</title>
<style>${STYLE}</style></head><body>
${parts.filter((part) => part !== "").join("\n")}
</body></html>
`;
}

/** The commands that give the same numbers. */
function commands(what: string, count: string, labCount: string, common: string, inTestbed: boolean): string {
  const lab = inTestbed
    ? `<br><code>shim6-agent lab ${what} ${labCount} ${common} --pause-s ${PAUSE_MS / 1_000} --policy …</code>`
    : "";
  return `<p><code>shim6-agent sim ${what} ${count} ${common} --policy …</code>${lab}</p>`;
}

function summaryTable(run: RunDescription, { recoveries, delays, storm }: Measured): string {
  const columns = [
    ...recoveries.map(({ experiment, found }) => ({
      head: experiment.title,
      of: (policy: string) => figuresOf(found.simulated[policy]),
    })),
    { head: "paths with different delays", of: (policy: string) => figuresOf(delays.simulated[policy]) },
    {
      head: `a storm of ${run.stormContexts} contexts`,
      of: (policy: string) => ({
        timeMs: storm[policy].since_first_detection_ms.p95,
        messages: storm[policy].messages_per_recovery,
      }),
    },
  ].map(({ head, of }) => {
    const all = run.policies.map(of);
    const best = (key: "timeMs" | "messages") => Math.min(...all.map((figures) => figures[key]));
    return { head, all, timeMs: best("timeMs"), messages: best("messages") };
  });
  const mark = (text: string, isBest: boolean) => isBest ? `<span class="best">${text}</span>` : text;
  const rows = run.policies.map((policy, i) => [
    policy,
    ...columns.map(({ all, timeMs, messages }) =>
      `${mark(ms(all[i].timeMs), all[i].timeMs === timeMs)}<br>` +
      mark(all[i].messages.toFixed(1), all[i].messages === messages)
    ),
  ]);
  return `<div class="wide">${table(["policy", ...columns.map(({ head }) => head)], rows)}</div>`;
}

function figuresOf(report: RecoveryReport): { timeMs: number; messages: number } {
  return { timeMs: report.exploration_ms.p95, messages: report.messages_per_recovery };
}

/** A value of the simulator, and below it that of the testbed. */
function cell<R>({ simulated, testbed }: Found<R>, policy: string, text: (report: R) => string): string {
  const measured = testbed === undefined ? "" : `<br><span class="lab">${text(testbed[policy])}</span>`;
  return text(simulated[policy]) + measured;
}

function foundTable<R>(found: Found<R>, columns: readonly (readonly [string, (report: R) => string])[]): string {
  const note = found.testbed === undefined ? "" : `<p class="lab">The second line of each row is the testbed's.</p>`;
  return note + table(
    ["policy", ...columns.map(([head]) => head)],
    Object.keys(found.simulated).map((policy) => [policy, ...columns.map(([, text]) => cell(found, policy, text))]),
  );
}

function recoveryTable(found: Found<RecoveryReport>): string {
  return foundTable(found, [
    ["exploration p50", (r) => ms(r.exploration_ms.p50)],
    ["p95", (r) => ms(r.exploration_ms.p95)],
    ["longest", (r) => ms(r.exploration_ms.max)],
    ["best possible p95", (r) => ms(r.best_rtt_ms.p95)],
    ["recovery p95", (r) => ms(r.recovery_ms.p95)],
    ["messages", (r) => r.messages_per_recovery.toFixed(1)],
    ["excess RTT", (r) => ms(r.excess_rtt_ms)],
    ["unrecovered", (r) => r.unrecovered === 0 ? "0" : `<span class="bad">${r.unrecovered}</span>`],
  ]);
}

function delaysTable(found: Found<DelaysReport>): string {
  return foundTable(found, [
    ["best two", (r) => percent(r.best_two_share)],
    ["excess RTT", (r) => ms(r.excess_rtt_ms)],
    ["exploration p95", (r) => ms(r.exploration_ms.p95)],
    ["messages", (r) => r.messages_per_recovery.toFixed(1)],
  ]);
}

function stormTable(results: ByPolicy<StormReport>): string {
  return foundTable({ simulated: results }, [
    ["since the first detection p95", (r) => ms(r.since_first_detection_ms.p95)],
    ["recovery p95", (r) => ms(r.recovery_ms.p95)],
    ["messages per context", (r) => r.messages_per_recovery.toFixed(2)],
    ["most in 100 ms", (r) => String(r.peak_messages_per_100_ms)],
    ["most in 1 s", (r) => String(r.peak_messages_per_s)],
    ["unrecovered", (r) => String(r.unrecovered)],
  ]);
}

function failoverTable(runs: readonly Failover[]): string {
  if (runs.length === 0) return "";
  return table(
    ["policy", "profile", "one-way delay", "silence", "detection", "exploration", "resume", "stream"],
    runs.map((r) => [
      r.policy,
      r.profile,
      `${r.delay_ms} ms`,
      ...[r.silence_ms, r.detection_ms, r.exploration_ms, r.resume_ms].map(ms),
      r.intact ? "intact" : `<span class="bad">damaged</span>`,
    ]),
  );
}

/** Whether the testbed's curves of figure 5 are the simulator's. */
function curveAgreement({ curves, latenessMs = 0 }: Measured): string {
  const sentences = curves.flatMap(({ broken, simulated, testbed }) => {
    if (testbed === undefined) return [];
    const { gap, bound, agrees } = agreement(simulated, testbed, latenessMs, ALPHA);
    return [
      `n = ${broken}: ${agrees ? "no difference that accident would not explain" : `<span class="bad">different</span>`}
(${testbed.length} explorations, largest gap ${gap.toFixed(2)}, where accident alone stays below ${bound.toFixed(2)})`,
    ];
  });
  if (sentences.length === 0) return "";
  return `<p>Simulator and testbed, two-sample Kolmogorov-Smirnov test at ${percent(ALPHA)} with ${
    ms(latenessMs)
  } of room for
the machine's noise: ${sentences.join("; ")}.</p>`;
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

function capital(text: string): string {
  return text[0].toUpperCase() + text.slice(1);
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
