/** The figures of the paper's §5.3 and §5.4; docs/paper.md tells which reading of the protocol each of them needs. */

import { assert, assertEquals } from "@std/assert";
import { createPolicy } from "../../policies/registry.ts";
import { PAPER } from "../../reap/profile.ts";
import { delaysReport, runDelays } from "../../sim/experiments/delays.ts";
import { runExploration } from "../../sim/experiments/exploration.ts";
import { DEFAULT_READING, type Reading, ReadingPolicy } from "../../sim/experiments/readings.ts";
import { quantile, shareBelow } from "../../sim/experiments/statistics.ts";
import { type Counted, explorationTimes } from "../../sim/experiments/trials.ts";

const COMMON = { profile: PAPER, seed: 1, pauseMs: 20_000 };

function explore(broken: number, trials: number, reading: Partial<Reading> = {}, counted: Counted = "each"): number[] {
  const policy = () => new ReadingPolicy({ ...DEFAULT_READING, ...reading });
  const outcomes = runExploration({ ...COMMON, policy, locators: [3, 3], delayMs: [1, 1], broken, trials });
  assert(outcomes.every(({ recovered }) => recovered));
  return explorationTimes(outcomes, counted).sort((a, b) => a - b);
}

function assertBetween(value: number, low: number, high: number, what: string): void {
  assert(value >= low && value <= high, `${what}: ${value}, not from ${low} to ${high}`);
}

Deno.test("the default reading is the policy random, probe by probe", () => {
  const options = { ...COMMON, locators: [3, 3], delayMs: [1, 1], broken: 12, trials: 30 } as const;
  const outcomes = runExploration({ ...options, policy: () => createPolicy("random") });
  assertEquals(runExploration({ ...options, policy: () => new ReadingPolicy(DEFAULT_READING) }), outcomes);
});

Deno.test("one direction broken: the first or the second probe is answered (paper: all below 600 ms)", () => {
  const times = explore(1, 400);
  assertEquals(times.length, 800); // one host explores, its probe makes the other one answer
  assertEquals(shareBelow(times, 600), 1);
  assertBetween(shareBelow(times, 390), 0.86, 0.93, "first probe"); // 8 of 9 pairs are alive
});

Deno.test("both directions broken: 86 % by the first probe when each host counts (paper: 86 %, all below 600 ms)", () => {
  const times = explore(2, 600);
  assertEquals(times.length, 1_200);
  assertBetween(shareBelow(times, 390), 0.82, 0.89, "first probe");
  assertBetween(shareBelow(times, 600), 0.985, 1, "second probe");
  assertBetween(
    shareBelow(explore(2, 600, {}, "first"), 390),
    0.76,
    0.85,
    "first probe of the host that notices first",
  );
});

Deno.test("a few paths broken: always below 2 s, usually below 1 s (paper §7)", () => {
  for (const broken of [3, 4, 5]) {
    const times = explore(broken, 150);
    assertBetween(times.at(-1)!, 0, 2_000, "longest");
    assertBetween(shareBelow(times, 1_000), 0.95, 1, "below 1 s");
  }
});

Deno.test("16 of 18 broken: this agent is quicker than the paper's (7, 17 and 31 s), since its fall-back starts anew", () => {
  const times = explore(16, 400);
  assertBetween(quantile(times, 0.5), 3_200, 4_600, "p50");
  assertBetween(quantile(times, 0.8), 4_800, 6_600, "p80");
  assertBetween(quantile(times, 0.95), 9_000, 17_500, "p95");
});

Deno.test("16 of 18 broken: the paper's times if the schedule goes on at the fall-back and answers use up probes", () => {
  const times = explore(16, 400, { fallback: "go-on", answers: "count" });
  assertBetween(quantile(times, 0.5), 3_800, 7_500, "p50");
  assertBetween(quantile(times, 0.8), 13_000, 19_800, "p80");
  assertBetween(quantile(times, 0.95), 27_500, 33_000, "p95");
});

Deno.test("default spacing chooses paths without regard to their delay (paper: 21.5 % on the best two)", () => {
  const { best_two_share, one_way_share } = delaysReport(runDelays({
    ...COMMON,
    policy: () => createPolicy("random"),
    trials: 500,
  }));
  assertBetween(best_two_share, 0.19, 0.26, "best two");
  for (const share of one_way_share) assertBetween(share, 0.07, 0.15, "one path");
});

Deno.test("a burst of four that really leaves at once chooses better than the paper's 46.1 %, one of 20 ms spacing alike", () => {
  const policy = () => createPolicy("burst4");
  assertBetween(delaysReport(runDelays({ ...COMMON, policy, trials: 500 })).best_two_share, 0.54, 0.65, "at once");
  const spaced = () => new ReadingPolicy({ ...DEFAULT_READING, gapMs: 20 });
  const { best_two_share, rtt_histogram } = delaysReport(runDelays({ ...COMMON, policy: spaced, trials: 500 }));
  assertBetween(best_two_share, 0.42, 0.52, "20 ms apart");
  const highest = Object.entries(rtt_histogram).sort(([, a], [, b]) => b - a)[0][0];
  assert(["20", "30", "40"].includes(highest), `${highest} ms is the most frequent round trip`);
});
