/** `shim6-agent compare --out DIR`: all policies on all experiments, as JSON, SVG and one HTML page. */

import { parseArgs } from "@std/cli";
import { CommandError, UsageError } from "../errors.ts";
import { mustUndo, withCleanEnd } from "../lab/clean_end.ts";
import { Progress } from "../lab/progress.ts";
import type { Policy } from "../policies/policy.ts";
import { createPolicy, policyNames, UnknownPolicy } from "../policies/registry.ts";
import { type Profile, PROFILES } from "../reap/profile.ts";
import { type DelaysReport, delaysReport, runDelays } from "../sim/experiments/delays.ts";
import { runExploration } from "../sim/experiments/exploration.ts";
import { quantiles } from "../sim/experiments/statistics.ts";
import { runStorm, stormReport } from "../sim/experiments/storm.ts";
import { explorationTimes, recoveryReport, runTrials } from "../sim/experiments/trials.ts";
import { DELAY_MS, drawDelay, PAUSE_MS, RECOVERY_EXPERIMENTS } from "./experiments.ts";
import { type Figures, loadFigures, type ParetoPoint } from "./figures.ts";
import type { ByPolicy, Failover, Found, Measured, RunDescription } from "./measured.ts";
import { type PageFigure, renderPage } from "./page.ts";

const HELP = `usage: shim6-agent compare --out DIR [options]

runs path selection policies through the simulator's experiments and writes compare.json, figures (*.svg) and index.html
to DIR; only complete files are put there

  --out DIR        where to; made if need be
  --policies A,B   which ones (those without a number, and burst4)
  --profile P      timers (paper)
  --trials N       failures of each policy in each experiment (500)
  --quick          30 failures unless --trials says otherwise, fewer curves, a smaller storm
  --seed S         seed of all randomness (1); without --lab the same seed gives the same octets
  --lab            also in the testbed, on real agents (root): takes some 35 minutes; with --quick only two of the
                   experiments and a failover with each policy, some 5 minutes
  --lab-trials N   failures of each policy in each experiment there (18; 3 with --quick)
  --name N         what the testbed's namespaces are called (shim6-compare)`;

const TRIALS = 500, QUICK_TRIALS = 30;
const LAB_TRIALS = 18, QUICK_LAB_TRIALS = 3;
const STORM_CONTEXTS = 1_000, QUICK_STORM_CONTEXTS = 100;
/** The numbers of broken paths whose distributions the paper draws, or some of them. */
const CURVES = [1, 2, 4, 8, 12, 16], QUICK_CURVES = [2, 16];

/** What to compare. */
export interface CompareOptions extends Omit<RunDescription, "profile"> {
  readonly profile: Profile;
  readonly curves: readonly number[];
  /** Told what begins. */
  readonly onProgress: (what: string) => void;
}

/** Runs `compare` with its arguments. Returns the exit code; throws UsageError and CommandError. */
export async function compareCommand(args: string[]): Promise<number> {
  const flags = parseArgs(args, {
    string: ["out", "policies", "profile", "trials", "lab-trials", "name", "seed"],
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
  const progress = new Progress("compare");
  const options: CompareOptions = {
    policies: readPolicies(flags.policies),
    profile: PROFILES[profileName],
    trials: wholeNumber("trials", flags.trials, flags.quick ? QUICK_TRIALS : TRIALS, 1),
    labTrials: wholeNumber("lab-trials", flags["lab-trials"], flags.quick ? QUICK_LAB_TRIALS : LAB_TRIALS, 1),
    stormContexts: flags.quick ? QUICK_STORM_CONTEXTS : STORM_CONTEXTS,
    seed: wholeNumber("seed", flags.seed, 1, 0),
    curves: flags.quick ? QUICK_CURVES : CURVES,
    onProgress: (what) => progress.at(what),
  };
  const run: RunDescription = { ...options, profile: profileName };
  // Nothing is on disk yet, so a signal may end the program at once.
  const simulated = runComparison(options);
  await withCleanEnd(async () => {
    let measured = simulated;
    if (flags.lab) {
      const { withTestbed } = await import("./testbed.ts");
      measured = await withTestbed(simulated, {
        ...run,
        quick: flags.quick,
        name: flags.name ?? "shim6-compare",
        onProgress: options.onProgress,
      });
    }
    options.onProgress("figures");
    const files = renderComparison(run, measured, await loadFigures());
    await writeComplete(out, files);
  });
  progress.end();
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
  const { policies, profile, trials, seed, curves, stormContexts, onProgress } = options;
  const common = { profile, trials, seed, pauseMs: PAUSE_MS };
  const perPolicy = <R>(title: string, run: (policy: () => Policy) => R): ByPolicy<R> =>
    Object.fromEntries(policies.map((policy) => {
      onProgress(`${title}: ${policy}`);
      return [policy, run(() => createPolicy(policy))];
    }));
  return {
    recoveries: RECOVERY_EXPERIMENTS.map((experiment) => {
      const { title, locators, kind } = experiment;
      const simulated = perPolicy(title, (policy) => {
        const outcomes = runTrials({ ...common, policy, locators }, drawDelay, kind());
        return recoveryReport(outcomes, explorationTimes(outcomes));
      });
      return { experiment, found: { simulated } };
    }),
    delays: {
      simulated: perPolicy("paths with different delays", (policy) => delaysReport(runDelays({ ...common, policy }))),
    },
    storm: perPolicy("a storm", (policy) => {
      const storm = {
        ...common,
        policy,
        trials: 1,
        contexts: stormContexts,
        delayMs: DELAY_MS,
        notice: "silent",
      } as const;
      return stormReport(runStorm(storm));
    }),
    curves: curves.map((broken) => {
      onProgress(`the paper's figure 5: n = ${broken}`);
      const outcomes = runExploration({
        ...common,
        profile: PROFILES.paper,
        policy: () => createPolicy("random"),
        locators: [3, 3],
        broken,
        delayMs: [1, 1],
      });
      return { broken, simulated: explorationTimes(outcomes) };
    }),
    paperFailovers: [],
    failovers: [],
  };
}

/** The files, by name. */
export function renderComparison(
  run: RunDescription,
  measured: Measured,
  figures: Figures,
): Map<string, string> {
  const drawn = new Map<string, PageFigure>();
  const add = (key: string, svg: string, caption: string) => drawn.set(key, { file: `${key}.svg`, svg, caption });
  if (measured.paperFailovers.length > 0) {
    add(
      "figure4",
      figures.throughput(
        measured.paperFailovers,
        (row) => `${row.policy}, ${row.delay_ms} ms each way`,
        "Figure 4: throughput of a TCP stream over a failure",
        true,
      ),
      "Figure 4 of the paper redrawn: throughput of a TCP stream when its path breaks, with the paper's policy and timers," +
        " for several delays of the paths. As in the paper the gap is the Send Timer of 3 s, and little more.",
    );
  }
  if (measured.failovers.length > 0) {
    add(
      "figure4-policies",
      figures.throughput(
        measured.failovers,
        (row) => `${row.policy}, ${row.profile}`,
        "Figure 4 for each policy",
        false,
      ),
      "The same for each policy and profile. What makes the gap is how the failure is detected; the policy decides on the rest.",
    );
  }
  const inTestbed = measured.curves.some(({ testbed }) => testbed !== undefined);
  add(
    "figure5",
    figures.explorationTimes(measured.curves),
    "Figure 5 of the paper redrawn: exploration times with n broken paths. Crosses are the paper's own numbers for n = 2 and" +
      " n = 16. Times below 1 ms are drawn at 1 ms." + (inTestbed ? " Dotted: the same on real agents." : ""),
  );
  const { simulated, testbed } = measured.delays;
  const chosen = <R>(of: (report: DelaysReport) => R): Found<R> => {
    const each = (by: ByPolicy<DelaysReport>) => Object.fromEntries(Object.entries(by).map(([key, r]) => [key, of(r)]));
    return { simulated: each(simulated), ...(testbed === undefined ? {} : { testbed: each(testbed) }) };
  };
  add(
    "figure6",
    figures.roundTrips(chosen((report) => report.rtt_histogram)),
    "Figure 6 of the paper redrawn: round-trip times of the paths that each policy chose.",
  );
  add(
    "figure7",
    figures.oneWay(chosen((report) => report.one_way_share)),
    "Figure 7 of the paper redrawn: one-way delays of the paths that each policy chose. The paper gives the share of the" +
      " best two together; half of it is marked at each.",
  );
  const better = "Nearer to the lower left is better.";
  for (const { experiment: { key, title }, found } of measured.recoveries) {
    const name = `Time against messages: ${title}`;
    const points = pointsOf(found, (r) => ({ timeMs: r.exploration_ms.p95, messages: r.messages_per_recovery }));
    add(key, figures.pareto(points, name, "exploration time, 95th percentile (ms)"), `${name}. ${better}`);
  }
  const storm = pointsOf(
    { simulated: measured.storm },
    (r) => ({ timeMs: r.since_first_detection_ms.p95, messages: r.messages_per_recovery }),
  );
  const stormTitle = "Time against messages in a storm";
  const since = "from the first detection, 95th percentile (ms)";
  add("storm", figures.pareto(storm, stormTitle, since), `${stormTitle}. ${better}`);
  return new Map([
    ["compare.json", JSON.stringify(jsonOf(run, measured), null, 2) + "\n"],
    ...[...drawn.values()].map(({ file, svg }) => [file, svg + "\n"] as const),
    ["index.html", renderPage(run, measured, drawn)],
  ]);
}

function pointsOf<R>({ simulated, testbed }: Found<R>, of: (report: R) => ParetoPoint): Found<ParetoPoint> {
  const each = (by: ByPolicy<R>) => Object.fromEntries(Object.entries(by).map(([policy, r]) => [policy, of(r)]));
  return { simulated: each(simulated), ...(testbed === undefined ? {} : { testbed: each(testbed) }) };
}

/** All results but the single times and timelines. */
function jsonOf({ policies, profile, trials, labTrials, stormContexts, seed }: RunDescription, measured: Measured) {
  const withoutTimeline = ({ timeline: _, ...rest }: Failover) => rest;
  return {
    policies,
    profile,
    trials,
    seed,
    ...(measured.latenessMs === undefined
      ? {}
      : { testbed: { trials: labTrials, lateness_ms: { p95: measured.latenessMs } } }),
    experiments: measured.recoveries.map(({ experiment: { key, title, command }, found }) => ({
      key,
      title,
      command,
      ...found,
    })),
    delays: measured.delays,
    storm: { contexts: stormContexts, simulated: measured.storm },
    exploration_ms_by_broken: measured.curves.map(({ broken, simulated, testbed }) => ({
      broken,
      simulated: quantiles(simulated),
      ...(testbed === undefined ? {} : { testbed: quantiles(testbed) }),
    })),
    failovers: [...measured.paperFailovers, ...measured.failovers].map(withoutTimeline),
  };
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
