/** Every cell of the state tables of RFC 5533 Appendix B for I1, R1, I2, R2, R1bis and I2bis, with the reading of §7. */

import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { RFC5534 } from "../../reap/profile.ts";
import { I1_RETRIES_MAX, ICMP_HOLDDOWN_TIME, NO_R1_HOLDDOWN_TIME } from "../../shim6/constants.ts";
import { EngineError } from "../../shim6/engine.ts";
import type { LocatorProver } from "../../shim6/identity.ts";
import { ulidOnlyVerifier } from "../../shim6/verifier.ts";
import { type I2, type LocatorOptions, type Message, MessageType, ReapState } from "../../wire/message.ts";
import {
  A1,
  A2,
  A3,
  B1,
  B2,
  B3,
  Bench,
  i1,
  i2bisFor,
  i2For,
  list,
  locator,
  PEER_TAG,
  probe,
  r1,
  r1bis,
  r2,
  STRANGER,
} from "./bench.ts";

const { I1, R1, I2, R2, R1bis, I2bis, UpdateRequest, UpdateAcknowledgement, Keepalive, Probe } = MessageType;

function tagged(type: number, receiverTag: number): Message {
  switch (type) {
    case UpdateRequest:
      return { type: UpdateRequest, receiverTag, requestNonce: 5, keepaliveTimeout: 10 };
    case UpdateAcknowledgement:
      return { type: UpdateAcknowledgement, receiverTag, requestNonce: 5 };
    case Keepalive:
      return { type: Keepalive, receiverTag };
    default:
      return probe(receiverTag, ReapState.Exploring, 9);
  }
}
const TAGGED = [UpdateRequest, UpdateAcknowledgement, Keepalive, Probe];

// IDLE

Deno.test("IDLE: a request for a context sends an I1 and enters I1-SENT", () => {
  const bench = new Bench();
  const message = bench.start();
  assertEquals(bench.state(), "I1-SENT");
  assertEquals(message.ulidPair, undefined);
  assertEquals(message.fii, undefined);
  assert(message.initiatorTag < 2 ** 47);
  assertEquals(bench.engine.establish(A1, B1, bench.now), 1, "a second request changes nothing");
  assertEquals(bench.sent(), []);
});

Deno.test("IDLE: an I1 is answered with an R1 and leaves no state", () => {
  const bench = new Bench();
  const answer = Bench.only(bench.receive(i1()), R1);
  assertEquals([answer.source, answer.destination], [A1, B1]);
  assertEquals(answer.message.initiatorNonce, 0x1a2b3c4d);
  assertEquals(bench.engine.size, 0);
});

Deno.test("IDLE: an I1 for a ULID that is not ours is ignored", () => {
  const bench = new Bench();
  assertEquals(bench.receive(i1({ ulidPair: { sender: B1, receiver: "2001:db8:a9::9" } })), []);
  assertEquals(bench.receive(i1({ ulidPair: { sender: A2, receiver: A1 } })), [], "nor are we our own peer");
  assertEquals(bench.engine.counters.dropped, { "not-our-ulid": 2 });
});

Deno.test("IDLE: an I2 with a good validator creates the context and is answered with an R2", () => {
  const bench = new Bench();
  const answer = Bench.only(bench.receive(i2For(bench)), R2);
  assertEquals(bench.state(), "ESTABLISHED");
  assertEquals(answer.message.initiatorNonce, 0x5e6f7081);
  assertEquals(answer.message.locators?.locators.map((l) => l.address), [A1, A2, A3]);
  assertEquals(bench.view()?.peerLocators.map((l) => [l.address, l.verified]), [[B1, true], [B2, true], [B3, true]]);
  const [added] = bench.effects;
  assertEquals(added, {
    type: "context-added",
    id: 1,
    ulid: { local: A1, peer: B1 },
    localTag: answer.message.responderTag,
    peerTag: PEER_TAG,
    fii: 0,
  });
});

Deno.test("IDLE: an I2 is dropped when anything that the validator covers was changed", () => {
  const changes: Partial<I2>[] = [
    { initiatorTag: 1 },
    { responderNonce: 12345 },
    { validator: new Uint8Array(20) },
    { validator: new Uint8Array(3) },
    { fii: 7 },
    { ulidPair: { sender: B2, receiver: A1 } },
  ];
  for (const change of changes) {
    const bench = new Bench();
    assertEquals(bench.receive({ ...i2For(bench), ...change } as Message), []);
    assertEquals(bench.engine.size, 0);
    assertEquals(bench.engine.counters.dropped, { validator: 1 });
  }
  const bench = new Bench();
  assertEquals(bench.receive(i2For(bench), B2, A1), [], "another source");
  assertEquals(bench.receive(i2For(bench), B1, A2), [], "another destination");
});

Deno.test("IDLE: a validator is good for at least 30 s and not for more than 60 s", () => {
  for (const [age, good] of [[29_900, true], [61_000, false]] as const) {
    const bench = new Bench();
    const message = i2For(bench);
    bench.now += age;
    assertEquals(bench.receive(message).length, good ? 1 : 0, `${age} ms`);
  }
});

Deno.test("IDLE: an I2 from an address that is not the ULID needs that address to be verified", () => {
  const ulidPair = { sender: B1, receiver: A1 };
  const believing = new Bench();
  believing.receive(i2For(believing, { ulidPair }, B2, A2), B2, A2);
  assertEquals(believing.state(), "ESTABLISHED");
  assertEquals(believing.view()?.current, { local: A2, peer: B2 }, "payload goes where the validator came back from");
  const unlisted = new Bench();
  unlisted.receive(i2For(unlisted, { ulidPair, locators: list(1, B1) }, B2, A2), B2, A2);
  assertEquals(unlisted.state(), "IDLE");
  const strict = new Bench({ verifier: ulidOnlyVerifier });
  strict.receive(i2For(strict, { ulidPair }, B2, A2), B2, A2);
  assertEquals(strict.state(), "IDLE");
});

Deno.test("IDLE: an I2bis with a good validator creates the context with a new tag, on the pair on which it came", () => {
  const bench = new Bench();
  const message = i2bisFor(bench, 0x123456, { ulidPair: { sender: B1, receiver: A1 } }, B2, A2);
  const answer = Bench.only(bench.receive(message, B2, A2), R2);
  assertEquals([answer.source, answer.destination], [A2, B2]);
  assertNotEquals(answer.message.responderTag, 0x123456);
  assertEquals(bench.state(), "ESTABLISHED");
  assertEquals(bench.view()?.current, { local: A2, peer: B2 });
  assertEquals(bench.effects.at(-1), {
    type: "path",
    id: 1,
    pair: { local: A2, peer: B2 },
    hold: false,
    release: false,
  });
});

Deno.test("IDLE: an I2bis whose tag or addresses are not those of the R1bis is dropped", () => {
  const bench = new Bench();
  assertEquals(bench.receive({ ...i2bisFor(bench, 5), packetTag: 6 } as Message), []);
  assertEquals(bench.receive(i2bisFor(bench, 5), B2), []);
  assertEquals(bench.engine.size, 0);
});

Deno.test("IDLE: the validator of an R1 is no use in an I2bis", () => {
  const bench = new Bench();
  const { initiatorTag, initiatorNonce, responderNonce, validator } = i2For(bench) as I2;
  const forged = { type: I2bis, initiatorTag, initiatorNonce, responderNonce, validator, packetTag: initiatorTag };
  assertEquals(bench.receive(forged as Message), []);
});

Deno.test("IDLE: R1, R2, R1bis and Error that belong to nothing are dropped", () => {
  const bench = new Bench();
  for (const message of [r1(1), r2(1), r1bis()]) assertEquals(bench.receive(message), []);
  assertEquals(bench.receive({ type: MessageType.Error, code: 2, pointer: 0, packetInError: new Uint8Array(56) }), []);
  assertEquals(bench.engine.size, 0);
  assertEquals(bench.events, []);
});

Deno.test("IDLE: a packet with an unknown tag is answered with an R1bis that returns the tag", () => {
  for (const type of TAGGED) {
    const bench = new Bench();
    const answer = Bench.only(bench.receive(tagged(type, 0xabc), B2, A2), R1bis);
    assertEquals(answer.message.packetTag, 0xabc);
    assertEquals([answer.source, answer.destination], [A2, B2]);
    assertEquals(bench.engine.size, 0);
  }
});

// I1-SENT

Deno.test("I1-SENT: an R1 with our nonce on the pair of the I1 is answered with an I2", () => {
  const bench = new Bench();
  const { initiatorNonce } = bench.start();
  const answer = Bench.only(bench.receive(r1(initiatorNonce)), I2).message;
  assertEquals(bench.state(), "I2-SENT");
  assertEquals(answer.responderNonce, 77);
  assertEquals(answer.validator, new Uint8Array(20).fill(0xaa));
  assertEquals(answer.locators?.locators.length, 3);
  assertEquals(answer.keepaliveTimeout, undefined, "15 s is what the peer assumes");
});

Deno.test("I1-SENT: an R1 with another nonce or from elsewhere is dropped", () => {
  const bench = new Bench();
  const { initiatorNonce } = bench.start();
  assertEquals(bench.receive(r1(initiatorNonce + 1)), []);
  assertEquals(bench.receive(r1(initiatorNonce), STRANGER), []);
  assertEquals(bench.receive(r1(initiatorNonce), B1, A2), []);
  assertEquals(bench.state(), "I1-SENT");
});

Deno.test("I1-SENT: a validator that is too long to be sent back is dropped with its R1", () => {
  const bench = new Bench();
  const { initiatorNonce } = bench.start();
  assertEquals(bench.receive(r1(initiatorNonce, { validator: new Uint8Array(1_160) })), []);
  assertEquals(bench.state(), "I1-SENT");
  assertEquals(bench.run(7_000).map((s) => s.message.type), [I1]);
});

Deno.test("I1-SENT: an R2 with our nonce on the pair of the I1 establishes (crossing I1)", () => {
  const bench = new Bench();
  const { initiatorNonce } = bench.start();
  assertEquals(bench.receive(r2(initiatorNonce), B1, A2), [], "another pair");
  assertEquals(bench.receive(r2(initiatorNonce + 1)), [], "another nonce");
  assertEquals(bench.state(), "I1-SENT");
  bench.receive(r2(initiatorNonce));
  assertEquals(bench.state(), "ESTABLISHED");
});

Deno.test("I1-SENT: a crossing I1 is answered with an R2 that has our tag and its nonce", () => {
  const bench = new Bench();
  const { initiatorTag } = bench.start();
  const answer = Bench.only(bench.receive(i1()), R2).message;
  assertEquals(answer.responderTag, initiatorTag);
  assertEquals(answer.initiatorNonce, 0x1a2b3c4d);
  assertEquals(bench.state(), "I1-SENT");
});

Deno.test("I1-SENT: an I1 from an address that we did not write to gets the smaller R1", () => {
  const bench = new Bench();
  bench.start();
  const answer = bench.receive(i1({ ulidPair: { sender: B1, receiver: A1 } }), STRANGER);
  Bench.only(answer, R1);
  assertEquals(bench.state(), "I1-SENT");
});

Deno.test("I1-SENT: a good I2 or I2bis establishes with the tag that our I1 carried", () => {
  for (const make of [(b: Bench) => i2For(b), (b: Bench) => i2bisFor(b, 99)]) {
    const bench = new Bench();
    const message = make(bench);
    const { initiatorTag } = bench.start();
    const answer = Bench.only(bench.receive(message), R2).message;
    assertEquals(answer.responderTag, initiatorTag);
    assertEquals(bench.state(), "ESTABLISHED");
    assertEquals(bench.run(100_000).filter((s) => s.message.type === I1), [], "no I1 any more");
  }
});

Deno.test("I1-SENT: a bad I2 is dropped", () => {
  const bench = new Bench();
  const message = i2For(bench);
  bench.start();
  assertEquals(bench.receive({ ...message, validator: new Uint8Array(20) } as Message), []);
  assertEquals(bench.state(), "I1-SENT");
});

Deno.test("I1-SENT: the I1 is sent five times with doubling, jittered waits, then the peer is left alone for 60 s", () => {
  const bench = new Bench();
  const first = bench.start();
  const start = bench.now;
  const sent = bench.run(250_000).filter((s) => s.message.type === I1);
  assertEquals(sent.length, I1_RETRIES_MAX);
  let before = start;
  for (const [i, { at, message }] of sent.entries()) {
    const nominal = 4_000 * 2 ** i;
    assert(at - before >= nominal / 2 && at - before <= nominal * 1.5, `wait ${i}: ${at - before}`);
    assertEquals((message as { initiatorNonce: number }).initiatorNonce, first.initiatorNonce);
    before = at;
  }
  const failed = bench.eventsOf("state").find((event) => event.to === "E-FAILED")!;
  assert(failed.at - before >= 32_000 && failed.at - before <= 96_000);
  const over = bench.eventsOf("state").find((event) => event.from === "E-FAILED")!;
  assertEquals([over.to, over.at - failed.at], ["IDLE", NO_R1_HOLDDOWN_TIME]);
  assertEquals(bench.engine.size, 0);
});

Deno.test("I1-SENT: tagged messages and payload with our tag are dropped", () => {
  for (const type of TAGGED) {
    const bench = new Bench();
    const { initiatorTag } = bench.start();
    assertEquals(bench.receive(tagged(type, initiatorTag)), []);
    bench.engine.handleUnknownTag(initiatorTag, B1, A1, bench.now);
    assertEquals(bench.sent(), []);
    assertEquals(bench.state(), "I1-SENT");
  }
});

Deno.test("I1-SENT: an R1bis is dropped", () => {
  const bench = new Bench();
  const { initiatorTag } = bench.start();
  assertEquals(bench.receive(r1bis()), []);
  assertEquals(bench.receive(r1bis({ packetTag: initiatorTag })), []);
  assertEquals(bench.state(), "I1-SENT");
});

Deno.test("I1-SENT: an ICMPv6 error that quotes our I1 means NO-SUPPORT for ten minutes", () => {
  const bench = new Bench();
  const { initiatorTag } = bench.start();
  const error = { kind: "no-shim6", local: A1, peer: B1, tag: initiatorTag } as const;
  bench.engine.handleIcmpError({ ...error, tag: initiatorTag + 1 }, bench.now);
  bench.engine.handleIcmpError({ ...error, peer: B2 }, bench.now);
  bench.engine.handleIcmpError({ ...error, tag: undefined }, bench.now);
  bench.engine.handleIcmpError({ ...error, kind: "unreachable" }, bench.now);
  assertEquals(bench.state(), "I1-SENT", "forged or no proof");
  bench.engine.handleIcmpError(error, bench.now);
  assertEquals(bench.state(), "NO-SUPPORT");
  assertEquals(bench.eventsOf("peer-without-shim6").length, 1);
  assertThrows(() => bench.engine.establish(A1, B1, bench.now), EngineError, "NO-SUPPORT");
  assertEquals(bench.run(ICMP_HOLDDOWN_TIME - 1), []);
  assertEquals(bench.state(), "NO-SUPPORT");
  bench.run(1);
  assertEquals(bench.state(), "IDLE");
});

// I2-SENT

Deno.test("I2-SENT: an R2 with the nonce of the I2 on its pair establishes", () => {
  const bench = new Bench();
  const message = bench.toI2Sent();
  assertEquals(bench.receive(r2(message.initiatorNonce), B2), []);
  assertEquals(bench.state(), "I2-SENT");
  bench.receive(r2(message.initiatorNonce));
  assertEquals(bench.state(), "ESTABLISHED");
  assertEquals(bench.effects.map((e) => e.type), ["context-added"]);
});

Deno.test("I2-SENT: an I1 is answered with an R2", () => {
  const bench = new Bench();
  bench.toI2Sent();
  Bench.only(bench.receive(i1()), R2);
  assertEquals(bench.state(), "I2-SENT");
  assertEquals(bench.receive(i1()), [], "but not more than once a second");
  bench.now += 1_000;
  Bench.only(bench.receive(i1()), R2);
});

Deno.test("I2-SENT: a good I2 or I2bis is answered with an R2, and the state stays until the R2 comes", () => {
  for (const make of [(b: Bench) => i2For(b), (b: Bench) => i2bisFor(b, 99)]) {
    const bench = new Bench();
    const message = make(bench);
    const mine = bench.toI2Sent();
    Bench.only(bench.receive(message), R2);
    assertEquals(bench.state(), "I2-SENT");
    bench.receive(r2(mine.initiatorNonce));
    assertEquals(bench.state(), "ESTABLISHED");
  }
});

Deno.test("I2-SENT: another R1 is dropped", () => {
  const bench = new Bench();
  const { initiatorNonce } = bench.toI2Sent();
  assertEquals(bench.receive(r1(initiatorNonce)), []);
  assertEquals(bench.state(), "I2-SENT");
});

Deno.test("I2-SENT: the I2 is sent three times, then the I1 again, and in the end the peer has failed", () => {
  const bench = new Bench();
  bench.toI2Sent();
  const types = bench.run(40_000).map((s) => s.message.type);
  assertEquals(types.slice(0, 3), [I2, I2, I1]);
  assertEquals(bench.state(), "I1-SENT");
  bench.run(1_000_000);
  assertEquals(bench.state(), "IDLE");
  assertEquals(bench.eventsOf("state").some((event) => event.to === "E-FAILED"), true);
});

Deno.test("I2-SENT: a peer that answers every I1 but never an I2 is given up", () => {
  const bench = new Bench();
  bench.toI2Sent();
  while (bench.state() !== "E-FAILED") {
    assert(bench.now < 400_000);
    for (const { message } of bench.run(5_000)) if (message.type === I1) bench.receive(r1(message.initiatorNonce));
  }
});

Deno.test("I2-SENT: a packet with our tag shows that the R2 was lost, so the I2 is sent again, at most once a second", () => {
  for (const type of [...TAGGED, "payload"] as const) {
    const bench = new Bench();
    const { initiatorTag } = bench.toI2Sent();
    const arrive = () => {
      if (type !== "payload") return bench.receive(tagged(type, initiatorTag));
      bench.engine.handleUnknownTag(initiatorTag, B1, A1, bench.now);
      return bench.sent();
    };
    Bench.only(arrive(), I2);
    assertEquals(arrive(), []);
    assertEquals(bench.state(), "I2-SENT");
  }
});

Deno.test("I2-SENT: an R1bis is dropped", () => {
  const bench = new Bench();
  bench.toI2Sent();
  assertEquals(bench.receive(r1bis()), []);
  assertEquals(bench.state(), "I2-SENT");
});

Deno.test("I2-SENT: an R2 whose list uses an unknown verification method is ignored and answered with Error 2", () => {
  const bench = new Bench();
  const { initiatorNonce } = bench.toI2Sent();
  const locators = { generation: 1, locators: [{ address: B1, method: 1 }, { address: B2, method: 9 }] };
  const answer = Bench.only(bench.receive(r2(initiatorNonce, { locators })), MessageType.Error).message;
  assertEquals(answer.code, 2);
  assertEquals(bench.state(), "I2-SENT");
});

// ESTABLISHED

Deno.test("ESTABLISHED: an I1 with the peer's tag is answered with an R2", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const answer = Bench.only(bench.receive(i1()), R2).message;
  assertEquals([answer.responderTag, answer.initiatorNonce], [tag, 0x1a2b3c4d]);
  assertEquals(bench.state(), "ESTABLISHED");
});

Deno.test("ESTABLISHED: an I1 with another tag, or from locators that are not the context's, gets an R1 and changes nothing", () => {
  const bench = new Bench();
  bench.toEstablished();
  Bench.only(bench.receive(i1({ initiatorTag: 4711 })), R1);
  Bench.only(bench.receive(i1({ ulidPair: { sender: B1, receiver: A1 } }), STRANGER), R1);
  assertEquals(bench.state(), "ESTABLISHED");
  assertEquals(bench.view()?.peerLocators.map((l) => l.address), [B1, B2, B3]);
});

Deno.test("ESTABLISHED: a good I2 or I2bis replaces the peer's tag and locators and is answered with an R2", () => {
  for (const make of [i2For, (b: Bench, changes: Partial<Message>) => i2bisFor(b, 99, changes)]) {
    const bench = new Bench();
    const localTag = bench.toEstablished();
    const message = make(bench, { initiatorTag: 4711, locators: list(9, B1, B3) });
    const answer = Bench.only(bench.receive(message), R2).message;
    assertEquals(answer.responderTag, localTag);
    assertEquals(bench.state(), "ESTABLISHED");
    assertEquals(bench.view()?.peerLocators.map((l) => l.address), [B1, B3]);
    assertEquals(bench.effects.at(-1), { type: "context-retagged", id: 1, localTag, peerTag: 4711 });
  }
});

Deno.test("ESTABLISHED: an I2 from an unknown locator that its list does not contain is dropped", () => {
  const bench = new Bench();
  bench.toEstablished();
  const ulidPair = { sender: B1, receiver: A1 };
  assertEquals(bench.receive(i2For(bench, { ulidPair }, STRANGER), STRANGER), []);
  assertEquals(bench.engine.counters.dropped["locator-of-I2"], 1);
  const listed = i2For(bench, { ulidPair, locators: list(9, B1, STRANGER) }, STRANGER);
  Bench.only(bench.receive(listed, STRANGER), R2);
});

Deno.test("ESTABLISHED: R1 and R2 are dropped", () => {
  const bench = new Bench();
  const { initiatorNonce } = bench.toI2Sent();
  bench.receive(r2(initiatorNonce));
  assertEquals(bench.receive(r1(initiatorNonce)), []);
  assertEquals(bench.receive(r2(initiatorNonce, { responderTag: 4711 })), []);
  assertEquals(bench.effects.map((e) => e.type), ["context-added"]);
});

Deno.test("ESTABLISHED: an R1bis about the peer's tag on the current pair is answered with an I2bis", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const answer = Bench.only(bench.receive(r1bis()), I2bis).message;
  assertEquals(bench.state(), "I2BIS-SENT");
  assertEquals([answer.initiatorTag, answer.packetTag, answer.responderNonce], [tag, PEER_TAG, 78]);
  assertEquals(answer.ulidPair, undefined);
  assertEquals(bench.effects.map((e) => e.type), ["context-added"], "payload goes on as before");
});

Deno.test("ESTABLISHED: an R1bis about another tag or on a pair that was not used is dropped", () => {
  const bench = new Bench();
  bench.toEstablished();
  assertEquals(bench.receive(r1bis({ packetTag: PEER_TAG + 1 })), []);
  assertEquals(bench.receive(r1bis(), B2), []);
  assertEquals(bench.receive(r1bis(), STRANGER), []);
  assertEquals(bench.state(), "ESTABLISHED");
});

Deno.test("ESTABLISHED: an R1bis on a pair that was just probed is answered there, and so is the R2 accepted there", () => {
  const bench = new Bench();
  bench.toEstablished();
  bench.engine.explore(1, bench.now);
  const probes = bench.run(60_000).filter((s) => s.message.type === Probe);
  const probed = probes.find((s) => s.source !== A1 && s.destination !== B1)!;
  const answer = Bench.only(bench.receive(r1bis(), probed.destination, probed.source), I2bis);
  assertEquals([answer.source, answer.destination], [probed.source, probed.destination]);
  assertEquals(answer.message.ulidPair, { sender: A1, receiver: B1 });
  bench.receive(r2(answer.message.initiatorNonce, { responderTag: 4711 }), probed.destination, probed.source);
  assertEquals(bench.state(), "ESTABLISHED");
  assertEquals(bench.effects.filter((e) => e.type === "context-retagged").length, 1);
});

Deno.test("ESTABLISHED: a context that nobody uses is discarded", () => {
  const bench = new Bench({ idleTeardownMs: 300_000 });
  bench.toEstablished();
  bench.now += 200_000;
  bench.payloadReceived();
  bench.run(299_999);
  assertEquals(bench.state(), "ESTABLISHED");
  bench.run(1);
  assertEquals(bench.state(), "IDLE");
  assertEquals(bench.effects.at(-1), { type: "context-removed", id: 1 });
});

Deno.test("ESTABLISHED: a tagged message from an address outside the sets is answered with an R1bis and ignored", () => {
  for (const type of TAGGED) {
    const bench = new Bench();
    const tag = bench.toEstablished();
    Bench.only(bench.receive(tagged(type, tag), STRANGER), R1bis);
    assertEquals(bench.view()?.reap, ReapState.Operational);
    Bench.only(bench.receive(tagged(type, tag), B2, "2001:db8:a9::9"), R1bis);
  }
});

// I2BIS-SENT

Deno.test("I2BIS-SENT: an R2 with the nonce of the I2bis on its pair completes the recovery", () => {
  const bench = new Bench();
  const message = bench.toI2bisSent();
  assertEquals(bench.receive(r2(message.initiatorNonce, { responderTag: 4711 }), B2), []);
  bench.receive(r2(message.initiatorNonce, { responderTag: 4711 }));
  assertEquals(bench.state(), "ESTABLISHED");
  assertEquals(bench.effects.at(-1), {
    type: "context-retagged",
    id: 1,
    localTag: message.initiatorTag,
    peerTag: 4711,
  });
});

Deno.test("I2BIS-SENT: an I1 is answered with an R2", () => {
  const bench = new Bench();
  bench.toI2bisSent();
  Bench.only(bench.receive(i1({ initiatorTag: 4711 })), R2);
  assertEquals(bench.state(), "I2BIS-SENT");
});

Deno.test("I2BIS-SENT: a good I2 or I2bis is stored and answered with an R2", () => {
  for (const make of [i2For, (b: Bench, changes: Partial<Message>) => i2bisFor(b, 99, changes)]) {
    const bench = new Bench();
    const message = make(bench, { initiatorTag: 4711 });
    bench.toI2bisSent();
    Bench.only(bench.receive(message), R2);
    assertEquals(bench.state(), "I2BIS-SENT");
    assertEquals(bench.effects.at(-1)?.type, "context-retagged");
  }
});

Deno.test("I2BIS-SENT: R1 and R1bis are dropped", () => {
  const bench = new Bench();
  const { initiatorNonce } = bench.toI2bisSent();
  assertEquals(bench.receive(r1(initiatorNonce)), []);
  assertEquals(bench.receive(r1bis()), []);
  assertEquals(bench.state(), "I2BIS-SENT");
});

Deno.test("I2BIS-SENT: the I2bis is sent three times, then the context starts again with an I1 and carries no payload", () => {
  const bench = new Bench();
  bench.toI2bisSent();
  const types = bench.run(45_000).map((s) => s.message.type).filter((type) => type !== Keepalive && type !== Probe);
  assertEquals(types.slice(0, 3), [I2bis, I2bis, I1]);
  assertEquals(bench.state(), "I1-SENT");
  assertEquals(bench.effects.at(-1), { type: "context-removed", id: 1 });
});

Deno.test("I2BIS-SENT: tagged messages are processed, and the I2bis is sent again", () => {
  for (const type of TAGGED) {
    const bench = new Bench();
    const { initiatorTag } = bench.toI2bisSent();
    bench.now += 1_000;
    const types = bench.receive(tagged(type, initiatorTag)).map((s) => s.message.type);
    assert(types.includes(I2bis));
    if (type === UpdateRequest) assert(types.includes(UpdateAcknowledgement));
    if (type === Probe) assert(types.includes(Probe));
  }
});

Deno.test("I2BIS-SENT: payload that comes in makes the I2bis be sent again", () => {
  const bench = new Bench();
  bench.toI2bisSent();
  bench.now += 500;
  bench.payloadReceived();
  assertEquals(bench.sentTypes(), [I2bis]);
});

// E-FAILED and NO-SUPPORT

Deno.test("E-FAILED, NO-SUPPORT: the heuristic starts nothing, but a peer may establish", () => {
  for (const state of ["E-FAILED", "NO-SUPPORT"] as const) {
    const bench = new Bench();
    const { initiatorTag } = bench.start();
    if (state === "NO-SUPPORT") {
      bench.engine.handleIcmpError({ kind: "no-shim6", local: A1, peer: B1, tag: initiatorTag }, bench.now);
    } else while (bench.state() !== state) bench.run(1_000);
    bench.sent();
    const flow = { local: A1, peer: B1, packets: 1_000, bytes: 1, firstSeen: 0, lastSeen: bench.now };
    bench.engine.handleFlow(flow, bench.now);
    assertEquals(bench.sent(), []);
    assertEquals(bench.state(), state);
    Bench.only(bench.receive(tagged(Keepalive, initiatorTag)), R1bis);
    Bench.only(bench.receive(i2For(bench)), R2);
    assertEquals(bench.state(), "ESTABLISHED");
    assertEquals(bench.engine.size, 1);
  }
});

// What belongs to no single cell

Deno.test("a forked context is another context with its own tags, and both ends name it in I1, I2 and I2bis", () => {
  const bench = new Bench();
  bench.toEstablished();
  const forked = bench.start(7);
  assertEquals(forked.fii, 7);
  const second = Bench.only(bench.receive(r1(forked.initiatorNonce)), I2).message;
  assertEquals(second.fii, 7);
  bench.receive(r2(second.initiatorNonce, { responderTag: PEER_TAG + 1 }));
  assertEquals(bench.view(7)?.state, "ESTABLISHED");
  assertEquals(bench.engine.size, 2);
  const again = Bench.only(bench.receive(r1bis({ packetTag: PEER_TAG + 1 })), I2bis).message;
  assertEquals(again.fii, 7);
  assertEquals(bench.state(), "ESTABLISHED", "the default context is not touched");
});

Deno.test("a forked context never tells the datapath where to send payload", () => {
  const bench = new Bench();
  const second = Bench.only(bench.receive(r1(bench.start(7).initiatorNonce)), I2).message;
  bench.receive(r2(second.initiatorNonce));
  bench.engine.explore(1, bench.now);
  bench.sent();
  assertEquals(bench.effects.map((e) => e.type), ["context-added"]);
});

Deno.test("context confusion: when the peer gives a tag away again, the context that had it is started anew", () => {
  const bench = new Bench();
  bench.toEstablished();
  const ulidPair = { sender: B2, receiver: A1 };
  const answer = bench.receive(i2For(bench, { ulidPair, initiatorTag: PEER_TAG }, B2), B2);
  Bench.only(answer, R2);
  assertEquals(Bench.only(answer, I1).message.ulidPair, undefined);
  assertEquals(bench.state(), "I1-SENT");
  assertEquals(bench.effects.filter((e) => e.type === "context-removed").length, 1);
  assertEquals(bench.engine.find(B2)?.state, "ESTABLISHED");
});

Deno.test("context confusion: a tag that a fork had, or that the context has which it was forked from, is no longer used there", () => {
  for (const confused of [0, 7]) {
    const bench = new Bench();
    const stays = confused === 0 ? 7 : 0;
    bench.toEstablished();
    const forked = Bench.only(bench.receive(r1(bench.start(7).initiatorNonce)), I2).message;
    bench.receive(r2(forked.initiatorNonce, { responderTag: PEER_TAG + 1 }));
    bench.now += 60_000;
    // The peer has lost one of the two and gives its tag to the other, with an exchange as it should be.
    const initiatorTag = confused === 0 ? PEER_TAG : PEER_TAG + 1;
    const answer = bench.receive(i2For(bench, { initiatorTag, fii: stays === 0 ? undefined : stays }));
    Bench.only(answer, R2);
    assertEquals(Bench.only(answer, I1).message.fii ?? 0, confused);
    assertEquals([bench.view(confused)?.state, bench.view(stays)?.state], ["I1-SENT", "ESTABLISHED"]);
    assertEquals(bench.engine.size, 2);
  }
});

Deno.test("a fork is opened on the pair in use, with an identifier of its own, by a name in its I1, and refused where nothing is", () => {
  const bench = new Bench();
  const localTag = bench.toEstablished();
  const pair = { local: A2, peer: B2 };
  bench.engine.switchPair(1, pair, bench.now);
  const asked = Bench.only(bench.sent(), Probe).message;
  bench.receive(probe(localTag, ReapState.InboundOk, 5, pair, asked.sent), B2, A2);
  assertEquals(bench.view()?.current, { local: A2, peer: B2 });
  const id = bench.engine.fork(1, bench.now);
  const opening = Bench.only(bench.sent(), I1);
  assertEquals([opening.source, opening.destination], [A2, B2]);
  assertEquals(opening.message.ulidPair, { sender: A1, receiver: B1 });
  const { fii } = bench.engine.context(id)!;
  assertEquals(opening.message.fii, fii);
  assert(fii !== 0);
  const second = Bench.only(bench.receive(r1(opening.message.initiatorNonce), B2, A2), I2);
  assertEquals([second.source, second.destination, second.message.fii], [A2, B2, fii]);
  bench.receive(r2(second.message.initiatorNonce, { responderTag: PEER_TAG + 1 }), B2, A2);
  assertEquals(bench.engine.context(id)?.state, "ESTABLISHED");
  assertEquals(bench.engine.find(B1)?.id, 1, "an address names the context that is not forked");
  assertThrows(() => bench.engine.fork(99, bench.now), EngineError, "no context");
  assertThrows(() => bench.engine.fork(bench.engine.establish(A3, B3, bench.now), bench.now), EngineError, "I1-SENT");
});

Deno.test("context confusion: the same tag from a peer with other locators, or in a mere I1, harms nobody", () => {
  const bench = new Bench();
  bench.toEstablished();
  const other = "2001:db8:c1::1";
  bench.receive(i1(), other);
  const foreign = i2For(bench, { locators: list(3, other) }, other);
  bench.receive(foreign, other);
  assertEquals(bench.state(), "ESTABLISHED");
  assertEquals(bench.engine.size, 2);
});

Deno.test("context confusion: an unverified locator in a list cannot end the context of somebody else", () => {
  const bench = new Bench({ verifier: ulidOnlyVerifier });
  const { initiatorNonce } = bench.toI2Sent();
  bench.receive(r2(initiatorNonce, { locators: undefined }));
  const other = "2001:db8:c1::1";
  bench.receive(i2For(bench, { locators: list(3, other, B1) }, other), other);
  assertEquals(bench.engine.size, 2);
  assertEquals(bench.state(), "ESTABLISHED");
});

Deno.test("the locator list and the PDS are left out when there is nothing that a peer could believe", () => {
  const strict = new Bench({ verifier: ulidOnlyVerifier });
  assertEquals(strict.toI2Sent().locators, undefined);
  const single = new Bench({ locators: [locator(A1)] });
  assertEquals(single.toI2Sent().locators, undefined);
  const pds = new Uint8Array(135);
  // A2 is no member of the set.
  const identity: LocatorProver = {
    covers: (address) => address !== A2,
    prove: (ulid, addresses, generation) => ulid === A1 ? { locators: list(generation, ...addresses), pds } : undefined,
  };
  const proven = new Bench({ verifier: ulidOnlyVerifier, identity });
  const message = proven.toI2Sent();
  assertEquals([message.locators?.locators.map((l) => l.address), message.pds], [[A1, A3], pds]);
  proven.receive(r2(message.initiatorNonce));
  proven.engine.explore(1, proven.now);
  assertEquals(new Set(proven.run(100_000).map((s) => s.source)), new Set([A1, A3]));
});

Deno.test("a Send Timeout other than 15 s is announced in I2, I2bis and R2", () => {
  const options = { profile: { ...RFC5534, sendTimeoutMs: 2_400 } };
  const announced = (message: LocatorOptions) => message.keepaliveTimeout;
  assertEquals(announced(new Bench(options).toI2Sent()), 3);
  assertEquals(announced(new Bench(options).toI2bisSent()), 3);
  const responder = new Bench(options);
  assertEquals(announced(Bench.only(responder.receive(i2For(responder)), R2).message), 3);
});

Deno.test("with a list that is not verified the context stays on the ULID pair, and says so once", () => {
  const bench = new Bench({ verifier: ulidOnlyVerifier });
  bench.toEstablished();
  assertEquals(bench.view()?.peerLocators.map((l) => l.verified), [true, false, false]);
  assertEquals(bench.eventsOf("unverified").map((event) => event.reason), ["2 of 3 locators, by ulid-only"]);
  bench.engine.explore(1, bench.now);
  for (const { destination } of bench.run(200_000)) assertEquals(destination, B1);
});
