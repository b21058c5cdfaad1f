/** REAP in a context: payload, suspicion, instructions to the datapath, hints, quiet peers, switches by hand. */

import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { type LocatorPair, samePair } from "../../policies/policy.ts";
import { PAPER } from "../../reap/profile.ts";
import { EngineError, type EngineErrorCode } from "../../shim6/engine.ts";
import { QUIET_TIME } from "../../shim6/constants.ts";
import { ulidOnlyVerifier } from "../../shim6/verifier.ts";
import { type Message, MessageType, type Probe as ProbeMessage, ReapState } from "../../wire/message.ts";
import {
  A1,
  A2,
  A3,
  activity,
  B1,
  B2,
  B3,
  Bench,
  i1,
  i2For,
  locator,
  PEER_TAG,
  probe,
  r1bis,
  r2,
  STRANGER,
  ULID,
} from "./bench.ts";

const { Keepalive, Probe, I2bis, R1 } = MessageType;

function probesOf(sent: readonly { message: Message; source: string; destination: string }[]) {
  return sent.filter((s) => s.message.type === Probe) as {
    message: ProbeMessage;
    source: string;
    destination: string;
  }[];
}

/** The peer's answer to a probe of ours on the reverse pair: it reports what arrived. */
function answer(tag: number, sent: { message: ProbeMessage; source: string; destination: string }, nonce = 1) {
  const pair: LocatorPair = { local: sent.source, peer: sent.destination };
  return probe(tag, ReapState.InboundOk, nonce, pair, [sent.message.sent[0]]);
}

function paths(bench: Bench) {
  bench.sent();
  return bench.effects.filter((e) => e.type === "path");
}

Deno.test("payload without an answer for the Send Timeout leads to an exploration, and to hold", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  bench.receive({ type: Keepalive, receiverTag: tag });
  bench.payloadSent();
  const start = bench.now;
  const [first] = probesOf(bench.run(15_000));
  assertEquals(bench.view()?.reap, ReapState.Exploring);
  assertEquals(first.message.state, ReapState.Exploring);
  assertEquals(first.message.receiverTag, PEER_TAG);
  const event = bench.eventsOf("reap").at(-1)!;
  assertEquals([event.cause, event.at], ["send-timer", start + 15_000]);
  assertEquals(paths(bench), [{ type: "path", id: 1, pair: ULID, hold: true, release: false }]);
});

Deno.test("a probe that the peer reports ends the exploration: the pair is taken and copies are released", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  bench.engine.explore(1, bench.now);
  const probes = probesOf(bench.run(100_000));
  const chosen = probes.find((s) => s.source !== A1 && s.destination !== B1)!;
  const pair = { local: chosen.source, peer: chosen.destination };
  const final = bench.receive(answer(tag, chosen), chosen.destination, chosen.source);
  assertEquals(probesOf(final)[0].message.state, ReapState.Operational);
  assertEquals(bench.view()?.reap, ReapState.Operational);
  assertEquals(bench.view()?.current, pair);
  assertEquals(bench.view()?.switches, 1);
  assertEquals(bench.view()?.lastFailure?.cause, "operator");
  assertEquals(paths(bench), [
    { type: "path", id: 1, pair: ULID, hold: true, release: false },
    { type: "path", id: 1, pair, hold: false, release: true },
  ]);
  assertEquals(bench.eventsOf("switch").map((e) => [e.from, e.to]), [[ULID, pair]]);
  assertEquals(bench.eventsOf("recovered").length, 1);
  assertEquals(bench.eventsOf("probe-sent").length, bench.view()!.probesSent);
});

Deno.test("the datapath learns that packets are lost when a pair has failed, not when it was left at somebody's wish", () => {
  for (const wished of [false, true]) {
    const bench = new Bench();
    const tag = bench.toEstablished();
    if (wished) bench.engine.explore(1, bench.now);
    else bench.payloadSent();
    const chosen = probesOf(bench.run(100_000)).find((s) => s.source !== A1 && s.destination !== B1)!;
    bench.receive(answer(tag, chosen), chosen.destination, chosen.source);
    const path = paths(bench).at(-1)!;
    assertEquals(path.pair, { local: chosen.source, peer: chosen.destination });
    assertEquals(path.lost, wished ? undefined : true);
  }
});

Deno.test("an exploration that ends on the same pair releases the copies there", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  bench.engine.explore(1, bench.now);
  const chosen = probesOf(bench.run(100_000)).find((s) => s.source === A1 && s.destination === B1)!;
  bench.receive(answer(tag, chosen));
  assertEquals(paths(bench).at(-1), { type: "path", id: 1, pair: ULID, hold: false, release: true });
  assertEquals(bench.view()?.switches, 0);
});

Deno.test("suspicion makes the datapath hold copies; an answer ends that without a release", () => {
  const bench = new Bench({ profile: PAPER });
  const tag = bench.toEstablished();
  bench.receive({ type: Keepalive, receiverTag: tag });
  for (let i = 0; i < 10; i++) { // the peer answers in 20 ms
    bench.payloadSent();
    bench.now += 20;
    bench.payloadReceived();
    bench.now += 80;
  }
  for (let i = 0; i < 20 && paths(bench).length === 0; i++) {
    bench.payloadSent();
    bench.now += 50;
  }
  assertEquals(paths(bench), [{ type: "path", id: 1, pair: ULID, hold: true, release: false }]);
  const [suspect] = bench.eventsOf("suspect");
  assertEquals(suspect.usualMs, 20);
  assert(suspect.silentMs >= 250 && suspect.silentMs < 500);
  assertEquals(bench.view()?.reap, ReapState.Operational);
  bench.payloadReceived();
  assertEquals(paths(bench).at(-1), { type: "path", id: 1, pair: ULID, hold: false, release: false });
  assertEquals(bench.engine.counters.sent["Probe"], undefined, "suspicion starts no probes");
});

Deno.test("a Keepalive also ends a suspicion", () => {
  const bench = new Bench({ profile: PAPER });
  const tag = bench.toEstablished();
  for (let i = 0; i < 60; i++) {
    bench.payloadSent();
    bench.now += 45;
  }
  assertEquals(paths(bench).at(-1)?.hold, true);
  bench.receive({ type: Keepalive, receiverTag: tag });
  assertEquals(paths(bench).at(-1), { type: "path", id: 1, pair: ULID, hold: false, release: false });
});

Deno.test("a suspicion that turns into an exploration stays one hold, and is released at its end", () => {
  const bench = new Bench({ profile: PAPER });
  const tag = bench.toEstablished();
  for (let i = 0; i < 62; i++) {
    bench.payloadSent();
    bench.run(50);
  }
  assertEquals(bench.view()?.reap, ReapState.Exploring);
  assertEquals(paths(bench).length, 1);
  const probed = probesOf(bench.log).at(-1)!;
  bench.receive(answer(tag, probed), probed.destination, probed.source);
  assertEquals(paths(bench).at(-1)?.release, true);
});

Deno.test("activity polled late is told to REAP with its own times", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  bench.receive({ type: Keepalive, receiverTag: tag });
  const sentAt = bench.now + 10;
  bench.now += 5_000;
  bench.engine.handleActivity(
    1,
    activity({ lastSent: sentAt + 4_000, firstUnanswered: sentAt, sentPackets: 5 }),
    bench.now,
  );
  bench.run(30_000);
  assertEquals(bench.eventsOf("reap")[0].at, sentAt + 15_000);
});

Deno.test("an answer that was received, but polled only when the Send Timer was due, prevents the exploration", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  bench.receive({ type: Keepalive, receiverTag: tag });
  bench.payloadSent();
  const sent = bench.now;
  bench.now += 15_000;
  assertEquals(bench.engine.due(bench.now), [1]);
  const counts = activity({
    lastSent: sent,
    sentPackets: 1,
    lastReceived: sent + 14_000,
    firstUnreplied: sent + 14_000,
  });
  bench.engine.handleActivity(1, counts, bench.now);
  bench.engine.handleTimeout(bench.now);
  assertEquals(bench.eventsOf("reap"), []);
});

Deno.test("one-way traffic towards us is answered with Keepalives on the current pair, and leads to no exploration", () => {
  const bench = new Bench();
  bench.toEstablished();
  const sent = [];
  for (let second = 0; second < 60; second++) {
    bench.payloadReceived();
    sent.push(...bench.run(1_000));
  }
  const keepalives = sent.filter((s) => s.message.type === Keepalive);
  assert(keepalives.length >= 11 && keepalives.length <= 13, `${keepalives.length}`);
  for (const { source, destination, message } of keepalives) {
    assertEquals([source, destination], [A1, B1]);
    assertEquals(message, { type: Keepalive, receiverTag: PEER_TAG });
  }
  assertEquals(bench.view()?.keepalivesSent, bench.engine.counters.sent["Keepalive"]);
  assertEquals(bench.view()?.reap, ReapState.Operational);
});

Deno.test("a peer that explores finds us InboundOk, and is answered", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const sent = bench.receive(probe(tag, ReapState.Exploring, 5, { local: A2, peer: B3 }), B3, A2);
  assertEquals(probesOf(sent)[0].message.state, ReapState.InboundOk);
  assertEquals(probesOf(sent)[0].message.received[0].nonce, 5);
  assertEquals(bench.eventsOf("probe-received").map((e) => e.pair), [{ local: A2, peer: B3 }]);
  assertEquals(paths(bench).at(-1)?.hold, true);
});

Deno.test("no probe and no payload ever goes to a locator that is not verified, whatever the peer probes from", () => {
  const bench = new Bench({ verifier: ulidOnlyVerifier });
  const tag = bench.toEstablished();
  bench.receive(probe(tag, ReapState.Exploring, 5, { local: A2, peer: B3 }), B3, A2);
  for (const { destination } of bench.run(300_000)) assertEquals(destination, B1);
  for (const path of paths(bench)) assertEquals(path.pair.peer, B1);
});

// Local locators

Deno.test("losing the address, its interface or its preferred lifetime starts an exploration at once, with that cause", () => {
  const cases = [
    ["address-gone", [locator(A2), locator(A3)]],
    ["link-down", [locator(A1, { usable: false }), locator(A2), locator(A3)]],
    ["address-deprecated", [locator(A1, { deprecated: true }), locator(A2), locator(A3)]],
  ] as const;
  for (const [cause, locators] of cases) {
    const bench = new Bench();
    bench.toEstablished();
    bench.engine.handleLocators(locators, bench.now);
    const probes = probesOf(bench.sent());
    assertEquals(bench.view()?.reap, ReapState.Exploring, cause);
    assertEquals(bench.eventsOf("reap")[0].cause, cause);
    if (cause !== "address-deprecated") assertNotEquals(probes[0].source, A1);
  }
});

Deno.test("losing an address that is not in use disturbs nothing", () => {
  const bench = new Bench();
  bench.toEstablished();
  bench.engine.handleLocators([locator(A1), locator(A2, { usable: false }), locator(A3)], bench.now);
  assertEquals(bench.view()?.reap, ReapState.Operational);
  assertEquals(bench.eventsOf("locators").length, 1);
  bench.engine.handleLocators([locator(A1), locator(A2, { usable: false }), locator(A3)], bench.now);
  assertEquals(bench.eventsOf("locators").length, 1, "the same again is no news");
});

Deno.test("when the only interface goes down there is nothing to explore, and it works again when it comes up", () => {
  const bench = new Bench({ locators: [locator(A1)] });
  bench.toEstablished();
  bench.engine.handleLocators([locator(A1, { usable: false })], bench.now);
  bench.engine.handleLocators([locator(A1)], bench.now);
  assertEquals(bench.view()?.reap, ReapState.Operational);
});

Deno.test("an exploration goes on with the addresses that are left", () => {
  const bench = new Bench();
  bench.toEstablished();
  bench.engine.handleLocators([locator(A2), locator(A3)], bench.now);
  bench.run(1_000);
  bench.engine.handleLocators([locator(A3)], bench.now);
  for (const { source } of probesOf(bench.run(60_000))) assertEquals(source, A3);
});

Deno.test("when every address is new, the context is recovered from the new ones by R1bis and I2bis", () => {
  const bench = new Bench();
  bench.toEstablished();
  const A9 = "2001:db8:a9::1";
  bench.engine.handleLocators([locator(A9)], bench.now);
  const [first] = probesOf(bench.sent());
  assertEquals(first.source, A9);
  const i2bis = Bench.only(bench.receive(r1bis(), first.destination, A9), I2bis).message;
  assertEquals(i2bis.locators?.locators.map((l) => l.address), [A9]);
  bench.receive(r2(i2bis.initiatorNonce), first.destination, A9);
  assertEquals(bench.state(), "ESTABLISHED");
  assertEquals(
    bench.run(7_000).some((s) => s.message.type === MessageType.UpdateRequest),
    false,
    "the I2bis said it all",
  );
});

Deno.test("the context outlives its ULID by default, and ends with it where that is asked for", () => {
  const surviving = new Bench();
  surviving.toEstablished();
  surviving.engine.handleLocators([locator(A2), locator(A3)], surviving.now);
  assertEquals(surviving.state(), "ESTABLISHED");
  Bench.only(surviving.receive(i1({ initiatorTag: 4711 })), R1);
  const ending = new Bench({ endWithUlid: true });
  ending.toEstablished();
  ending.engine.handleLocators([locator(A2), locator(A3)], ending.now);
  assertEquals(ending.state(), "IDLE");
  assertEquals(ending.receive(i1({ initiatorTag: 4711 })), [], "and no peer makes it again");
});

// ICMPv6

Deno.test("an unreachable error hastens an exploration only when payload is unanswered, on the current pair", () => {
  const error = { kind: "unreachable", local: A1, peer: B1, tag: PEER_TAG } as const;
  const bench = new Bench();
  const tag = bench.toEstablished();
  bench.receive({ type: Keepalive, receiverTag: tag });
  bench.engine.handleIcmpError(error, bench.now);
  assertEquals(bench.view()?.reap, ReapState.Operational, "nothing is unanswered");
  bench.now += 10;
  bench.payloadSent();
  bench.engine.handleIcmpError({ ...error, tag: PEER_TAG + 1 }, bench.now);
  bench.engine.handleIcmpError({ ...error, peer: STRANGER }, bench.now);
  bench.engine.handleIcmpError({ ...error, peer: B2 }, bench.now);
  bench.engine.handleIcmpError({ ...error, kind: "packet-too-big" }, bench.now);
  assertEquals(bench.view()?.reap, ReapState.Operational, "another tag or pair");
  bench.engine.handleIcmpError(error, bench.now);
  assertEquals(bench.view()?.reap, ReapState.Exploring);
  assertEquals(bench.eventsOf("reap")[0].cause, "icmp");
});

Deno.test("a Packet Too Big is believed only of a packet with the peer's tag between locators of the context", () => {
  const error = { kind: "packet-too-big", local: A1, peer: B2, tag: PEER_TAG, mtu: 1300 } as const;
  const bench = new Bench();
  assertEquals(bench.engine.handleIcmpError(error, bench.now), false, "no context");
  bench.toEstablished();
  assertEquals(bench.engine.handleIcmpError(error, bench.now), true);
  for (const wrong of [{ tag: PEER_TAG + 1 }, { tag: undefined }, { peer: STRANGER }, { local: STRANGER }]) {
    assertEquals(bench.engine.handleIcmpError({ ...error, ...wrong }, bench.now), false);
  }
  assertEquals(bench.view()?.reap, ReapState.Operational);
});

Deno.test("unreachable errors start at most one exploration in five seconds", () => {
  const error = { kind: "time-exceeded", local: A1, peer: B1, tag: PEER_TAG } as const;
  const bench = new Bench();
  const tag = bench.toEstablished();
  let explorations = 0;
  const start = bench.now;
  while (bench.now < start + 10_000) {
    bench.now += 100;
    bench.payloadSent();
    bench.engine.handleIcmpError(error, bench.now);
    const found = probesOf(bench.sent()).find((s) => samePair({ local: s.source, peer: s.destination }, ULID));
    if (bench.view()?.reap === ReapState.Exploring) {
      explorations++;
      const probed = found ?? probesOf(bench.run(60_000)).find((s) => s.source === A1 && s.destination === B1)!;
      bench.receive(answer(tag, probed, bench.now));
    }
  }
  assert(explorations <= 2, `${explorations}`);
});

Deno.test("when the peer's host says it knows no Shim6, payload takes the ULID pair at once and REAP rests", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  bench.engine.explore(1, bench.now);
  const probed = probesOf(bench.run(100_000)).find((s) => s.source === A2)!;
  bench.receive(answer(tag, probed), probed.destination, probed.source);
  bench.sent();
  const error = { kind: "no-shim6", local: A2, peer: probed.destination, tag: PEER_TAG } as const;
  bench.engine.handleIcmpError({ ...error, tag: 1 }, bench.now);
  bench.engine.handleIcmpError({ ...error, local: STRANGER }, bench.now);
  assertEquals(bench.view()?.current.local, A2, "a forged error has no effect");
  bench.engine.handleIcmpError(error, bench.now);
  // What was translated was refused there, so that TCP has to repeat it.
  assertEquals(paths(bench).at(-1), { type: "path", id: 1, pair: ULID, hold: false, release: false, lost: true });
  assertEquals(bench.state(), "ESTABLISHED");
  assertEquals(bench.eventsOf("peer-without-shim6").length, 1);
  bench.payloadSent();
  assertEquals(bench.run(QUIET_TIME - 1), []);
});

Deno.test("an exploration that meets a host without Shim6 ends on the ULID pair and releases the copies there", () => {
  const bench = new Bench();
  bench.toEstablished();
  bench.engine.explore(1, bench.now);
  bench.sent();
  bench.engine.handleIcmpError({ kind: "no-shim6", local: A1, peer: B1, tag: PEER_TAG }, bench.now);
  assertEquals(paths(bench).at(-1), { type: "path", id: 1, pair: ULID, hold: false, release: true });
  assertEquals(bench.view()?.reap, ReapState.Operational);
});

Deno.test("a quiet context wakes up by the restarted peer's I2, by its R1bis, or by anything with our tag", () => {
  const quiet = (): [Bench, number] => {
    const bench = new Bench();
    const tag = bench.toEstablished();
    bench.engine.handleIcmpError({ kind: "no-shim6", local: A1, peer: B1, tag: PEER_TAG }, bench.now);
    bench.sent();
    return [bench, tag];
  };
  const [byI2] = quiet();
  Bench.only(byI2.receive(i2For(byI2, { initiatorTag: 4711 })), MessageType.R2);
  const [byR1bis] = quiet();
  Bench.only(byR1bis.receive(r1bis()), I2bis);
  const [byProbe, tag] = quiet();
  assertEquals(probesOf(byProbe.receive(probe(tag, ReapState.Exploring, 3))).length, 1);
  const [byTime] = quiet();
  byTime.now += QUIET_TIME;
  byTime.payloadSent();
  assert(probesOf(byTime.run(15_000)).length > 0, "and after a while REAP works again by itself");
});

// By hand

function refused(code: EngineErrorCode, call: () => unknown) {
  assertEquals(assertThrows(call, EngineError).code, code);
}

Deno.test("a switch by hand to a proven or the ULID pair happens at once, to another one when its probe is answered", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  const pair = { local: A2, peer: B3 };
  assertEquals(bench.engine.switchPair(1, pair, bench.now), "probing");
  const [sent] = probesOf(bench.sent());
  assertEquals([sent.source, sent.destination, sent.message.state], [A2, B3, ReapState.InboundOk]);
  assertEquals(bench.view()?.current, ULID);
  const report = probe(tag, ReapState.Operational, 9, ULID, [{ ...sent.message.sent[0], destination: B2 }]);
  bench.receive(report);
  assertEquals(bench.view()?.current, ULID, "a report on another pair is none");
  bench.receive(probe(tag, ReapState.Operational, 10, ULID, [sent.message.sent[0]]));
  assertEquals(bench.view()?.current, pair);
  assertEquals(paths(bench), [{ type: "path", id: 1, pair, hold: false, release: false }]);
  assertEquals(bench.engine.switchPair(1, ULID, bench.now), "switched");
  assertEquals(bench.engine.switchPair(1, { local: A3, peer: B3 }, bench.now), "switched");
  assertEquals(bench.eventsOf("switch").map((e) => e.cause), ["operator", "operator", "operator"]);
});

Deno.test("a switch by hand to a pair that answers no probe does not happen", () => {
  const bench = new Bench();
  bench.toEstablished();
  bench.engine.switchPair(1, { local: A2, peer: B3 }, bench.now);
  assertEquals(probesOf(bench.run(60_000)).length, 3, "after the first");
  assertEquals(bench.eventsOf("switch-failed").length, 1);
  assertEquals(bench.view()?.current, ULID);
});

Deno.test("a switch by hand is refused for what is no locator, not verified or not usable", () => {
  const bench = new Bench();
  bench.toEstablished();
  refused("not-a-locator", () => bench.engine.switchPair(1, { local: A1, peer: STRANGER }, bench.now));
  refused("not-a-locator", () => bench.engine.switchPair(1, { local: STRANGER, peer: B1 }, bench.now));
  refused("no-context", () => bench.engine.switchPair(9, ULID, bench.now));
  bench.engine.handleLocators([locator(A1), locator(A2, { usable: false }), locator(A3)], bench.now);
  refused("unusable-locator", () => bench.engine.switchPair(1, { local: A2, peer: B1 }, bench.now));
  const strict = new Bench({ verifier: ulidOnlyVerifier });
  strict.toEstablished();
  refused("unverified-locator", () => strict.engine.switchPair(1, { local: A1, peer: B2 }, strict.now));
  const starting = new Bench();
  starting.start();
  refused("not-established", () => starting.engine.explore(1, starting.now));
});

Deno.test("the tag of a recovered peer is used by the probes that follow", () => {
  const bench = new Bench();
  bench.toEstablished();
  bench.engine.explore(1, bench.now);
  const [probed] = probesOf(bench.sent());
  const message = Bench.only(bench.receive(r1bis(), probed.destination, probed.source), I2bis).message;
  bench.receive(r2(message.initiatorNonce, { responderTag: 4711 }), probed.destination, probed.source);
  const probes = probesOf(bench.run(10_000));
  assert(probes.length > 0);
  for (const { message } of probes) assertEquals(message.receiverTag, 4711);
});
