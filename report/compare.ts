/** `shim6-agent compare --out DIR`: all policies on all experiments, as JSON, SVG and one HTML page. */

import { parseArgs } from "@std/cli";
import { CommandError, UsageError } from "../errors.ts";
import { mustUndo, withCleanEnd } from "../lab/clean_end.ts";
import { createPolicy, policyNames, UnknownPolicy } from "../policies/registry.ts";
import { type Profile, PROFILES } from "../reap/profile.ts";
import { type DelaysReport, delaysReport, runDelays } from "../sim/experiments/delays.ts";
import { runExploration } from "../sim/experiments/exploration.ts";
import type { FailureOutcome } from "../sim/experiments/host_pair.ts";
import { runProvider } from "../sim/experiments/provider.ts";
import { explorationTimes, type RecoveryReport, recoveryReport } from "../sim/experiments/trials.ts";
import { type Figures, loadFigures } from "./figures.ts";
import { type Measured, type PageFigure, renderPage, type TestbedRun } from "./page.ts";

const HELP = `usage: shim6-agent compare --out DIR [options]

runs path selection policies through the simulator's experiments and writes compare.json, figures (*.svg) and index.html
to DIR; only complete files are put there

  --out DIR        where to; made if need be
  --policies A,B   which ones (those without a number, and burst4)
  --profile P      timers (paper)
  --trials N       failures of each policy in each experiment (500)
  --quick          30 failures unless --trials says otherwise, and fewer curves
  --seed S         seed of all randomness (1); without --lab the same seed gives the same octets
  --lab            also in the testbed: a TCP failover with each policy (root)`;

const TRIALS = 500, QUICK_TRIALS = 30;
const DELAY_MS = [5, 50] as const;
const PAUSE_MS = 20_000;
/** The numbers of broken paths whose distributions the paper draws, or some of them. */
const CURVES = [1, 2, 4, 8, 12, 16], QUICK_CURVES = [2, 16];
const FAILOVER_MS = 9_000;

/** What to compare. */
export interface CompareOptions {
  readonly policies: readonly string[];
  readonly profile: Profile;
  readonly trials: number;
  readonly seed: number;
  readonly curves: readonly number[];
  /** Told what begins. */
  readonly onProgress: (what: string) => void;
}

/** Runs `compare` with its arguments. Returns the exit code; throws UsageError and CommandError. */
export async function compareCommand(args: string[]): Promise<number> {
  const flags = parseArgs(args, {
    string: ["out", "policies", "profile", "trials", "seed"],
    boolean: ["quick", "lab", "help"],
    unknown: (flag: string) => {
      throw new UsageError(`unknown argument ${flag}; shim6-agent compare --help lists the options`);
    },
  });
  if (flags.help) {
    console.log(HELP);
    return 0;
  }
  const out = flags.out;
  if (!out) throw new UsageError("compare needs --out DIR");
  const profileName = flags.profile ?? "paper";
  if (!Object.hasOwn(PROFILES, profileName)) {
    throw new UsageError(`unknown profile ${profileName}; there are ${Object.keys(PROFILES).join(", ")}`);
  }
  if (flags.lab && Deno.uid() !== 0) throw new UsageError("--lab needs root");
  const options: CompareOptions = {
    policies: readPolicies(flags.policies),
    profile: PROFILES[profileName],
    trials: wholeNumber("trials", flags.trials, flags.quick ? QUICK_TRIALS : TRIALS, 1),
    seed: wholeNumber("seed", flags.seed, 1, 0),
    curves: flags.quick ? QUICK_CURVES : CURVES,
    onProgress: (what) => console.error(`compare: ${what}`),
  };
  // Nothing is on disk yet, so a signal may end the program at once.
  const measured = runComparison(options);
  await withCleanEnd(async () => {
    const testbed = flags.lab ? await runTestbed(options) : [];
    options.onProgress("figures");
    const files = renderComparison(options, measured, testbed, await loadFigures());
    await writeComplete(out, files);
  });
  console.log(`${out}/index.html`);
  return 0;
}

function readPolicies(text: string | undefined): string[] {
  if (text === undefined) return policyNames().filter((name) => !/\d$/.test(name) || name === "burst4");
  const names = text.split(",");
  for (const name of names) {
    try {
      createPolicy(name);
    } catch (error) {
      if (error instanceof UnknownPolicy) throw new UsageError(error.message);
      throw error;
    }
  }
  return [...new Set(names)];
}

function wholeNumber(name: string, text: string | undefined, otherwise: number, least: number): number {
  if (text === undefined) return otherwise;
  if (!/^\d{1,9}$/.test(text) || Number(text) < least) {
    throw new UsageError(`--${name} ${text}: a whole number, ${least} or more`);
  }
  return Number(text);
}

/** Everything that is simulated. */
export function runComparison(options: CompareOptions): Measured {
  const { policies, profile, trials, seed, curves, onProgress } = options;
  const common = { profile, trials, seed, pauseMs: PAUSE_MS };
  const report = (outcomes: FailureOutcome[]) => recoveryReport(outcomes, explorationTimes(outcomes));
  const perPolicy = <R extends RecoveryReport>(title: string, run: (policy: string) => R): Record<string, R> =>
    Object.fromEntries(policies.map((policy) => {
      onProgress(`${title}: ${policy}`);
      return [policy, run(policy)];
    }));
  const make = (name: string) => () => createPolicy(name);
  const delay = `--delay-ms ${DELAY_MS.join("-")}`;
  const experiments = [
    ...[2, 8, 16].map((broken) => ({
      title: `${broken} of 18 unidirectional paths break`,
      command: `sim exploration --broken ${broken} ${delay}`,
      results: perPolicy(`exploration, n = ${broken}`, (policy) =>
        report(
          runExploration({ ...common, policy: make(policy), locators: [3, 3], broken, delayMs: DELAY_MS }),
        )),
    })),
    ...([[2, 2], [3, 3], [4, 4]] as const).map((locators) => ({
      title: `a provider dies, ${locators.join("x")} locators`,
      command: `sim provider --locators ${locators.join("x")} ${delay}`,
      results: perPolicy(
        `provider, ${locators.join("x")}`,
        (policy) => report(runProvider({ ...common, policy: make(policy), locators, down: 1, delayMs: DELAY_MS })),
      ),
    })),
  ];
  const delays = perPolicy<DelaysReport>(
    "delays",
    (policy) => delaysReport(runDelays({ ...common, policy: make(policy) })),
  );
  const distributions = curves.map((broken) => {
    onProgress(`the paper's figure 5: random, n = ${broken}`);
    const run = runExploration({
      ...common,
      profile: PROFILES.paper,
      policy: make("random"),
      locators: [3, 3],
      broken,
      delayMs: [1, 1],
    });
    return { broken, timesMs: explorationTimes(run) };
  });
  return { experiments, delays, distributions };
}

/** A failover of a TCP stream with each policy, on real agents. */
async function runTestbed(options: CompareOptions): Promise<TestbedRun[]> {
  const { runFailover, FAILOVER_DEFAULTS, PACE } = await import("../lab/failover.ts");
  const { thisProgram } = await import("../lab/self.ts");
  const runs: TestbedRun[] = [];
  for (const policy of options.policies) {
    options.onProgress(`testbed, failover: ${policy}`);
    const result = await runFailover({
      ...FAILOVER_DEFAULTS,
      ...PACE.tcp,
      policy,
      profile: options.profile.name,
      durationMs: FAILOVER_MS,
      killAtMs: FAILOVER_MS / 3,
      name: "shim6-compare",
      executable: thisProgram(),
    });
    runs.push(result);
  }
  return runs;
}

/** The files, by name. */
export function renderComparison(
  options: CompareOptions,
  measured: Measured,
  testbed: readonly TestbedRun[],
  figures: Figures,
): Map<string, string> {
  const drawn: PageFigure[] = [{
    file: "figure5.svg",
    caption:
      "Figure 5 of the paper redrawn: exploration times of <code>random</code> with the profile <code>paper</code>" +
      " and n broken paths. Crosses: the paper's own numbers. Times below 1 ms are drawn at 1 ms.",
    svg: figures.explorationTimes(measured.distributions),
  }];
  for (const [policy, report] of Object.entries(measured.delays)) {
    drawn.push({
      file: `figure6-${policy}.svg`,
      caption: `Figure 6: round-trip times that <code>${policy}</code> chose.`,
      svg: figures.roundTrips(policy, report.rtt_histogram),
    }, {
      file: `figure7-${policy}.svg`,
      caption: `Figure 7: one-way paths that <code>${policy}</code> chose.`,
      svg: figures.oneWay(policy, report.one_way_share),
    });
  }
  for (const [i, { title, results }] of measured.experiments.entries()) {
    const points = Object.entries(results).map(([policy, report]) => ({
      policy,
      p95Ms: report.exploration_ms.p95,
      messages: report.messages_per_recovery,
    }));
    drawn.push({
      file: `pareto-${i + 1}.svg`,
      caption: `Time against messages: ${title}. Nearer to the lower left is better.`,
      svg: figures.pareto(points, `Time against messages: ${title}`),
    });
  }
  for (const { policy, timeline, kill_t_ms, silence_ms } of testbed) {
    drawn.push({
      file: `figure4-${policy}.svg`,
      caption: `Figure 4: a TCP stream in the testbed with <code>${policy}</code>; the receiver heard nothing for ` +
        `${Math.round(silence_ms)} ms.`,
      svg: figures.throughput(timeline, kill_t_ms, `Figure 4: throughput over a failover with ${policy}`),
    });
  }
  const { policies, profile, trials, seed } = options;
  const run = { policies, profile: profile.name, trials, seed };
  const { experiments, delays } = measured;
  const json = { ...run, experiments, delays, testbed: testbed.map(({ timeline: _, ...rest }) => rest) };
  return new Map([
    ["compare.json", JSON.stringify(json, null, 2) + "\n"],
    ...drawn.map(({ file, svg }) => [file, svg + "\n"] as const),
    ["index.html", renderPage(run, measured, testbed, drawn)],
  ]);
}

/** Puts the files into a folder, each at once and whole. Throws CommandError. */
async function writeComplete(out: string, files: ReadonlyMap<string, string>): Promise<void> {
  try {
    await Deno.mkdir(out, { recursive: true });
    const work = await Deno.makeTempDir({ dir: out, prefix: ".compare-" });
    const removeWork = mustUndo(() => Deno.remove(work, { recursive: true }));
    try {
      for (const [name, text] of files) await Deno.writeTextFile(`${work}/${name}`, text);
      for (const name of files.keys()) await Deno.rename(`${work}/${name}`, `${out}/${name}`);
    } finally {
      await removeWork();
    }
  } catch (error) {
    throw new CommandError(`cannot write to ${out}: ${error instanceof Error ? error.message : error}`);
  }
}
