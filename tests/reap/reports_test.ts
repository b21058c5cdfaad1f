import { assert, assertEquals } from "@std/assert";
import { MAX_REPORTS, type Report } from "../../wire/message.ts";
import { Bench, Exploring, InboundOk, InOrder, Operational, PAIRS, STEADY } from "./bench.ts";

/** A machine that has sent `count` probes on the pairs in order, and their own reports. */
function explored(count: number): { bench: Bench; own: Report[]; now: number } {
  const bench = new Bench(STEADY);
  bench.machine.handleFailure("operator", 0);
  const probes = bench.probes();
  let now = 0;
  while (probes.length < count) {
    now = bench.machine.nextDeadline();
    bench.machine.handleTimeout(now);
    probes.push(...bench.probes());
  }
  return { bench, own: probes.map(({ sent }) => sent[0]), now };
}

Deno.test("the first sent report is the probe itself, and those that the peer has not reported follow, newest first", () => {
  const { bench, own, now } = explored(3);
  const [probe] = bench.run(now + 1000).flatMap(({ effect }) => effect.type === "send-probe" ? [effect] : []);
  assertEquals(probe.sent, [
    { source: probe.pair.local, destination: probe.pair.peer, nonce: probe.sent[0].nonce, data: 0 },
    own[2],
    own[1],
    own[0],
  ]);
});

Deno.test("a probe that the peer has reported is not reported to it again", () => {
  const { bench, own, now } = explored(3);
  bench.receive(bench.peerProbe(Exploring, { received: [own[1]] }), now + 10);
  const [answer] = bench.probes();
  assertEquals(answer.sent.slice(1), [own[2], own[0]]);
});

Deno.test("a report that is repeated counts once", () => {
  const { bench, own, now } = explored(2);
  bench.receive(bench.peerProbe(Exploring, { received: [own[0]] }), now + 10);
  bench.receive(bench.peerProbe(Exploring, { received: [own[0], own[0]] }), now + 20);
  const answered = bench.effects().filter(({ type }) => type === "answered");
  assertEquals(answered, [{ type: "answered", pair: PAIRS[0], nonce: own[0].nonce, rttMs: now + 10 }]);
  assertEquals(bench.environment.book.get(PAIRS[0])?.probesAnswered, 1);
});

Deno.test("a repeated report still chooses the pair", () => {
  const { bench, own, now } = explored(2);
  bench.receive(bench.peerProbe(Exploring, { received: [own[1]] }), now + 10);
  bench.receive(bench.peerProbe(InboundOk, { received: [own[1]] }), now + 20);
  assertEquals([bench.machine.state, bench.machine.current], [Operational, PAIRS[1]]);
});

Deno.test("at most 15 reports of each kind are sent, the oldest are left out", () => {
  const { bench, own, now } = explored(20);
  const peer = Array.from({ length: 20 }, () => bench.peerProbe(Exploring));
  peer.forEach((probe) => bench.receive(probe, now + 1));
  const last = bench.probes().at(-1)!;
  assertEquals(last.sent.length, MAX_REPORTS);
  assertEquals(last.received, peer.slice(-MAX_REPORTS).map((probe) => probe.sent[0]));
  assert(!last.sent.includes(own[0]));
});

Deno.test("a probe that is too old to be reported to the peer is still recognised", () => {
  const { bench, own, now } = explored(20);
  bench.receive(bench.peerProbe(InboundOk, { received: [own[3]] }), now + 1);
  assertEquals([bench.machine.state, bench.machine.current], [Operational, PAIRS[3]]);
});

Deno.test("reports with an unknown nonce prove nothing: the probe counts as one heard", () => {
  for (const state of [InboundOk, Operational]) {
    const { bench, now } = explored(2);
    bench.receive(bench.peerProbe(state, { received: [{ ...report(0), nonce: 0xdead }] }), now + 1);
    assertEquals([bench.machine.state, bench.machine.current], [InboundOk, PAIRS[0]]);
    bench.effects();
    bench.receive(bench.peerProbe(state, { received: [{ ...report(0), nonce: 0xdead }] }), now + 2);
    assertEquals(bench.machine.state, InboundOk);
    assertEquals(bench.probes().map((probe) => probe.state), [InboundOk]);
  }
});

Deno.test("a nonce that is reported with other addresses proves nothing", () => {
  const { bench, own, now } = explored(2);
  const received = [
    { ...own[1], destination: PAIRS[8].peer },
    { ...own[1], source: PAIRS[8].local },
    { ...own[1], nonce: own[1].nonce + 1000 },
  ];
  bench.receive(bench.peerProbe(InboundOk, { received }), now + 1);
  assertEquals([bench.machine.state, bench.machine.current], [InboundOk, PAIRS[0]]);
  assertEquals(bench.effects().filter(({ type }) => type === "answered"), []);
});

Deno.test("unknown nonces beside a known one are ignored", () => {
  const { bench, own, now } = explored(2);
  bench.receive(bench.peerProbe(InboundOk, { received: [report(3), own[1]] }), now + 1);
  assertEquals([bench.machine.state, bench.machine.current], [Operational, PAIRS[1]]);
});

Deno.test("in Operational unknown nonces change nothing", () => {
  const bench = new Bench();
  bench.receive(bench.peerProbe(InboundOk, { received: [report(3)] }), 0);
  bench.receive(bench.peerProbe(Operational, { received: [report(3)] }), 10);
  assertEquals([bench.machine.state, bench.machine.current], [Operational, PAIRS[0]]);
});

Deno.test("reports of an exploration that is over do not choose a pair in the next one", () => {
  const { bench, own, now } = explored(3);
  bench.receive(bench.peerProbe(InboundOk, { received: [own[1]] }), now + 1);
  bench.machine.handleFailure("link-down", now + 5000);
  bench.receive(bench.peerProbe(InboundOk, { received: [own[2]] }), now + 5001);
  assertEquals([bench.machine.state, bench.machine.current], [InboundOk, PAIRS[1]]);
});

Deno.test("probes are remembered for 10 s after an exploration: late reports tell delays, then nothing is left", () => {
  const { bench, own, now } = explored(4);
  bench.receive(bench.peerProbe(InboundOk, { received: [own[1]] }), now + 1);
  bench.receive(bench.peerProbe(InboundOk, { received: [own[1], own[3]] }), now + 90);
  assertEquals(bench.machine.current, PAIRS[1]);
  assertEquals(bench.environment.book.get(PAIRS[3])?.rttMs, 90);
  bench.machine.handleKeepalive(now + 95);
  bench.machine.handleTimeout(now + 10_089); // too early
  assertEquals(bench.machine.nextDeadline(), now + 90 + 10_000);
  bench.run(now + 90 + 10_000);
  assertEquals(bench.machine.nextDeadline(), Infinity);
  bench.receive(bench.peerProbe(InboundOk, { received: [own[2]] }), now + 20_000);
  assertEquals(bench.machine.current, PAIRS[1]);
});

Deno.test("received reports survive InboundOk → Exploring, so that two hosts can meet", () => {
  const bench = new Bench({ ...STEADY, sendTimeoutMs: 3000 });
  const probe = bench.peerProbe(Exploring);
  bench.receive(probe, 0);
  bench.effects();
  const exploring = bench.run(3000).flatMap(({ effect }) => effect.type === "send-probe" ? [effect] : []).at(-1)!;
  assertEquals([exploring.state, exploring.received], [Exploring, [probe.sent[0]]]);
});

Deno.test("received reports do not survive the exploration", () => {
  const bench = new Bench();
  const probe = bench.peerProbe(Exploring);
  bench.receive(probe, 0);
  bench.receive(bench.peerProbe(Operational), 10);
  bench.effects();
  bench.machine.handleFailure("link-down", 20);
  assertEquals(bench.probes()[0].received, []);
});

Deno.test("the round-trip time of a probe that is answered at once goes into the book", () => {
  const { bench, own, now } = explored(2);
  bench.receive(bench.peerProbe(InboundOk, { received: [own[1]] }), now + 900);
  assertEquals(bench.environment.book.get(PAIRS[1])?.rttMs, 900);
});

Deno.test("no round-trip time is learnt when an answer of the peer was lost and the report had to wait", () => {
  const { bench, own, now } = explored(2);
  const lost = bench.peerProbe(InboundOk).sent;
  bench.receive(bench.peerProbe(InboundOk, { received: [own[1]], earlier: lost }), now + 500);
  const record = bench.environment.book.get(PAIRS[1])!;
  assertEquals([record.probesAnswered, record.lastSuccess], [1, now + 500]);
  assert(Number.isNaN(record.rttMs));
});

Deno.test("sooner than the peer's schedule allows, a report cannot have waited", () => {
  const { bench, own, now } = explored(2);
  const other = bench.peerProbe(InboundOk).sent;
  bench.receive(bench.peerProbe(InboundOk, { received: [own[1]], earlier: other }), now + 300);
  assertEquals(bench.environment.book.get(PAIRS[1])?.rttMs, 300);
});

Deno.test("the answers to a burst choose the pair with the lowest delay", () => {
  const bench = new Bench(STEADY, new InOrder(true, 9));
  bench.machine.handleFailure("operator", 0);
  const own = bench.probes().map(({ sent }) => sent[0]);
  // The peer reports in the order of arrival what has come in so far.
  bench.receive(bench.peerProbe(InboundOk, { received: [own[5], own[2], own[7]] }), 50);
  assertEquals(bench.machine.current, PAIRS[5]);
});

function report(pair: number): Report {
  return { source: PAIRS[pair].local, destination: PAIRS[pair].peer, nonce: 0xffff_0000 + pair, data: 0 };
}
