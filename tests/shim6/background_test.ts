import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { AdaptivePolicy } from "../../policies/adaptive.ts";
import type { LocatorPair } from "../../policies/policy.ts";
import { RandomPolicy } from "../../policies/random.ts";
import { FAST, RFC5534 } from "../../reap/profile.ts";
import { Traffic } from "../../sim/traffic.ts";
import { type VirtualHost, VirtualNetwork } from "../../sim/virtual_network.ts";
import { ReapState } from "../../wire/message.ts";

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

Deno.test("a host that is slow at first measures its first pair until it gets no faster, then the others", () => {
  const network = new VirtualNetwork({ seed: 1, delayMs: 10 });
  const A = ["2001:db8:a1::1", "2001:db8:a2::1"], B = ["2001:db8:b1::1", "2001:db8:b2::1"];
  const a = network.addHost("A", A, { profile: FAST, policy: new AdaptivePolicy() });
  const b = network.addHost("B", B, { profile: RFC5534, policy: new RandomPolicy() });
  const ulid = { local: A[0], peer: B[0] };
  a.establish(A[0], B[0]);
  network.run(100);
  const slowness = [24, 4];
  const answers: string[] = [];
  a.onEvent = (event) => {
    if (event.kind !== "probe-answered") return;
    answers.push(event.pair.local + event.pair.peer);
    network.path(A[0], B[0]).delayMs = 10 + (slowness.shift() ?? 0);
  };
  network.path(A[0], B[0]).delayMs = 10 + slowness.shift()!;
  new Traffic(network, { from: a, to: b, ulid, intervalMs: 100, bothWays: true });
  network.run(10_000);
  assertEquals(answers.slice(0, 5), [...Array(4).fill(A[0] + B[0]), A[1] + B[1]]);
  // No pair is faster than another one.
  const out = A.flatMap((local) => B.map((peer) => a.engine!.book.get({ local, peer })!.outMs));
  for (const ms of out) assertAlmostEquals(ms, out[0], 1e-6);
});

/** Two hosts with `adaptive`, 2x2 locators and payload both ways, and a context that nothing has happened to. */
function twoAdaptiveHosts() {
  const network = new VirtualNetwork({ seed: 1, delayMs: 10 });
  const A = ["2001:db8:a1::1", "2001:db8:a2::1"], B = ["2001:db8:b1::1", "2001:db8:b2::1"];
  const [a, b] = [network.addHost("A", A, options()), network.addHost("B", B, options())];
  const ulid = { local: A[0], peer: B[0] };
  const paths = { ulid: [network.path(A[0], B[0]), network.path(B[0], A[0])] };
  return {
    network,
    a,
    b,
    ulid,
    paths,
    start() {
      a.establish(A[0], B[0]);
      network.run(100);
      new Traffic(network, { from: a, to: b, ulid, intervalMs: 100, bothWays: true });
      network.run(20_000);
    },
  };
}

function options() {
  return { profile: FAST, policy: new AdaptivePolicy() };
}

function voluntarySwitches(host: VirtualHost) {
  return host.events.filter((event) => event.kind === "switch" && event.cause === "better-path");
}

function currentOf(host: VirtualHost): LocatorPair {
  return [...host.engine!.contexts()][0].current;
}

Deno.test("after a failure that was short both hosts return to the ULID pair when the hold-down is over", () => {
  const { network, a, b, ulid, paths, start } = twoAdaptiveHosts();
  start();
  const failedAt = network.clock.now;
  for (const path of paths.ulid) path.up = false;
  network.run(2_000);
  for (const host of [a, b]) assert(currentOf(host).local !== ulid.local && currentOf(host).local !== ulid.peer);
  for (const path of paths.ulid) path.up = true;
  network.run(20_000);
  assertEquals([currentOf(a), currentOf(b)], [ulid, { local: ulid.peer, peer: ulid.local }]);
  const [[first], [second]] = [a, b].map(voluntarySwitches);
  for (const { at } of [first, second]) assert(at - failedAt > 10_000 && at - failedAt < 12_000, `${at - failedAt} ms`);
  // One leads, the other follows at once.
  assert(Math.abs(first.at - second.at) <= 20, `${first.at} and ${second.at} ms`);
});

Deno.test("what the operator chose stays until it fails", () => {
  const { network, a, b, ulid, paths, start } = twoAdaptiveHosts();
  start();
  const [{ id }] = a.engine!.contexts();
  const chosen = { local: "2001:db8:a2::1", peer: "2001:db8:b2::1" };
  a.engine!.switchPair(id, chosen, network.clock.now);
  network.run(3_600_000);
  assertEquals([currentOf(a), voluntarySwitches(a)], [chosen, []]);
  assertEquals(currentOf(b).peer, ulid.local); // it followed, and returned
  network.path(chosen.local, chosen.peer).up = false;
  network.run(2_000);
  assertEquals(currentOf(a).local === chosen.local && currentOf(a).peer === chosen.peer, false);
  network.run(60_000);
  assertEquals(currentOf(a), ulid);
  assert(paths.ulid.every(({ up }) => up));
});

Deno.test("hosts for which different pairs are faster settle, together or apart", () => {
  const { network, a, b, paths, start } = twoAdaptiveHosts();
  for (const path of paths.ulid) path.delayMs = 60;
  for (const [from, to] of [["a2", "b1"], ["b2", "a1"]]) {
    network.path(`2001:db8:${from}::1`, `2001:db8:${to}::1`).delayMs = 1;
    network.path(`2001:db8:${to}::1`, `2001:db8:${from}::1`).delayMs = 40;
  }
  start();
  network.run(3_600_000);
  for (const host of [a, b]) {
    const switches = voluntarySwitches(host).length;
    assert(switches >= 1 && switches <= 12, `${switches} switches in an hour`);
  }
});
