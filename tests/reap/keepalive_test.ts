import { assert, assertEquals } from "@std/assert";
import { PAPER, RFC5534 } from "../../reap/profile.ts";
import { Bench, Operational, STEADY } from "./bench.ts";
import { InOrder } from "./bench.ts";
import { VirtualPair } from "./virtual_pair.ts";

for (const profile of [RFC5534, PAPER, { ...RFC5534, name: "half", keepaliveShare: 1 / 2 }]) {
  Deno.test(`one-way payload for 60 s causes no exploration with the timers of ${profile.name}`, () => {
    for (const interval of [20, 700, 1000]) {
      const net = new VirtualPair({ profile, policy: new InOrder() });
      for (const host of [net.a, net.b]) host.machine.adoptKeepaliveTimeout(profile.sendTimeoutMs);
      net.stream("a", interval);
      net.run(60_000);
      assertEquals(net.a.all("state"), []);
      assertEquals(net.b.all("state"), []);
      const keepalives = net.b.all("send-keepalive");
      assert(keepalives.length >= Math.floor(60_000 / profile.sendTimeoutMs), `${keepalives.length}`);
      assertEquals(net.a.all("send-keepalive"), []);
      const most = Math.ceil(60_000 / profile.sendTimeoutMs) * Math.ceil(1 / profile.keepaliveShare);
      assert(keepalives.length <= most, `${keepalives.length} > ${most}`);
    }
  });
}

Deno.test("a peer that announces a Send Timeout of 3 s gets Keepalives at least each 1.5 s", () => {
  for (const keepaliveShare of [0.3, 1 / 3, 1 / 2]) {
    const bench = new Bench({ ...STEADY, keepaliveShare });
    bench.machine.adoptKeepaliveTimeout(3000);
    assertEquals(bench.machine.keepaliveTimeoutMs, 3000);
    let last = 0;
    for (let now = 0; now <= 20_000; now += 1) {
      bench.machine.handlePayloadReceived(now);
      for (const { at } of bench.run(now)) {
        assert(at - last <= 1501, `${at - last} ms`); // 1 ms: the timer starts again with the next payload packet
        last = at;
      }
    }
    assert(last > 18_000);
  }
});

Deno.test("when payload stops, Keepalives go on each interval for the Keepalive Timeout, then there is silence", () => {
  const bench = new Bench();
  bench.machine.handlePayloadReceived(100);
  bench.machine.handlePayloadReceived(200);
  assertEquals(bench.run(1e6).map(({ at }) => at), [5100, 10_100, 15_100]);
  assertEquals(bench.machine.nextDeadline(), Infinity);
});

Deno.test("with the paper's values Keepalives leave each 3 s for 10 s", () => {
  const bench = new Bench(PAPER);
  bench.machine.handlePayloadReceived(0);
  assertEquals(bench.run(1e6).map(({ at }) => at), [3000, 6000, 9000, 10_000]);
});

Deno.test("an interval that divides the timeout only up to rounding gives no Keepalive too many", () => {
  for (const timeout of [1000, 3000, 7000, 10_000, 15_000, 100_000]) {
    const bench = new Bench({ ...STEADY, keepaliveTimeoutMs: timeout });
    bench.machine.handlePayloadReceived(0.1);
    assertEquals(bench.run(1e6).length, 3);
  }
});

Deno.test("Keepalives leave on the current pair", () => {
  const bench = new Bench();
  bench.machine.switchTo(bench.pairs[5], 0);
  bench.machine.handlePayloadReceived(0);
  assertEquals(bench.run(5000).map(({ effect }) => effect), [{ type: "send-keepalive", pair: bench.pairs[5] }]);
});

Deno.test("payload that we send stops the Keepalives", () => {
  const bench = new Bench();
  bench.machine.handlePayloadReceived(0);
  bench.machine.handlePayloadSent(4999);
  bench.machine.handlePayloadReceived(5000);
  assertEquals(bench.run(9999), []);
  assertEquals(bench.run(10_000).length, 1);
});

Deno.test("with traffic both ways no message of REAP is ever sent (RFC 5534 Appendix A, Example 1)", () => {
  const net = new VirtualPair({ profile: RFC5534, policy: new InOrder() });
  net.stream("a", 1000, 0);
  net.stream("b", 1000, 400);
  net.run(300_000);
  assertEquals([net.a.trace, net.b.trace], [[], []]);
});

Deno.test("when a session falls idle, the side that heard last sends Keepalives for a while (Examples 2 and 3)", () => {
  const net = new VirtualPair({ profile: { ...RFC5534, jitter: 0 }, policy: new InOrder() });
  net.at(0, () => net.payload("a"));
  net.at(100, () => net.payload("b"));
  net.run(300_000);
  assertEquals(
    net.a.trace.map(({ at, type }) => [at, type]),
    [5101, 10_101, 15_101].map((at) => [at, "send-keepalive"]),
  );
  assertEquals(net.b.trace, []);
  assertEquals([net.a.machine.state, net.b.machine.state], [Operational, Operational]);
});

Deno.test("a timeout that is announced while the timer runs counts from its start", () => {
  const bench = new Bench();
  bench.machine.handlePayloadReceived(0);
  bench.machine.adoptKeepaliveTimeout(6000);
  assertEquals(bench.machine.nextDeadline(), 2000);
  bench.machine.handleTimeout(2500); // late, for the announcement came at 2500
  assertEquals(bench.machine.nextDeadline(), 4000);
  bench.machine.adoptKeepaliveTimeout(3000);
  bench.machine.handleTimeout(3000);
  assertEquals(bench.machine.nextDeadline(), Infinity);
});

Deno.test("an announced timeout of 0 is ignored, and without one the profile's value holds", () => {
  const bench = new Bench();
  for (const senseless of [0, -1, NaN]) {
    bench.machine.adoptKeepaliveTimeout(senseless);
    assertEquals(bench.machine.keepaliveTimeoutMs, 15_000);
  }
  bench.environment.profile = PAPER;
  assertEquals(bench.machine.keepaliveTimeoutMs, 10_000);
});
