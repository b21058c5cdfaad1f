import { assert, assertEquals } from "@std/assert";
import { AdaptivePolicy } from "../../policies/adaptive.ts";
import { PAPER } from "../../reap/profile.ts";
import { runStorm, stormReport } from "../../sim/experiments/storm.ts";
import { ProbeBudget } from "../../shim6/probe_budget.ts";

Deno.test("in any 100 ms the budget allows no more messages than configured, and it uses most of them", () => {
  const budget = new ProbeBudget(350);
  const times: number[] = [];
  for (let now = 0; now < 2_000; now += 0.1) {
    if (budget.nextAt(now) > now) continue;
    budget.exploration(now);
    times.push(now, now, now);
  }
  const windows = times.map((first) => times.filter((time) => time >= first && time < first + 100).length);
  assert(Math.max(...windows) <= 352);
  assert(times.length > 20 * 300);
});

Deno.test("when a provider dies, contexts are warned by each other and the host stays within its budget", () => {
  const report = stormReport(runStorm({
    policy: () => new AdaptivePolicy(),
    profile: PAPER,
    contexts: 300,
    trials: 1,
    seed: 3,
    delayMs: [5, 50],
    pauseMs: 20_000,
    notice: "silent",
  }));
  assertEquals(report.unrecovered, 0);
  assert(report.messages_per_recovery <= 3.3, `${report.messages_per_recovery} messages`);
  assert(report.peak_messages_per_100_ms <= 360, `${report.peak_messages_per_100_ms} in 100 ms`);
  assert(report.since_first_detection_ms.p95 <= 700, `p95 ${report.since_first_detection_ms.p95} ms`);
});
