/** Two and more engines that talk to each other in virtual time, over paths that lose, delay and fail. */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import type { LocatorPair } from "../../policies/policy.ts";
import { PAPER, RFC5534 } from "../../reap/profile.ts";
import { Traffic } from "../../sim/traffic.ts";
import { allPairs, type VirtualHost, type VirtualHostOptions, VirtualNetwork } from "../../sim/virtual_network.ts";
import { LocalIdentity } from "../../shim6/identity.ts";
import { identityVerifier } from "../../shim6/identity_verifier.ts";
import { ulidOnlyVerifier } from "../../shim6/verifier.ts";
import type { Address } from "../../wire/address.ts";
import { parseControlMessage } from "../../wire/codec.ts";
import { type LocatorOptions, type Message, MessageType } from "../../wire/message.ts";
import { messageOf as messageFrom, vector } from "../wire/vectors.ts";
import { A1, A2, A3, B1, B2, B3, locator, ULID } from "./bench.ts";

const A = [A1, A2, A3], B = [B1, B2, B3];
const REVERSE: LocatorPair = { local: B1, peer: A1 };

interface World {
  readonly network: VirtualNetwork;
  readonly a: VirtualHost;
  readonly b: VirtualHost;
}

function world(options: VirtualHostOptions = { profile: PAPER }, seed = 1): World {
  const network = new VirtualNetwork({ seed, delayMs: 10 });
  return { network, a: network.addHost("A", A, options), b: network.addHost("B", B, options) };
}

function stateOf(host: VirtualHost, local: Address, peer: Address): string {
  return host.context(local, peer)?.state ?? "IDLE";
}

function bothEstablished({ a, b }: World): boolean {
  return stateOf(a, A1, B1) === "ESTABLISHED" && stateOf(b, B1, A1) === "ESTABLISHED";
}

/** Both ends established, with tags that fit: packets in translated form arrive. */
function assertAgreed({ network, a, b }: World): void {
  const before = [a.unknownTags, b.unknownTags];
  for (const [host, pair] of [[a, { local: A2, peer: B2 }], [b, { local: B3, peer: A3 }]] as const) {
    const id = host.context(...(host === a ? [A1, B1] : [B1, A1]) as [Address, Address])!.id;
    host.with((engine, now) => engine.switchPair(id, pair, now));
  }
  network.run(1_000);
  const traffic = new Traffic(network, { from: a, to: b, ulid: ULID, intervalMs: 50, bothWays: true });
  network.run(1_000);
  traffic.stop();
  network.run(100);
  assertEquals(a.context(A1, B1)?.current, { local: A2, peer: B2 });
  assertEquals(traffic.forth.received, traffic.forth.sent);
  assertEquals(traffic.back.received, traffic.back.sent);
  assertEquals([a.unknownTags, b.unknownTags], before);
}

function messageOf(packet: { kind: string; octets?: Uint8Array; source: Address; destination: Address }) {
  if (packet.octets === undefined) return undefined;
  const result = parseControlMessage(packet.octets, packet.source, packet.destination);
  return result.ok ? result.packet.message : undefined;
}

/** Loses the control messages for which `lose` says so. */
function losing(network: VirtualNetwork, lose: (message: Message, source: Address) => boolean): void {
  network.filter = (packet) => {
    const message = messageOf(packet);
    return message === undefined || !lose(message, packet.source);
  };
}

// Establishment

Deno.test("the normal exchange takes two round trips and four messages", () => {
  const w = world();
  w.a.establish(A1, B1);
  w.network.run(40);
  assert(bothEstablished(w));
  assertEquals(w.a.engine!.counters.sent, { I1: 1, I2: 1 });
  assertEquals(w.b.engine!.counters.sent, { R1: 1, R2: 1 });
  assertAgreed(w);
});

Deno.test("when I1s cross, both ends establish by R2 and agree (RFC 5533 §7.4)", () => {
  const w = world();
  w.a.establish(A1, B1);
  w.b.establish(B1, A1);
  w.network.run(20);
  assert(bothEstablished(w));
  assertEquals([w.a.engine!.counters.sent["R2"], w.b.engine!.counters.sent["R2"]], [1, 1]);
  assertAgreed(w);
});

Deno.test("an I2 that crosses an I1 leads to one context at each end (RFC 5533 §7.4)", () => {
  for (let offset = 0; offset <= 50; offset += 2) {
    const w = world();
    w.a.establish(A1, B1);
    w.network.run(offset);
    w.b.establish(B1, A1);
    w.network.run(200);
    assert(bothEstablished(w), `B starts ${offset} ms later`);
    assertEquals([w.a.engine!.size, w.b.engine!.size], [1, 1]);
    assertAgreed(w);
  }
});

Deno.test("whichever message of the establishment is lost, even several, both ends establish and agree", () => {
  const { I1, R1, I2, R2 } = MessageType;
  for (const crossing of [false, true]) {
    for (const type of [I1, R1, I2, R2]) {
      for (const times of [1, 2, 3]) {
        const w = world();
        let lost = 0;
        losing(w.network, (message) => message.type === type && lost++ < times);
        w.a.establish(A1, B1);
        if (crossing) w.b.establish(B1, A1);
        const done = w.network.runUntil(() => bothEstablished(w), 400_000);
        assert(done, `type ${type} lost ${times} times, crossing ${crossing}`);
        w.network.filter = undefined;
        w.network.run(10_000);
        assertAgreed(w);
      }
    }
  }
});

Deno.test("with 30 % loss of every packet, both ends establish and agree; a failed attempt is repeated by the traffic", () => {
  const everywhere = allPairs([...A, ...B], [...A, ...B]);
  for (let seed = 1; seed <= 40; seed++) {
    const w = world({ profile: RFC5534, establish: { afterPackets: 5 } }, seed);
    for (const pair of everywhere) w.network.path(pair.local, pair.peer).loss = 0.3;
    const bothWays = seed % 2 === 0;
    const traffic = new Traffic(w.network, { from: w.a, to: w.b, ulid: ULID, intervalMs: 500, bothWays });
    assert(w.network.runUntil(() => bothEstablished(w), 400_000), `seed ${seed}`);
    traffic.stop();
    for (const pair of everywhere) w.network.path(pair.local, pair.peer).loss = 0;
    w.network.run(60_000);
    assertAgreed(w);
  }
});

Deno.test("traffic establishes the context by itself, and a peer without Shim6 is left alone", () => {
  const w = world({ profile: PAPER, establish: { afterPackets: 20 } });
  new Traffic(w.network, { from: w.a, to: w.b, ulid: ULID, intervalMs: 100, bothWays: true });
  w.network.run(5_000);
  assert(bothEstablished(w));
  const network = new VirtualNetwork({ seed: 2 });
  const a = network.addHost("A", A, { establish: { afterPackets: 20 } }), plain = network.addHost("B", B);
  plain.killAgent();
  const traffic = new Traffic(network, { from: a, to: plain, ulid: ULID, intervalMs: 100, bothWays: true });
  network.run(60_000);
  assertEquals(stateOf(a, A1, B1), "NO-SUPPORT");
  assertEquals(a.messagesSent, 1);
  assertEquals(traffic.forth.longestSilence <= 101, true);
});

// Failures

/** Both-way traffic over an established context. */
function running(w: World, intervalMs = 100, bothWays = true): Traffic {
  w.a.establish(A1, B1);
  const traffic = new Traffic(w.network, { from: w.a, to: w.b, ulid: ULID, intervalMs, bothWays, jitter: 0.1 });
  w.network.run(5_000);
  return traffic;
}

/** The pair works at this moment, one way. */
function works({ network }: World, pair: LocatorPair): boolean {
  return network.path(pair.local, pair.peer).up;
}

function assertRecovered(w: World, traffic: Traffic, withinMs: number): void {
  const { network, a, b } = w;
  network.run(withinMs);
  const onA = a.context(A1, B1)!, onB = b.context(B1, A1)!;
  assertEquals([onA.reap, onB.reap], [0, 0]);
  assert(works(w, onA.current) && works(w, onB.current));
  const before = [traffic.forth.received, traffic.back.received];
  network.run(2_000);
  assert(traffic.forth.received > before[0], "forth");
  assert(traffic.back.sent === 0 || traffic.back.received > before[1], "back");
}

Deno.test("a failure of one direction is survived, in either direction", () => {
  for (const pair of [ULID, REVERSE]) {
    for (let seed = 1; seed <= 10; seed++) {
      const w = world({ profile: PAPER }, seed);
      const traffic = running(w);
      w.network.cut(pair);
      assertRecovered(w, traffic, 10_000);
      const kept = pair === ULID ? w.b.context(B1, A1)! : w.a.context(A1, B1)!;
      assert(works(w, kept.current));
    }
  }
});

Deno.test("a failure of both directions is survived", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const w = world({ profile: PAPER }, seed);
    const traffic = running(w);
    w.network.cut(ULID, true);
    assertRecovered(w, traffic, 15_000);
  }
});

Deno.test("with one-way traffic a failure is noticed by whoever sends", () => {
  for (let seed = 1; seed <= 10; seed++) {
    const w = world({ profile: PAPER }, seed);
    const traffic = running(w, 100, false);
    w.network.cut(ULID);
    assertRecovered(w, traffic, 20_000);
  }
});

Deno.test("with one-way traffic and no failure nobody explores for ten minutes", () => {
  const w = world();
  running(w, 100, false);
  w.network.run(600_000);
  assertEquals([...w.a.events, ...w.b.events].filter((event) => event.kind === "reap"), []);
});

Deno.test("when a whole provider is dead, another one is used by both ends", () => {
  for (const dead of [A1, B1]) {
    const w = world({ profile: PAPER }, 7);
    const traffic = running(w);
    for (const other of dead === A1 ? B : A) w.network.cut({ local: dead, peer: other }, true);
    assertRecovered(w, traffic, 20_000);
    assertNotEquals(w.a.context(A1, B1)!.current[dead === A1 ? "local" : "peer"], dead);
  }
});

Deno.test("one path left in each direction is found, wherever they are", () => {
  const pairs = allPairs(A, B);
  for (let seed = 1; seed <= 12; seed++) {
    const w = world({ profile: PAPER }, seed);
    const traffic = running(w, 1_000);
    const forth = pairs[1 + seed % 8], back = pairs[1 + (seed * 3) % 8];
    for (const pair of pairs) {
      w.network.path(pair.local, pair.peer).up = pair === forth;
      w.network.path(pair.peer, pair.local).up = pair === back;
    }
    const found = w.network.runUntil(
      () => works(w, w.a.context(A1, B1)!.current) && works(w, w.b.context(B1, A1)!.current),
      300_000,
    );
    assert(found, `seed ${seed}`);
    assertRecovered(w, traffic, 5_000);
  }
});

Deno.test("paths that fail one after the other are survived one after the other, and mended ones are used again", () => {
  const w = world({ profile: PAPER }, 5);
  const traffic = running(w);
  for (let i = 0; i < 20; i++) {
    w.network.mendAll();
    w.network.cut(w.a.context(A1, B1)!.current);
    w.network.cut(w.b.context(B1, A1)!.current);
    assertRecovered(w, traffic, 30_000);
  }
});

// Recovery

Deno.test("a peer that restarts while payload is translated recovers the context by R1bis on the pair in use", () => {
  for (let seed = 1; seed <= 10; seed++) {
    const w = world({ profile: PAPER }, seed);
    const traffic = running(w);
    w.network.cut(ULID, true);
    assertRecovered(w, traffic, 15_000);
    const { current } = w.a.context(A1, B1)!;
    w.b.killAgent();
    w.b.startAgent();
    w.network.run(1_000);
    assert(bothEstablished(w));
    assertEquals(w.a.context(A1, B1)!.current, current, "A stays where it is");
    const { local, peer } = w.b.context(B1, A1)!.current;
    assertEquals({ local: peer, peer: local }, current, "B takes the pair on which the I2bis came");
    const counters = w.b.engine!.counters.sent;
    assert(counters["R1bis"]! >= 1 && counters["R2"] === 1);
    assertRecovered(w, traffic, 5_000);
  }
});

Deno.test("an initiator that restarts and starts anew replaces its tag in the old context (RFC 5533 §7.5)", () => {
  const w = world();
  running(w);
  const old = w.b.context(B1, A1)!;
  w.a.killAgent();
  w.a.startAgent();
  w.a.establish(A1, B1);
  w.network.run(1_000);
  assert(bothEstablished(w));
  assertEquals(w.b.context(B1, A1)!.id, old.id);
  assertAgreed(w);
});

Deno.test("when a peer's agent dies, payload goes back to the ULID pair; when it is back, the context is as well", () => {
  const w = world({ profile: PAPER }, 3);
  const traffic = running(w);
  w.network.cut(ULID, true);
  assertRecovered(w, traffic, 15_000);
  w.network.mendAll();
  w.b.killAgent();
  w.network.run(200);
  assertEquals(w.a.context(A1, B1)!.current, ULID);
  const before = traffic.forth.received;
  w.network.run(20_000);
  assert(traffic.forth.received - before > 190, "payload flows by the kernels alone");
  w.b.startAgent();
  w.network.cut(ULID, true);
  assertRecovered(w, traffic, 60_000);
  assert(bothEstablished(w));
});

Deno.test("three parties: a tag that was given away again is recovered, though the old host still uses it (App. C.3)", () => {
  // B has a context with A, loses it, and gives the same tag to C.
  const tag = Uint8Array.from([0, 0, 0, 0, 0x47, 0x11]);
  const network = new VirtualNetwork({ seed: 3, delayMs: 5 });
  const C = ["2001:db8:c1::1", "2001:db8:c2::1"];
  let forced = true;
  const a = network.addHost("A", A, { profile: PAPER });
  const c = network.addHost("C", C, { profile: PAPER });
  const draw = network.random.fork();
  const randomBytes = (length: number) => {
    if (length !== 6 || !forced) return draw.bytes(length);
    forced = false;
    return tag;
  };
  const b = network.addHost("B", B, { profile: PAPER, engine: { randomBytes } });
  a.establish(A1, B1);
  const traffic = new Traffic(network, { from: a, to: b, ulid: ULID, intervalMs: 100, bothWays: true });
  network.run(2_000);
  network.cut(ULID, true);
  network.run(20_000);
  const w = { network, a, b };
  assertNotEquals(a.context(A1, B1)!.current, ULID);
  b.killAgent();
  forced = true;
  b.startAgent();
  // Nothing of A arrives until C has the tag.
  network.filter = (packet) => !A.includes(packet.source);
  c.establish(C[0], B1);
  network.run(200);
  network.filter = undefined;
  assertEquals(stateOf(b, B1, C[0]), "ESTABLISHED");
  assert(network.runUntil(() => bothEstablished(w), 60_000));
  assertRecovered(w, traffic, 30_000);
  assertEquals(stateOf(b, B1, C[0]), "ESTABLISHED");
});

// Changes of locators

Deno.test("an address that is added during a flow is told and can be used; acknowledgements may get lost", () => {
  const w = world({ profile: PAPER }, 4);
  const traffic = running(w);
  const A4 = "2001:db8:a4::1";
  let acknowledgements = 0;
  losing(w.network, (message) => message.type === MessageType.UpdateAcknowledgement && acknowledgements++ < 3);
  w.a.setLocators([...w.a.locators, locator(A4)]);
  w.network.run(60_000);
  assert(acknowledgements === 4, `${acknowledgements}`);
  assertEquals(w.b.context(B1, A1)!.peerLocators.map((l) => l.address), [...A, A4]);
  for (const local of A) for (const peer of B) w.network.cut({ local, peer }, true);
  assertRecovered(w, traffic, 60_000);
  assertEquals(w.a.context(A1, B1)!.current.local, A4);
});

Deno.test("the address in use, the ULID itself, is removed: the flow goes on at once from another one", () => {
  const w = world({ profile: PAPER }, 4);
  const traffic = running(w);
  w.a.setLocators([locator(A2), locator(A3)]);
  const at = w.network.clock.now;
  w.network.runUntil(() => w.a.context(A1, B1)!.current.local !== A1, 5_000);
  assert(w.network.clock.now - at < 1_500, "no Send Timer is waited for");
  assertRecovered(w, traffic, 15_000);
  assertEquals(w.b.context(B1, A1)!.peerLocators.map((l) => l.address), [A2, A3]);
});

Deno.test("an interface that goes down is left at once, and told to the peer as BROKEN", () => {
  const w = world({ profile: PAPER }, 6);
  const traffic = running(w);
  w.a.setUsable(A1, false);
  assertRecovered(w, traffic, 15_000);
  assertEquals(w.a.context(A1, B1)!.lastFailure?.cause, "link-down");
  assertNotEquals(w.b.context(B1, A1)!.current.peer, A1);
});

Deno.test("when all addresses of a host are replaced at once, its contexts survive", () => {
  for (let seed = 1; seed <= 5; seed++) {
    const w = world({ profile: PAPER }, seed);
    const traffic = running(w);
    w.a.setLocators([locator("2001:db8:a8::1"), locator("2001:db8:a9::1")]);
    assertRecovered(w, traffic, 60_000);
    assertEquals(w.b.context(B1, A1)!.peerLocators.map((l) => l.address), ["2001:db8:a8::1", "2001:db8:a9::1"]);
  }
});

// Proofs

/** The HBA set of the example packets that this example I2 or R2 carries, with its PDS. */
function exampleIdentity(name: string): { identity: LocalIdentity; addresses: Address[] } {
  const options = messageFrom(vector(name)) as LocatorOptions;
  const addresses = options.locators!.locators.map(({ address }) => address);
  return { identity: new LocalIdentity(options.pds!, addresses), addresses };
}

Deno.test("two hosts with HBA sets believe each other and survive failures; a plain address of theirs is not used", () => {
  const ours = exampleIdentity("I2-loclist-hba"), theirs = exampleIdentity("R2-loclist-hba");
  const network = new VirtualNetwork({ seed: 2, delayMs: 10 });
  const options = { profile: PAPER, verifier: identityVerifier };
  const a = network.addHost("A", [...ours.addresses, A1], { ...options, engine: { identity: ours.identity } });
  const b = network.addHost("B", theirs.addresses, { ...options, engine: { identity: theirs.identity } });
  const ulid = { local: ours.addresses[0], peer: theirs.addresses[0] };
  a.establish(ulid.local, ulid.peer);
  const traffic = new Traffic(network, { from: a, to: b, ulid, intervalMs: 100, bothWays: true });
  network.run(2_000);
  assertEquals(
    b.context(ulid.peer, ulid.local)?.peerLocators,
    ours.addresses.map((address) => ({ address, verified: true })),
  );
  const used = new Set<Address>();
  network.filter = ({ source, destination }) => {
    used.add(source).add(destination);
    return source !== ulid.local && destination !== ulid.local;
  };
  network.run(20_000);
  const before = traffic.forth.received;
  network.run(2_000);
  assert(traffic.forth.received > before + 15);
  assertNotEquals(a.context(ulid.local, ulid.peer)?.current.local, ulid.local);
  assert(!used.has(A1));
});

Deno.test("hosts that can prove nothing keep their context on the ULID pair through an outage, and it works again after", () => {
  const w = world({ profile: PAPER, verifier: ulidOnlyVerifier });
  const traffic = running(w);
  const ids = [w.a.context(A1, B1)!.id, w.b.context(B1, A1)!.id];
  w.network.cut(ULID, true);
  const used = new Set<Address>();
  w.network.filter = ({ source, destination }) => {
    used.add(source).add(destination);
    return true;
  };
  w.network.run(30_000);
  w.network.mendAll();
  const before = traffic.forth.received;
  w.network.run(60_000);
  assert(traffic.forth.received > before + 100);
  assertEquals([w.a.context(A1, B1)!.id, w.b.context(B1, A1)!.id], ids);
  assertEquals([w.a.context(A1, B1)!.reap, w.b.context(B1, A1)!.reap], [0, 0]);
  assertEquals(used, new Set([A1, B1]));
});
