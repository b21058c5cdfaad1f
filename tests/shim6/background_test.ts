import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { AdaptivePolicy } from "../../policies/adaptive.ts";
import { RandomPolicy } from "../../policies/random.ts";
import { FAST, RFC5534 } from "../../reap/profile.ts";
import { Traffic } from "../../sim/traffic.ts";
import { VirtualNetwork } from "../../sim/virtual_network.ts";
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
