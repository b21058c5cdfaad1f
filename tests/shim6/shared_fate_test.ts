import { assert, assertEquals } from "@std/assert";
import { AdaptivePolicy } from "../../policies/adaptive.ts";
import { RandomPolicy } from "../../policies/random.ts";
import { FAST, PAPER, RFC5534 } from "../../reap/profile.ts";
import { runStorm, stormReport } from "../../sim/experiments/storm.ts";
import { Traffic } from "../../sim/traffic.ts";
import { VirtualNetwork } from "../../sim/virtual_network.ts";
import { ProbeBudget } from "../../shim6/probe_budget.ts";
import { ReapState } from "../../wire/message.ts";

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

/** A host with this policy and a plain peer, 3x3 locators, delays 10 ms, but 40 ms on the ULID pair. */
function slowUlid() {
  const network = new VirtualNetwork({ seed: 1, delayMs: 10 });
  const A = ["2001:db8:a1::1", "2001:db8:a2::1"], B = ["2001:db8:b1::1", "2001:db8:b2::1"];
  network.path(A[0], B[0]).delayMs = 40;
  const a = network.addHost("A", A, { profile: FAST, policy: new AdaptivePolicy() });
  const b = network.addHost("B", B, { profile: RFC5534, policy: new RandomPolicy() });
  const ulid = { local: A[0], peer: B[0] };
  a.establish(A[0], B[0]);
  network.run(100);
  new Traffic(network, { from: a, to: b, ulid, intervalMs: 100, bothWays: true });
  return { network, a, b };
}

Deno.test("background probes never make a plain peer leave Operational, and stay within 1 kbit/s", () => {
  const { network, a, b } = slowUlid();
  network.run(120_000);
  assertEquals(b.events.filter((event) => event.kind === "reap" && event.from === ReapState.Operational), []);
  const probes = a.events.filter((event) => event.kind === "probe-sent").length;
  assert(probes >= 4 && probes <= 60, `${probes} probes`);
});

Deno.test("a host goes over to a clearly faster pair once, and does not flap", () => {
  const { network, a } = slowUlid();
  network.run(3_600_000);
  const switches = a.events.filter((event) => event.kind === "switch");
  assert(switches.length === 1 && switches[0].cause === "better-path", `${switches.length} switches`);
});
