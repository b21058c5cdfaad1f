/** What a peer that is who it claims to be, but lies in its reports, can do: nothing but to itself. */

import { assert, assertEquals, assertLess } from "@std/assert";
import { SeededRandom } from "../../sim/random.ts";
import { MessageType, type Probe, ReapState, type Report } from "../../wire/message.ts";
import { A1, A2, A3, B1, B2, B3, Bench, STRANGER } from "./bench.ts";

const PAIR = { local: A1, peer: B1 };

/** A probe of the peer with these received reports, as it arrives on the reverse of `local` and `peer`. */
function probe(bench: Bench, tag: number, received: Report[], state: number, peer = B1, local = A1) {
  const sent = [{ source: peer, destination: local, nonce: 4711, data: 0 }];
  const message = { type: MessageType.Probe, receiverTag: tag, state, sent, received } as Probe;
  return bench.receive(message, peer, local);
}

/** An exploration in which some probes have left. */
function exploring(): { bench: Bench; tag: number; probes: Report[] } {
  const bench = new Bench();
  const tag = bench.toEstablished();
  bench.engine.explore(1, bench.now);
  const sent = bench.run(4_000).filter(({ message }) => message.type === MessageType.Probe);
  assert(sent.length >= 4);
  return { bench, tag, probes: sent.map(({ message }) => (message as Probe).sent[0]) };
}

Deno.test("reports of probes that were never sent, or with the addresses of others, choose no pair and measure nothing", () => {
  const { bench, tag, probes } = exploring();
  const random = new SeededRandom(1);
  const addresses = [A1, A2, A3, B1, B2, B3, STRANGER];
  const any = () => addresses[Math.floor(random.next() * addresses.length)];
  for (let round = 0; round < 500; round++) {
    const lies = Array.from({ length: 15 }, (): Report => {
      const known = probes[Math.floor(random.next() * probes.length)];
      const lie = { source: any(), destination: any(), nonce: known.nonce, data: known.data };
      const isTrue = probes.some((true_) =>
        true_.nonce === lie.nonce && true_.source === lie.source && true_.destination === lie.destination
      );
      return isTrue || random.next() < 0.3 ? { ...lie, nonce: Math.floor(random.next() * 2 ** 32) } : lie;
    });
    for (const state of [ReapState.Exploring, ReapState.InboundOk]) probe(bench, tag, lies, state);
    assertEquals(bench.view()?.current, PAIR);
  }
  const paths = [A1, A2, A3].flatMap((local) => [B1, B2, B3].map((peer) => bench.engine.book.get({ local, peer })));
  assertEquals(paths.map((path) => path?.probesAnswered ?? 0), paths.map(() => 0));
  assert(paths.every((path) => path === undefined || Number.isNaN(path.rttMs)));
});

Deno.test("lying reports draw no more messages than honest ones, and none to a stranger", () => {
  const { bench, tag } = exploring();
  const before = bench.log.length;
  const lie = { source: A1, destination: STRANGER, nonce: 1, data: 0 };
  for (let i = 0; i < 200; i++) {
    probe(bench, tag, [lie], ReapState.Exploring, [B1, B2, B3][i % 3]);
    bench.run(5);
  }
  const sent = bench.log.slice(before);
  assertLess(sent.length, 250);
  assert(sent.every(({ destination }) => [B1, B2, B3].includes(destination)));
});

Deno.test("a report that is played again after the exploration neither moves payload nor changes a delay", () => {
  const { bench, tag, probes } = exploring();
  const [answered, other] = [probes[probes.length - 1], probes[0]];
  probe(bench, tag, [answered], ReapState.Operational);
  const chosen = bench.view()?.current;
  assertEquals(chosen, { local: answered.source, peer: answered.destination });
  assertEquals(bench.view()?.reap, ReapState.Operational);
  const measured = bench.engine.book.get(chosen!)?.rttMs;
  for (let i = 0; i < 50; i++) {
    bench.run(1_000);
    for (const report of [answered, other]) probe(bench, tag, [report], ReapState.Operational);
    assertEquals(bench.view()?.current, chosen);
  }
  assertEquals(bench.engine.book.get(chosen!)?.rttMs, measured);
});

Deno.test("a trial of the operator's is not won by reports of another probe", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  assertEquals(bench.engine.switchPair(1, { local: A2, peer: B2 }, bench.now), "probing");
  const [report] = Bench.only(bench.sent(), MessageType.Probe).message.sent;
  const lies = [
    { ...report, nonce: (report.nonce + 1) >>> 0 },
    { ...report, destination: B3 },
    { ...report, source: A3 },
    { ...report, source: report.destination, destination: report.source },
  ];
  probe(bench, tag, lies, ReapState.Operational);
  assertEquals(bench.view()?.current, PAIR);
  probe(bench, tag, [report], ReapState.Operational);
  assertEquals(bench.view()?.current, { local: A2, peer: B2 });
});
