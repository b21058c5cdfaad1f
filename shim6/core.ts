/** What all parts of the engine share: options, tables, the queue of effects, randomness, counters. */

import { type Address, isLocatorScope } from "../wire/address.ts";
import {
  controlPacket,
  emitMessage,
  errorPacketInError,
  MAX_MESSAGE_LENGTH,
  messageLength,
  UnencodableMessage,
} from "../wire/codec.ts";
import { coordinatesOption, coordinatesOptionLength, readCoordinatesOption } from "../wire/coordinates_option.ts";
import { IPV6_HEADER_LENGTH } from "../wire/ipv6.ts";
import { ErrorCode, type LocatorOptions, type Message, MessageType, type WithUnknown } from "../wire/message.ts";
import { optionErrorPointer } from "../wire/codec.ts";
import { get32 } from "../wire/octets.ts";
import { Coordinates } from "../policies/coordinates.ts";
import { PathBook } from "../policies/path_book.ts";
import type { ReapEnvironment } from "../reap/machine.ts";
import { ActivityTable } from "./activity_table.ts";
import { AnswerLimit } from "./answer_limit.ts";
import type { ContextState, Effect, EngineEvent, EngineLimits, EngineOptions, LocalLocator } from "./api.ts";
import { DEFAULT_SEND_TIMEOUT, IDLE_TEARDOWN } from "./constants.ts";
import type { Context, ContextHost } from "./context.ts";
import { ContextTable } from "./context_table.ts";
import { Deadlines } from "./deadlines.ts";
import type { LocatorProof } from "./identity.ts";
import { LocalLocators } from "./local_locators.ts";
import { MAX_PEER_LOCATORS } from "./peer_locators.ts";
import { ProbeBudget } from "./probe_budget.ts";
import { Responder } from "./validator.ts";
import { isKnownMethod, unprovenClaims } from "./verifier.ts";

/** A control message that arrived, with what an answer or an Error about it needs. */
export interface Received {
  readonly source: Address;
  readonly destination: Address;
  /** From the Shim6 header on. */
  readonly octets: Uint8Array;
}

/** Counters of the engine. */
export interface EngineCounters {
  /** Control messages and requests that were ignored, by reason. */
  readonly dropped: Record<string, number>;
  /** Control messages by name of their type. */
  readonly sent: Record<string, number>;
  readonly received: Record<string, number>;
  /** Error messages received, by code. */
  readonly errors: Record<string, number>;
}

const TYPE_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(MessageType).map(([name, type]) => [type, name]),
);

const DEFAULT_LIMITS: EngineLimits = { contexts: 20_000, contextsPerPeer: 64, locatorsPerPeer: 16 };

/** Shared state of one engine. */
export class Core implements ContextHost {
  readonly options: EngineOptions;
  readonly limits: EngineLimits;
  readonly idleTeardownMs: number;
  readonly table: ContextTable;
  readonly deadlines = new Deadlines();
  readonly activity = new ActivityTable();
  readonly answers = new AnswerLimit();
  readonly responder: Responder;
  readonly book: PathBook;
  readonly budget: ProbeBudget;
  readonly reap: ReapEnvironment;
  readonly counters: EngineCounters = { dropped: {}, sent: {}, received: {}, errors: {} };
  local: LocalLocators;
  #effects: Effect[] = [];
  #taken = 0;

  constructor(options: EngineOptions, now: number) {
    this.options = options;
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.limits = { ...limits, locatorsPerPeer: Math.min(limits.locatorsPerPeer, MAX_PEER_LOCATORS) };
    this.book = new PathBook(undefined, new Coordinates(options.random));
    this.budget = new ProbeBudget(options.probesPer100ms);
    this.idleTeardownMs = options.idleTeardownMs ?? IDLE_TEARDOWN;
    this.responder = new Responder(options.randomBytes, now);
    this.table = new ContextTable(this, options.randomBytes, this.responder.seed());
    this.local = this.localLocators(options.locators, this.nonce());
    this.reap = {
      profile: options.profile,
      policy: options.policy,
      book: this.book,
      random: options.random,
      nonce: () => this.nonce(),
    };
  }

  /** 32 unpredictable bits. */
  nonce(): number {
    return get32(this.options.randomBytes(4), 0);
  }

  /** A retransmission time: uniform in [0.5, 1.5] × nominal (RFC 5533 §7.8). */
  jittered(nominalMs: number): number {
    return nominalMs * (0.5 + this.options.random());
  }

  /** Counts something that is ignored. */
  drop(reason: string): void {
    this.counters.dropped[reason] = (this.counters.dropped[reason] ?? 0) + 1;
  }

  /** Counts a control message that was understood. */
  countReceived(message: Message): void {
    const name = TYPE_NAMES.get(message.type)!;
    this.counters.received[name] = (this.counters.received[name] ?? 0) + 1;
  }

  /** Queues a control message. Returns false when it does not fit into a packet. */
  send(message: Message, source: Address, destination: Address): boolean {
    let octets: Uint8Array;
    try {
      octets = emitMessage(message);
    } catch (error) {
      if (!(error instanceof UnencodableMessage)) throw error;
      this.drop("too-large-to-send");
      return false;
    }
    const name = TYPE_NAMES.get(message.type)!;
    this.counters.sent[name] = (this.counters.sent[name] ?? 0) + 1;
    this.emit({ type: "send", source, destination, message: octets, kind: message.type });
    return true;
  }

  /** Answers a packet whose sender has proved nothing, if that does not make us a weapon against its source address. */
  answer(message: Message, received: Received, now: number): boolean {
    return this.mayAnswer(received, messageLength(message), now) &&
      this.send(message, received.destination, received.source);
  }

  /** Whether an answer of `length` octets may leave. Counts it as sent. */
  mayAnswer({ source, octets }: Pick<Received, "source" | "octets">, length: number, now: number): boolean {
    const octetsIn = IPV6_HEADER_LENGTH + octets.length, octetsOut = IPV6_HEADER_LENGTH + length;
    if (this.answers.allow(source, octetsIn, octetsOut, now)) return true;
    this.drop("rate-limited");
    return false;
  }

  /** Sends an Error about a message (RFC 5533 §5.14). */
  sendError(code: number, pointer: number, received: Received, now: number): void {
    const { source, destination, octets } = received;
    if (octets[2] === MessageType.Error) return; // never an Error about an Error
    const message = octets.subarray(0, (octets[1] + 1) * 8);
    const packetInError = errorPacketInError(controlPacket(source, destination, message, this.options.protocol));
    this.answer({ type: MessageType.Error, code, pointer, packetInError }, received, now);
  }

  /** Sends an Error about an option, whose place in the message is looked up. */
  sendOptionError(code: number, received: Received, now: number, locatorIndex = 0): void {
    this.sendError(code, optionErrorPointer(received.octets, code, locatorIndex), received, now);
  }

  /** What peers of contexts with this ULID are told of; undefined when they would not believe in anything but the ULID. */
  announcement(ulid: Address): LocalLocators | undefined {
    return this.#proof(ulid) === undefined ? undefined : this.local;
  }

  /** The Locator List and what proves it; undefined when there is none, or none that says more than the ULID. */
  #proof(ulid: Address): LocatorProof | undefined {
    const addresses = this.local.announced.map((locator) => locator.address);
    if (addresses.every((address) => address === ulid)) return undefined;
    const { generation } = this.local;
    return this.options.identity?.prove(ulid, addresses, generation) ??
      (this.options.verifier.announcesUnproven ? unprovenClaims.prove(ulid, addresses, generation) : undefined);
  }

  /** A new state of the locator set. */
  localLocators(list: readonly LocalLocator[], generation: number): LocalLocators {
    const { identity, verifier } = this.options;
    return new LocalLocators(
      list,
      generation,
      (address) => identity?.covers(address) ?? verifier.announcesUnproven,
    );
  }

  /** The locator options of an I2, R2 or I2bis (RFC 5533 §5.6). */
  locatorOptions(ulid: Address): LocatorOptions {
    const proof = this.#proof(ulid);
    const keepaliveTimeout = this.announcedSendTimeout;
    return proof === undefined
      ? { keepaliveTimeout }
      : { ...proof, preferences: this.local.preferences(), keepaliveTimeout };
  }

  /** Whether coordinates are sent and heard. */
  get usesCoordinates(): boolean {
    return this.options.coordinates === true || this.reap.policy.coordinates === true;
  }

  /**
   * Adds the coordinates of this host's locators to a message, if they are wanted and there is room: they are never worth
   * leaving out a report or a proof. `announced`: the list that the peer has, or gets by this message.
   */
  withCoordinates<M extends Message & WithUnknown>(message: M, ulid: Address, announced?: LocalLocators): M {
    if (!this.usesCoordinates) return message;
    const addresses = announced?.announced.map(({ address }) => address) ?? [ulid];
    if (messageLength(message) + coordinatesOptionLength(addresses.length) > MAX_MESSAGE_LENGTH) return message;
    const coordinates = addresses.map((address) => this.book.coordinates!.own(address));
    const option = coordinatesOption({ generation: announced?.generation ?? 0, coordinates });
    return { ...message, unknownOptions: [option] };
  }

  /** Takes note of the coordinates in a message of a context's peer. They count for locators that are proved to be its own. */
  learnCoordinates({ peer }: Context, message: Message): void {
    if (!this.usesCoordinates || message.type === MessageType.Error || peer === undefined) return;
    const option = readCoordinatesOption(message);
    if (option === undefined) return;
    const coordinates = this.book.coordinates!;
    if (option === "malformed") return coordinates.refuse();
    if (!peer.isGeneration(option.generation)) return; // of a list that we do not have yet, or not any more
    const count = Math.min(peer.addresses.length, option.coordinates.length);
    for (let i = 0; i < count; i++) {
      if (peer.verifiedAt(i)) coordinates.learn(peer.addresses[i], option.coordinates[i]);
    }
  }

  /** The options of an Update Request; undefined when there is nothing that the peer could use. */
  updateOptions(ulid: Address, withList: boolean): LocatorOptions | undefined {
    const proof = this.#proof(ulid);
    if (proof === undefined) return undefined;
    const preferences = this.local.explicitPreferences();
    return withList ? { ...proof, preferences } : { preferences };
  }

  /** Keepalive Timeout option: our Send Timeout in seconds, unless it is what peers assume (RFC 5534 §7). */
  get announcedSendTimeout(): number | undefined {
    const ms = this.reap.profile.sendTimeoutMs;
    return ms === DEFAULT_SEND_TIMEOUT ? undefined : Math.min(0xffff, Math.max(1, Math.ceil(ms / 1_000)));
  }

  /**
   * Checks the locators in a message of the peer (RFC 5533 §7.2). Undefined when the message must be ignored; an Error
   * was sent if one is due. The array is empty without a list.
   */
  verify(
    ulid: Address,
    options: LocatorOptions,
    storedPds: Uint8Array | undefined,
    received: Received,
    now: number,
  ): readonly boolean[] | undefined {
    if (options.locators === undefined && options.pds === undefined) return [];
    const locators = options.locators?.locators ?? [];
    const unknown = locators.findIndex((locator) => !isKnownMethod(locator.method));
    if (unknown >= 0) {
      this.drop("verification-method");
      this.sendOptionError(ErrorCode.VerificationFailed, received, now, unknown);
      return undefined;
    }
    const result = this.options.verifier.verify(ulid, options, storedPds);
    if ("refused" in result) {
      this.drop("verification");
      if (result.locatorIndex >= 0) {
        this.sendOptionError(ErrorCode.VerificationFailed, received, now, result.locatorIndex);
      }
      return undefined;
    }
    // Our own addresses in a peer's list could only make us talk to ourselves.
    return locators.map(({ address }, i) => result.verified[i] && isLocatorScope(address) && !this.local.has(address));
  }

  /** Queues an effect. */
  emit(effect: Effect): void {
    this.#effects.push(effect);
  }

  /** Queues an event about a context. */
  event(context: Context, event: EventBody, now: number): void {
    this.emit({ type: "event", event: { at: now, context: context.id, ulid: context.ulid, ...event } as EngineEvent });
  }

  /** Takes the oldest effect. */
  nextEffect(): Effect | undefined {
    if (this.#taken === this.#effects.length) {
      if (this.#taken > 0) {
        this.#effects = [];
        this.#taken = 0;
      }
      return undefined;
    }
    return this.#effects[this.#taken++];
  }

  /** Changes the state of a context. */
  setState(context: Context, to: ContextState | "IDLE", reason: string, now: number): void {
    const from = context.state;
    context.state = to;
    if (from !== to) this.event(context, { kind: "state", from, to, reason }, now);
  }

  /** Removes a context: it is IDLE, and nothing remains. */
  remove(context: Context, reason: string, now: number): void {
    if (context.isEstablished) this.emit({ type: "context-removed", id: context.id });
    this.setState(context, "IDLE", reason, now);
    context.machine = undefined;
    this.deadlines.delete(context.id);
    this.table.remove(context);
    this.activity.clear(context.id);
  }

  /** When the context is idle for too long. */
  idleAt(context: Context): number {
    const used = Math.max(this.activity.lastSent(context.id), this.activity.lastReceived(context.id), context.since);
    return used + this.idleTeardownMs;
  }

  /** Puts the context at the right place in the queue of deadlines; to be called after each change to it. */
  reschedule(context: Context): void {
    if (context.state === "IDLE") return;
    if (context.isNegative) return this.deadlines.set(context.id, context.quietUntil);
    let at = Math.min(
      context.exchange?.deadline ?? Infinity,
      context.update?.deadline ?? Infinity,
      context.trial?.deadline ?? Infinity,
      context.check?.deadline ?? Infinity,
      context.check === undefined || context.check.awaited !== undefined ? context.suspectAt : Infinity,
    );
    if (context.isEstablished) {
      const reapAt = context.machine?.nextDeadline() ?? Infinity;
      at = Math.min(at, this.idleAt(context), Math.max(reapAt, context.quietUntil, context.probesFrom));
    }
    this.deadlines.set(context.id, at);
    if (context.machine === undefined) this.table.mayRest(context);
  }
}

/** An event without what every event has. */
export type EventBody = EngineEvent extends infer E ? E extends unknown ? Omit<E, "at" | "context" | "ulid"> : never
  : never;
