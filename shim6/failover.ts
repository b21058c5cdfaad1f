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
import type { Check, Context, Doubt, Question } from "./context.ts";
import type { Core, Received } from "./core.ts";
import { Pauses } from "./pauses.ts";
import { SharedFate } from "./shared_fate.ts";
import { EngineError } from "./errors.ts";

/** What is thought of a peer that has answered nothing yet; never told anything, so that all contexts can share it. */
const NO_EXPERIENCE: Readonly<Pick<Suspicion, "isSuspect" | "usualMs">> = new Suspicion();

/** Failure detection and change of paths. */
export class Failover {
  /** Probes while all is well. */
  readonly background: Background;
  /** Contexts that are to explore in their turn. */
  readonly sharedFate: SharedFate;
  /** Contexts whose next packet is worth a copy. */
  readonly pauses: Pauses;
  readonly #core: Core;
  /** The context whose pair has just failed and been replaced; the datapath is about to be told. */
  #failed: Context | undefined;

  constructor(core: Core) {
    this.#core = core;
    this.sharedFate = new SharedFate(core, (context, cause, now) => this.#fail(context, cause, now));
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
      this.#notePayload(context);
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
  handleKeepalive(context: Context, now: number): void {
    this.wake(context);
    this.sharedFate.heard((context.incoming ?? context.current).local, now);
    const since = this.#core.activity.unansweredSince(context.id);
    if (since > 0) {
      context.suspicion ??= new Suspicion();
      context.suspicion.answered("keepalive", since, this.#core.activity.lastSent(context.id), now);
    }
    this.#machineOf(context).handleKeepalive(now);
    this.#settle(context, now);
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
    const isChoice = message.state === ReapState.Operational && !this.#answersDoubt(context, message) ||
      context.inDoubt && message.state === ReapState.InboundOk;
    this.#readCheck(context, message, pair, now);
    this.background.handleReports(context, message.received, pair, now);
    if (isChoice) context.incoming = context.intern(destination, source);
    if (this.#isMoved(context, message, pair, now)) return;
    // Before the machine hears of the probe: what comes on an alternate does not end the silence on the path in use.
    if (isDoubt(message) && !samePair(pair, context.current)) this.#beDoubted(context, message.sent, now);
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
    if (now >= context.suspectAt && (check === undefined || check.awaited !== undefined)) this.#suspect(context, now);
    else if (check !== undefined && now >= check.deadline) this.#goOnChecking(context, now);
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
    this.#planSuspicion(context, since);
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

  /** When the silence that began at `since` is to be asked about; never if the profile does not want it. */
  #planSuspicion(context: Context, since: number): void {
    const { suspicion: timing, sendTimeoutMs } = this.#core.reap.profile;
    const { suspicion, machine } = context;
    if (
      since === 0 || timing === undefined || suspicion === undefined || Number.isNaN(suspicion.usualMs) ||
      machine?.state !== ReapState.Operational
    ) {
      context.suspectAt = Infinity;
      return;
    }
    let afterMs = suspicion.suspectAfterMs(sendTimeoutMs, timing);
    // In a steady stream something is always on its way here; after a pause the answer takes a whole round trip.
    const rttMs = this.#core.book.get(context.current)?.rttMs ?? NaN;
    const heard = Math.max(machine.lastHeard, this.#core.activity.lastReceived(context.id));
    if (since - heard > rttMs) afterMs = Math.max(afterMs, this.#answerMs(context.current));
    // What is usual was learnt on another pair, which may have been shorter.
    const isNew = context.switches > 0 && this.#core.activity.lastReceived(context.id) <= context.since;
    if (isNew) afterMs += this.#answerMs(context.current);
    // Then the silence of others says enough.
    if (this.sharedFate.isSilent(context.current.local, since)) afterMs = 0;
    context.suspectAt = since + Math.min(afterMs, sendTimeoutMs);
  }

  /** The peer is silent for longer than usual. */
  #suspect(context: Context, now: number): void {
    context.suspectAt = Infinity;
    const since = this.#core.activity.unansweredSince(context.id);
    if (since === 0 || this.#machineOf(context).state !== ReapState.Operational) return;
    this.sharedFate.suspected(context, now - since, now);
    if (this.#isKnownDead(context, now)) return this.sharedFate.begin(context, "shared-fate", now);
    const { budget } = this.#core;
    if (budget.nextAt(now) > now) {
      context.suspectAt = budget.nextAt(now);
      return;
    }
    if (context.check === undefined) this.#beginCheck(context, since, now);
    this.#ask(context, now);
  }

  /**
   * The peer does not hear us, or is not sure: each host has to find out whether its own path works. At first copies are
   * enough, since most doubts are over with the first answer; if the peer asks again, or stays silent, so do we.
   */
  #beDoubted(context: Context, sent: readonly Report[], now: number): void {
    if (this.#core.reap.profile.suspicion === undefined || this.#isQuiet(context, now)) return;
    if (this.#machineOf(context).state !== ReapState.Operational) return;
    const first = sent[sent.length - 1], isPersistent = sent.length > 2;
    if (context.check === undefined) {
      if (!isPersistent && now - context.checkedAt < ASK_BACK_INTERVAL) return;
      if (now - this.#core.activity.lastSent(context.id) > ASK_BACK_AFTER) return;
      if (this.#core.budget.nextAt(now) > now) return;
      const check = this.#beginCheck(context, this.#core.activity.unansweredSince(context.id) || now, now);
      check.awaited = first;
      check.deadline = now + this.#questionGapMs(context.current);
    }
    const { check } = context;
    if (isPersistent && check?.awaited !== undefined && check.first === "both") this.#ask(context, now);
  }

  /** Only the peer is in doubt. What it asked on its current pair tells which direction may be broken. */
  #awaitPeer(context: Context, awaited: Report, now: number): void {
    const check = context.check!;
    if (check.first === "both" && !this.#machineOf(context).hasReceived(awaited)) return this.#ask(context, now);
    // Its path works, so that ours may be what is broken. Then it will ask again, since our answer is lost.
    const end = check.at + 3 * this.#answerMs(context.current);
    if (now >= end) return this.#endCheck(context, false, now);
    check.deadline = end;
    this.#core.reschedule(context);
  }

  #beginCheck(context: Context, since: number, now: number): Check {
    const pair = this.#alternate(context, now);
    const doubt = this.#doubt(context);
    const works = pair !== undefined && this.#isKnownToWork(context, pair);
    if (works) doubt.copyTo = pair;
    context.checkedAt = Math.floor(now);
    const isSparse = Math.max(now - since, context.suspicion?.usualMs || 0) > SPARSE_SILENCE;
    const isLone = since < now && this.#core.activity.lastSent(context.id) <= since;
    const first = works && (isSparse || isLone) ? "alternate" : isSparse ? "current" : "both";
    return context.check = {
      at: now,
      since,
      asked: [],
      alternate: pair && { pair, asked: [] },
      first,
      announced: first === "alternate" && !isSparse ? this.#question(context.current, now).report : undefined,
      awaited: undefined,
      currentReported: false,
      alternateReported: false,
      lastReported: false,
      extended: false,
      heard: false,
      payloadCame: false,
      answer: undefined,
      deadline: now,
    };
  }

  /**
   * Asks on the current pair and on an alternate. The probes say InboundOk, so that a peer to which all is well answers
   * and stays in Operational (RFC 5534 §6.8). Payload goes on, and copies of it leave on the alternate if that is known
   * to work: so nothing is lost while the answer is awaited, and a question more costs no time.
   */
  #ask(context: Context, now: number): void {
    const check = context.check!;
    check.awaited = undefined;
    const usualMs = context.suspicion?.usualMs ?? NaN;
    this.#core.event(context, { kind: "suspect", silentMs: now - check.since, usualMs }, now);
    this.#goOnChecking(context, now);
  }

  /** One more question on the current pair, or the conclusion: packets get lost, so no single one decides. */
  #goOnChecking(context: Context, now: number): void {
    const check = context.check!, { current } = context;
    const { asked, alternate } = check;
    if (check.awaited !== undefined) return this.#awaitPeer(context, check.awaited, now);
    if (this.#isKnownDead(context, now)) {
      context.check = undefined;
      return this.sharedFate.begin(context, "shared-fate", now);
    }
    const questions = this.#questionsFor(context);
    if (asked.length === questions) return this.#conclude(context, now);
    const { budget } = this.#core;
    if (budget.nextAt(now) > now) {
      check.deadline = budget.nextAt(now);
      return this.#core.reschedule(context);
    }
    if (check.first === "alternate" && alternate!.asked.length === 0) {
      this.#askAlternate(context, now);
      check.deadline = now + LATE_ANSWER * this.#answerMs(alternate!.pair);
      return this.#settle(context, now);
    }
    const question = asked.length === 0 && check.announced !== undefined
      ? { report: check.announced, at: now }
      : this.#question(current, now);
    asked.push(question);
    const why = asked.length === 1 ? "does the current pair work?" : "does the current pair work, really?";
    budget.probe(now);
    this.#sendProbe(context, current, ReapState.InboundOk, [question.report], [], why, now);
    const isLast = asked.length === questions, isNextLast = asked.length === questions - 1;
    if (isLast || asked.length === DOUBT_AFTER[check.first]) this.#askAlternate(context, now);
    const answerMs = this.#answerMs(current);
    // However many they are, they are spread over the same time.
    const gaps = check.first === "both" ? 1 : (QUESTIONS - 1) / (questions - 1);
    // In a sparse flow one question at a time is enough, as long as there is an answer.
    const isAlone = asked.length === 1 && (check.first === "current" || check.first === "alternate" && check.heard);
    if (isLast || isAlone) check.deadline = now + answerMs;
    // The last question leaves when the first should have been answered: then the peer knows that it was not.
    else if (isNextLast && check.first === "both") check.deadline = Math.max(asked[0].at + answerMs, now);
    else check.deadline = now + this.#questionGapMs(current) * gaps;
    this.#settle(context, now);
  }

  /** The question on the alternate names those on the current pair, and so tells the peer of the doubt. */
  #askAlternate(context: Context, now: number): void {
    const { asked, alternate, announced } = context.check!;
    if (alternate === undefined) return;
    const question = this.#question(alternate.pair, now);
    alternate.asked.push(question);
    const named = asked.length === 0 && announced !== undefined
      ? [announced]
      : asked.toReversed().map(({ report }) => report);
    const sent = [question.report, ...named];
    this.#core.budget.probe(now);
    this.#sendProbe(context, alternate.pair, ReapState.InboundOk, sent, [], "does another pair work?", now);
  }

  #question({ local, peer }: LocatorPair, at: number): Question {
    return { report: { source: local, destination: peer, nonce: this.#core.nonce(), data: 0 }, at };
  }

  /** In a dense stream many packets speak for a failure, in a sparse one a single lost one may, if packets do get lost. */
  #questionsFor({ check, suspicion }: Context): number {
    const { at, since } = check!;
    const isLossy = Math.max(at - since, suspicion?.usualMs || 0) > SPARSE_SILENCE && suspicion?.wasWrong;
    return isLossy ? LOSSY_QUESTIONS : QUESTIONS;
  }

  /**
   * The pair to fall back to: of those that share the fewest locators with what is in doubt, and that are known to work if
   * there is one, the policy's first choice.
   */
  #alternate(context: Context, now: number): LocatorPair | undefined {
    const { current, incoming } = context;
    const others = context.pairs().filter((pair) => !samePair(pair, current));
    if (others.length === 0) return undefined;
    const doubtful = [current, incoming ?? current];
    const cost = (pair: LocatorPair) =>
      2 * (Number(doubtful.some(({ local }) => local === pair.local)) +
          Number(doubtful.some(({ peer }) => peer === pair.peer))) +
      Number(!this.#isKnownToWork(context, pair));
    const least = Math.min(...others.map(cost));
    const { policy, profile, book, random } = this.#core.reap;
    const pairs = others.filter((pair) => cost(pair) === least);
    const preference = (pair: LocatorPair) => context.preference(pair);
    const start = { pairs, current, cause: "suspicion", book, preference, timing: profile, random, now } as const;
    return policy.plan(start).next(now).pair;
  }

  /** Whether the pair answered when it was last tried, so that payload may be sent to the peer there (RFC 5533 §7.2). */
  #isKnownToWork(context: Context, pair: LocatorPair): boolean {
    const record = this.#core.book.get(pair);
    return record !== undefined && record.lastSuccess > record.lastFailure && record.trialsUnanswered === 0 &&
      context.peer!.isProven(pair.peer);
  }

  /** Whether other contexts have shown that a locator in use is dead: no question is needed. */
  #isKnownDead({ current, incoming }: Context, now: number): boolean {
    const addresses = [current.local, current.peer, incoming?.local, incoming?.peer];
    return addresses.some((address) => address !== undefined && !Number.isNaN(this.#core.book.deadSince(address, now)));
  }

  /** How long to wait for an answer to a question, in ms. */
  #answerMs(pair: LocatorPair): number {
    const record = this.#core.book.get(pair);
    if (record === undefined || Number.isNaN(record.rttMs)) return UNKNOWN_ANSWER_TIME;
    const { rttMs, rttVarianceMs } = record;
    // The deviation begins as a guess of half the time (RFC 6298 §2.2), of which each measurement takes a quarter away.
    const guessMs = rttMs / 2 * 0.75 ** Math.max(0, record.probesAnswered - 1);
    const tail = Math.min(rttMs + 4 * Math.max(0, rttVarianceMs - guessMs), 2 * rttMs);
    return Math.max(LEAST_ANSWER_TIME, ANSWER_PATIENCE * rttMs, tail);
  }

  #questionGapMs(pair: LocatorPair): number {
    return Math.min(LARGEST_QUESTION_GAP, Math.max(LEAST_QUESTION_GAP, this.#answerMs(pair) / QUESTION_GAPS));
  }

  /** Reads the reports of a probe that came in on the reverse of `back`. */
  #readCheck(context: Context, { received, sent, state }: Probe, back: LocatorPair, now: number): void {
    const { check } = context;
    if (check === undefined) return;
    const { asked, alternate, first } = check;
    const isReported = ({ report }: Question) =>
      received.some(({ nonce, source, destination }) =>
        nonce === report.nonce && source === report.source && destination === report.destination
      );
    // Newest first: an answer that reports several is the answer to the last one.
    const current = asked.findLast(isReported);
    const ofAlternate = alternate?.asked.findLast(isReported);
    // What comes back on the reverse of the alternate says nothing about the path that the peer uses. If that is where the
    // peer sends, the plain question was answered there.
    const isOnAlternate = alternate !== undefined && samePair(back, alternate.pair) &&
      (isPlain(check)
        ? ofAlternate !== alternate.asked[0]
        : !(context.incoming !== undefined && samePair(back, context.incoming)));
    if (current !== undefined && !check.currentReported) this.#noteAnswer(context, current, !isOnAlternate, now);
    check.currentReported ||= current !== undefined;
    if (ofAlternate !== undefined && !check.alternateReported) {
      this.#noteAnswer(context, ofAlternate, true, now);
      check.alternateReported = true;
      this.#doubt(context).copyTo ??= alternate!.pair;
    }
    // Questions on the alternate that name others are answered there, with what the peer had got by then.
    check.lastReported ||= ofAlternate !== undefined && ofAlternate === alternate!.asked[1];
    if (current === undefined && ofAlternate === undefined) return;
    if (state === ReapState.InboundOk) return this.#beTold(context, (current ?? ofAlternate)!, now);
    if (isOnAlternate) check.answer = sent[0];
    check.heard ||= !isOnAlternate;
    if (first === "alternate" && check.lastReported && check.extended) return this.#conclude(context, now);
    if (check.heard && check.currentReported) this.#endCheck(context, true, now);
    else if (first === "alternate" && asked.length === 0) this.#goOnChecking(context, now);
  }

  /** The peer does not only answer: it tells that it hears us where the question went, and wants us there (RFC 5534 §6.8). */
  #beTold(context: Context, { report, at }: Question, now: number): void {
    const { since } = context.check!;
    const { current: from } = context, to = { local: report.source, peer: report.destination };
    if (samePair(from, to) || !context.isCandidate(to)) return;
    context.incoming = context.intern(to.local, to.peer);
    this.#move(context, to, { since, at }, 1, now);
  }

  /** Whether a probe answers a question that named others, so that it came back on the alternate. */
  #answersDoubt({ check }: Context, { received }: Probe): boolean {
    const answered = received.at(-1);
    return check?.alternate !== undefined && answered !== undefined &&
      check.alternate.asked.some(({ report }, i) => report.nonce === answered.nonce && !(i === 0 && isPlain(check)));
  }

  /** Payload came in: on the peer's own path, unless the peer was told of a doubt and sends copies. */
  #notePayload({ check }: Context): void {
    if (check === undefined) return;
    if (check.first === "both" || (check.alternate?.asked.length ?? 0) <= Number(isPlain(check))) {
      check.payloadCame = true;
    }
  }

  /** `isPrompt`: the answer came as soon as it could, not with that to a later question. */
  #noteAnswer(context: Context, { report, at }: Question, isPrompt: boolean, now: number): void {
    const { source, destination, nonce } = report;
    const pair = { local: source, peer: destination }, rttMs = now - at;
    context.peer!.prove(destination);
    this.#core.book.probeAnswered(pair, isPrompt ? rttMs : NaN, now);
    this.#core.event(context, { kind: "probe-answered", pair, nonce, rttMs }, now);
  }

  /** The current pair stays. `learn`: the peer is only slow, and such a silence is usual from now on. */
  #endCheck(context: Context, learn: boolean, now: number): void {
    const { check } = context;
    context.check = undefined;
    if (context.doubt !== undefined) context.doubt.refuted = true;
    if (check!.heard) context.deafChecks = 0;
    if (learn) context.suspicion?.refuted(check!.since, check!.at);
    else context.suspicion?.noteMistake();
    this.#settle(context, now);
  }

  /** All answers should be there. */
  #conclude(context: Context, now: number): void {
    const check = context.check!;
    const { currentReported, alternateReported, payloadCame, first } = check;
    if (this.#machineOf(context).state !== ReapState.Operational) {
      context.check = undefined;
      return;
    }
    if (first === "alternate" && !check.lastReported && !check.extended) {
      const { pair, asked } = check.alternate!;
      check.extended = true;
      check.deadline = Math.max(now, asked.at(-1)!.at + LATE_ANSWER * this.#answerMs(pair));
      return this.#core.reschedule(context);
    }
    if (currentReported) {
      // Only the peer's path is broken, and the peer, which has been told of the doubt, can change it.
      if (payloadCame) return this.#endCheck(context, false, now);
      if (++context.deafChecks < DEAF_CHECKS) {
        this.#tell(context, context.current, now);
        return this.#endCheck(context, false, now);
      }
    } else if (alternateReported) {
      // The last answer there tells which questions the peer had by then. It may be late, too.
      if (check.lastReported || check.extended) return this.#fallBack(context, now);
      check.extended = true;
      check.deadline = now + this.#answerMs(context.current);
      return this.#core.reschedule(context);
    } else if (payloadCame) return this.#endCheck(context, true, now);
    context.check = undefined;
    this.sharedFate.begin(context, "suspicion", now);
    this.#core.reschedule(context);
  }

  /**
   * The peer gets what is sent on the alternate, and got none of the questions on the current pair: no exploration is
   * needed, the pair it would find is known (RFC 5533 §7.2 is satisfied by the answer). The peer, which sends on a path of
   * its own, is told.
   */
  #fallBack(context: Context, now: number): void {
    const { at, since, asked, alternate, heard, payloadCame, answer } = context.check!;
    const { pair: to } = alternate!;
    this.#move(context, to, { since, at }, asked.length + alternate!.asked.length, now);
    const question = this.#question(to, now).report;
    const isTold = answer !== undefined && !heard && !payloadCame;
    const state = isTold ? ReapState.InboundOk : ReapState.Operational;
    const received = isTold ? [answer] : [];
    this.#sendProbe(context, to, state, [question], received, "payload takes this pair now", now);
    this.#settle(context, now);
  }

  /** Tells the peer where it is heard: it moves there and says so (RFC 5534 §6.8). */
  #tell(context: Context, pair: LocatorPair, now: number): void {
    const { answer } = context.check!;
    if (answer === undefined) return;
    const question = this.#question(pair, now).report;
    this.#core.budget.probe(now);
    this.#sendProbe(
      context,
      pair,
      ReapState.InboundOk,
      [question],
      [answer],
      "you are heard on another pair only",
      now,
    );
    this.#machineOf(context).forgiveSilence(now);
    context.suspectAt = Infinity;
  }

  /**
   * A question of the peer while the path in use is known to be dead: the peer has found a pair that works, and is told that
   * it is heard there. Any other answer would be lost, or make it ask more. Returns whether that is so.
   */
  #isMoved(context: Context, message: Probe, pair: LocatorPair, now: number): boolean {
    if (message.state !== ReapState.InboundOk || message.received.length > 0 || context.inDoubt) return false;
    if (this.#core.reap.profile.suspicion === undefined || this.#isQuiet(context, now)) return false;
    if (!this.#canMove(context, pair, now)) return false;
    context.incoming = context.intern(pair.local, pair.peer); // copies of its payload come from there as well
    const { budget } = this.#core;
    budget.probe(now); // the question, which the peer has sent already
    this.sharedFate.answer(context, (at) => {
      if (!this.#canMove(context, pair, at)) return;
      budget.probe(at);
      budget.probe(at); // the peer confirms
      const since = this.#core.activity.unansweredSince(context.id) || at;
      this.#move(context, pair, { since, at }, 1, at);
      const question = this.#question(pair, at).report;
      const why = "you are heard on this pair, the other one is dead";
      this.#sendProbe(context, pair, ReapState.InboundOk, [question], [message.sent[0]], why, at);
      this.#settle(context, at);
    }, now);
    return true;
  }

  /** Whether the pair in use is dead and another one is not. */
  #canMove(context: Context, pair: LocatorPair, now: number): boolean {
    const isDead = (address: Address) => !Number.isNaN(this.#core.book.deadSince(address, now));
    return context.isEstablished && !context.inDoubt && this.#isKnownDead(context, now) &&
      !isDead(pair.local) && !isDead(pair.peer) && this.#isKnownToWork(context, pair) && context.isCandidate(pair);
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
    const detectionMs = at - since, explorationMs = now - at;
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
      case "recovered": {
        const { cause, detectionMs, explorationMs, pair, probes } = effect;
        context.lastFailure = { cause, detectionMs, explorationMs, recoveryMs: detectionMs + explorationMs };
        this.background.recovered(context, now);
        this.#core.event(context, { kind: "recovered", cause, detectionMs, explorationMs, pair, probes }, now);
      }
    }
  }

  /** Until a pair is confirmed, copies leave on the best one that worked when it was last tried. */
  #copyWhileExploring(context: Context, now: number): void {
    if (this.#core.reap.profile.suspicion === undefined) return;
    const doubt = this.#doubt(context);
    if (doubt.copyTo !== undefined) return;
    const pair = this.#alternate(context, now);
    if (pair !== undefined && this.#isKnownToWork(context, pair)) doubt.copyTo = pair;
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

  /** Goes over to another pair while the one in use works. */
  #switchFreely(context: Context, pair: LocatorPair, cause: "operator" | "better-path", now: number): void {
    const from = context.current;
    context.machine?.switchTo(pair, now);
    context.current = pair;
    if (!samePair(from, pair)) this.#switched(context, from, cause, now);
    this.#settle(context, now);
  }
}

/** How long to wait for an answer on a pair that was never measured, in ms. */
const UNKNOWN_ANSWER_TIME = 100;
/** A question is answered within this multiple of the round-trip time, or this many ms, or as RFC 6298 §2.3 has it. */
const ANSWER_PATIENCE = 1.25, LEAST_ANSWER_TIME = 15;
/** After so many questions on the current pair the peer is told of the doubt, by the pair that is asked first. */
const DOUBT_AFTER = { both: 1, current: 2, alternate: Infinity } as const;
/** Questions on the current pair before it is given up, and after longer silences where packets are known to get lost. */
const QUESTIONS = 3, LOSSY_QUESTIONS = 5, SPARSE_SILENCE = 200;
/** The time between questions: this part of the time to an answer, within these bounds in ms. */
const QUESTION_GAPS = 6, LEAST_QUESTION_GAP = 4, LARGEST_QUESTION_GAP = 50;
/** After so many checks in a row in which only the peer's own path failed it is told that it is not heard. */
const DEAF_CHECKS = 3;
/** A peer's doubt makes this host ask at most once in this time, in ms, if it has sent payload in the second one. */
const ASK_BACK_INTERVAL = 100, ASK_BACK_AFTER = 10_000;

/** An answer that comes back on the alternate may take longer, by this factor: measured was the path that the peer uses. */
const LATE_ANSWER = 1.75;

/** Whether the first question on the alternate says nothing of a doubt, so that the peer answers it where it sends. */
function isPlain({ first, announced }: Check): boolean {
  return first === "alternate" && announced === undefined;
}

/** Whether a probe is a question on an alternate, which names the questions on the current pair. */
function isDoubt({ state, sent, received }: Probe): boolean {
  return state === ReapState.InboundOk && sent.length > 1 && received.length === 0;
}

/** Causes that may hit other contexts too, and that they are not told of anyway. */
const SHARED: ReadonlySet<FailureCause> = new Set(["send-timer", "suspicion", "peer-probe", "icmp", "shared-fate"]);

/** Pairs that are remembered as probed: more than one round over all candidates. */
const PROBED_MAX = 128;
