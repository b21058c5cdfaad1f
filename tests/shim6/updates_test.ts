/** Changes of locator lists and preferences (RFC 5533 §10). */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { createPolicy } from "../../policies/registry.ts";
import { SeededRandom } from "../../sim/random.ts";
import { ulidOnlyVerifier } from "../../shim6/verifier.ts";
import { controlPacket, emitMessage } from "../../wire/codec.ts";
import {
  type LocatorPreferences,
  type Message,
  MessageType,
  PreferenceFlag,
  ReapState,
  type UpdateRequest,
} from "../../wire/message.ts";
import { A1, A2, A3, B1, B2, B3, Bench, i2For, list, locator, PEER_LIST, STRANGER, ULID } from "./bench.ts";

const { UpdateRequest, UpdateAcknowledgement, Probe, R1bis } = MessageType;
const A4 = "2001:db8:a4::1", B4 = "2001:db8:b4::1";

function update(receiverTag: number, changes: Partial<UpdateRequest>): Message {
  return { type: UpdateRequest, receiverTag, requestNonce: 0xbadcafe, ...changes };
}

function preferences(generation: number, ...elements: number[][]): LocatorPreferences {
  return { generation, elementLength: elements[0].length, elements };
}

function locators(...addresses: string[]) {
  return addresses.map((address) => locator(address));
}

// The peer changes

Deno.test("a new list is stored and acknowledged with the nonce and the peer's tag", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const answer = Bench.only(bench.receive(update(tag, { locators: list(5, B1, B4) })), UpdateAcknowledgement);
  assertEquals([answer.message.requestNonce, answer.message.receiverTag], [0xbadcafe, 0x5b0e1f2a3b4c]);
  assertEquals(bench.view()?.peerLocators.map((l) => l.address), [B1, B4]);
  assertEquals(bench.view()?.reap, ReapState.Operational, "the locator in use is still there");
});

Deno.test("a repeated Update Request is acknowledged again and changes nothing", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const message = update(tag, { locators: list(5, B1, B4) });
  bench.receive(message);
  Bench.only(bench.receive(message), UpdateAcknowledgement);
  assertEquals(bench.view()?.peerLocators.map((l) => l.address), [B1, B4]);
});

Deno.test("a list that was replaced cannot be brought back by a replay, until the peer establishes anew", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const addresses = () => bench.view()?.peerLocators.map((l) => l.address);
  for (const generation of [5, 6, 7]) bench.receive(update(tag, { locators: list(generation, B1, B2) }));
  bench.receive(update(tag, { locators: list(8, B1) }));
  for (const generation of [0x71c4aa19, 5, 6, 7]) {
    const sent = bench.receive(update(tag, { locators: list(generation, B1, B2) }));
    assertEquals([sent.length, addresses()], [0, [B1]]);
  }
  assertEquals(bench.engine.counters.dropped["replayed-list"], 4);
  bench.receive(update(tag, { locators: list(8, B1) }));
  assertEquals(bench.engine.counters.sent.UpdateAcknowledgement, 5, "the current one may be repeated");
  const first = i2For(bench, { initiatorTag: 4711, locators: list(9, B1, B2) });
  bench.receive(first);
  assertEquals(addresses(), [B1, B2], "another tag: the peer has forgotten what it said");
  bench.receive(update(tag, { locators: list(10, B1) }));
  Bench.only(bench.receive(first), MessageType.R2);
  assertEquals(addresses(), [B1], "a replayed I2");
  Bench.only(bench.receive(update(tag, { locators: list(5, B1, B4) })), UpdateAcknowledgement);
  assertEquals(addresses(), [B1, B4]);
});

Deno.test("when the peer takes away the locator in use, another one is explored before payload goes there", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const sent = bench.receive(update(tag, { locators: list(5, B2, B3) }));
  Bench.only(sent, UpdateAcknowledgement);
  const { destination } = Bench.only(sent, Probe);
  assert(destination === B2 || destination === B3);
  assertEquals(bench.view()?.reap, ReapState.Exploring);
  assertEquals(bench.view()?.current, { local: A1, peer: B1 }, "until a probe was answered");
  assertEquals(bench.eventsOf("reap").at(-1)?.cause, "peer-locators");
});

Deno.test("preferences of another generation are answered with Error 3 that points at the generation", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const message = update(tag, { preferences: preferences(4711, [1], [0], [2]) });
  const { message: error } = Bench.only(bench.receive(message), MessageType.Error);
  assertEquals([error.code, error.pointer], [3, 40 + 16 + 4]);
  assertEquals(error.packetInError, controlPacket(B1, A1, emitMessage(message)));
});

Deno.test("too few or too many preferences are answered with Error 4 that points at the length", () => {
  for (const elements of [[[1], [0]], [[1], [0], [0], [0]]]) {
    const bench = new Bench();
    const tag = bench.toEstablished();
    const message = update(tag, { preferences: preferences(PEER_LIST.generation, ...elements) });
    const { message: error } = Bench.only(bench.receive(message), MessageType.Error);
    assertEquals([error.code, error.pointer], [4, 40 + 16 + 2]);
  }
});

Deno.test("preferences are checked against the list of the same message, which stays when they do not fit", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const good = update(tag, { locators: list(5, B1, B4), preferences: preferences(5, [0, 10], [0, 20]) });
  Bench.only(bench.receive(good), UpdateAcknowledgement);
  const bad = update(tag, { locators: list(6, B1, B3), preferences: preferences(5, [0], [0]) });
  assertEquals(Bench.only(bench.receive(bad), MessageType.Error).message.code, 3);
  assertEquals(bench.view()?.peerLocators.map((l) => l.address), [B1, B3]);
});

Deno.test("a list with an unknown verification method is ignored and answered with Error 2", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const bad = { generation: 5, locators: [{ address: B1, method: 1 }, { address: B4, method: 200 }] };
  const { message: error } = Bench.only(bench.receive(update(tag, { locators: bad })), MessageType.Error);
  assertEquals([error.code, error.pointer], [2, 40 + 16 + 4 + 4 + 1 + 1]);
  assertEquals(bench.view()?.peerLocators.map((l) => l.address), [B1, B2, B3]);
});

Deno.test("what the verifier refuses is ignored: with Error 2, or silently when the PDS is somebody else's", () => {
  for (const locatorIndex of [1, -1]) {
    let refusing = false;
    const verifier = {
      ...ulidOnlyVerifier,
      verify: (...args: Parameters<typeof ulidOnlyVerifier.verify>) =>
        refusing ? { refused: "for the test", locatorIndex } : ulidOnlyVerifier.verify(...args),
    };
    const bench = new Bench({ verifier });
    const tag = bench.toEstablished();
    refusing = true;
    const sent = bench.receive(update(tag, { locators: list(5, B1, B4), pds: new Uint8Array(30) }));
    assertEquals(sent.map((s) => s.message.type), locatorIndex < 0 ? [] : [MessageType.Error]);
    assertEquals(bench.view()?.peerLocators.map((l) => l.address), [B1, B2, B3]);
  }
});

Deno.test("a BROKEN locator is left when there is another one, and is probed last", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const { BROKEN } = PreferenceFlag;
  const elements = [[BROKEN], [0], [BROKEN]];
  bench.receive(update(tag, { preferences: preferences(PEER_LIST.generation, ...elements) }));
  assertEquals(bench.view()?.reap, ReapState.Exploring);
  const all = new Bench();
  const otherTag = all.toEstablished();
  const broken = preferences(PEER_LIST.generation, [BROKEN], [BROKEN], [BROKEN]);
  all.receive(update(otherTag, { preferences: broken }));
  assertEquals(all.view()?.reap, ReapState.Operational, "all broken is as good as none");
});

Deno.test("a peer that comes to prefer another locator gets payload there, once a probe was answered", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const elements = [[0, 100, 0], [0, 20, 0], [PreferenceFlag.TRANSIENT, 20, 0]];
  const sent = bench.receive(update(tag, { preferences: preferences(PEER_LIST.generation, ...elements) }));
  Bench.only(sent, UpdateAcknowledgement);
  assertEquals(bench.view()?.peerLocators[2].preference, { priority: 20, weight: 0, transient: true, broken: false });
  const probe = Bench.only(bench.run(1), Probe);
  assertEquals(
    [probe.destination, probe.message.state],
    [B2, ReapState.InboundOk],
    "what is there to stay comes first",
  );
  assertEquals(bench.view()?.current, { local: A1, peer: B1 });
  assertEquals(bench.view()?.reap, ReapState.Operational);
  const [report] = probe.message.sent;
  const answer = { source: B2, destination: A1, nonce: 815, data: 0 };
  bench.receive(
    { type: Probe, receiverTag: tag, state: ReapState.Operational, sent: [answer], received: [report] },
    B2,
  );
  assertEquals(bench.view()?.current, { local: A1, peer: B2 });
  assertEquals(bench.eventsOf("switch").at(-1)?.cause, "better-path");
});

Deno.test("a preferred locator that does not answer changes nothing, and equal ones are left alone", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const said = (...priorities: number[]) =>
    update(tag, { preferences: preferences(PEER_LIST.generation, ...priorities.map((p) => [0, p, 9])) });
  bench.receive(said(10, 10, 30));
  assertEquals(bench.run(10).filter((s) => s.message.type === Probe), []);
  bench.receive(said(10, 30, 5));
  assert(bench.run(20_000).some((s) => s.message.type === Probe && s.destination === B3));
  assertEquals(bench.view()?.current, { local: A1, peer: B1 });
  assertEquals(bench.eventsOf("switch-failed").length, 1);
});

Deno.test("weights share what two locators of the same priority get, in proportion", () => {
  const counts = new Map<string, number>();
  for (let seed = 0; seed < 60; seed++) {
    const bench = new Bench({ random: new SeededRandom(seed).next });
    const tag = bench.toEstablished();
    bench.receive(update(tag, { preferences: preferences(PEER_LIST.generation, [0, 9, 0], [0, 5, 40], [0, 5, 10]) }));
    const { destination } = Bench.only(bench.run(1), Probe);
    counts.set(destination, (counts.get(destination) ?? 0) + 1);
  }
  assertEquals([...counts.keys()].sort(), [B2, B3]);
  assert(counts.get(B2)! > 2 * counts.get(B3)!, JSON.stringify([...counts]));
});

Deno.test("an Update Request with an unknown tag or from elsewhere is answered with an R1bis", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  Bench.only(bench.receive(update(tag + 1, { keepaliveTimeout: 3 })), R1bis);
  Bench.only(bench.receive(update(tag, { locators: list(5, STRANGER) }), STRANGER), R1bis);
  assertEquals(bench.view()?.peerLocators.map((l) => l.address), [B1, B2, B3]);
});

Deno.test("the peer's Send Timeout becomes our Keepalive Timeout, now and when it changes", () => {
  const bench = new Bench();
  const tag = bench.toEstablished({ keepaliveTimeout: 6 });
  const first = bench.run(30_000).filter((s) => s.message.type === MessageType.Keepalive);
  assertEquals(first.map((s) => s.at - first[0].at), [0, 2_000, 4_000]);
  bench.receive(update(tag, { keepaliveTimeout: 3 }));
  bench.payloadSent();
  bench.now += 100;
  bench.payloadReceived();
  const second = bench.run(30_000).filter((s) => s.message.type === MessageType.Keepalive);
  assertEquals(second.map((s) => s.at - second[0].at), [0, 1_000, 2_000]);
});

Deno.test("a list longer than the limit is cut, and preferences for the whole of it are still accepted", () => {
  const bench = new Bench({ limits: { locatorsPerPeer: 2 } });
  const tag = bench.toEstablished();
  assertEquals(bench.view()?.peerLocators.map((l) => l.address), [B1, B2]);
  const message = update(tag, { preferences: preferences(PEER_LIST.generation, [0], [0], [0]) });
  Bench.only(bench.receive(message), UpdateAcknowledgement);
});

Deno.test("a peer whose list is empty has its ULID, and nothing else", () => {
  const bench = new Bench({ policy: createPolicy("rtt") });
  const tag = bench.toEstablished();
  bench.receive(update(tag, { locators: list(5) }));
  assertEquals(bench.view()?.peerLocators, []);
  bench.payloadSent();
  bench.run(60_000);
  assertEquals(bench.view()?.current, ULID);
});

Deno.test("our own addresses in a peer's list are never verified", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  bench.receive(update(tag, { locators: list(5, B1, A2, "fe80::1", "::1") }));
  assertEquals(bench.view()?.peerLocators.map((l) => l.verified), [true, false, false, false]);
});

// We change

Deno.test("a new address is told to the peer, again and again until it is acknowledged, and only then used", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  bench.engine.handleLocators(locators(A1, A2, A3, A4), bench.now);
  const first = Bench.only(bench.run(1), UpdateRequest);
  assertEquals([first.source, first.destination], [A1, B1]);
  assertEquals(first.message.locators?.locators.map((l) => l.address), [A1, A2, A3, A4]);
  assertEquals(first.message.preferences?.generation, first.message.locators?.generation);
  const again = bench.run(6_000).find((s) => s.message.type === UpdateRequest);
  assertEquals(again?.message, first.message);
  bench.engine.explore(1, bench.now);
  assert(bench.run(100_000).every((s) => s.source !== A4), "the peer would not accept packets from it yet");
  bench.receive({ type: UpdateAcknowledgement, receiverTag: tag, requestNonce: first.message.requestNonce });
  assert(bench.run(600_000).some((s) => s.source === A4));
});

Deno.test("the waits between Update Requests double up to 120 s and never end", () => {
  const bench = new Bench({ idleTeardownMs: 10_000_000 });
  const tag = bench.toEstablished();
  bench.engine.handleLocators(locators(A1, A2, A3, A4), bench.now);
  let before = Bench.only(bench.run(1), UpdateRequest).at;
  for (const nominal of [4, 8, 16, 32, 64, 120, 120, 120]) {
    for (;;) {
      // The peer is alive, so REAP has no reason to explore.
      bench.receive({ type: MessageType.Keepalive, receiverTag: tag });
      const again = bench.run(1_000).find((s) => s.message.type === UpdateRequest);
      if (again === undefined) continue;
      const wait = again.at - before;
      assert(wait >= 500 * nominal && wait <= 1_500 * nominal, `${wait} for ${nominal} s`);
      before = again.at;
      break;
    }
  }
});

Deno.test("an acknowledgement with another nonce, tag or source does not end the request", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  bench.engine.handleLocators(locators(A1, A2), bench.now);
  const { requestNonce } = Bench.only(bench.run(1), UpdateRequest).message;
  bench.receive({ type: UpdateAcknowledgement, receiverTag: tag, requestNonce: requestNonce + 1 });
  bench.receive({ type: UpdateAcknowledgement, receiverTag: tag + 1, requestNonce });
  bench.receive({ type: UpdateAcknowledgement, receiverTag: tag, requestNonce }, STRANGER);
  assertEquals(bench.run(7_000).filter((s) => s.message.type === UpdateRequest).length, 1);
  bench.receive({ type: UpdateAcknowledgement, receiverTag: tag, requestNonce });
  assertEquals(bench.run(7_000).filter((s) => s.message.type === UpdateRequest), []);
});

Deno.test("news while a request is outstanding replace it by one with a new nonce and a new generation", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  bench.engine.handleLocators(locators(A1, A2), bench.now);
  const first = Bench.only(bench.run(1), UpdateRequest).message;
  bench.engine.handleLocators(locators(A1, A2, A4), bench.now);
  const second = Bench.only(bench.run(1), UpdateRequest).message;
  assertNotEquals(first.requestNonce, second.requestNonce);
  assertNotEquals(first.locators?.generation, second.locators?.generation);
  bench.receive({ type: UpdateAcknowledgement, receiverTag: tag, requestNonce: first.requestNonce });
  const again = bench.run(7_000).filter((s) => s.message.type === UpdateRequest);
  assertEquals(again.map((s) => s.message), [second]);
});

Deno.test("a change that is taken back before the peer knew it needs no request any more", () => {
  const bench = new Bench();
  bench.toEstablished();
  bench.engine.handleLocators([locator(A1), locator(A2, { usable: false }), locator(A3)], bench.now);
  bench.engine.handleLocators(locators(A1, A2, A3), bench.now);
  assertEquals(bench.run(7_000).filter((s) => s.message.type === UpdateRequest), []);
});

Deno.test("an interface that goes down marks its locator as BROKEN, in the same generation, and up again", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const known = (bench.log.find((s) => s.message.type === MessageType.I2)!.message as UpdateRequest).locators;
  bench.engine.handleLocators([locator(A1), locator(A2, { usable: false }), locator(A3)], bench.now);
  const down = Bench.only(bench.run(1), UpdateRequest).message;
  assertEquals(down.locators, undefined);
  assertEquals(down.preferences?.generation, known?.generation);
  assertEquals(down.preferences?.elements.map(([flags]) => flags), [0, PreferenceFlag.BROKEN, 0]);
  bench.receive({ type: UpdateAcknowledgement, receiverTag: tag, requestNonce: down.requestNonce });
  bench.engine.handleLocators(locators(A1, A2, A3), bench.now);
  const up = Bench.only(bench.run(1), UpdateRequest).message;
  assertEquals(up.preferences?.elements.map(([flags]) => flags), [0, 0, 0]);
});

Deno.test("what the operator prefers is told to peers: flags, priorities, and weights where there are any", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const tell = (...changes: Parameters<typeof locator>[1][]) => {
    bench.engine.handleLocators([A1, A2, A3].map((address, i) => locator(address, changes[i])), bench.now);
    const { requestNonce, preferences } = Bench.only(bench.run(1), UpdateRequest).message;
    bench.receive({ type: UpdateAcknowledgement, receiverTag: tag, requestNonce });
    return preferences!.elements;
  };
  const { TRANSIENT } = PreferenceFlag;
  assertEquals(tell({}, { priority: 200 }, { transient: true }), [[0, 100], [0, 200], [TRANSIENT, 100]]);
  assertEquals(tell({}, { weight: 7 }, {}), [[0, 100, 0], [0, 100, 7], [0, 100, 0]]);
  assertEquals(tell({}, {}, {}), [[0, 100], [0, 100], [0, 100]]);
});

Deno.test("this host itself leaves a locator that it prefers less than before, when another one works", () => {
  const bench = new Bench();
  bench.toEstablished();
  bench.engine.handleLocators([locator(A1, { priority: 200 }), locator(A2), locator(A3)], bench.now);
  const probe = Bench.only(bench.run(1), Probe);
  assert(probe.source === A2 || probe.source === A3);
  assertEquals(bench.view()?.current, { local: A1, peer: B1 }, "until it is answered");
});

Deno.test("an Error about an Update Request ends its repetition: the peer would refuse it again", () => {
  const bench = new Bench();
  bench.toEstablished();
  bench.engine.handleLocators(locators(A1, A2), bench.now);
  const sent = Bench.only(bench.run(1), UpdateRequest);
  const packetInError = controlPacket(sent.source, sent.destination, sent.octets);
  bench.receive({ type: MessageType.Error, code: 2, pointer: 98, packetInError });
  assertEquals(bench.eventsOf("error-received").map((e) => [e.code, e.pointer, e.context]), [[2, 98, 1]]);
  assertEquals(bench.run(14_000).filter((s) => s.message.type === UpdateRequest), []);
});

Deno.test("a host that can prove nothing to its peers tells them nothing", () => {
  const bench = new Bench({ verifier: ulidOnlyVerifier });
  bench.toEstablished();
  bench.engine.handleLocators(locators(A1, A2), bench.now);
  assertEquals(bench.run(10_000).filter((s) => s.message.type === UpdateRequest), []);
});

Deno.test("the requests of many contexts leave one after the other, a millisecond apart", () => {
  const bench = new Bench();
  bench.toEstablished();
  for (let fii = 1; fii <= 20; fii++) {
    const { initiatorNonce } = bench.start(fii);
    const locators = PEER_LIST;
    bench.receive({ type: MessageType.R1, initiatorNonce, responderNonce: 1, validator: new Uint8Array(20) });
    bench.receive({ type: MessageType.R2, responderTag: 100 + fii, initiatorNonce, locators });
  }
  bench.engine.handleLocators(locators(A1, A2), bench.now);
  const times = bench.run(100).filter((s) => s.message.type === UpdateRequest).map((s) => s.at);
  assertEquals(times.map((at) => at - times[0]), Array.from({ length: 21 }, (_, i) => i));
});
