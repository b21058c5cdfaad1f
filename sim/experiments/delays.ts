/** Which paths hosts choose when the paths have different delays (paper §5.4, figures 6 and 7). */

import { pathsBreak } from "./failures.ts";
import type { FailureOutcome } from "./host_pair.ts";
import { round } from "./statistics.ts";
import { explorationTimes, type RecoveryReport, recoveryReport, runTrials, type TrialOptions } from "./trials.ts";

/** The paper's hosts have three locators each. */
export const DELAYS_LOCATORS = [3, 3] as const;
const DELAY_STEP_MS = 10;

/** One-way delay of path `index` in ms, the same in both directions. */
export function delayOfPath(index: number): number {
  return DELAY_STEP_MS * index;
}

/** What the experiment is told. */
export type DelaysOptions = Omit<TrialOptions, "locators">;

/** Breaks the paths in use, again and again. */
export function runDelays(options: DelaysOptions): FailureOutcome[] {
  return runTrials({ ...options, locators: DELAYS_LOCATORS }, (_random, index) => delayOfPath(index), pathsBreak(2));
}

/** What was chosen. */
export interface DelaysReport extends RecoveryReport {
  /** How often each path was chosen, over both directions, by rising delay. */
  readonly one_way_share: readonly number[];
  /** The first two of these together; 0.5 each would be the best, since the path in use is the one that breaks. */
  readonly best_two_share: number;
  /** Failures by the round-trip time of the chosen paths. */
  readonly rtt_histogram: Readonly<Record<number, number>>;
}

/** Puts the figures together. */
export function delaysReport(outcomes: readonly FailureOutcome[]): DelaysReport {
  const chosen = new Array<number>(9).fill(0);
  const histogram = new Map<number, number>();
  for (const { forth, back, rttMs, recovered } of outcomes) {
    if (!recovered) continue;
    chosen[forth]++;
    chosen[back]++;
    histogram.set(rttMs, (histogram.get(rttMs) ?? 0) + 1);
  }
  const total = chosen.reduce((sum, count) => sum + count, 0);
  return {
    one_way_share: chosen.map((count) => round(count / total, 4)),
    best_two_share: round((chosen[0] + chosen[1]) / total, 4),
    rtt_histogram: Object.fromEntries([...histogram].sort(([a], [b]) => a - b)),
    ...recoveryReport(outcomes, explorationTimes(outcomes)),
  };
}
