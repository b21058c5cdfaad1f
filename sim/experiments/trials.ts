/** Many failures of pairs of hosts: what exploration, delays and provider share. */

import type { Policy } from "../../policies/policy.ts";
import type { Profile } from "../../reap/profile.ts";
import { SeededRandom } from "../random.ts";
import { FailureChooser, type FailureKind } from "./failures.ts";
import { type FailureOutcome, HostPair } from "./host_pair.ts";
import { mean, type Quantiles, quantiles, round, shareBelow } from "./statistics.ts";

/** What every experiment with two hosts is told. */
export interface TrialOptions {
  readonly policy: () => Policy;
  readonly profile: Profile;
  /** Locators of host A and host B. */
  readonly locators: readonly [number, number];
  readonly trials: number;
  readonly seed: number;
  /** How long the hosts live in peace before each failure. */
  readonly pauseMs: number;
  /** Each host sends a packet so often; a second, as in the paper, when absent. */
  readonly trafficMs?: number;
}

/** Draws the one-way delay in ms of path `index` (0 … paths - 1), from A to B (`forth`) or from B to A. */
export type DelayDraw = (random: SeededRandom, index: number, forth: boolean) => number;

/** Failures that one pair of hosts goes through before the next pair is built, with other delays. */
const FAILURES_PER_PAIR = 25;

/** Runs the trials. `delayMs` draws the delay of a path when a pair of hosts is built. */
export function runTrials(
  options: TrialOptions,
  delayMs: DelayDraw,
  kind: FailureKind,
): FailureOutcome[] {
  const { policy, profile, locators, trials, seed, pauseMs, trafficMs } = options;
  const master = new SeededRandom(seed);
  const outcomes: FailureOutcome[] = [];
  const chooser = new FailureChooser(locators[0] * locators[1], master.fork());
  const failureRandom = master.fork();
  while (outcomes.length < trials) {
    const delayRandom = master.fork();
    const pair = new HostPair({
      locators,
      profile,
      policy,
      trafficMs,
      delayMs: (index, forth) => delayMs(delayRandom, index, forth),
      random: master.fork(),
    });
    for (let i = 0; i < FAILURES_PER_PAIR && outcomes.length < trials; i++) {
      pair.live(pauseMs);
      outcomes.push(pair.fail(kind(pair, chooser, failureRandom)));
    }
  }
  return outcomes;
}

/** Whose exploration times count: of each host that left Operational, or only of the first or last one of a failure. */
export const COUNTED = ["each", "first", "last"] as const;
/** One of {@linkcode COUNTED}. */
export type Counted = typeof COUNTED[number];

/** The exploration times in ms, in the order of the failures. */
export function explorationTimes(outcomes: readonly FailureOutcome[], counted: Counted = "each"): number[] {
  return outcomes.flatMap(({ hosts }) => {
    const chosen = counted === "first" ? hosts.slice(0, 1) : counted === "last" ? hosts.slice(-1) : hosts;
    return chosen.map(({ explorationMs }) => explorationMs);
  });
}

/** The figures that all experiments print. */
export interface RecoveryReport {
  readonly exploration_ms: Quantiles;
  /** Below 0.5 s less the jitter of 20 %, with some room: the first probe was answered. */
  readonly share_below_390_ms: number;
  /** Below 0.5 s and the jitter of 20 %: the second probe was. */
  readonly share_below_600_ms: number;
  readonly unrecovered: number;
  readonly messages_per_recovery: number;
  /** From the failure until the first host left Operational. */
  readonly detection_ms: Quantiles;
  /** From the failure until both hosts send on paths that work. */
  readonly recovery_ms: Quantiles;
  /** Round-trip time of the two best paths that worked: no exploration can end sooner. */
  readonly best_rtt_ms: Quantiles;
  /** Of the chosen paths over the best ones that worked, on average. */
  readonly excess_rtt_ms: number;
  /** Failures after which a host left Operational more than once. */
  readonly relapses: number;
}

/** Puts the figures together. `times` as from {@linkcode explorationTimes}. */
export function recoveryReport(outcomes: readonly FailureOutcome[], times: readonly number[]): RecoveryReport {
  const recovered = outcomes.filter((outcome) => outcome.recovered);
  return {
    exploration_ms: quantiles(times),
    share_below_390_ms: shareBelow(times, 390),
    share_below_600_ms: shareBelow(times, 600),
    unrecovered: outcomes.length - recovered.length,
    messages_per_recovery: round(mean(recovered.map(({ messages }) => messages)), 3),
    detection_ms: quantiles(outcomes.flatMap(({ hosts }) => hosts.slice(0, 1).map(({ detectionMs }) => detectionMs))),
    recovery_ms: quantiles(outcomes.map(({ recoveryMs }) => recoveryMs)),
    best_rtt_ms: quantiles(outcomes.map(({ bestRttMs }) => bestRttMs)),
    excess_rtt_ms: round(mean(recovered.map(({ rttMs, bestRttMs }) => rttMs - bestRttMs)), 3),
    relapses: outcomes.filter(({ hosts }) => hosts.some(({ departures }) => departures > 1)).length,
  };
}
