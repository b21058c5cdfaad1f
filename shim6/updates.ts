/** Changes of locators and preferences during the life of a context: Update Request and its answer (RFC 5533 §10). */

import { ErrorCode, MessageType, type UpdateAcknowledgement, type UpdateRequest } from "../wire/message.ts";
import { samePair } from "../policies/policy.ts";
import { MAX_UPDATE_TIMEOUT, UPDATE_SPACING, UPDATE_TIMEOUT } from "./constants.ts";
import type { Context, OutstandingUpdate } from "./context.ts";
import type { Core, Received } from "./core.ts";
import type { Failover } from "./failover.ts";
import { PeerLocators } from "./peer_locators.ts";

/** The Update Request that a context owes to its peer, or undefined when the peer knows our locators as they are. */
export function updateIfNeeded(core: Core, context: Context, now: number): OutstandingUpdate | undefined {
  const announced = core.announcement(context.ulid.local);
  if (announced === undefined) return undefined;
  const withList = context.announced === undefined || !context.announced.sameList(announced);
  if (!withList && context.announced!.samePreferences(announced)) {
    context.announced = announced; // says the same
    return undefined;
  }
  return { nonce: core.nonce(), announced, withList, nominalMs: UPDATE_TIMEOUT, deadline: now };
}

/** Both sides of the update exchange. */
export class Updates {
  readonly #core: Core;
  readonly #failover: Failover;

  constructor(core: Core, failover: Failover) {
    this.#core = core;
    this.#failover = failover;
  }

  /** Our locators or their preferences changed: tells all peers, one after the other. */
  localChanged(now: number): void {
    let at = now;
    for (const context of this.#core.table) {
      if (!context.isEstablished) continue;
      // One request is outstanding at a time; the new one says all that the old one said (§10.2).
      context.update = updateIfNeeded(this.#core, context, at);
      if (context.update !== undefined) at += UPDATE_SPACING;
      this.#core.reschedule(context);
    }
  }

  /** Sends what is due, and again what was not acknowledged, for as long as the context lives (§10.3). */
  handleTimeout(context: Context, now: number): void {
    const { update } = context;
    if (update === undefined || now < update.deadline) return;
    if (context.inDoubt) {
      update.deadline = Infinity; // until REAP has found a path that carries it
      return;
    }
    if (now < context.quietUntil) {
      update.deadline = context.quietUntil; // the peer's agent is gone
      return;
    }
    const options = this.#core.updateOptions(context.ulid.local, update.withList);
    if (options === undefined || context.peerTag === undefined) {
      context.update = undefined;
      return;
    }
    const { local, peer } = context.current;
    const request: UpdateRequest = {
      type: MessageType.UpdateRequest,
      receiverTag: context.peerTag,
      requestNonce: update.nonce,
      ...options,
    };
    this.#core.send(this.#core.withCoordinates(request, context.ulid.local, update.announced), local, peer);
    update.deadline = now + this.#core.jittered(update.nominalMs);
    update.nominalMs = Math.min(2 * update.nominalMs, MAX_UPDATE_TIMEOUT);
    this.#failover.payloadSent(context, now);
  }

  /** Update Request (§10.4); tag, state and addresses have been checked. */
  handleRequest(context: Context, message: UpdateRequest, received: Received, now: number): void {
    const { ulid, peer: known } = context;
    const { locators, preferences } = message;
    // A signature stays good for ever: without this, whoever saw an old list could bring back what the peer took away.
    if (locators !== undefined && known!.isPast(locators.generation)) return this.#core.drop("replayed-list");
    const verified = this.#core.verify(ulid.peer, message, known!.pds, received, now);
    if (verified === undefined) return;
    this.#failover.payloadReceived(context, now);
    let changed = false;
    if (locators !== undefined) {
      const pds = message.pds ?? known!.pds;
      const peer = PeerLocators.fromList(ulid.peer, locators, verified, pds, this.#core.limits.locatorsPerPeer);
      peer.replace(known!);
      context.peer = peer;
      changed = true;
    }
    const peer = context.peer!;
    this.#core.learnCoordinates(context, message);
    let refused: number | undefined;
    if (preferences !== undefined) {
      if (!peer.isGeneration(preferences.generation)) refused = ErrorCode.GenerationOutOfSync;
      else if (preferences.elements.length !== peer.announced) refused = ErrorCode.WrongPreferenceCount;
      else if (peer.setPreferences(preferences)) changed = true;
    }
    if (refused === undefined) {
      this.#failover.adoptKeepaliveTimeout(context, message.keepaliveTimeout);
      this.#acknowledge(context, message, received, now);
    } else this.#core.sendOptionError(refused, received, now);
    if (changed) this.#failover.peerLocatorsChanged(context, now);
  }

  /** Update Acknowledgement (§10.5): the peer accepts packets from the new locators. */
  handleAcknowledgement(context: Context, message: UpdateAcknowledgement, now: number): void {
    this.#failover.payloadReceived(context, now);
    const { update } = context;
    if (update === undefined || update.nonce !== message.requestNonce) return this.#core.drop("unexpected-ack");
    context.update = undefined;
    context.announced = update.announced;
    this.#failover.localLocatorsAccepted(context, now);
  }

  /**
   * The pair in use is known to carry packets; the reverse of the one on which the request came is the better guess only
   * while that is in doubt.
   */
  #acknowledge(context: Context, message: UpdateRequest, received: Received, now: number): void {
    const reverse = { local: received.destination, peer: received.source };
    const usable = !context.inDoubt && context.isCandidate(context.current);
    const pair = usable || samePair(reverse, context.current) ? context.current : reverse;
    const acknowledgement: UpdateAcknowledgement = {
      type: MessageType.UpdateAcknowledgement,
      receiverTag: context.peerTag!,
      requestNonce: message.requestNonce,
    };
    const { ulid, announced } = context;
    this.#core.send(this.#core.withCoordinates(acknowledgement, ulid.local, announced), pair.local, pair.peer);
    this.#failover.payloadSent(context, now);
  }
}
