/**
 * The engine of a host: all its Shim6 contexts (RFC 5533) with REAP (RFC 5534), free of input and output.
 *
 * Whoever drives it tells it what happened by the `handle…` methods, in the order of time, then carries out everything
 * that {@linkcode Engine.nextEffect} returns, and sleeps until {@linkcode Engine.nextDeadline}, when
 * {@linkcode Engine.handleTimeout} is due. Before that call, hand in the fresh activity of the contexts that
 * {@linkcode Engine.due} names: a Send Timer must not expire on an answer that was received but not yet polled.
 *
 * 1. A control message is parsed and counted, then dispatched by type (§12.3, §12.4).
 * 2. I1 … I2bis go to `establishment.ts`, Update messages to `updates.ts`, Keepalive and Probe to `failover.ts`.
 * 3. What these want done is queued as effects in `core.ts`, where also all tables live.
 */

import {
  type Address,
  canonicalAddress,
  inPrefix,
  InvalidAddress,
  isLocatorScope,
  type Prefix,
} from "../wire/address.ts";
import { parseControlMessage, parseControlPacket, readQuotedPacket } from "../wire/codec.ts";
import { type ContextTag, ErrorCode, type ErrorMessage, type Message, MessageType } from "../wire/message.ts";
import type { LocatorPair, Policy } from "../policies/policy.ts";
import type { FailureCause } from "../policies/policy.ts";
import type { Accuracy } from "../policies/coordinates.ts";
import type { PathBook } from "../policies/path_book.ts";
import type { Activity, ContextView, Effect, EngineOptions, FlowObservation, IcmpError, LocalLocator } from "./api.ts";
import { UPDATE_SPACING } from "./constants.ts";
import type { Context } from "./context.ts";
import { Core, type EngineCounters, type Received } from "./core.ts";
import { EngineError } from "./errors.ts";
import { Establishment } from "./establishment.ts";
import { Failover } from "./failover.ts";
import type { LocalLocators } from "./local_locators.ts";
import { Updates } from "./updates.ts";

export { EngineError, type EngineErrorCode } from "./errors.ts";
export type { EngineCounters } from "./core.ts";

/** What is known of a payload packet with an unknown tag: at least a payload header and 8 octets behind it. */
const SMALLEST_PAYLOAD = new Uint8Array(16);

/** All contexts of one host. */
export class Engine {
  readonly #core: Core;
  readonly #failover: Failover;
  readonly #establishment: Establishment;
  readonly #updates: Updates;

  /** `now` here and everywhere: monotonic ms, never decreasing. */
  constructor(options: EngineOptions, now: number) {
    this.#core = new Core(options, now);
    this.#failover = new Failover(this.#core);
    this.#establishment = new Establishment(this.#core, this.#failover);
    this.#updates = new Updates(this.#core, this.#failover);
  }

  // What happened

  /**
   * A packet with a Shim6 control message arrived; `octets` start with the Shim6 header. Whatever they hold, nothing is
   * thrown: what is not understood is counted.
   */
  handleControlMessage(octets: Uint8Array, source: Address, destination: Address, now: number): void {
    const refusal = this.#establishment.refusal(octets, now);
    if (refusal !== undefined) return this.#core.drop(refusal);
    const received: Received = { source, destination, octets };
    const result = parseControlMessage(octets, source, destination);
    if (result.ok) return this.#dispatch(result.packet.message, received, now);
    if ("drop" in result) return this.#core.drop(result.drop);
    this.#core.drop(result.error.code === ErrorCode.UnknownMessageType ? "unknown-type" : "unknown-critical-option");
    this.#core.sendError(result.error.code, result.error.pointer, received, now);
  }

  /** A payload packet arrived whose tag the datapath does not know (RFC 5533 §12.2). */
  handleUnknownTag(tag: ContextTag, source: Address, destination: Address, now: number): void {
    const context = this.#core.table.byLocalTag(tag);
    const received: Received = { source, destination, octets: SMALLEST_PAYLOAD };
    if (context === undefined || context.isNegative) this.#establishment.sendR1bis(tag, received, now);
    else this.#establishment.prompt(context, now);
  }

  /** Payload is exchanged with a peer without context. Establishes one when the flow is worth it (RFC 5533 §4). */
  handleFlow(flow: FlowObservation, now: number): void {
    const { establish } = this.#core.options;
    const matches = (prefix: Prefix) => inPrefix(flow.peer, prefix);
    if (establish.never.some(matches)) return;
    const age = flow.lastSeen - flow.firstSeen;
    const many = flow.packets >= establish.afterPackets, long = age >= establish.afterMs;
    if (!many && !long && !establish.always.some(matches)) return;
    const refusal = this.#refusal(flow.local, flow.peer, 0);
    if (refusal !== undefined) return;
    const reason = many
      ? `${flow.packets} packets`
      : long
      ? `traffic for ${Math.round(age)} ms`
      : "always for this peer";
    try {
      this.#establishment.start({ local: flow.local, peer: flow.peer }, 0, reason, now);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      this.#core.drop(error.code);
    }
  }

  /** The datapath's count for a context since it was added. `activity` may be reused by the caller. */
  handleActivity(id: number, activity: Readonly<Activity>, now: number): void {
    const context = this.#core.table.byId(id);
    if (context === undefined) return;
    const received = activity.lastReceived > this.#core.activity.lastReceived(id);
    this.#failover.handleActivity(context, activity, now);
    if (received && context.state === "I2BIS-SENT") this.#establishment.prompt(context, now);
  }

  /** The host's locators, all of them each time something changed. */
  handleLocators(list: readonly LocalLocator[], now: number): void {
    const before = this.#core.local;
    let next = this.#core.localLocators(list, before.generation);
    if (next.sameAs(before)) return;
    if (!next.sameList(before)) next = this.#core.localLocators(list, this.#core.nonce());
    const contexts = [...this.#core.table]; // those at rest wake up with what the peer knows, which is what there was
    this.#core.local = next;
    const reason = next.sameAddresses(before) ? "usability or preference changed" : "addresses changed";
    const locators = next.all.map((locator) => locator.address);
    this.#core.emit({ type: "event", event: { at: now, kind: "locators", reason, locators } });
    let at = now;
    for (const context of contexts) {
      // RFC 5533 §1.5 ends all communication with a ULID that became invalid, lest the prefix's next owner be taken for
      // us. By default a context in use goes on: it never sends from that address again unless the host regains it, and
      // a flow that survives renumbering is what multihoming is for.
      if (this.#core.options.endWithUlid && !next.has(context.ulid.local)) {
        this.#core.remove(context, "the ULID is no longer ours", now);
        continue;
      }
      const cause = localFailure(context.current.local, before, next);
      if (cause !== undefined || context.inDoubt) this.#failover.localLocatorsChanged(context, cause, now);
      // A host with many contexts does not probe for all of them at once.
      else if (this.#failover.followPreferences(context, at)) at += UPDATE_SPACING;
    }
    this.#updates.localChanged(now);
  }

  /**
   * An ICMPv6 error about a packet of ours with a Shim6 header (RFC 5533 §8). Easily forged: the tag has to fit. Returns
   * whether it is about an ESTABLISHED context, so that what it says of the path's MTU may be believed.
   */
  handleIcmpError(error: IcmpError, now: number): boolean {
    const { tag, local, peer } = error;
    if (tag === undefined) return false;
    const pair: LocatorPair = { local, peer };
    const context = this.#core.table.byPeerTag(tag).find((context) =>
      context.isEstablished && context.isLocal(pair.local) && context.isPeer(pair.peer)
    );
    if (error.kind !== "packet-too-big") this.#failedAt(context, error, pair, now);
    return context !== undefined;
  }

  /** A path or host failed, says an ICMPv6 error that may be about `context`. */
  #failedAt(context: Context | undefined, error: IcmpError, pair: LocatorPair, now: number): void {
    if (context !== undefined) {
      if (error.kind !== "no-shim6") return this.#failover.handleHint(context, pair, now);
      if (now < context.quietUntil) return;
      this.#core.event(
        context,
        { kind: "peer-without-shim6", reason: "ICMPv6 error about a packet with its tag" },
        now,
      );
      return this.#failover.goQuiet(context, now);
    }
    const starting = this.#core.table.byLocalTag(error.tag!);
    const exchange = starting?.exchange;
    if (starting === undefined || exchange === undefined || error.kind !== "no-shim6") return;
    if (exchange.pair.local !== pair.local || exchange.pair.peer !== pair.peer) return;
    this.#establishment.handleNoSupport(starting, now);
  }

  /** Carries out what is due at `now`. */
  handleTimeout(now: number): void {
    this.#core.table.rest((context) => this.#failover.knows(context));
    this.#failover.background.handleTimeout(now);
    this.#failover.sharedFate.handleTimeout(now);
    this.#failover.pauses.handleTimeout(now);
    for (const id of this.#core.deadlines.allDue(now)) {
      const context = this.#core.table.byId(id);
      if (context === undefined) continue; // another one ended it
      if (context.isEstablished && now >= this.#core.idleAt(context)) {
        this.#core.remove(context, "idle", now);
        continue;
      }
      this.#establishment.handleTimeout(context, now);
      if (context.isEstablished) {
        this.#updates.handleTimeout(context, now);
        this.#failover.handleTimeout(context, now);
      }
      this.#core.reschedule(context);
    }
  }

  // What is to be done

  /** When {@linkcode handleTimeout} is due next, Infinity if never. */
  nextDeadline(): number {
    return Math.min(
      this.#core.deadlines.next,
      this.#failover.background.nextDeadline(),
      this.#failover.sharedFate.nextDeadline(),
      this.#failover.pauses.nextDeadline(),
    );
  }

  /** The contexts for which something is due at `now`, by number. */
  due(now: number): number[] {
    return this.#core.deadlines.allDue(now);
  }

  /** Takes the oldest effect that was not yet taken. */
  nextEffect(): Effect | undefined {
    return this.#core.nextEffect();
  }

  // What the operator or an application wants. All of these throw EngineError when it cannot be.

  /** Establishes a context at once, whatever the heuristic says. Returns its number; that of a living one if there is. */
  establish(local: Address, peer: Address, now: number, fii = 0): number {
    const existing = this.#core.table.find(local, peer, fii);
    if (existing !== undefined && !existing.isNegative) return existing.id;
    const refusal = this.#refusal(local, peer, fii);
    if (refusal !== undefined) throw refusal;
    return this.#establishment.start({ local, peer }, fii, "asked for", now).id;
  }

  /**
   * Opens another context between the ULIDs of an established one, on the pair that this one uses: a forked context with a
   * random Forked Instance Identifier of its own (RFC 5533 §4.2, §6.1). Returns its number.
   */
  fork(id: number, now: number): number {
    const { ulid, current } = this.#established(id);
    let fii = this.#core.nonce();
    while (fii === 0 || this.#core.table.find(ulid.local, ulid.peer, fii) !== undefined) fii = this.#core.nonce();
    return this.#establishment.start(ulid, fii, `forked from context ${id}`, now, current).id;
  }

  /** Starts an exploration. */
  explore(id: number, now: number): void {
    this.#failover.explore(this.#established(id), now);
  }

  /**
   * Changes the pair of a context by hand: `switched` at once when the peer has answered a probe from that locator before,
   * else `probing`, and the change comes with the answer.
   */
  switchPair(id: number, pair: LocatorPair, now: number): "switched" | "probing" {
    return this.#failover.switchPair(this.#established(id), pair, now);
  }

  /** Takes another policy for all explorations that begin from now on. */
  setPolicy(policy: Policy): void {
    this.#core.reap.policy = policy;
  }

  /** Discards a context, also a reminder that a peer did not answer. The peer is not told (RFC 5533 §9). */
  forget(id: number, now: number): void {
    const context = this.#core.table.byId(id);
    if (context === undefined) throw new EngineError("no-context", `no context ${id}`);
    this.#core.remove(context, "forgotten by the operator", now);
  }

  // What there is

  /** All contexts, those being established and negative cache entries included. */
  *contexts(): IterableIterator<ContextView> {
    for (const context of this.#core.table.copies()) yield this.#view(context);
  }

  /** A context by number. */
  context(id: number): ContextView | undefined {
    const context = this.#core.table.byId(id);
    return context && this.#view(context);
  }

  /** A context by number, or by the ULID or a locator of the peer when only one context that is not forked has it. */
  find(idOrText: number | string): ContextView | undefined {
    if (typeof idOrText === "number" || /^\d+$/.test(idOrText)) return this.context(Number(idOrText));
    let peer: Address;
    try {
      peer = canonicalAddress(idOrText);
    } catch (error) {
      if (error instanceof InvalidAddress) return undefined;
      throw error;
    }
    const found: Context[] = [];
    for (const context of this.#core.table.copies()) {
      if (context.fii === 0 && (context.ulid.peer === peer || context.isPeer(peer))) found.push(context);
    }
    return found.length === 1 ? this.#view(found[0]) : undefined;
  }

  /** Number of contexts, negative cache entries included. */
  get size(): number {
    return this.#core.table.size;
  }

  /** What was sent, received and ignored. */
  get counters(): EngineCounters {
    return this.#core.counters;
  }

  /** What is known of each locator pair. */
  get book(): PathBook {
    return this.#core.book;
  }

  /** How good the predictions by coordinates were; undefined when none are exchanged. */
  get predictionAccuracy(): Accuracy | undefined {
    return this.#core.usesCoordinates ? this.#core.book.coordinates!.accuracy : undefined;
  }

  #dispatch(message: Message, received: Received, now: number): void {
    this.#core.countReceived(message);
    switch (message.type) {
      case MessageType.I1:
        return this.#establishment.handleI1(message, received, now);
      case MessageType.R1:
        return this.#establishment.handleR1(message, received, now);
      case MessageType.I2:
      case MessageType.I2bis:
        return this.#establishment.handleI2(message, received, now);
      case MessageType.R2:
        return this.#establishment.handleR2(message, received, now);
      case MessageType.R1bis:
        return this.#establishment.handleR1bis(message, received, now);
      case MessageType.Error:
        return this.#handleError(message, received, now);
    }
    const context = this.#contextOf(message.receiverTag, received, now);
    if (context === undefined) return;
    if (message.type !== MessageType.UpdateRequest) this.#core.learnCoordinates(context, message);
    switch (message.type) {
      case MessageType.UpdateRequest:
        return this.#updates.handleRequest(context, message, received, now);
      case MessageType.UpdateAcknowledgement:
        return this.#updates.handleAcknowledgement(context, message, now);
      case MessageType.Keepalive:
        return this.#failover.handleKeepalive(context, received, now);
      case MessageType.Probe:
        return this.#failover.handleProbe(context, message, received, now);
    }
  }

  /** The context that a tag of ours names, if messages may come to it from there and now (RFC 5533 §12.4). */
  #contextOf(tag: ContextTag, received: Received, now: number): Context | undefined {
    const context = this.#core.table.byLocalTag(tag);
    if (context === undefined || context.isNegative) {
      this.#core.drop("unknown-tag");
      this.#establishment.sendR1bis(tag, received, now);
      return undefined;
    }
    if (!context.isEstablished) {
      this.#core.drop("not-established");
      this.#establishment.prompt(context, now);
      return undefined;
    }
    if (!context.isPeer(received.source) || !context.isLocal(received.destination)) {
      this.#core.drop("locators");
      this.#establishment.sendR1bis(tag, received, now);
      return undefined;
    }
    this.#establishment.prompt(context, now);
    return context;
  }

  /** Error (RFC 5533 §12.4). What to do is left open: it is told, and what the peer refused is not sent again. */
  #handleError(message: ErrorMessage, received: Received, now: number): void {
    const { errors } = this.#core.counters;
    errors[message.code] = (errors[message.code] ?? 0) + 1;
    const { protocol } = this.#core.options;
    const quote = readQuotedPacket(message.packetInError, protocol);
    const ours = quote !== undefined && quote.source === received.destination;
    const context = ours && quote.tag !== undefined ? this.#quoted(quote.tag, quote.destination) : undefined;
    if (context === undefined) return this.#core.drop("unexpected-error");
    this.#core.event(context, { kind: "error-received", code: message.code, pointer: message.pointer }, now);
    const refused = parseControlPacket(message.packetInError, protocol);
    if (!refused.ok || refused.packet.message.type !== MessageType.UpdateRequest) return;
    if (refused.packet.message.requestNonce !== context.update?.nonce) return;
    context.update = undefined;
    this.#core.reschedule(context);
  }

  /** The context of a quoted packet that we sent: its tag is the peer's, or in I1, I2 and I2bis our own. */
  #quoted(tag: ContextTag, destination: Address): Context | undefined {
    const context = this.#core.table.byPeerTag(tag).find((context) => context.isPeer(destination));
    if (context !== undefined) return context;
    const starting = this.#core.table.byLocalTag(tag);
    return starting?.exchange?.pair.peer === destination ? starting : undefined;
  }

  /** Why no context can be started with these ULIDs now. */
  #refusal(local: Address, peer: Address, fii: number): EngineError | undefined {
    const own = this.#core.local.get(local);
    if (own === undefined || !own.usable || own.deprecated) {
      return new EngineError("not-a-locator", `${local} is no address of this host that can be used for new contexts`);
    }
    if (!isLocatorScope(peer) || this.#core.local.has(peer)) {
      return new EngineError("not-a-locator", `${peer} cannot be a peer`);
    }
    const existing = this.#core.table.find(local, peer, fii);
    if (existing === undefined) return undefined;
    return new EngineError("held-down", `${peer} did not answer lately: ${existing.state}`);
  }

  #established(id: number): Context {
    const context = this.#core.table.byId(id);
    if (context === undefined) throw new EngineError("no-context", `no context ${id}`);
    if (!context.isEstablished) {
      throw new EngineError("not-established", `context ${id} is ${context.state}, not ESTABLISHED`);
    }
    return context;
  }

  #view(context: Context): ContextView {
    return context.view(this.#core.activity, this.#core.book);
  }
}

/** What happened to the local locator in use. */
function localFailure(address: Address, before: LocalLocators, next: LocalLocators): FailureCause | undefined {
  const locator = next.get(address);
  if (locator === undefined) return "address-gone";
  if (!locator.usable) return "link-down";
  return locator.deprecated && before.get(address)?.deprecated === false ? "address-deprecated" : undefined;
}
