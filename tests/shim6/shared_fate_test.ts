import { assert, assertEquals } from "@std/assert";
import { AdaptivePolicy } from "../../policies/adaptive.ts";
import { FAST, PAPER } from "../../reap/profile.ts";
import { runStorm, stormReport } from "../../sim/experiments/storm.ts";
import { Traffic } from "../../sim/traffic.ts";
import { VirtualNetwork } from "../../sim/virtual_network.ts";
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

/** A provider dies; bounds of messages for each context, messages in 100 ms, and p95 from the first detection in ms. */
/** What is the same in all storms here. */
const STORM = { policy: () => new AdaptivePolicy(), trials: 1, delayMs: [5, 50], pauseMs: 20_000 } as const;

for (
  const { profile, contexts, most } of [
    { profile: PAPER, contexts: 300, most: { messages: 3.3, in100Ms: 360, p95: 700 } },
    { profile: FAST, contexts: 1_000, most: { messages: 3.2, in100Ms: 350, p95: 1_200 } },
  ]
) {
  Deno.test(`when a provider dies, contexts warn each other and the host stays within its budget: ${profile.name}`, () => {
    const report = stormReport(runStorm({ ...STORM, profile, contexts, seed: 3, notice: "silent" }));
    assertEquals(report.unrecovered, 0);
    const { messages_per_recovery, peak_messages_per_100_ms, since_first_detection_ms: { p95 } } = report;
    assert(messages_per_recovery <= most.messages, `${messages_per_recovery} messages`);
    assert(peak_messages_per_100_ms <= most.in100Ms, `${peak_messages_per_100_ms} in 100 ms`);
    assert(p95 <= most.p95, `p95 ${p95} ms`);
  });
}

/** A host with a context to each of so many peers, which all have two locators and traffic both ways. */
function hostWithPeers(peers: number) {
  const network = new VirtualNetwork({ seed: 1, delayMs: 10 });
  const H = ["2001:db8:a1::1", "2001:db8:a2::1"];
  const host = network.addHost("H", H, { profile: FAST, policy: new AdaptivePolicy() });
  const others = Array.from({ length: peers }, (_, i) => {
    const P = [1, 2].map((provider) => `2001:db8:${(i + 16).toString(16)}:${provider}::1`);
    const peer = network.addHost("P", P, { profile: FAST, policy: new AdaptivePolicy() });
    host.establish(H[0], P[0]);
    network.run(100);
    const traffic = { to: peer, ulid: { local: H[0], peer: P[0] }, intervalMs: 1_000, bothWays: true };
    new Traffic(network, { from: host, ...traffic });
    return { peer, P };
  });
  network.run(20_000);
  for (const { events } of [host, ...others.map(({ peer }) => peer)]) events.length = 0;
  const cut = (count: number) => {
    for (const { P } of others.slice(0, count)) {
      for (const address of P) network.cut({ local: H[0], peer: address }, true);
    }
  };
  return { network, host, others, cut };
}

Deno.test("when the peers of five contexts are silent and nobody is heard, their locator is dead: the rest asks nothing", () => {
  const { network, host, others, cut } = hostWithPeers(20);
  cut(20);
  network.run(5_000);
  const asking = new Set(
    host.events.filter((event) => event.kind === "probe-sent" && /does/.test(event.reason)).map(({ context }) =>
      context
    ),
  );
  assert(asking.size < 12, `${asking.size} contexts asked`);
  for (const { P } of others) assertEquals(host.context("2001:db8:a1::1", P[0])?.current.local, "2001:db8:a2::1");
});

Deno.test("while others are heard through a locator, silent peers make nobody but their own contexts move", () => {
  const { network, host, others, cut } = hostWithPeers(20);
  cut(6);
  network.run(5_000);
  const locals = others.map(({ P }) => host.context("2001:db8:a1::1", P[0])?.current.local);
  assertEquals(locals.slice(0, 6), Array(6).fill("2001:db8:a2::1"));
  assertEquals(locals.slice(6), Array(14).fill("2001:db8:a1::1"));
});

Deno.test("a peer that asks while the host knows that its provider is dead is told where it is heard: three messages", () => {
  const { network, host, others, cut } = hostWithPeers(60);
  cut(60);
  network.run(5_000);
  const isTold = (reason: string) => reason === "you are heard on this pair, the other one is dead";
  const told = others.flatMap(({ P, peer }) => {
    const id = host.context("2001:db8:a1::1", P[0])?.id;
    const events = [...host.events.filter(({ context }) => context === id), ...peer.events];
    const sent = events.flatMap((event) => event.kind === "probe-sent" ? [event.reason] : []);
    return sent.some(isTold) ? [sent.length] : [];
  });
  assert(told.length > 0);
  assertEquals(told, told.map(() => 3));
});

Deno.test("a host that is told that its interface is down, and whose peers ask as well, gets over it", () => {
  const report = stormReport(runStorm({ ...STORM, profile: FAST, contexts: 300, seed: 1, notice: "link" }));
  assertEquals(report.unrecovered, 0);
  assert(report.recovery_ms.p95 <= 1_500, `p95 ${report.recovery_ms.p95} ms`);
});
