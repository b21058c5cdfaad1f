/** Figure 2 of the paper and Appendix A of RFC 5534, Examples 4 and 5, as scripted exchanges. */

import { assert, assertEquals } from "@std/assert";
import type { LocatorPair } from "../../policies/policy.ts";
import { RFC5534 } from "../../reap/profile.ts";
import { Exploring, InboundOk, InOrder, Operational } from "./bench.ts";
import { VirtualPair } from "./virtual_pair.ts";

const STEADY = { ...RFC5534, sendTimeoutMs: 3000, jitter: 0 };

function a(local: number, peer: number): LocatorPair {
  return { local: `2001:db8:a${local}::1`, peer: `2001:db8:b${peer}::1` };
}

function b(local: number, peer: number): LocatorPair {
  return { local: `2001:db8:b${local}::1`, peer: `2001:db8:a${peer}::1` };
}

Deno.test("Figure 2: B's sending direction fails, and each direction ends on a pair of its own", () => {
  const order = [a(1, 1), a(1, 2), a(1, 3)];
  const net = new VirtualPair({
    profile: STEADY,
    policy: new InOrder(false, 1, order),
    policyB: new InOrder(false, 1, [b(1, 1), b(1, 2), b(2, 3), b(3, 3)]),
    nonces: { a: [0xa0000001, 0xa0000002, 0xa0000003], b: [0xb0000001, 0xb0000002, 0xb0000003, 0xb0000004] },
    delay: (path) => path.peer === "2001:db8:b2::1" ? 5 : 10,
  });
  net.stream("a", 1000, 0);
  net.stream("b", 1000, 500);
  net.run(9900);
  // From B only (B2, A3) works; from A the first two pairs of its order.
  net.break(...net.b.pairs.filter(({ local, peer }) => !(local === b(2, 3).local && peer === b(2, 3).peer)));
  net.break(a(1, 3));
  net.run(20_000);

  const [first, second, final] = net.a.all("send-probe");
  const start = 13_000; // the payload of 10 s was the first without an answer
  assertEquals([first, second].map(({ at, pair, state }) => [at, pair, state]), [
    [start, a(1, 1), Exploring],
    [start + 500, a(1, 2), Exploring],
  ]);
  assertEquals([first, second].map(({ sent }) => sent.map(({ nonce }) => nonce)), [
    [0xa0000001],
    [0xa0000002, 0xa0000001],
  ]);

  const answers = net.b.all("send-probe");
  assertEquals(answers.map(({ at, pair, state }) => [at, pair, state]), [
    [start + 10, b(1, 1), InboundOk], // answers a, lost
    [start + 505, b(1, 2), InboundOk], // answers b, lost
    [start + 510, b(2, 3), InboundOk], // r, of the schedule
  ]);
  const r = answers[2];
  assertEquals(r.sent[0].nonce, 0xb0000003);
  assertEquals(r.received.map(({ nonce }) => nonce), [0xa0000001, 0xa0000002]);

  assertEquals([final.at, final.pair, final.state], [start + 520, a(1, 1), Operational]);
  assertEquals(final.received, [r.sent[0]]);
  assertEquals(net.a.machine.current, a(1, 1));
  assertEquals(net.a.all("switch"), []);
  assertEquals(net.b.machine.current, b(2, 3));
  assertEquals(net.b.all("switch").map(({ at, to, cause }) => [at, to, cause]), [[
    start + 530,
    b(2, 3),
    "peer-probe",
  ]]);
  assert(net.converged);
  const [recovered] = net.a.all("recovered");
  assertEquals(recovered, {
    at: start + 520,
    type: "recovered",
    cause: "send-timer",
    detectionMs: 3000,
    explorationMs: 520,
    pair: a(1, 1),
    probes: 3,
  });
});

Deno.test("Example 4: all paths of B's first locator fail, B notices, both go over to its second", () => {
  const net = new VirtualPair({
    profile: STEADY,
    policy: new InOrder(),
    locators: [1, 2],
    nonces: { a: [0x72, 0x75], b: [0x70, 0x71, 0x73] }, // r, then p, q and s
  });
  net.at(0, () => net.payload("a"));
  net.at(10, () => net.payload("b"));
  net.run(20);
  net.break(a(1, 1), b(1, 1));
  net.run(5000);
  const log = [
    ...net.a.all("send-probe").map((probe) => ["A", probe] as const),
    ...net.b.all("send-probe").map((probe) => ["B", probe] as const),
  ].sort((x, y) => x[1].at - y[1].at);
  assertEquals(
    log.map(([host, { at, pair, state, sent, received }]) => [
      host,
      at,
      pair,
      state,
      sent[0].nonce,
      received.map(({ nonce }) => nonce),
    ]),
    [
      ["B", 3010, b(1, 1), Exploring, 0x70, []], // p, lost
      ["B", 3510, b(2, 1), Exploring, 0x71, []], // q
      ["A", 3511, a(1, 2), InboundOk, 0x72, [0x71]], // r
      ["B", 3512, b(2, 1), Operational, 0x73, [0x72]], // s
    ],
  );
  assertEquals([net.a.machine.current, net.b.machine.current], [a(1, 2), b(2, 1)]);
  assert(net.converged);
});

Deno.test("Example 5: only A's direction fails; A changes its pair, B keeps the one it has", () => {
  const net = new VirtualPair({
    profile: STEADY,
    policy: new InOrder(),
    policyB: new InOrder(true, 1, [b(1, 1), b(2, 2)]),
    locators: [2, 2],
    nonces: { a: [0x71, 0x73, 0x75], b: [0x70, 0x72, 0x74, 0x76] }, // q, s; p, r and t
  });
  net.at(0, () => net.payload("a"));
  net.run(20);
  net.break(a(1, 1));
  net.at(100, () => net.payload("b"));
  net.run(5000);
  const rows = (host: typeof net.a) =>
    host.all("send-probe").map(({ at, pair, state, sent, received }) => [
      at,
      pair,
      state,
      sent[0].nonce,
      received.map(({ nonce }) => nonce),
    ]);
  assertEquals(rows(net.b), [
    [3100, b(1, 1), Exploring, 0x70, []], // p
    [3600, b(2, 2), Exploring, 0x72, []], // r
    [3602, b(1, 1), Operational, 0x74, [0x73]], // t, on the pair that B goes on with
    [3602, b(1, 1), Operational, 0x76, [0x73, 0x75]], // answers the probe of A's schedule
  ]);
  assertEquals(rows(net.a), [
    [3101, a(1, 1), InboundOk, 0x71, [0x70]], // q, lost
    [3601, a(2, 2), InboundOk, 0x73, [0x70, 0x72]], // s
    [3601, a(1, 2), InboundOk, 0x75, [0x70, 0x72]], // A's schedule is due just now
  ]);
  assertEquals([net.a.machine.current, net.b.machine.current], [a(2, 2), b(1, 1)]);
  assert(net.converged);
});
