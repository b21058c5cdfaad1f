/** The part of a comparison that runs on real agents. */

import { preferThisThread } from "deno-tun";
import { FAILOVER_DEFAULTS, PACE, runFailover } from "../lab/failover.ts";
import { thisProgram } from "../lab/self.ts";
import { LAB_DELAYS } from "../lab/trial_commands.ts";
import { type LabTrialOptions, type LabTrials, runLabTrialsTogether } from "../lab/trials.ts";
import { delaysReport } from "../sim/experiments/delays.ts";
import { pathsBreak } from "../sim/experiments/failures.ts";
import { quantiles } from "../sim/experiments/statistics.ts";
import { explorationTimes, recoveryReport } from "../sim/experiments/trials.ts";
import { drawDelay, PAUSE_MS } from "./experiments.ts";
import type { ByPolicy, Curve, Failover, Measured, RunDescription } from "./measured.ts";

/** Agents are left in peace so long before the first failure in addition: some policies learn the paths in it. */
const SETTLE_MS = 10_000;
/** Testbeds of each policy, all policies at the same time, and of each curve of figure 5. */
const TESTBEDS = 3, CURVE_TESTBEDS = 8;
/** The curves of figure 5 that the testbed has time for. They take this many times the failures of a policy. */
const CURVES = [2, 16], CURVE_TRIALS = 3;
const FAILOVER_MS = 13_000, KILL_AT_MS = 8_000;
/** One-way delays of the paths over which the paper's policy fails over, and the other ones; ms. */
const PAPER_DELAYS_MS = [0, 20, 50], POLICIES_DELAY_MS = 10;
/** The profile with the quickest detection. */
const QUICK_PROFILE = "fast";

/** What {@linkcode withTestbed} wants to know. */
export interface TestbedPlan extends RunDescription {
  /** What the namespaces are called, before what tells them apart. */
  readonly name: string;
  /** Only the first experiment, the delays, and one failover for each policy. */
  readonly quick: boolean;
  /** Told what is done, and how far it is. */
  readonly onProgress: (what: string) => void;
}

/** Adds to what was simulated what the testbed finds. Inside `withCleanEnd` a signal leaves nothing. */
export async function withTestbed(measured: Measured, plan: TestbedPlan): Promise<Measured> {
  // The streams too: what waits for a processor looks like a failure.
  const noLongerPreferred = preferThisThread();
  try {
    return await runAll(measured, plan);
  } finally {
    noLongerPreferred();
  }
}

async function runAll(measured: Measured, plan: TestbedPlan): Promise<Measured> {
  const lateness: number[] = [];
  const run = async (title: string, runs: readonly LabTrialOptions[]): Promise<LabTrials[]> => {
    const results = await runLabTrialsTogether(runs, (what) => plan.onProgress(`${title}: ${what}`));
    for (const { latenessMs } of results) lateness.push(...latenessMs);
    return results;
  };
  const common = {
    profile: plan.profile,
    seed: plan.seed,
    pauseMs: PAUSE_MS,
    settleMs: SETTLE_MS,
    executable: thisProgram(),
  };
  const perPolicy = async <R>(
    title: string,
    what: () => Pick<LabTrialOptions, "locators" | "kind" | "delayMs">,
    report: (trials: LabTrials) => R,
  ): Promise<ByPolicy<R>> => {
    const runs = plan.policies.map((policy) => ({
      ...common,
      ...what(),
      policy,
      trials: plan.labTrials,
      testbeds: TESTBEDS,
      name: `${plan.name}-${policy}`,
    }));
    const results = await run(title, runs);
    return Object.fromEntries(plan.policies.map((policy, i) => [policy, report(results[i])]));
  };

  const recoveries = [];
  for (const [i, { experiment, found }] of measured.recoveries.entries()) {
    if (plan.quick && i > 0) {
      recoveries.push({ experiment, found });
      continue;
    }
    const { title, locators, kind } = experiment;
    const testbed = await perPolicy(
      title,
      () => ({ locators, kind: kind(), delayMs: drawDelay }),
      ({ outcomes }) => recoveryReport(outcomes, explorationTimes(outcomes)),
    );
    recoveries.push({ experiment, found: { ...found, testbed } });
  }
  const delays = await perPolicy(
    "paths with different delays",
    () => LAB_DELAYS,
    ({ outcomes }) => delaysReport(outcomes),
  );

  const drawn = measured.curves.filter(({ broken }) => !plan.quick && CURVES.includes(broken));
  const curveRuns = await run(
    "the paper's figure 5",
    drawn.map(({ broken }) => ({
      ...common,
      policy: "random",
      profile: "paper",
      locators: [3, 3],
      kind: pathsBreak(broken),
      trials: CURVE_TRIALS * plan.labTrials,
      testbeds: CURVE_TESTBEDS,
      name: `${plan.name}-n${broken}`,
    })),
  );
  const curves = measured.curves.map((curve): Curve => {
    const found = curveRuns[drawn.indexOf(curve)];
    return found === undefined ? curve : { ...curve, testbed: explorationTimes(found.outcomes) };
  });

  const failOver = async (policy: string, profile: string, delayMs: number): Promise<Failover> => {
    plan.onProgress(`failover: ${policy}, ${profile}, ${delayMs} ms`);
    return await runFailover({
      ...FAILOVER_DEFAULTS,
      ...PACE.tcp,
      policy,
      profile,
      delayMs,
      durationMs: FAILOVER_MS,
      killAtMs: KILL_AT_MS,
      name: plan.name,
      executable: common.executable,
    });
  };
  const paperFailovers: Failover[] = [], failovers: Failover[] = [];
  for (const delayMs of plan.quick ? [] : PAPER_DELAYS_MS) {
    paperFailovers.push(await failOver("random", "paper", delayMs));
  }
  for (const profile of new Set(plan.quick ? [plan.profile] : [plan.profile, QUICK_PROFILE])) {
    for (const policy of plan.policies) failovers.push(await failOver(policy, profile, POLICIES_DELAY_MS));
  }
  return {
    ...measured,
    recoveries,
    delays: { ...measured.delays, testbed: delays },
    curves,
    paperFailovers,
    failovers,
    latenessMs: quantiles(lateness).p95,
  };
}
