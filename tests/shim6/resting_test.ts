import { assertEquals, assertNotStrictEquals } from "@std/assert";
import { PeerLocators } from "../../shim6/peer_locators.ts";
import { Context, type ContextHost } from "../../shim6/context.ts";
import { ContextTable } from "../../shim6/context_table.ts";
import { LocalLocators } from "../../shim6/local_locators.ts";
import { fromRestingText, restingText } from "../../shim6/resting.ts";
import { Suspicion } from "../../reap/suspicion.ts";
import { VerificationMethod } from "../../wire/message.ts";

const host: ContextHost = { local: new LocalLocators([], 7, () => true) };
const PAIR = { local: "2001:db8:1::1", peer: "2001:db8:2::2" };
const OTHER = { local: "2001:db8:3::1", peer: "2001:db8:4::2" };

function established(id = 5): Context {
  const context = new Context(host, id, PAIR, 0, 0x7fff_ffff_fff0 + id, 1_000);
  context.state = "ESTABLISHED";
  return context;
}

/** A peer about which everything is known that can be. */
function peer(): PeerLocators {
  const locators = [PAIR.peer, OTHER.peer].map((address) => ({ address, method: VerificationMethod.HBA }));
  const list = (generation: number) =>
    PeerLocators.fromList(PAIR.peer, { generation, locators }, [true, false], Uint8Array.of(1, 2, 255), 8);
  const before = list(0xffff_ffff), peer = list(12);
  before.prove(OTHER.peer);
  peer.replace(before);
  peer.setPreferences({ generation: 12, elementLength: 2, elements: [[0, 3], [1, 200]] });
  return peer;
}

Deno.test("a context comes back from rest as it was, whatever plain data is in it", () => {
  const context = established();
  const { fii: _, host: __, id: ___, ulid: ____, localTag: _____, mayRest: ______, ...fields } = context;
  let number = 2 ** 40;
  for (const [field, value] of Object.entries(fields)) {
    if (typeof value === "number") Object.assign(context, { [field]: number++ + 0.5 });
    if (typeof value === "boolean") Object.assign(context, { [field]: true });
  }
  context.since = 2 ** 41; // in whole ms
  Object.assign(context, { peerTag: 3, peer: peer(), announced: host.local, current: OTHER, incoming: OTHER });
  context.lastFailure = { cause: "send-timer", detectionMs: 3_000.25, explorationMs: 1, recoveryMs: 3_001.25 };
  context.suspicion = new Suspicion();
  context.suspicion.answered("payload", 1_000, 1_000, 1_012);
  context.suspicion.refuted(2_000, 2_100);
  const restored = fromRestingText(restingText(context)!, host, context.id);
  assertNotStrictEquals(restored, context);
  assertEquals(restored, context);
  assertEquals([restored.peer!.toJSON(), restored.suspicion!.toJSON()], [peer().toJSON(), context.suspicion.toJSON()]);
  assertEquals(restored.announced === host.local, true);
});

Deno.test("of an ordinary context hardly more than its addresses and tags is kept", () => {
  const context = established();
  Object.assign(context, { peerTag: 2 ** 46, peer: peer(), announced: host.local, incoming: { ...PAIR } });
  const text = restingText(context)!;
  assertEquals(text.length < 200, true, text);
  assertEquals(fromRestingText(text, host, 5).incoming, PAIR);
  assertEquals(fromRestingText(text, host, 5).current === fromRestingText(text, host, 5).ulid, false);
});

Deno.test("a context with which something goes on does not rest", () => {
  const busy: Partial<Context>[] = [
    { state: "I2BIS-SENT" },
    { state: "E-FAILED" },
    { trial: { pair: OTHER, cause: "operator", nonces: [], deadline: 1 } },
    { doubt: { probed: [], explored: false, refuted: false, copyTo: undefined, toldCopyTo: undefined } },
    { announced: new LocalLocators([], 6, () => true) },
    { suspectAt: -Infinity },
  ];
  for (const fields of busy) assertEquals(restingText(Object.assign(established(), fields)), undefined);
});

Deno.test("a table finds a context by the same keys whether it is awake or at rest", () => {
  const table = new ContextTable(host, (length) => new Uint8Array(length).fill(9), 42);
  const [first] = [1, 2].map(() => {
    const context = established(table.newId());
    table.add(context);
    return context;
  });
  table.setPeerTag(first, 11);
  const found = () => [
    table.byId(1)?.id,
    table.find(PAIR.local, PAIR.peer, 0)?.id,
    table.byLocalTag(first.localTag)?.id,
    [...table.byPeerTag(11)].map(({ id }) => id),
    table.countOfPeer(PAIR.peer),
    [...table.copies()].map(({ id }) => id),
    table.find(PAIR.local, PAIR.peer, 1),
    table.byLocalTag(1),
  ];
  const awake = found();
  const rest = (isBusy = false) => {
    for (const context of table) table.mayRest(context);
    table.rest(() => isBusy);
  };
  rest();
  assertEquals([...table.awake()], []);
  assertEquals(found(), awake);
  assertEquals([...table.awake()].length, 2, "they wake up when asked for");
  rest(true);
  assertEquals([...table.awake()].length, 2, "what something else holds stays awake");
  rest();
  table.remove(table.byId(1)!);
  assertEquals([table.size, table.countOfPeer(PAIR.peer), [...table.byPeerTag(11)].length], [1, 1, 0]);
  assertEquals(table.byId(1), undefined);
});
