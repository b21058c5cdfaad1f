import { assert, assertEquals } from "@std/assert";
import { createPolicy, policyNames } from "../../policies/registry.ts";
import { PAPER, RFC5534 } from "../../reap/profile.ts";
import { runExploration } from "../../sim/experiments/exploration.ts";
import { runProvider } from "../../sim/experiments/provider.ts";
import { runStorm, stormReport } from "../../sim/experiments/storm.ts";
import { explorationTimes, recoveryReport } from "../../sim/experiments/trials.ts";

const COMMON = { profile: PAPER, locators: [3, 3], seed: 1, pauseMs: 5_000, delayMs: [5, 50] } as const;

for (const name of policyNames().filter((name) => !/^burst/.test(name) || ["burst4", "burst18"].includes(name))) {
  Deno.test(`with ${name}, hosts get over any number of broken paths`, () => {
    const policy = () => createPolicy(name);
    for (let broken = 1; broken <= 16; broken++) {
      for (const outcome of runExploration({ ...COMMON, policy, broken, trials: 6 })) {
        assert(outcome.recovered, `${broken} broken`);
        assert(outcome.hosts.length >= 1 && outcome.messages >= 3);
        for (const { detectionMs, explorationMs } of outcome.hosts) {
          assert(detectionMs >= 0 && explorationMs >= 0 && detectionMs + explorationMs <= outcome.recoveryMs + 1e-6);
        }
        assert(outcome.rttMs >= outcome.bestRttMs);
      }
    }
  });
}

Deno.test("hosts also get over failures with the timers of the RFC", () => {
  const policy = () => createPolicy("random");
  const outcomes = runExploration({ ...COMMON, profile: RFC5534, policy, broken: 12, trials: 20 });
  assertEquals(outcomes.filter(({ recovered }) => !recovered).length, 0);
  const { detection_ms } = recoveryReport(outcomes, explorationTimes(outcomes));
  assert(detection_ms.p50 > 13_000 && detection_ms.max < 16_200, `${detection_ms.p50} ${detection_ms.max}`);
});

Deno.test("each policy's dead providers leave the hosts with working paths", () => {
  for (const locators of [[2, 2], [3, 2], [4, 4]] as const) {
    for (let down = 1; down < Math.min(...locators); down++) {
      const policy = () => createPolicy("disjoint");
      const outcomes = runProvider({ ...COMMON, locators, policy, down, trials: 8 });
      assertEquals(outcomes.filter(({ recovered }) => !recovered).length, 0);
      const used = outcomes.flatMap(({ forth, back }) => [forth, back]);
      assert(used.every((path) => path >= 0 && path < locators[0] * locators[1]));
    }
  }
});

Deno.test("a provider's death breaks the path in use at the host that has it, and no path of its other providers", () => {
  // The exploration ends in one round trip when the first pair tried shares nothing with the dead one.
  const policy = () => createPolicy("disjoint");
  const outcomes = runProvider({ ...COMMON, locators: [2, 2], policy, down: 1, trials: 100, delayMs: [10, 10] });
  const { exploration_ms, messages_per_recovery } = recoveryReport(outcomes, explorationTimes(outcomes));
  assertEquals(exploration_ms.p80, 20);
  assert(messages_per_recovery >= 3 && messages_per_recovery < 3.5, `${messages_per_recovery}`);
});

Deno.test("in a storm every context recovers, and its probes are counted in the peak", () => {
  for (const notice of ["silent", "link"] as const) {
    const policy = () => createPolicy("disjoint");
    const outcomes = runStorm({ ...COMMON, policy, contexts: 60, trials: 1, notice });
    const [{ probesAt, recoveryMs, firstDetectionMs }] = outcomes;
    const report = stormReport(outcomes);
    assertEquals([report.unrecovered, recoveryMs.length], [0, 60]);
    assertEquals(report.messages_per_recovery, Math.round(1_000 * probesAt.length / 60) / 1_000);
    assert(report.messages_per_recovery >= 3 && report.messages_per_recovery < 4);
    assert(report.peak_messages_per_100_ms <= report.peak_messages_per_s);
    assertEquals(probesAt, probesAt.toSorted((x, y) => x - y));
    if (notice === "link") {
      assertEquals([firstDetectionMs, probesAt.length, report.exploration_ms.max <= 100], [0, 180, true]);
    } else assert(firstDetectionMs > 1_900 && firstDetectionMs <= 3_000, `${firstDetectionMs}`);
  }
});

Deno.test("paths that are mended are not taken back by themselves, and the next failure finds the hosts at peace", () => {
  const policy = () => createPolicy("random");
  const outcomes = runExploration({ ...COMMON, policy, broken: 2, trials: 40 });
  const chosen = new Set(outcomes.map(({ forth }) => forth));
  assert(chosen.size >= 6, `${[...chosen]}`);
  const { detection_ms } = recoveryReport(outcomes, explorationTimes(outcomes));
  assert(detection_ms.p50 > 2_000 && detection_ms.max < 4_100);
});
