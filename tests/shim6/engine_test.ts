/** The engine as a whole: the heuristic, limits, console, counters, and what strangers can do to it. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { EngineError } from "../../shim6/engine.ts";
import { parsePrefix } from "../../wire/address.ts";
import { emitMessage } from "../../wire/codec.ts";
import { type Message, MessageType } from "../../wire/message.ts";
import {
  A1,
  A2,
  A3,
  activity,
  B1,
  B2,
  Bench,
  i1,
  i2bisFor,
  i2For,
  locator,
  PEER_LIST,
  PEER_TAG,
  r1,
  r2,
} from "./bench.ts";

function flow(changes: Record<string, unknown> = {}) {
  return { local: A1, peer: B1, packets: 10, bytes: 1_000, firstSeen: 0, lastSeen: 1_000, ...changes };
}

// The heuristic

Deno.test("a flow gets a context after enough packets or after enough time", () => {
  for (const [changes, starts] of [[{}, false], [{ packets: 50 }, true], [{ lastSeen: 60_000 }, true]] as const) {
    const bench = new Bench();
    bench.engine.handleFlow(flow(changes), bench.now);
    assertEquals(bench.engine.size, starts ? 1 : 0);
    assertEquals(bench.sentTypes(), starts ? [MessageType.I1] : []);
  }
});

Deno.test("a flow that has a context starts no second one", () => {
  const bench = new Bench();
  for (let i = 0; i < 3; i++) bench.engine.handleFlow(flow({ packets: 50 + i }), bench.now);
  bench.sent();
  bench.receive(r1((bench.log[0].message as { initiatorNonce: number }).initiatorNonce));
  bench.engine.handleFlow(flow({ packets: 60 }), bench.now);
  assertEquals(bench.engine.size, 1);
});

Deno.test("peers of some prefixes get a context at once, of others never", () => {
  const always = [parsePrefix("2001:db8:b1::/48")], never = [parsePrefix("2001:db8:b1::/64")];
  const base = { afterPackets: 50, afterMs: 60_000 };
  const eager = new Bench({ establish: { ...base, always, never: [] } });
  eager.engine.handleFlow(flow({ packets: 1 }), eager.now);
  assertEquals(eager.engine.size, 1);
  const refusing = new Bench({ establish: { ...base, always, never } });
  refusing.engine.handleFlow(flow({ packets: 1_000 }), refusing.now);
  assertEquals(refusing.engine.size, 0);
});

Deno.test("only usable global addresses of this host and global addresses of others get contexts", () => {
  const bench = new Bench({
    locators: [locator(A1), locator(A2, { usable: false }), locator(A3, { deprecated: true })],
  });
  for (
    const changes of [
      { local: A2 },
      { local: A3 },
      { local: "fe80::1" },
      { local: "2001:db8:a9::1" },
      { peer: "fe80::2" },
      { peer: "ff02::1" },
      { peer: A2 },
      { peer: "::1" },
    ]
  ) {
    bench.engine.handleFlow(flow({ packets: 100, ...changes }), bench.now);
    assertEquals(bench.engine.size, 0, JSON.stringify(changes));
  }
});

// Console

Deno.test("contexts are found by number and by an address of the peer, when only one has it", () => {
  const bench = new Bench();
  bench.toEstablished();
  assertEquals(bench.engine.find(1)?.id, 1);
  assertEquals(bench.engine.find("1")?.id, 1);
  assertEquals(bench.engine.find("2001:DB8:b1:0::1")?.id, 1);
  assertEquals(bench.engine.find(B2)?.id, 1);
  for (const text of ["2", "0", "2001:db8::9", "nonsense", "-1", ""]) assertEquals(bench.engine.find(text), undefined);
  bench.engine.establish(A2, B1, bench.now);
  assertEquals(bench.engine.find(B1), undefined, "two have it");
});

Deno.test("a forgotten context is gone, for the datapath as well, and its tag is unknown", () => {
  const bench = new Bench();
  const tag = bench.toEstablished();
  bench.engine.forget(1, bench.now);
  bench.sent();
  assertEquals(bench.engine.size, 0);
  assertEquals(bench.effects.at(-1), { type: "context-removed", id: 1 });
  assertEquals(bench.engine.nextDeadline(), Infinity);
  Bench.only(bench.receive({ type: MessageType.Keepalive, receiverTag: tag }), MessageType.R1bis);
  assertThrows(() => bench.engine.forget(1, bench.now), EngineError, "no context 1");
});

Deno.test("forgetting a negative cache entry lets the peer be tried again", () => {
  const bench = new Bench();
  bench.start();
  while (bench.state() !== "E-FAILED") bench.run(1_000);
  bench.engine.forget(1, bench.now);
  bench.start();
  assertEquals(bench.state(), "I1-SENT");
});

Deno.test("a context cannot be asked for with addresses that make no sense", () => {
  const bench = new Bench();
  assertThrows(() => bench.engine.establish("2001:db8::77", B1, bench.now), EngineError, "no address of this host");
  assertThrows(() => bench.engine.establish(A1, A2, bench.now), EngineError, "cannot be a peer");
  assertThrows(() => bench.engine.establish(A1, "ff02::1", bench.now), EngineError, "cannot be a peer");
});

Deno.test("a new policy is used by the explorations that begin after it", () => {
  const bench = new Bench();
  bench.toEstablished();
  const pair = { local: A3, peer: B2 };
  bench.engine.setPolicy({
    name: "fixed",
    summary: "always the same pair",
    plan: () => ({ next: () => ({ pair, waitMs: 500, reason: "test" }) }),
  });
  bench.engine.explore(1, bench.now);
  const probe = Bench.only(bench.sent(), MessageType.Probe);
  assertEquals([probe.source, probe.destination], [A3, B2]);
  assertEquals(bench.eventsOf("probe-sent")[0].reason, "test");
});

Deno.test("a view shows the activity that was reported last", () => {
  const bench = new Bench();
  bench.toEstablished();
  const counts = activity({
    lastSent: bench.now,
    firstUnanswered: bench.now,
    sentPackets: 3,
    sentBytes: 4_000_000_000,
  });
  bench.engine.handleActivity(1, counts, bench.now);
  assertEquals(bench.view()?.activity, counts);
  bench.engine.handleActivity(99, counts, bench.now); // a context that is gone meanwhile
});

// Errors and counters

Deno.test("unknown types and critical options are answered with an Error, a malformed packet is only counted", () => {
  const bench = new Bench();
  const unknown = emitMessage({ type: MessageType.Keepalive, receiverTag: 1 });
  unknown[2] = 90;
  unknown[4] -= 90 - 66; // keep the checksum right: the type is in the high octet of a word
  bench.engine.handleControlMessage(unknown, B1, A1, bench.now);
  const error = Bench.only(bench.sent(), MessageType.Error);
  assertEquals([error.message.code, error.message.pointer], [0, 42]);
  bench.engine.handleControlMessage(unknown.subarray(0, 9), B1, A1, bench.now);
  bench.engine.handleControlMessage(new Uint8Array(0), B1, A1, bench.now);
  assertEquals(bench.sent(), []);
  assertEquals(bench.engine.counters.dropped, { "unknown-type": 1, "header-past-packet": 1, truncated: 1 });
});

Deno.test("messages are counted by type, sent and received", () => {
  const bench = new Bench();
  bench.toEstablished();
  assertEquals(bench.engine.counters.sent, { I1: 1, I2: 1 });
  assertEquals(bench.engine.counters.received, { R1: 1, R2: 1 });
});

// Limits

Deno.test("contexts are limited, in all and per peer; a negative entry makes room for a real one", () => {
  const bench = new Bench({ limits: { contexts: 3, contextsPerPeer: 2 } });
  for (let fii = 1; fii <= 3; fii++) bench.receive(i2For(bench, { fii, initiatorTag: fii }));
  assertEquals(bench.engine.size, 2);
  assertEquals(bench.engine.counters.dropped["too-many-contexts"], 1);
  bench.engine.establish(A1, "2001:db8:c1::1", bench.now);
  assertThrows(() => bench.engine.establish(A1, "2001:db8:c2::1", bench.now), EngineError, "no room");
  while (bench.engine.context(3)?.state !== "E-FAILED") bench.run(1_000);
  bench.engine.establish(A1, "2001:db8:c2::1", bench.now);
  assertEquals(bench.engine.size, 3);
});

Deno.test("somebody with very many addresses leaves room for the contexts that this host wants itself", () => {
  const bench = new Bench({ limits: { contexts: 8 } });
  for (let i = 1; i <= 20; i++) {
    const source = `2001:db8:bad::${i.toString(16)}`;
    bench.receive(i2For(bench, { initiatorTag: i, locators: undefined }, source), source);
  }
  assertEquals(bench.engine.size, 6);
  bench.engine.establish(A1, "2001:db8:c1::1", bench.now);
  bench.engine.establish(A1, "2001:db8:c2::1", bench.now);
  assertThrows(() => bench.engine.establish(A1, "2001:db8:c3::1", bench.now), EngineError, "no room");
});

Deno.test("numbers of contexts are not given again soon", () => {
  const bench = new Bench();
  const ids = new Set<number>();
  for (let i = 0; i < 1_000; i++) {
    const id = bench.engine.establish(A1, B1, bench.now);
    assert(!ids.has(id));
    ids.add(id);
    bench.engine.forget(id, bench.now);
  }
});

Deno.test("tags are unique, fill 47 bits and are not zero", () => {
  const bench = new Bench({ limits: { contextsPerPeer: 1_000 } });
  for (let fii = 1; fii <= 500; fii++) bench.engine.establish(A1, B1, bench.now, fii);
  const tags = bench.sent().map((s) => (s.message as { initiatorTag: number }).initiatorTag);
  assertEquals(new Set(tags).size, 500);
  assert(Math.max(...tags) > 2 ** 46 && Math.max(...tags) < 2 ** 47 && Math.min(...tags) > 0);
});

// Strangers

Deno.test("a flood of I1, forged I2 and unknown tags leaves no state and does not harm the contexts", () => {
  const bench = new Bench();
  bench.toEstablished();
  bench.sent();
  const before = JSON.stringify(bench.view());
  const good = i2For(bench, { initiatorTag: 4711 }) as { validator: Uint8Array };
  bench.engine.handleIcmpError({ kind: "no-shim6", local: A1, peer: B1, tag: PEER_TAG + 5 }, bench.now);
  const forged: Message[] = [
    i1({ initiatorTag: 1 }),
    { ...good, validator: new Uint8Array(20) } as unknown as Message,
    { ...good, responderNonce: 1 } as unknown as Message,
    {
      type: MessageType.Probe,
      receiverTag: 99,
      state: 1,
      sent: [{ source: B1, destination: A1, nonce: 1, data: 0 }],
      received: [],
    },
    r2(12345),
    r1(12345),
  ];
  const octets = forged.map((message) => emitMessage(message));
  let octetsIn = 0, octetsOut = 0;
  for (let i = 0; i < 50_000; i++) {
    const source = `2001:db8:bad:${(i % 5_000).toString(16)}::1`;
    const message = octets[i % octets.length];
    bench.now += 0.02;
    octetsIn += 40 + message.length;
    bench.engine.handleControlMessage(message, source, A1, bench.now);
    for (let effect = bench.engine.nextEffect(); effect !== undefined; effect = bench.engine.nextEffect()) {
      assertEquals(effect.type, "send");
      if (effect.type === "send") octetsOut += 40 + effect.message.length;
    }
  }
  assertEquals(bench.engine.size, 1);
  assertEquals(JSON.stringify(bench.view()), before);
  assert(octetsOut < octetsIn / 2, `${octetsOut} for ${octetsIn}`);
  assert(Object.keys(bench.engine.counters.dropped).length < 12);
});

Deno.test("a hundred good I2 from one address make only as many contexts as one peer may have", () => {
  const bench = new Bench({ limits: { contextsPerPeer: 8 } });
  for (let fii = 1; fii <= 100; fii++) {
    bench.now += 250;
    bench.receive(i2For(bench, { fii, initiatorTag: fii, locators: PEER_LIST }));
  }
  assertEquals(bench.engine.size, 8);
});

Deno.test("an I2bis is only as good as the R1bis it answers", () => {
  const bench = new Bench();
  const message = i2bisFor(bench, 4711) as { responderNonce: number };
  bench.now += 61_000;
  assertEquals(bench.receive(message as unknown as Message), []);
  assertEquals(bench.engine.size, 0);
});
