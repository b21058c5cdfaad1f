/**
 * How contexts come to be, are recovered and are found to be stale: I1, R1, I2, R2, R1bis and I2bis (RFC 5533 §7). One
 * method per message; each branches over the state of the context as the tables of RFC 5533 Appendix B do.
 *
 * Deliberate differences from the letter of the RFC:
 * - §7.18 takes an R1bis only on the current pair. While REAP probes other pairs because the current one is dead, that
 *   would make recovery wait for the dead pair. An R1bis is accepted on any pair on which we just sent the peer's tag,
 *   and the R2 on the pair on which the I2bis left.
 * - §7.13 creates a context for an I2 from any address. Here an address other than the ULID must be verified like every
 *   locator, else anyone could make contexts in the name of somebody else's ULID.
 * - In I2-SENT nothing but the answer to our I2 is acted upon (the tables process Update Requests and payload): what the
 *   peer's tag and locators are is not known yet, so neither could be answered. The I2 is repeated, so that the R2, which
 *   must have been lost, comes again; the peer repeats its Update Request.
 * - The ICMPv6 error leads to NO-SUPPORT, as §7.8 says, not to E-FAILED as Appendix B.
 */

import type { Address } from "../wire/address.ts";
import { type ContextTag, type I1, type I2, type I2bis, MessageType, type R1, type R1bis } from "../wire/message.ts";
import type { LocatorOptions, R2 } from "../wire/message.ts";
import { get32 } from "../wire/octets.ts";
import { type LocatorPair, samePair } from "../policies/policy.ts";
import {
  I1_RETRIES_MAX,
  I1_TIMEOUT,
  I2_RETRIES_MAX,
  I2_ROUNDS_MAX,
  I2_TIMEOUT,
  I2BIS_RETRIES_MAX,
  I2BIS_TIMEOUT,
  ICMP_HOLDDOWN_TIME,
  NO_R1_HOLDDOWN_TIME,
  PEERS_SHARE,
  PROMPT_INTERVAL,
} from "./constants.ts";
import { Context, type Exchange } from "./context.ts";
import type { Core, Received } from "./core.ts";
import { EngineError } from "./errors.ts";
import type { Failover } from "./failover.ts";
import { compact, PeerLocators } from "./peer_locators.ts";
import { updateIfNeeded } from "./updates.ts";
import { VALIDATOR_LENGTH } from "./validator.ts";

/** Octets of an R1 and of an R1bis with our validator, from the Shim6 header on. */
const R1_LENGTH = 16 + 4 + VALIDATOR_LENGTH;
/** Where I2 and I2bis have their Responder Nonce. */
const RESPONDER_NONCE = 16;

/** Establishment, recovery and teardown of contexts. */
export class Establishment {
  readonly #core: Core;
  readonly #failover: Failover;

  constructor(core: Core, failover: Failover) {
    this.#core = core;
    this.#failover = failover;
  }

  /** IDLE → I1-SENT, by an I1 on `pair`. Throws {@linkcode EngineError} when there is no room. */
  start(ulid: LocatorPair, fii: number, reason: string, now: number, pair = ulid): Context {
    const context = this.#create(ulid, fii, now);
    if (context === undefined) throw new EngineError("too-many-contexts", `no room for a context with ${ulid.peer}`);
    this.#core.setState(context, "I1-SENT", reason, now);
    this.#beginExchange(context, pair, I1_TIMEOUT, now);
    this.#transmit(context, now);
    return context;
  }

  /**
   * Why an I1, I2 or I2bis needs no further look, if so: in a flood most of the work would be to take messages to pieces
   * that come to nothing. Neither checksum nor options are checked yet, and `octets` may be too short to be a message.
   */
  refusal(octets: Uint8Array, now: number): "rate-limited" | "validator" | undefined {
    switch (octets[2]) {
      case MessageType.I1:
        return this.#core.answers.isExhausted(now) ? "rate-limited" : undefined;
      case MessageType.I2:
      case MessageType.I2bis: {
        const known = octets.length < RESPONDER_NONCE + 4 ||
          this.#core.responder.isRecent(get32(octets, RESPONDER_NONCE), now);
        return known ? undefined : "validator";
      }
    }
  }

  /** I1 (RFC 5533 §7.9). Never changes a context; without one nothing is kept. */
  handleI1(message: I1, received: Received, now: number): void {
    const { source, destination } = received;
    const ulid = ulidsOf(message, received), fii = message.fii ?? 0;
    const context = this.#core.table.find(ulid.local, ulid.peer, fii);
    if (context === undefined || context.isNegative) {
      if (!this.#mayExist(ulid)) return this.#core.drop("not-our-ulid");
      return this.#sendR1(message, ulid, fii, received, now);
    }
    const fromPeer = context.isPeer(source) && context.isLocal(destination);
    switch (context.state) {
      case "I1-SENT":
      case "I2-SENT": // a crossing I1 (§7.4)
        if (fromPeer || source === context.exchange!.pair.peer) this.#answerI1(context, message, received, now);
        else this.#sendR1(message, ulid, fii, received, now);
        break;
      case "ESTABLISHED":
        // The same tag: the peer did not get our R2. Another one: it lost its state and must prove itself by an I2.
        if (fromPeer && message.initiatorTag === context.peerTag) this.#answerI1(context, message, received, now);
        else this.#sendR1(message, ulid, fii, received, now);
        break;
      case "I2BIS-SENT":
        if (fromPeer) this.#answerI1(context, message, received, now);
        else this.#sendR1(message, ulid, fii, received, now);
    }
  }

  /** R1 (RFC 5533 §7.11). */
  handleR1(message: R1, { source, destination }: Received, now: number): void {
    const context = this.#core.table.byNonce(message.initiatorNonce);
    const exchange = context?.exchange;
    if (context === undefined || exchange === undefined || context.state !== "I1-SENT") {
      return this.#core.drop("unexpected-R1");
    }
    if (!samePair(exchange.pair, { local: destination, peer: source })) return this.#core.drop("locators-of-R1");
    exchange.responderNonce = message.responderNonce;
    exchange.validator = message.validator;
    if (!this.#send(context)) { // a validator too long to be sent back
      exchange.validator = undefined;
      return;
    }
    exchange.retries = 0;
    exchange.nominalMs = I2_TIMEOUT;
    exchange.deadline = now + this.#core.jittered(I2_TIMEOUT);
    this.#core.setState(context, "I2-SENT", "R1", now);
    this.#core.reschedule(context);
  }

  /** I2 and I2bis (RFC 5533 §7.13, §7.20). Cheap checks come first, cryptography last. */
  handleI2(message: I2 | I2bis, received: Received, now: number): void {
    const { source, destination } = received;
    const ulid = ulidsOf(message, received), fii = message.fii ?? 0;
    if (!this.#isValid(message, ulid, fii, received, now)) return this.#core.drop("validator");
    const found = this.#core.table.find(ulid.local, ulid.peer, fii);
    const context = found?.isNegative ? undefined : found;
    if (context === undefined && !this.#mayExist(ulid)) return this.#core.drop("not-our-ulid");
    const verified = this.#core.verify(ulid.peer, message, context?.peer?.pds, received, now);
    if (verified === undefined) return;
    const listed = message.locators?.locators.findIndex((locator) => locator.address === source) ?? -1;
    const fromUlid = source === ulid.peer;
    const fromVerified = fromUlid || listed >= 0 && verified[listed];
    const fromKnown = context !== undefined && (context.isPeer(source) || source === context.exchange?.pair.peer);
    if (!fromVerified && !fromKnown) return this.#core.drop("locator-of-I2");

    if (context === undefined) {
      if (found !== undefined) this.#core.remove(found, "the peer establishes", now);
      const created = this.#create(ulid, fii, now, Math.ceil(PEERS_SHARE * this.#core.limits.contexts));
      if (created === undefined) return this.#core.drop("too-many-contexts");
      this.#adopt(created, message.initiatorTag, message, verified, source, now);
      this.#core.learnCoordinates(created, message);
      created.announced = this.#core.announcement(ulid.local); // by the R2, which the peer asks for until it comes
      // The validator came back over this pair, so our packets reach that address, and the I2 shows the other way.
      this.#establish(created, { local: destination, peer: source }, typeName(message), now);
      this.#sendR2(created, message.initiatorNonce, received, now);
      return;
    }
    const changed = this.#adopt(context, message.initiatorTag, message, verified, source, now);
    this.#core.learnCoordinates(context, message);
    if (context.state === "I1-SENT") {
      context.announced = this.#core.announcement(ulid.local);
      this.#establish(context, { local: destination, peer: source }, typeName(message), now);
    } else if (context.isEstablished) {
      this.#failover.wake(context);
      if (changed) this.#failover.peerLocatorsChanged(context, now);
      this.#failover.payloadReceived(context, now);
    }
    this.#sendR2(context, message.initiatorNonce, received, now);
  }

  /** R2 (RFC 5533 §7.16). */
  handleR2(message: R2, received: Received, now: number): void {
    const { source, destination } = received;
    const context = this.#core.table.byNonce(message.initiatorNonce);
    const exchange = context?.exchange;
    if (context === undefined || exchange === undefined) return this.#core.drop("unexpected-R2");
    const pair = { local: destination, peer: source };
    if (!samePair(exchange.pair, pair)) return this.#core.drop("locators-of-R2");
    const verified = this.#core.verify(context.ulid.peer, message, context.peer?.pds, received, now);
    if (verified === undefined) return;
    const changed = this.#adopt(context, message.responderTag, message, verified, source, now);
    this.#core.learnCoordinates(context, message);
    context.announced = exchange.announced;
    if (!context.isEstablished) return this.#establish(context, exchange.pair, "R2", now);
    this.#core.table.endExchange(context);
    this.#core.setState(context, "ESTABLISHED", "R2", now);
    context.update = updateIfNeeded(this.#core, context, now);
    if (changed) this.#failover.peerLocatorsChanged(context, now);
    this.#failover.payloadReceived(context, now);
  }

  /** R1bis: the peer does not know the tag that we send it (RFC 5533 §7.18). */
  handleR1bis(message: R1bis, { source, destination }: Received, now: number): void {
    const pair = { local: destination, peer: source };
    const context = this.#core.table.byPeerTag(message.packetTag).find((context) =>
      context.state === "ESTABLISHED" && context.sentOn(pair)
    );
    if (context === undefined) return this.#core.drop("unexpected-R1bis");
    this.#beginExchange(context, pair, I2BIS_TIMEOUT, now, message);
    if (!this.#send(context)) return this.#core.table.endExchange(context);
    this.#core.setState(context, "I2BIS-SENT", "R1bis", now);
    this.#failover.wake(context);
    this.#failover.payloadReceived(context, now);
    this.#failover.payloadSent(context, now);
  }

  /** A packet with a tag of ours arrived before we have heard the R2, or after an R1bis: the R2 must have been lost. */
  prompt(context: Context, now: number): void {
    const { exchange } = context;
    if (exchange === undefined || context.state === "I1-SENT" || now - exchange.promptedAt < PROMPT_INTERVAL) return;
    exchange.promptedAt = now;
    this.#send(context);
  }

  /** Tells the sender of a packet that we do not know its context (RFC 5533 §7.17). Keeps no state. */
  sendR1bis(packetTag: ContextTag, received: Received, now: number): void {
    if (!this.#core.mayAnswer(received, R1_LENGTH, now)) return;
    const { source, destination } = received;
    const issued = this.#core.responder.issueR1bis({ packetTag, source, destination }, now);
    this.#core.send({ type: MessageType.R1bis, packetTag, ...issued }, destination, source);
  }

  /** An ICMPv6 error says that the peer does not know Shim6, and quotes our I1, I2 or I2bis (RFC 5533 §7.8). */
  handleNoSupport(context: Context, now: number): void {
    this.#core.event(context, { kind: "peer-without-shim6", reason: "ICMPv6 error about our " + context.state }, now);
    if (context.state !== "I2BIS-SENT") return this.#fail(context, "NO-SUPPORT", "ICMPv6 error", now);
    this.#core.table.endExchange(context);
    this.#core.setState(context, "ESTABLISHED", "ICMPv6 error", now);
    this.#failover.goQuiet(context, now);
  }

  /** The retransmission timer of the exchange, or the end of a negative cache entry. */
  handleTimeout(context: Context, now: number): void {
    if (context.isNegative) {
      if (now >= context.quietUntil) this.#core.remove(context, "hold-down over", now);
      return;
    }
    const { exchange } = context;
    if (exchange === undefined || now < exchange.deadline) return;
    const retriesMax = context.state === "I1-SENT"
      ? I1_RETRIES_MAX
      : context.state === "I2-SENT"
      ? I2_RETRIES_MAX
      : I2BIS_RETRIES_MAX;
    if (exchange.retries < retriesMax) {
      exchange.retries++;
      exchange.nominalMs *= 2;
      return this.#transmit(context, now);
    }
    if (context.state === "I1-SENT" || exchange.rounds >= I2_ROUNDS_MAX) {
      return this.#fail(context, "E-FAILED", `no answer in ${context.state}`, now);
    }
    this.#restart(context, exchange.pair, exchange.rounds + 1, `no answer in ${context.state}`, now);
  }

  /** RFC 5533 §7.10. */
  #sendR1(message: I1, ulid: LocatorPair, fii: number, received: Received, now: number): void {
    if (!this.#core.mayAnswer(received, R1_LENGTH, now)) return;
    const { source, destination } = received;
    const issued = this.#core.responder.issueR1(r1Subject(message, ulid, fii, source, destination), now);
    this.#core.send({ type: MessageType.R1, initiatorNonce: message.initiatorNonce, ...issued }, destination, source);
  }

  #isValid(message: I2 | I2bis, ulid: LocatorPair, fii: number, received: Received, now: number): boolean {
    const { source, destination } = received;
    const { responderNonce, validator } = message;
    if (message.type === MessageType.I2) {
      const subject = r1Subject(message, ulid, fii, source, destination);
      return this.#core.responder.acceptsI2(subject, responderNonce, validator, now);
    }
    const subject = { packetTag: message.packetTag, source, destination };
    return this.#core.responder.acceptsI2bis(subject, responderNonce, validator, now);
  }

  /** Whether a peer may have a context with these ULIDs: one of ours, not both (RFC 5533 §1.5). */
  #mayExist(ulid: LocatorPair): boolean {
    return this.#core.local.has(ulid.local) && !this.#core.local.has(ulid.peer);
  }

  #create(ulid: LocatorPair, fii: number, now: number, room = this.#core.limits.contexts): Context | undefined {
    const { table, limits } = this.#core;
    if (table.countOfPeer(ulid.peer) >= limits.contextsPerPeer) return undefined;
    if (table.size >= room) {
      const negative = table.oldestNegative();
      if (negative === undefined) return undefined;
      this.#core.remove(negative, "room needed", now);
    }
    // The host's own copy of its address: one string for all contexts.
    const local = this.#core.local.get(ulid.local)?.address ?? ulid.local;
    const context = new Context(
      this.#core,
      table.newId(),
      { local, peer: compact(ulid.peer) },
      fii,
      table.newLocalTag(),
      now,
    );
    table.add(context);
    return context;
  }

  /**
   * Stores what the peer says of itself, and finds out whether another context became stale by it (§7.15). Returns
   * whether the peer's locators are others than before.
   */
  #adopt(
    context: Context,
    peerTag: ContextTag,
    options: LocatorOptions,
    verified: readonly boolean[],
    source: Address,
    now: number,
  ): boolean {
    const { peer: ulid } = context.ulid;
    const { locators, preferences } = options;
    const known = context.peer;
    const pds = options.pds ?? known?.pds;
    // With the tag that it had before, the peer goes on: a list that it has replaced since is a replay, or came late.
    const goesOn = known !== undefined && context.peerTag === peerTag;
    const peer = goesOn && locators !== undefined && known.isPast(locators.generation)
      ? known
      : locators === undefined
      ? PeerLocators.withoutList(ulid, source, known?.isVerified(source) ?? false)
      : PeerLocators.fromList(ulid, locators, verified, pds, this.#core.limits.locatorsPerPeer);
    if (goesOn) peer.replace(known);
    else if (known !== undefined) peer.inherit(known);
    if (preferences !== undefined) {
      const fits = peer.isGeneration(preferences.generation) && peer.announced === preferences.elements.length;
      if (fits) peer.setPreferences(preferences);
      else this.#core.drop("preferences");
    }
    context.peer = peer;
    if (!peer.allVerified && (known === undefined || known.allVerified)) {
      const count = peer.addresses.filter((_, i) => !peer.verifiedAt(i)).length;
      const reason = `${count} of ${peer.addresses.length} locators, by ${this.#core.options.verifier.name}`;
      this.#core.event(context, { kind: "unverified", reason }, now);
    }
    this.#resolveConfusion(context, peerTag, peer, now);
    const retagged = context.isEstablished && context.peerTag !== peerTag;
    this.#core.table.setPeerTag(context, peerTag);
    if (retagged) this.#core.emit({ type: "context-retagged", id: context.id, localTag: context.localTag, peerTag });
    this.#failover.adoptKeepaliveTimeout(context, options.keepaliveTimeout);
    return known === undefined || !peer.sameAs(known);
  }

  /**
   * The peer gave us a tag that another context with it uses: it has forgotten that one (RFC 5533 §7.6). It is restarted
   * at once, on the pair that carried its traffic. Only verified locators count, so that no one can end the context of
   * somebody else.
   */
  #resolveConfusion(context: Context, peerTag: ContextTag, peer: PeerLocators, now: number): void {
    const stale: Context[] = [];
    for (const other of this.#core.table.byPeerTag(peerTag)) {
      if (other === context || !other.isEstablished) continue;
      if (peer.addresses.some((address, i) => peer.verifiedAt(i) && other.peer!.has(address))) stale.push(other);
    }
    for (const other of stale) this.#restart(other, other.current, 0, "the peer gave its tag to another context", now);
  }

  /** Any state → ESTABLISHED. */
  #establish(context: Context, pair: LocatorPair, reason: string, now: number): void {
    this.#core.table.endExchange(context);
    this.#core.setState(context, "ESTABLISHED", reason, now);
    context.update = updateIfNeeded(this.#core, context, now);
    this.#failover.begin(context, pair, now);
  }

  /** Back to I1-SENT: whatever the peer knew of this context, it does not any more. */
  #restart(context: Context, pair: LocatorPair, rounds: number, reason: string, now: number): void {
    this.#failover.end(context);
    this.#core.table.setPeerTag(context, undefined);
    context.peer = undefined;
    this.#core.setState(context, "I1-SENT", reason, now);
    this.#beginExchange(context, pair, I1_TIMEOUT, now).rounds = rounds;
    this.#transmit(context, now);
  }

  /** The context becomes a reminder not to try again for some time. */
  #fail(context: Context, state: "E-FAILED" | "NO-SUPPORT", reason: string, now: number): void {
    this.#failover.end(context);
    this.#core.table.setPeerTag(context, undefined);
    this.#core.table.endExchange(context);
    context.peer = undefined;
    context.quietUntil = now + (state === "E-FAILED" ? NO_R1_HOLDDOWN_TIME : ICMP_HOLDDOWN_TIME);
    this.#core.table.addNegative(context);
    this.#core.setState(context, state, reason, now);
    this.#core.reschedule(context);
  }

  #beginExchange(context: Context, pair: LocatorPair, nominalMs: number, now: number, r1bis?: R1bis): Exchange {
    this.#core.table.endExchange(context);
    let nonce = this.#core.nonce();
    while (this.#core.table.byNonce(nonce) !== undefined) nonce = this.#core.nonce();
    const exchange: Exchange = {
      nonce,
      pair,
      announced: this.#core.announcement(context.ulid.local),
      responderNonce: r1bis?.responderNonce ?? 0,
      validator: r1bis?.validator,
      packetTag: r1bis?.packetTag,
      retries: 0,
      nominalMs,
      deadline: now + this.#core.jittered(nominalMs),
      rounds: 0,
      promptedAt: -Infinity,
    };
    context.exchange = exchange;
    this.#core.table.beginExchange(context);
    return exchange;
  }

  #transmit(context: Context, now: number): void {
    const exchange = context.exchange!;
    this.#send(context);
    exchange.deadline = now + this.#core.jittered(exchange.nominalMs);
    if (context.state === "I2BIS-SENT") this.#failover.payloadSent(context, now);
    this.#core.reschedule(context);
  }

  /** Sends the I1, I2 or I2bis of the exchange. */
  #send(context: Context): boolean {
    const { ulid, fii } = context;
    const exchange = context.exchange!;
    const { pair, nonce, responderNonce, validator } = exchange;
    const common = {
      initiatorTag: context.localTag,
      initiatorNonce: nonce,
      ulidPair: samePair(pair, ulid) ? undefined : { sender: ulid.local, receiver: ulid.peer },
      fii: fii === 0 ? undefined : fii,
    };
    if (validator === undefined) return this.#core.send({ type: MessageType.I1, ...common }, pair.local, pair.peer);
    exchange.announced = this.#core.announcement(ulid.local);
    const options = { ...common, responderNonce, validator, ...this.#core.locatorOptions(ulid.local) };
    const message: I2 | I2bis = exchange.packetTag === undefined
      ? { type: MessageType.I2, ...options }
      : { type: MessageType.I2bis, packetTag: exchange.packetTag, ...options };
    return this.#core.send(
      this.#core.withCoordinates(message, ulid.local, exchange.announced),
      pair.local,
      pair.peer,
    );
  }

  /** An R2 to an I1, at most one a second: it is much larger than the I1, whose source is not proved. */
  #answerI1(context: Context, message: I1, received: Received, now: number): void {
    const { exchange } = context;
    if (exchange !== undefined) {
      if (now - exchange.promptedAt < PROMPT_INTERVAL) return this.#core.drop("rate-limited");
      exchange.promptedAt = now;
    }
    this.#sendR2(context, message.initiatorNonce, received, now);
  }

  #sendR2(context: Context, initiatorNonce: number, received: Received, now: number): void {
    const { ulid } = context;
    const plain: R2 = {
      type: MessageType.R2,
      responderTag: context.localTag,
      initiatorNonce,
      ...this.#core.locatorOptions(ulid.local),
    };
    // Only to who sent as much itself: an answer must not be longer than what it answers, or few of them may leave.
    const message = this.#core.book.coordinates!.peer(ulid.peer) === undefined
      ? plain
      : this.#core.withCoordinates(plain, ulid.local, this.#core.announcement(ulid.local));
    if (!this.#core.answer(message, received, now)) return;
    if (context.isEstablished) {
      context.announced = this.#core.announcement(context.ulid.local);
      this.#failover.payloadSent(context, now);
    }
  }
}

function ulidsOf(message: I1 | I2 | I2bis, { source, destination }: Received): LocatorPair {
  const { ulidPair } = message;
  return ulidPair === undefined
    ? { local: destination, peer: source }
    : { local: ulidPair.receiver, peer: ulidPair.sender };
}

function r1Subject(message: I1 | I2, ulid: LocatorPair, fii: number, source: Address, destination: Address) {
  const { initiatorTag } = message;
  return { initiatorTag, initiatorUlid: ulid.peer, responderUlid: ulid.local, source, destination, fii };
}

function typeName(message: I2 | I2bis): string {
  return message.type === MessageType.I2 ? "I2" : "I2bis";
}
