/** One engine on the bench: a test plays its peers by hand. */

import { assert, assertEquals } from "@std/assert";
import { RandomPolicy } from "../../policies/random.ts";
import type { LocatorPair } from "../../policies/policy.ts";
import { RFC5534 } from "../../reap/profile.ts";
import type {
  Activity,
  ContextState,
  ContextView,
  Effect,
  EngineEvent,
  EngineOptions,
  LocalLocator,
} from "../../shim6/api.ts";
import { Engine } from "../../shim6/engine.ts";
import { insecureVerifier } from "../../shim6/verifier.ts";
import { SeededRandom } from "../../sim/random.ts";
import type { Address } from "../../wire/address.ts";
import { emitMessage, parseControlMessage } from "../../wire/codec.ts";
import { type LocatorList, type Message, MessageType, type Probe } from "../../wire/message.ts";

/** Our addresses, and those of the peer. */
export const A1 = "2001:db8:a1::1", A2 = "2001:db8:a2::1", A3 = "2001:db8:a3::1";
export const B1 = "2001:db8:b1::1", B2 = "2001:db8:b2::1", B3 = "2001:db8:b3::1";
/** The address of somebody who has nothing to do with it. */
export const STRANGER = "2001:db8:bad::1";
/** The ULID pair as we see it. */
export const ULID: LocatorPair = { local: A1, peer: B1 };
/** The tag of the peer. */
export const PEER_TAG = 0x5b0e1f2a3b4c;

/** A locator on an interface that works. */
export function locator(address: Address, changes: Partial<LocalLocator> = {}): LocalLocator {
  return { address, interfaceIndex: 1, interfaceName: "eth0", usable: true, deprecated: false, ...changes };
}

/** A Locator List. */
export function list(generation: number, ...addresses: Address[]): LocatorList {
  return { generation, locators: addresses.map((address) => ({ address, method: 1 })) };
}

/** The peer's list in these tests. */
export const PEER_LIST = list(0x71c4aa19, B1, B2, B3);

/** No payload yet. */
export function activity(changes: Partial<Activity> = {}): Activity {
  return {
    lastSent: 0,
    lastReceived: 0,
    firstUnanswered: 0,
    firstUnreplied: 0,
    sentPackets: 0,
    sentBytes: 0,
    receivedPackets: 0,
    receivedBytes: 0,
    ...changes,
  };
}

/** A control message that the engine sent. */
export interface Sent {
  readonly source: Address;
  readonly destination: Address;
  readonly octets: Uint8Array;
  readonly message: Message;
  readonly at: number;
}

/** An engine in virtual time. */
export class Bench {
  readonly engine: Engine;
  now = 1_000;
  readonly events: EngineEvent[] = [];
  readonly effects: Exclude<Effect, { type: "send" | "event" }>[] = [];
  readonly log: Sent[] = [];
  #unread = 0;

  constructor(options: Partial<EngineOptions> = {}) {
    const random = new SeededRandom(7);
    this.engine = new Engine({
      profile: RFC5534,
      policy: new RandomPolicy(),
      locators: [A1, A2, A3].map((address) => locator(address)),
      verifier: insecureVerifier(),
      establish: { afterPackets: 50, afterMs: 60_000, always: [], never: [] },
      random: random.next,
      randomBytes: random.bytes,
      ...options,
    }, this.now);
  }

  /** What was sent since the last call of this method. */
  sent(): Sent[] {
    for (let effect = this.engine.nextEffect(); effect !== undefined; effect = this.engine.nextEffect()) {
      if (effect.type === "event") this.events.push(effect.event);
      else if (effect.type !== "send") this.effects.push(effect);
      else {
        const { source, destination, message: octets } = effect;
        const result = parseControlMessage(octets, source, destination);
        assert(result.ok, "the engine sends what can be parsed");
        assertEquals(result.packet.message.type, effect.kind);
        this.log.push({ source, destination, octets, message: result.packet.message, at: this.now });
      }
    }
    const sent = this.log.slice(this.#unread);
    this.#unread = this.log.length;
    return sent;
  }

  /** Types of {@linkcode sent}. */
  sentTypes(): number[] {
    return this.sent().map(({ message }) => message.type);
  }

  /** A message arrives, normally from B1 to A1. Returns what was sent in answer. */
  receive(message: Message, source: Address = B1, destination: Address = A1): Sent[] {
    this.sent();
    this.engine.handleControlMessage(emitMessage(message), source, destination, this.now);
    return this.sent();
  }

  /** The only message of that type among those that were sent in answer to something. */
  static only<T extends number>(sent: readonly Sent[], type: T): Sent & { message: Extract<Message, { type: T }> } {
    const found = sent.filter(({ message }) => message.type === type);
    assertEquals(found.length, 1, `one message of type ${type} among ${sent.map((s) => s.message.type)}`);
    return found[0] as Sent & { message: Extract<Message, { type: T }> };
  }

  /** Time passes; everything that falls due is done. Returns what was sent. */
  run(ms: number): Sent[] {
    this.sent();
    const from = this.#unread;
    const until = this.now + ms;
    for (let deadline = this.engine.nextDeadline(); deadline <= until; deadline = this.engine.nextDeadline()) {
      this.now = Math.max(this.now, deadline);
      this.engine.handleTimeout(this.now);
      this.sent();
    }
    this.now = until;
    return this.log.slice(from);
  }

  /** Starts a context; returns its I1. */
  start(fii = 0) {
    this.engine.establish(A1, B1, this.now, fii);
    return Bench.only(this.sent(), MessageType.I1).message;
  }

  /** Makes the engine an initiator in I2-SENT; returns its I2. */
  toI2Sent() {
    const i1 = this.start();
    return Bench.only(this.receive(r1(i1.initiatorNonce)), MessageType.I2).message;
  }

  /** Makes the engine an initiator in ESTABLISHED; returns our tag. */
  toEstablished(options: Partial<Message> = {}): number {
    const i2 = this.toI2Sent();
    this.receive(r2(i2.initiatorNonce, options));
    assertEquals(this.state(), "ESTABLISHED");
    return i2.initiatorTag;
  }

  /** Makes the engine an initiator in I2BIS-SENT; returns the I2bis. */
  toI2bisSent() {
    this.toEstablished();
    return Bench.only(this.receive(r1bis()), MessageType.I2bis).message;
  }

  /** The state of the context with the default ULIDs, IDLE when there is none. */
  state(): ContextState | "IDLE" {
    return this.view()?.state ?? "IDLE";
  }

  /** The context with the default ULIDs. */
  view(fii = 0): ContextView | undefined {
    for (const context of this.engine.contexts()) {
      if (context.ulid.local === A1 && context.ulid.peer === B1 && context.fii === fii) return context;
    }
  }

  /** Reads an event kind. */
  eventsOf<K extends EngineEvent["kind"]>(kind: K): Extract<EngineEvent, { kind: K }>[] {
    this.sent();
    return this.events.filter((event) => event.kind === kind) as Extract<EngineEvent, { kind: K }>[];
  }

  /** Tells of payload that went out now and is not answered. */
  payloadSent(id = 1): void {
    const before = this.engine.context(id)!.activity;
    const firstUnanswered = before.firstUnanswered || this.now;
    this.engine.handleActivity(
      id,
      { ...before, lastSent: this.now, firstUnanswered, firstUnreplied: 0, sentPackets: before.sentPackets + 1 },
      this.now,
    );
  }

  /** Tells of payload that came in now. */
  payloadReceived(id = 1): void {
    const before = this.engine.context(id)!.activity;
    const firstUnreplied = before.firstUnreplied || this.now;
    this.engine.handleActivity(
      id,
      {
        ...before,
        lastReceived: this.now,
        firstUnanswered: 0,
        firstUnreplied,
        receivedPackets: before.receivedPackets + 1,
      },
      this.now,
    );
  }
}

/** An R1 to that I1. */
export function r1(initiatorNonce: number, changes: Partial<Message> = {}): Message {
  const validator = new Uint8Array(20).fill(0xaa);
  return { type: MessageType.R1, initiatorNonce, responderNonce: 77, validator, ...changes } as Message;
}

/** An R2 to that I2. */
export function r2(initiatorNonce: number, changes: Partial<Message> = {}): Message {
  return { type: MessageType.R2, responderTag: PEER_TAG, initiatorNonce, locators: PEER_LIST, ...changes } as Message;
}

/** An R1bis about the peer's tag. */
export function r1bis(changes: Partial<Message> = {}): Message {
  const validator = new Uint8Array(20).fill(0xbb);
  return { type: MessageType.R1bis, packetTag: PEER_TAG, responderNonce: 78, validator, ...changes } as Message;
}

/** An I1 of the peer. */
export function i1(changes: Partial<Message> = {}): Message {
  return { type: MessageType.I1, initiatorTag: PEER_TAG, initiatorNonce: 0x1a2b3c4d, ...changes } as Message;
}

/** A complete exchange with the engine as responder: I1, then the I2 with the validator that the engine gave. */
export function i2For(bench: Bench, changes: Partial<Message> = {}, source: Address = B1, destination: Address = A1) {
  const { locators: _, pds: __, preferences: ___, keepaliveTimeout: ____, ...common } = changes as Record<
    string,
    unknown
  >;
  const answer = Bench.only(bench.receive(i1(common), source, destination), MessageType.R1).message;
  return {
    type: MessageType.I2,
    initiatorTag: PEER_TAG,
    initiatorNonce: 0x5e6f7081,
    responderNonce: answer.responderNonce,
    validator: answer.validator,
    locators: PEER_LIST,
    ...changes,
  } as Message;
}

/** The I2bis that follows the engine's R1bis to a packet with an unknown tag. */
export function i2bisFor(
  bench: Bench,
  packetTag: number,
  changes: Partial<Message> = {},
  source = B1,
  destination = A1,
) {
  bench.sent();
  bench.engine.handleUnknownTag(packetTag, source, destination, bench.now);
  const answer = Bench.only(bench.sent(), MessageType.R1bis).message;
  return {
    type: MessageType.I2bis,
    initiatorTag: PEER_TAG,
    initiatorNonce: 0x90abcdef,
    packetTag,
    responderNonce: answer.responderNonce,
    validator: answer.validator,
    locators: PEER_LIST,
    ...changes,
  } as Message;
}

/** A probe of the peer on the reverse of `pair`. */
export function probe(
  receiverTag: number,
  state: Probe["state"],
  nonce: number,
  pair = ULID,
  received: Probe["received"] = [],
): Probe {
  const sent = [{ source: pair.peer, destination: pair.local, nonce, data: 0 }];
  return { type: MessageType.Probe, receiverTag, state, sent, received };
}
