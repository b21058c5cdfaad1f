/**
 * REAP at work in a context (RFC 5534): feeds the machine with what was sent and received, sends its probes and
 * keepalives, and tells the datapath on which pair payload leaves and when to keep copies of it.
 */

import type { Address } from "../wire/address.ts";
import { type Keepalive, MessageType, type Probe, ReapState, type Report } from "../wire/message.ts";
import { type FailureCause, type LocatorPair, samePair } from "../policies/policy.ts";
import { drawn } from "../policies/preference.ts";
import { type ReapEffect, ReapMachine } from "../reap/machine.ts";
import { Suspicion } from "../reap/suspicion.ts";
import type { Activity } from "./api.ts";
import { Background } from "./background.ts";
import { ICMP_HINT_INTERVAL, QUIET_TIME, TRIAL_PROBES, TRIAL_TIMEOUT } from "./constants.ts";
import { Checks, isDoubt } from "./checks.ts";
import type { Check, Context, Doubt } from "./context.ts";
import type { Core, Received } from "./core.ts";
import { Pauses } from "./pauses.ts";
import { SharedFate } from "./shared_fate.ts";
import { EngineError } from "./errors.ts";

/** What is thought of a peer that has answered nothing yet; never told anything, so that all contexts can share it. */
const NO_EXPERIENCE: Readonly<Pick<Suspicion, "isSuspect" | "usualMs">> = new Suspicion();

/** How a failure was got over. */
type Recovery = Omit<Extract<ReapEffect, { type: "recovered" }>, "type">;

/** Failure detection and change of paths. */
export class Failover {
  /** Probes while all is well. */
  readonly background: Background;
  /** Contexts that are to explore in their turn. */
  readonly sharedFate: SharedFate;
  /** Contexts whose next packet is worth a copy. */
  readonly pauses: Pauses;
  readonly #core: Core;
  readonly #checks: Checks;
  /** The context whose pair has just failed and been replaced; the datapath is about to be told. */
  #failed: Context | undefined;

  constructor(core: Core) {
    this.#core = core;
    this.sharedFate = new SharedFate(core, (context, cause, now) => this.#fail(context, cause, now));
    this.#checks = new Checks(core, this.sharedFate, {
      machineOf: (context) => this.#machineOf(context),
      doubt: (context) => this.#doubt(context),
      sendProbe: (...probe) => this.#sendProbe(...probe),
      move: (context, to, times, probes, now) => this.#move(context, to, times, probes, now),
      settle: (context, now) => this.#settle(context, now),
    });
    this.pauses = new Pauses(core, (context, now) => this.#settle(context, now));
    this.background = new Background(core, {
      probe: (context, pair, report, now) =>
        this.#sendProbe(context, pair, ReapState.InboundOk, [report], [], "how long is this path?", now),
      keepalive: (context) => this.#sendKeepalive(context, context.current),
      switchPair: (context, pair, now) => this.#switchFreely(context, pair, "better-path", now),
    });
  }

  /** Whether something is planned for the context that it does not know itself. */
  knows(context: Context): boolean {
    return this.background.knows(context) || this.sharedFate.knows(context) || this.pauses.knows(context);
  }

  /** The context is ESTABLISHED on `pair`, on which a nonce or validator of ours just came back. */
  begin(context: Context, pair: LocatorPair, now: number): void {
    const { ulid, peer } = context;
    context.quietUntil = 0;
    context.current = samePair(pair, ulid) || !peer!.isVerified(pair.peer) ? ulid : pair;
    context.toldPair = ulid;
    context.toldHold = false;
    context.since = Math.floor(now);
    peer!.prove(pair.peer);
    const machine = this.#machineOf(context);
    const { id, localTag, fii } = context;
    this.#core.emit({ type: "context-added", id, ulid, localTag, peerTag: context.peerTag!, fii });
    machine.handlePayloadReceived(now);
    if (!context.isCandidate(context.current)) machine.handlePairsChanged(now, "peer-locators");
    this.#settle(context, now);
  }

  /** The context is ESTABLISHED no more: its payload goes as if there were none. */
  end(context: Context): void {
    if (!context.isEstablished) return;
    context.machine = undefined;
    context.suspicion = undefined;
    context.doubt = undefined;
    context.trial = undefined;
    context.check = undefined;
    context.suspectAt = Infinity;
    this.background.forget(context);
    this.sharedFate.forget(context);
    this.pauses.forget(context);
    context.update = undefined;
    context.current = context.ulid;
    this.#core.activity.clear(context.id);
    this.#core.emit({ type: "context-removed", id: context.id });
  }

  /** A Shim6 control message other than Keepalive and Probe was received (RFC 5534 §6.1). */
  payloadReceived(context: Context, now: number): void {
    if (!context.isEstablished) return;
    this.#machineOf(context).handlePayloadReceived(now);
    this.#settle(context, now);
  }

  /** A Shim6 control message other than Keepalive and Probe was sent (RFC 5534 §6.2). */
  payloadSent(context: Context, now: number): void {
    if (!context.isEstablished || this.#isQuiet(context, now)) return;
    this.#machineOf(context).handlePayloadSent(now);
    this.#settle(context, now);
  }

  /** What the datapath counted since the last poll: events in the order of their times. */
  handleActivity(context: Context, activity: Readonly<Activity>, now: number): void {
    const { id } = context;
    const table = this.#core.activity;
    const sentBefore = table.lastSent(id), receivedBefore = table.lastReceived(id);
    const { lastSent, lastReceived, firstUnanswered, firstUnreplied } = activity;
    table.set(id, activity);
    if (!context.isEstablished || this.#isQuiet(context, now)) return;
    this.background.consider(context, now);
    this.pauses.consider(context, activity, now);
    const machine = this.#machineOf(context);
    const hasSent = lastSent > sentBefore, hasReceived = lastReceived > receivedBefore;
    if (hasReceived) {
      this.sharedFate.heard((context.incoming ?? context.current).local, lastReceived);
      this.#learn(context, activity, hasSent);
      this.#checks.notePayload(context);
    }
    if (firstUnanswered > 0) { // the last word was ours
      if (hasReceived) machine.handlePayloadReceived(lastReceived);
      if (firstUnanswered > sentBefore) machine.handlePayloadSent(firstUnanswered);
      if (hasSent) machine.handlePayloadSent(lastSent);
    } else {
      if (hasSent) machine.handlePayloadSent(lastSent);
      if (firstUnreplied > receivedBefore) machine.handlePayloadReceived(firstUnreplied);
      if (hasReceived) machine.handlePayloadReceived(lastReceived);
    }
    this.#watchSilence(context, activity, now);
    this.#settle(context, now);
  }

  /** A Keepalive whose tag and addresses fit (RFC 5534 §6.6). */
  handleKeepalive(context: Context, { source, destination }: Received, now: number): void {
    this.wake(context);
    const before = context.incoming ?? context.ulid;
    context.incoming = context.intern(destination, source); // Keepalives leave where payload does
    this.sharedFate.heard(destination, now);
    const since = this.#core.activity.unansweredSince(context.id);
    if (since > 0) {
      context.suspicion ??= new Suspicion();
      context.suspicion.answered("keepalive", since, this.#core.activity.lastSent(context.id), now);
    }
    this.#machineOf(context).handleKeepalive(now);
    this.#settle(context, now);
    if (!samePair(before, context.incoming)) this.background.peerMoved(context, now);
  }

  /** A Probe whose tag and addresses fit (RFC 5534 §6.7 to §6.9). */
  handleProbe(context: Context, message: Probe, { source, destination }: Received, now: number): void {
    this.wake(context);
    const pair = { local: destination, peer: source };
    this.#core.event(context, { kind: "probe-received", pair, state: message.state }, now);
    this.sharedFate.heard(destination, now);
    this.#readTrial(context, message.received, now);
    // Background probes say InboundOk on any pair. While we explore it is the peer's choice, unless a later one comes. A
    // doubt is answered where it came from.
    const isChoice = message.state === ReapState.Operational && !this.#checks.answersDoubt(context, message) ||
      context.inDoubt && message.state === ReapState.InboundOk;
    this.#checks.read(context, message, pair, now);
    this.background.handleReports(context, message.received, pair, now);
    if (isChoice) context.incoming = context.intern(destination, source);
    if (this.#checks.answerByMove(context, message, pair, now)) return;
    // Before the machine hears of the probe: what comes on an alternate does not end the silence on the path in use.
    if (isDoubt(message) && !samePair(pair, context.current)) this.#checks.beDoubted(context, message.sent, now);
    const machine = this.#machineOf(context), { current: from, check } = context;
    const wasOperational = machine.state === ReapState.Operational;
    const since = this.#core.activity.unansweredSince(context.id) || now;
    machine.handleProbe(message, source, destination, now);
    const isTold = wasOperational && machine.state === ReapState.Operational && !samePair(machine.current, from);
    this.#settle(context, now);
    // A peer that asks questions wants another pair only when nothing comes in on the one in use.
    if (!isTold || this.#core.reap.profile.suspicion === undefined) return;
    this.#core.book.failed(from, now, null); // others may well be heard through its locators
    const probes = check === undefined ? 0 : check.asked.length + (check.alternate?.asked.length ?? 0);
    this.#noteFailure(context, "peer-probe", check ?? { since, at: now }, probes, now);
    this.#core.reschedule(context);
  }

  /** The peer announced its Send Timeout in seconds (RFC 5534 §5.3). */
  adoptKeepaliveTimeout(context: Context, seconds: number | undefined): void {
    if (seconds === undefined || seconds === 0) return;
    context.keepaliveTimeout = seconds;
    context.machine?.adoptKeepaliveTimeout(seconds * 1_000);
  }

  /** The peer's list or preferences are others than before (RFC 5533 §10.4). */
  peerLocatorsChanged(context: Context, now: number): void {
    const { peer } = context;
    if (!context.isEstablished) return;
    const machine = this.#machineOf(context);
    machine.handlePairsChanged(now, "peer-locators");
    const isBroken = (address: Address) => peer!.isBroken(peer!.addresses.indexOf(address));
    if (isBroken(machine.current.peer) && !isBroken(context.pairs()[0].peer)) {
      machine.handleFailure("peer-locators", now);
    } else this.followPreferences(context, now);
    this.#settle(context, now);
  }

  /**
   * A host prefers other locators than before: tries, from `at` on, a pair that is preferred to the one in use, and moves
   * there when the peer answers. Nothing is broken, so nothing is held. Returns whether there is such a pair.
   */
  followPreferences(context: Context, at: number): boolean {
    if (!context.isEstablished || context.inDoubt || context.trial !== undefined || this.#isQuiet(context, at)) {
      return false;
    }
    const rank = (pair: LocatorPair) => context.preference(pair).rank;
    const [first, ...others] = context.pairs();
    const { current } = context;
    if (rank(first) >= rank(current)) return false;
    const best = [first, ...others.filter((pair) => rank(pair) === rank(first))];
    // The locator that nobody minds stays.
    const near = best.filter((pair) => pair.local === current.local || pair.peer === current.peer);
    const preference = (pair: LocatorPair) => context.preference(pair);
    const [pair] = drawn({ random: this.#core.reap.random, preference }, near.length > 0 ? near : best);
    context.trial = { pair, cause: "better-path", nonces: [], deadline: at };
    this.#core.reschedule(context);
    return true;
  }

  /** Our locators changed. `cause`: what happened to the local locator in use, if anything. */
  localLocatorsChanged(context: Context, cause: FailureCause | undefined, now: number): void {
    if (!context.isEstablished || this.#isQuiet(context, now)) return;
    this.sharedFate.begin(context, cause ?? "address-gone", now);
  }

  /** It is the context's turn to explore, or to go on with other pairs. */
  #fail(context: Context, cause: FailureCause, now: number): void {
    if (!context.isEstablished || this.#isQuiet(context, now)) return;
    const machine = this.#machineOf(context);
    if (cause === "shared-fate" || cause === "suspicion") machine.handleFailure(cause, now);
    else {
      machine.handlePairsChanged(now, cause);
      const others = context.pairs().some((pair) => pair.local !== context.current.local);
      const isStillSo = !this.#core.local.get(context.current.local)?.usable ||
        this.#core.local.get(context.current.local)?.deprecated;
      if (others && isStillSo) machine.handleFailure(cause, now);
    }
    this.#settle(context, now);
  }

  /** The peer knows our new locators now: they may be probed from. */
  localLocatorsAccepted(context: Context, now: number): void {
    if (!context.inDoubt) return;
    context.machine!.handlePairsChanged(now, "address-gone");
    this.#settle(context, now);
  }

  /**
   * An ICMPv6 error about a packet of this context (RFC 5534 §3.3): a hint, since it is easily forged. It hastens an
   * exploration only when payload is unanswered as well.
   */
  handleHint(context: Context, pair: LocatorPair, now: number): void {
    if (!context.isEstablished || !samePair(pair, context.current)) return;
    if (this.#core.activity.unansweredSince(context.id) === 0) return;
    if (context.hintedAt > 0 && now - context.hintedAt < ICMP_HINT_INTERVAL) return;
    context.hintedAt = now;
    this.#machineOf(context).handleFailure("icmp", now);
    this.#settle(context, now);
  }

  /**
   * The peer's host says that it knows no Shim6: its agent is gone. Payload takes the ULID pair, which needs no agent, and
   * REAP rests for a while: its probes could only be answered by the same error. A restarted peer recovers the context by
   * I1, R1bis or I2bis; if it does not come back, REAP asks again when the time is over.
   */
  goQuiet(context: Context, now: number): void {
    if (!context.isEstablished) return;
    const from = context.current, state = context.machine?.state ?? ReapState.Operational;
    this.background.unpin(context);
    context.quietUntil = now + QUIET_TIME;
    context.trial = undefined;
    context.check = undefined;
    context.suspectAt = Infinity;
    context.suspicion = undefined;
    context.current = context.ulid;
    context.machine = undefined;
    this.#core.activity.setUnansweredSince(context.id, 0);
    if (state !== ReapState.Operational) {
      this.#core.event(context, { kind: "reap", from: state, to: ReapState.Operational, cause: "icmp" }, now);
    }
    if (!samePair(from, context.ulid)) this.#switched(context, from, "icmp", now);
    this.#settle(context, now);
  }

  /** The peer's agent is there after all. */
  wake(context: Context): void {
    context.quietUntil = 0;
  }

  /** Starts an exploration at the operator's wish. */
  explore(context: Context, now: number): void {
    this.#machineOf(context).handleFailure("operator", now);
    this.#settle(context, now);
  }

  /**
   * Changes to `pair` at the operator's wish: at once when the peer has answered a probe from there, else as soon as it
   * does (RFC 5533 §7.2). Throws {@linkcode EngineError} for pairs that must not be used.
   */
  switchPair(context: Context, pair: LocatorPair, now: number): "switched" | "probing" {
    const text = `${pair.local} → ${pair.peer}`;
    if (!context.isPeer(pair.peer)) throw new EngineError("not-a-locator", `${pair.peer} is no locator of the peer`);
    if (!context.peer!.isVerified(pair.peer)) {
      throw new EngineError("unverified-locator", `${pair.peer} is not verified for ${context.ulid.peer}`);
    }
    if (!this.#core.local.has(pair.local)) {
      throw new EngineError("not-a-locator", `${pair.local} is no locator of this host`);
    }
    if (!context.isCandidate(pair)) throw new EngineError("unusable-locator", `${text} cannot be used now`);
    context.trial = undefined;
    if (samePair(pair, context.ulid) || context.peer!.isProven(pair.peer)) {
      this.#switchFreely(context, pair, "operator", now);
      return "switched";
    }
    context.trial = { pair, cause: "operator", nonces: [], deadline: now };
    this.#tryPair(context, now);
    return "probing";
  }

  /** Timers of REAP, the trial of a pair, and the end of a context that nobody uses. */
  handleTimeout(context: Context, now: number): void {
    if (context.trial !== undefined && now >= context.trial.deadline) this.#tryPair(context, now);
    const { check } = context;
    if (now >= context.suspectAt && (check === undefined || check.awaited !== undefined)) {
      this.#checks.suspect(context, now);
    } else if (check !== undefined && now >= check.deadline) this.#checks.goOn(context, now);
    if (context.machine === undefined || this.#isQuiet(context, now)) return;
    if (context.machine.probeDue(now)) {
      const at = this.#core.budget.nextAt(now);
      if (at > now) {
        context.probesFrom = Math.ceil(at);
        return;
      }
    }
    context.machine.handleTimeout(now);
    this.#settle(context, now);
  }

  /** The machine of a context, made anew when nothing was going on. */
  #machineOf(context: Context): ReapMachine {
    if (context.machine === undefined) {
      context.machine = new ReapMachine(this.#core.reap, context, context.current);
      context.machine.adoptKeepaliveTimeout(context.keepaliveTimeout * 1_000);
    }
    return context.machine;
  }

  #isQuiet(context: Context, now: number): boolean {
    return now < context.quietUntil;
  }

  /** How long the peer took to answer. */
  #learn(context: Context, activity: Readonly<Activity>, hasSent: boolean): void {
    let since = this.#core.activity.unansweredSince(context.id);
    if (since === 0 && hasSent) since = activity.lastSent; // asked and answered between two polls
    const at = activity.firstUnreplied > 0 ? activity.firstUnreplied : activity.lastReceived;
    if (since === 0 || at <= since) return;
    context.suspicion ??= new Suspicion();
    context.suspicion.answered("payload", since, activity.lastSent, at);
  }

  #watchSilence(context: Context, { lastSent, firstUnanswered }: Readonly<Activity>, now: number): void {
    const machine = context.machine!;
    const table = this.#core.activity;
    const heard = machine.lastHeard;
    let since = table.unansweredSince(context.id);
    if (firstUnanswered === 0 || lastSent <= heard) since = 0;
    else if (since === 0 || since < heard) since = firstUnanswered > heard ? firstUnanswered : lastSent;
    table.setUnansweredSince(context.id, since);
    this.#checks.plan(context, since);
    if (since === 0 || context.doubt !== undefined || machine.state !== ReapState.Operational) return;
    if (context.suspectAt < Infinity) return;
    const experience = context.suspicion ?? NO_EXPERIENCE;
    if (!experience.isSuspect(since, lastSent, this.#core.reap.profile.sendTimeoutMs)) return;
    this.#doubt(context);
    this.#core.event(context, { kind: "suspect", silentMs: now - since, usualMs: experience.usualMs }, now);
  }

  #doubt(context: Context): Doubt {
    return context.doubt ??= { probed: [], explored: false, refuted: false, copyTo: undefined, toldCopyTo: undefined };
  }

  /** Payload takes another pair without an exploration, since that one is known to work. */
  #move(
    context: Context,
    to: LocatorPair,
    { since, at }: Pick<Check, "since" | "at">,
    probes: number,
    now: number,
  ): void {
    const { current: from } = context;
    context.check = undefined;
    this.#doubt(context).explored = true;
    this.#machineOf(context).switchTo(to, now);
    context.current = to;
    this.#core.book.failed(from, now);
    this.#core.book.heard(to);
    this.#switched(context, from, "suspicion", now);
    this.#noteFailure(context, "suspicion", { since, at }, probes, now);
    this.sharedFate.failed(from, now - since, now);
  }

  /** Payload has left a pair that failed for another one, without an exploration. */
  #noteFailure(
    context: Context,
    cause: FailureCause,
    { since, at }: Pick<Check, "since" | "at">,
    probes: number,
    now: number,
  ): void {
    const { current: pair } = context;
    this.#noteRecovery(context, { cause, detectionMs: at - since, explorationMs: now - at, pair, probes }, now);
  }

  #noteRecovery(context: Context, recovery: Recovery, now: number): void {
    const { cause, detectionMs, explorationMs, pair, probes } = recovery;
    context.lastFailure = { cause, detectionMs, explorationMs, recoveryMs: detectionMs + explorationMs };
    this.background.recovered(context, now);
    this.#core.event(context, { kind: "recovered", cause, detectionMs, explorationMs, pair, probes }, now);
  }

  /** Carries out what the machine wants; to be called after every call to it. */
  #settle(context: Context, now: number): void {
    const { machine } = context;
    for (let effect = machine?.nextEffect(); effect !== undefined; effect = machine?.nextEffect()) {
      this.#perform(context, effect, now);
    }
    const since = this.#core.activity.unansweredSince(context.id);
    if (since > 0 && machine !== undefined && machine.lastHeard >= since) {
      this.#core.activity.setUnansweredSince(context.id, 0);
    }
    this.#tellPath(context);
    // A machine at rest knows nothing that could not be had again, and most contexts are at rest most of the time.
    if (machine?.state === ReapState.Operational && machine.nextDeadline() === Infinity) context.machine = undefined;
    this.#core.reschedule(context);
  }

  #perform(context: Context, effect: ReapEffect, now: number): void {
    switch (effect.type) {
      case "send-probe":
        if (effect.extra) this.#core.budget.probe(now);
        return this.#sendProbe(context, effect.pair, effect.state, effect.sent, effect.received, effect.reason, now);
      case "send-keepalive":
        return this.#sendKeepalive(context, effect.pair);
      case "state":
        if (effect.from === ReapState.Operational) {
          context.check = undefined;
          this.#core.budget.exploration(now);
          if (effect.cause !== "answered" && SHARED.has(effect.cause)) {
            const incoming = effect.cause === "peer-probe" ? undefined : context.incoming;
            const silentSince = this.#core.activity.unansweredSince(context.id) || now;
            this.sharedFate.failed(incoming ?? context.current, now - silentSince, now);
          }
        }
        if (effect.to !== ReapState.Operational) {
          this.#doubt(context).explored = true;
          this.#copyWhileExploring(context, now);
        } else if (context.update?.deadline === Infinity) context.update.deadline = now;
        this.#core.event(context, { kind: "reap", from: effect.from, to: effect.to, cause: effect.cause }, now);
        return;
      case "switch":
        context.current = effect.to;
        if (context.check !== undefined) {
          context.check = undefined;
          this.#doubt(context).explored = true;
        }
        return this.#switched(context, effect.from, effect.cause, now);
      case "answered": {
        const { pair, nonce, rttMs } = effect;
        context.peer!.prove(pair.peer);
        this.#core.event(context, { kind: "probe-answered", pair, nonce, rttMs }, now);
        return;
      }
      case "recovered":
        return this.#noteRecovery(context, effect, now);
    }
  }

  /** Until a pair is confirmed, copies leave on the best one that worked when it was last tried. */
  #copyWhileExploring(context: Context, now: number): void {
    if (this.#core.reap.profile.suspicion === undefined) return;
    const doubt = this.#doubt(context);
    if (doubt.copyTo !== undefined) return;
    const pair = this.#checks.alternate(context, now);
    if (pair !== undefined && this.#checks.isKnownToWork(context, pair)) doubt.copyTo = pair;
  }

  #sendKeepalive(context: Context, { local, peer }: LocatorPair): void {
    const message: Keepalive = { type: MessageType.Keepalive, receiverTag: context.peerTag! };
    if (this.#core.send(this.#withCoordinates(context, message), local, peer)) context.keepalivesSent++;
  }

  #withCoordinates<M extends Keepalive | Probe>({ ulid, announced }: Context, message: M): M {
    return this.#core.withCoordinates(message, ulid.local, announced);
  }

  #switched(context: Context, from: LocatorPair, cause: FailureCause | "better-path", now: number): void {
    context.switches++;
    context.since = Math.floor(now);
    this.#failed = cause === "operator" || cause === "better-path" ? undefined : context;
    this.#core.event(context, { kind: "switch", from, to: context.current, cause }, now);
  }

  #sendProbe(
    context: Context,
    pair: LocatorPair,
    state: ReapState,
    sent: readonly Report[],
    received: readonly Report[],
    reason: string,
    now: number,
  ): void {
    // Before any probe the locator has to be verified (RFC 5533 §7.2), whatever the plan or the peer would like.
    if (!context.peer!.isVerified(pair.peer) && pair.peer !== context.ulid.peer) {
      return this.#core.drop("unverified-probe");
    }
    const message: Probe = { type: MessageType.Probe, receiverTag: context.peerTag!, state, sent, received };
    if (!this.#core.send(this.#withCoordinates(context, message), pair.local, pair.peer)) return;
    context.probesSent++;
    context.doubt?.probed.push(pair);
    if (context.doubt !== undefined && context.doubt.probed.length > PROBED_MAX) context.doubt.probed.shift();
    this.#core.event(context, { kind: "probe-sent", pair, nonce: sent[0].nonce, state, reason }, now);
  }

  /**
   * Instructs the datapath when something changed. Copies are released when an exploration ends; a suspicion that proved
   * wrong lost nothing. A forked context (FII) carries payload only where an application asks for it by an interface that
   * does not exist here (RFC 5533 §4.2), so the datapath is told of no path for it.
   */
  #tellPath(context: Context): void {
    const { doubt } = context;
    if (doubt !== undefined && !context.inDoubt && context.check === undefined) {
      const silent = this.#core.activity.unansweredSince(context.id) > 0;
      if (doubt.explored || doubt.refuted || !silent) {
        if (doubt.explored) this.pauses.end(context);
        context.doubt = undefined;
      }
    }
    const copyTo = context.doubt?.copyTo, toldCopyTo = doubt?.toldCopyTo;
    const hold = context.doubt !== undefined || this.pauses.has(context);
    if (
      context.fii !== 0 ||
      hold === context.toldHold && copyTo === toldCopyTo && samePair(context.current, context.toldPair)
    ) return;
    const wereCopied = toldCopyTo !== undefined && samePair(toldCopyTo, context.current);
    const release = context.toldHold && !hold && doubt?.explored === true && !wereCopied;
    const lost = this.#failed === context && !samePair(context.current, context.toldPair);
    this.#failed = undefined;
    context.toldHold = hold;
    context.toldPair = context.current;
    if (context.doubt !== undefined) context.doubt.toldCopyTo = copyTo;
    this.#core.emit({
      type: "path",
      id: context.id,
      pair: context.current,
      hold,
      release,
      ...(copyTo === undefined ? {} : { copyTo }),
      ...(lost ? { lost } : {}),
    });
  }

  /** Probes the pair that the operator wants. InboundOk, so that a peer answers without leaving Operational (§6.8). */
  #tryPair(context: Context, now: number): void {
    const trial = context.trial!;
    if (trial.nonces.length >= TRIAL_PROBES) {
      context.trial = undefined;
      this.#core.event(context, { kind: "switch-failed", pair: trial.pair, reason: "no probe was answered" }, now);
      return this.#core.reschedule(context);
    }
    const { local, peer } = trial.pair;
    const nonce = this.#core.nonce();
    trial.nonces.push(nonce);
    trial.deadline = now + TRIAL_TIMEOUT;
    const sent = [{ source: local, destination: peer, nonce, data: 0 }];
    const reason = trial.cause === "operator" ? "the operator wants this pair" : "preferred to the pair in use";
    this.#sendProbe(context, trial.pair, ReapState.InboundOk, sent, [], reason, now);
    this.#core.reschedule(context);
  }

  #readTrial(context: Context, received: readonly Report[], now: number): void {
    const { trial } = context;
    if (trial === undefined) return;
    const { pair, nonces, cause } = trial;
    const report = received.find((report) =>
      nonces.includes(report.nonce) && report.source === pair.local && report.destination === pair.peer
    );
    if (report === undefined) return;
    context.trial = undefined;
    context.peer!.prove(pair.peer);
    if (context.isCandidate(pair)) this.#switchFreely(context, pair, cause, now);
  }

  /** Goes over to another pair while the one in use works. A Keepalive tells the peer, which may want to follow. */
  #switchFreely(context: Context, pair: LocatorPair, cause: "operator" | "better-path", now: number): void {
    const from = context.current;
    context.machine?.switchTo(pair, now);
    context.current = pair;
    if (!samePair(from, pair)) {
      this.#switched(context, from, cause, now);
      this.#sendKeepalive(context, pair);
    }
    if (cause === "operator") this.background.pin(context);
    this.#settle(context, now);
  }
}

/** Causes that may hit other contexts too, and that they are not told of anyway. */
const SHARED: ReadonlySet<FailureCause> = new Set(["send-timer", "suspicion", "peer-probe", "icmp", "shared-fate"]);

/** Pairs that are remembered as probed: more than one round over all candidates. */
const PROBED_MAX = 128;
