/**
 * REAP (RFC 5534): finds out that the path of a context failed, and which path works instead.
 *
 * Pure: whoever drives a machine calls its `handle…` methods with the time, then takes all effects from `nextEffect()`
 * and sleeps until `nextDeadline()`, at which `handleTimeout()` is due. There is one machine per context and there may
 * be very many of them, so all that concerns probes exists only while probes are exchanged.
 *
 * What the RFC leaves open is decided here as follows.
 * - Reports are kept from the start of an exploration to its end, also across InboundOk → Exploring. With a short Send
 *   Timeout a host is in InboundOk so briefly that both hosts would hardly ever find themselves there with a report in
 *   hand; when few paths are left they would never finish.
 * - An immediate answer goes to a pair that the peer has reported, when there is one: it is the only one known to work.
 *   The probes of the schedule go on through all pairs.
 * - Of several reported pairs the current one is kept (RFC 5534 Appendix A, Example 5), else the first in the message is
 *   taken (paper §3). This implementation reports in the order of arrival, so that the fastest path of a burst wins.
 * - A probe that was overtaken by a later one of the peer tells nothing about the peer's present state. It is answered,
 *   but nobody leaves Operational for it; otherwise each burst over paths of different delay would cause new explorations.
 * - A probe that carries reports, none of them on a probe of this exploration, proves no path: it counts as one heard.
 */

import type { Address } from "../wire/address.ts";
import { type Probe, ReapState, type Report } from "../wire/message.ts";
import type { PathBook } from "../policies/path_book.ts";
import {
  type FailureCause,
  type LocatorPair,
  type PairPreference,
  type Plan,
  type Policy,
  samePair,
} from "../policies/policy.ts";
import { ProbeLog } from "./probe_log.ts";
import type { Profile } from "./profile.ts";

/** A pair about which no host has said anything. */
const ALIKE: PairPreference = { rank: 0, weight: 1, broken: false };

/** Where a machine gets its candidates from. */
export interface PairSource {
  /** Candidate pairs, best first; at least one. */
  pairs(): readonly LocatorPair[];
  /** What the hosts prefer of a pair; absent: all pairs alike. */
  preference?(pair: LocatorPair): PairPreference;
  /** The pair on whose reverse the peer sent when all was well; undefined: not known. */
  readonly incoming?: LocatorPair;
}

/** What all machines of a host share. `profile` and `policy` may be changed while they run. */
export interface ReapEnvironment {
  /** The timers. */
  profile: Profile;
  /** Which pairs to probe, and when. */
  policy: Policy;
  /** What is known about the pairs; machines add to it. */
  readonly book: PathBook;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** 32 bits, unpredictable: whoever knows the nonce of a probe can pretend that it arrived. */
  readonly nonce: () => number;
}

/** What a machine wants done, or wants known. */
export type ReapEffect =
  /** Send a Probe on the pair; the caller adds the context tag. */
  | {
    readonly type: "send-probe";
    readonly pair: LocatorPair;
    readonly state: ReapState;
    readonly sent: readonly Report[];
    readonly received: readonly Report[];
    readonly reason: string;
    /** One more than the three that an exploration takes at least. */
    readonly extra?: true;
  }
  | { readonly type: "send-keepalive"; readonly pair: LocatorPair }
  | {
    readonly type: "state";
    readonly from: ReapState;
    readonly to: ReapState;
    readonly cause: FailureCause | "answered";
  }
  /** The current pair changed because of an exploration. */
  | { readonly type: "switch"; readonly from: LocatorPair; readonly to: LocatorPair; readonly cause: FailureCause }
  /** The peer reported a probe of ours. `rttMs`: from its departure until now, so it may include a wait at the peer. */
  | { readonly type: "answered"; readonly pair: LocatorPair; readonly nonce: number; readonly rttMs: number }
  /** Back in Operational. Detection counts from the first unanswered payload packet, 0 when there was none. */
  | {
    readonly type: "recovered";
    readonly cause: FailureCause;
    readonly detectionMs: number;
    readonly explorationMs: number;
    readonly pair: LocatorPair;
    /** Probes that this host sent meanwhile. */
    readonly probes: number;
  };

/** How long probes are remembered when the exploration is over, in ms: late reports still tell delays (as LinShim6). */
export const PROBE_RETENTION_MS = 10_000;

/** A policy that never waits is stopped after so many probes at once: the largest pair list of LinShim6. */
const LARGEST_BURST = 32;

/** A probe of the schedule that leaves within this time serves as an answer, in ms. */
const ANSWERS_SOON_MS = 100;

/** Causes that say something about the path in use, not only that it may no longer be used. */
const PATH_FAILURES: ReadonlySet<FailureCause> = new Set(
  ["send-timer", "suspicion", "link-down", "address-gone", "icmp", "peer-probe", "shared-fate"],
);

interface Exploration {
  plan: Plan;
  readonly cause: FailureCause;
  readonly startedAt: number;
  readonly detectionMs: number;
  probes: number;
  /** When the next probe of the schedule leaves. */
  nextProbeAt: number;
  /** The pair of ours that the peer reported last. */
  reported: LocatorPair | undefined;
  /** The shortest time from a probe to the report on it, ms; 0: none was reported. */
  roundTripMs: number;
}

/** The REAP state of one context. */
export class ReapMachine {
  readonly #env: ReapEnvironment;
  readonly #source: PairSource;
  #current: LocatorPair;
  #state: ReapState = ReapState.Operational;
  /** As the peer announced it; NaN: it did not. */
  #announcedTimeoutMs = NaN;
  // Times in monotonic ms. Infinity or -Infinity: not running, never.
  #sendTimerStart = Infinity;
  #keepaliveTimerStart = Infinity;
  #nextKeepalive = Infinity;
  #unansweredSince = Infinity;
  #lastSent = -Infinity;
  #lastHeard = -Infinity;
  #lastHeardInUse = -Infinity;
  /** The peer's probes that are older than our final one come in until then. */
  #finalUnderWayUntil = -Infinity;
  /** Whether probes of the last exploration that come in late need no answer: the plan had sent others after them. */
  #ignoresOvertaken = false;
  #exploration: Exploration | undefined;
  #log: ProbeLog | undefined;
  #logExpires = Infinity;
  #effects: ReapEffect[] | undefined;

  /** Starts in Operational on `current`; make it when the context becomes ESTABLISHED (RFC 5534 §4.2). */
  constructor(env: ReapEnvironment, source: PairSource, current: LocatorPair) {
    this.#env = env;
    this.#source = source;
    this.#current = current;
  }

  /** The REAP state (RFC 5534 §6). */
  get state(): ReapState {
    return this.#state;
  }

  /** The pair on which payload and Keepalives leave. */
  get current(): LocatorPair {
    return this.#current;
  }

  /** Keepalive Timeout in ms: the peer's Send Timeout if it announced one, else the profile's value (RFC 5534 §7). */
  get keepaliveTimeoutMs(): number {
    return Number.isNaN(this.#announcedTimeoutMs) ? this.#env.profile.keepaliveTimeoutMs : this.#announcedTimeoutMs;
  }

  /**
   * When something was last heard from the peer on the path that it uses, monotonic ms; -Infinity: never. Payload sent
   * before needs no answer. A probe on another path says nothing about the one in use.
   */
  get lastHeard(): number {
    return this.#lastHeardInUse;
  }

  /**
   * Payload, or a control message of Shim6 other than Keepalive and Probe, was sent (RFC 5534 §6.2). `at` may lie a
   * little in the past; what was sent before the peer was last heard is known to be answered and is ignored.
   */
  handlePayloadSent(at: number): void {
    this.#lastSent = Math.max(this.#lastSent, at);
    if (at >= this.#keepaliveTimerStart) this.#stopKeepalives();
    if (at < this.#lastHeard || this.#state === ReapState.Exploring) return;
    this.#unansweredSince = Math.min(this.#unansweredSince, at);
    if (this.#sendTimerStart === Infinity) this.#sendTimerStart = at;
  }

  /**
   * Payload, or a control message of Shim6 other than Keepalive and Probe, was received (RFC 5534 §6.1). `at` may lie a
   * little in the past of `now`, which is when the machine learns it.
   */
  handlePayloadReceived(at: number, now: number = at): void {
    switch (this.#state) {
      case ReapState.Operational:
        this.#heard(at);
        if (at >= this.#lastSent) this.#startKeepalives(at);
        break;
      case ReapState.Exploring:
        // What came in before the failure was noticed does not speak against it.
        if (at >= this.#exploration!.startedAt) this.#becomeInboundOk(now, undefined);
        break;
      case ReapState.InboundOk:
        this.#heard(at);
    }
  }

  /** A Keepalive was received (RFC 5534 §6.6). */
  handleKeepalive(now: number): void {
    if (this.#state === ReapState.Exploring) this.#becomeInboundOk(now, undefined);
    else this.#heard(now);
  }

  /**
   * A Probe was received in a packet from `source` to `destination` (RFC 5534 §6.7 to §6.9). The caller has checked that
   * both addresses belong to the context.
   */
  handleProbe(probe: Probe, source: Address, destination: Address, now: number): void {
    const report = probe.sent[0];
    if (report === undefined || this.#log?.hasReceived(report)) return; // a copy made by the network, or a replay
    const overtaken = this.#log?.isOvertaken(report) ?? false;
    const answering: LocatorPair = { local: destination, peer: source };
    const proven = this.#readReports(probe, answering, now);
    this.#env.book.heard(answering);
    const note = () => {
      this.#log ??= new ProbeLog();
      this.#log.addReceived(report, probe.sent.slice(1));
      if (this.#exploration === undefined) this.#logExpires = now + PROBE_RETENTION_MS;
    };

    if (this.#state === ReapState.Operational) {
      if (probe.state === ReapState.Exploring && !overtaken) {
        const detectionMs = this.#detectionMs(now);
        this.#heard(now);
        this.#leaveOperational(ReapState.InboundOk, "peer-probe", detectionMs, now, answering);
        note();
        this.#sendTimerStart = now;
        this.#sendScheduled(now, answering, probe.sent.length);
        return;
      }
      const isInUse = samePair(answering, this.#source.incoming ?? this.#current);
      const isQuestion = probe.state === ReapState.InboundOk && probe.received.length === 0;
      // A question on another path does not end the silence on the one in use, or a peer that measures its paths would keep
      // this host from noticing for as long as it does. RFC 5534 §6.8 restarts the Send Timer, not knowing such probes.
      const goesOn = isQuestion && !isInUse && this.#sendTimerStart < Infinity;
      if (!goesOn) this.#heard(now, isInUse);
      note();
      if (probe.state === ReapState.Operational) {
        this.#startKeepalives(now);
        return;
      }
      if (isQuestion) {
        // A question of a peer that is in doubt. The one on an alternate names those on its current pair: the way back may
        // be what is broken, so it is answered where it came from. All others are answered where payload goes.
        this.#stopKeepalives();
        if (!goesOn) this.#sendTimerStart = now;
        const isDoubt = probe.sent.length > 1 && this.#candidates().some((pair) => samePair(pair, answering));
        this.#sendProbe(isDoubt ? answering : this.#current, "answer: both directions work", now);
        return;
      }
      // The peer cannot have heard the final probe when it sent this one; if that was lost, it sends more.
      if (now < this.#finalUnderWayUntil) return;
      if (overtaken) {
        if (this.#ignoresOvertaken) return;
        this.#sendProbe(this.#current, "answer to a probe that was overtaken", now);
        return;
      }
      this.#switch(proven, "peer-probe");
      this.#stopKeepalives();
      this.#sendTimerStart = now;
      this.#sendProbe(this.#current, "answer: both directions work", now);
      return;
    }

    note();
    const log = this.#log!;
    // Hosts that ask questions say InboundOk although they have heard nothing.
    const isQuestion = probe.received.length === 0 && this.#env.profile.suspicion !== undefined;
    const confirms = proven !== undefined || probe.received.length === 0 && !isQuestion;
    if (probe.state === ReapState.Exploring || !confirms) {
      if (isQuestion && this.#state === ReapState.Exploring && log.hasSent(answering)) {
        // It crossed a probe of ours on the same pair, whose answer is under way. If not, the next probe tells that it came.
        this.#heard(now);
        this.#setState(ReapState.InboundOk, "answered");
        this.#sendTimerStart = now;
        return;
      }
      if (this.#state === ReapState.Exploring) this.#becomeInboundOk(now, answering);
      else {
        this.#heard(now);
        this.#sendTimerStart = now;
        if (!this.#answersSoon(overtaken, now)) this.#sendAnswer(now, answering);
      }
      return;
    }
    this.#heard(now);
    this.#becomeOperational(proven, probe.state, now);
  }

  /** Whether a probe of the peer came in lately. */
  hasReceived(report: Report): boolean {
    return this.#log?.hasReceived(report) ?? false;
  }

  /**
   * Something other than the Send Timer tells that the path in use failed (RFC 5534 §3.3, §4.1), or may do so. Starts an
   * exploration unless there is one.
   */
  handleFailure(cause: FailureCause, now: number): void {
    if (this.#state === ReapState.Operational) this.#explore(cause, this.#detectionMs(now), now);
  }

  /**
   * The candidate pairs changed. Reports on those that are none any more do not count; if the pair in use is one of them,
   * an exploration starts for `cause`; one that runs goes on at once with a new plan.
   */
  handlePairsChanged(now: number, cause: FailureCause): void {
    const candidates = this.#candidates();
    const isCandidate = (pair: LocatorPair) => candidates.some((candidate) => samePair(candidate, pair));
    this.#log?.keepOnly(candidates);
    const exploration = this.#exploration;
    if (exploration !== undefined) {
      if (exploration.reported !== undefined && !isCandidate(exploration.reported)) exploration.reported = undefined;
      exploration.plan = this.#newPlan(exploration.cause, now);
      this.#sendScheduled(now);
    } else if (!isCandidate(this.#current)) {
      this.#explore(cause, this.#detectionMs(now), now);
    }
  }

  /** The peer announced its Send Timeout in ms (RFC 5534 §5.3); it becomes our Keepalive Timeout. 0 is ignored. */
  adoptKeepaliveTimeout(ms: number): void {
    if (!(ms > 0)) return;
    this.#announcedTimeoutMs = ms;
    this.#nextKeepalive = Math.min(this.#nextKeepalive, this.#keepaliveTimerStart + this.#keepaliveIntervalMs());
  }

  /** Goes over to a pair without an exploration: the operator or the policy wants it. A running exploration goes on. */
  switchTo(pair: LocatorPair, now: number): void {
    this.#current = pair;
    this.forgiveSilence(now); // on the old pair, which says nothing about the new one
    // A late report on another pair must not undo this.
    if (this.#exploration === undefined) this.#forgetProbes();
  }

  /** Something was done about the peer's silence: what was sent so far needs no answer any more. */
  forgiveSilence(now: number): void {
    this.#lastHeardInUse = Math.max(this.#lastHeardInUse, now);
  }

  /** Whether {@linkcode handleTimeout} would send a probe. */
  probeDue(now: number): boolean {
    return now >= this.#sendTimerStart + this.#env.profile.sendTimeoutMs ||
      this.#exploration !== undefined && now >= this.#exploration.nextProbeAt;
  }

  /** Carries out what is due at `now`; harmless when nothing is. */
  handleTimeout(now: number): void {
    if (this.#exploration === undefined && now >= this.#logExpires) this.#forgetProbes();
    if (now >= this.#sendTimerStart + this.#env.profile.sendTimeoutMs) {
      this.#handleSendTimeout(now);
    } else if (this.#exploration !== undefined && now >= this.#exploration.nextProbeAt) {
      if (this.#state === ReapState.InboundOk && this.#sendTimerStart === Infinity) this.#sendTimerStart = now;
      this.#sendScheduled(now);
    } else if (now >= this.#nextKeepalive) {
      this.#handleKeepaliveInterval(now);
    }
  }

  /** When {@linkcode handleTimeout} is due next; Infinity: nothing is planned. */
  nextDeadline(): number {
    return Math.min(
      this.#sendTimerStart + this.#env.profile.sendTimeoutMs,
      this.#nextKeepalive,
      this.#exploration?.nextProbeAt ?? this.#logExpires,
    );
  }

  /** Takes the oldest effect that has not been taken, or undefined. */
  nextEffect(): ReapEffect | undefined {
    const effect = this.#effects?.shift();
    if (this.#effects?.length === 0) this.#effects = undefined;
    return effect;
  }

  #emit(effect: ReapEffect): void {
    (this.#effects ??= []).push(effect);
  }

  // Timers

  #heard(at: number, isInUse = true): void {
    this.#lastHeard = Math.max(this.#lastHeard, at);
    if (isInUse) this.#lastHeardInUse = Math.max(this.#lastHeardInUse, at);
    if (at >= this.#sendTimerStart) this.#sendTimerStart = Infinity;
    if (at >= this.#unansweredSince) this.#unansweredSince = Infinity;
  }

  #keepaliveIntervalMs(): number {
    return this.keepaliveTimeoutMs * this.#env.profile.keepaliveShare;
  }

  #startKeepalives(at: number): void {
    if (this.#keepaliveTimerStart !== Infinity) return;
    this.#keepaliveTimerStart = at;
    this.#nextKeepalive = at + this.#keepaliveIntervalMs();
  }

  #stopKeepalives(): void {
    this.#keepaliveTimerStart = Infinity;
    this.#nextKeepalive = Infinity;
  }

  /** RFC 5534 §6.1, §6.3: one Keepalive each interval, and one when the timer expires. */
  #handleKeepaliveInterval(now: number): void {
    this.#emit({ type: "send-keepalive", pair: this.#current });
    const expiry = this.#keepaliveTimerStart + this.keepaliveTimeoutMs;
    if (now > expiry - 1) return this.#stopKeepalives(); // 1 ms: a sum of intervals may miss the timeout by rounding
    const interval = this.#keepaliveIntervalMs();
    const missed = Math.floor((now - this.#nextKeepalive) / interval);
    this.#nextKeepalive = Math.min(this.#nextKeepalive + (missed + 1) * interval, expiry);
  }

  /** RFC 5534 §6.4. */
  #handleSendTimeout(now: number): void {
    const exploration = this.#exploration;
    if (exploration === undefined) return this.#explore("send-timer", this.#detectionMs(now), now);
    this.#sendTimerStart = Infinity;
    this.#setState(ReapState.Exploring, "send-timer");
    if (exploration.plan.restart !== undefined) exploration.plan.restart(now);
    else exploration.plan = this.#newPlan(exploration.cause, now);
    this.#sendScheduled(now);
  }

  // States

  #setState(to: ReapState, cause: FailureCause | "answered"): void {
    const from = this.#state;
    this.#state = to;
    this.#emit({ type: "state", from, to, cause });
  }

  #detectionMs(now: number): number {
    return this.#unansweredSince === Infinity ? 0 : now - this.#unansweredSince;
  }

  #explore(cause: FailureCause, detectionMs: number, now: number): void {
    this.#leaveOperational(ReapState.Exploring, cause, detectionMs, now);
    this.#sendScheduled(now);
  }

  #leaveOperational(
    to: ReapState,
    cause: FailureCause,
    detectionMs: number,
    now: number,
    heardOn?: LocatorPair,
  ): void {
    this.#stopKeepalives();
    this.#sendTimerStart = Infinity;
    // Before the plan is made, so that it knows which locators are in question and which are not.
    if (PATH_FAILURES.has(cause)) {
      // Who hears nothing suspects the path on which nothing comes; who is told that it is not heard, the one it sends on.
      // The peers of other contexts are not to blame for a locator of ours that is dead.
      const isExplained = cause === "shared-fate" && this.#env.profile.suspicion !== undefined;
      const suspects = isExplained ? null : cause === "peer-probe" ? undefined : this.#source.incoming;
      this.#env.book.failed(this.#current, now, suspects);
    }
    if (heardOn !== undefined) this.#env.book.heard(heardOn);
    this.#log = new ProbeLog();
    this.#exploration = {
      plan: this.#newPlan(cause, now),
      cause,
      startedAt: now,
      detectionMs,
      probes: 0,
      nextProbeAt: now,
      reported: undefined,
      roundTripMs: 0,
    };
    this.#setState(to, cause);
  }

  /** Exploring → InboundOk: the answer leaves at once, the schedule goes on as it was. */
  #becomeInboundOk(now: number, answering: LocatorPair | undefined): void {
    this.#heard(now);
    this.#setState(ReapState.InboundOk, "answered");
    this.#sendTimerStart = now;
    const { plan } = this.#exploration!;
    if (!plan.answersOnSchedule || plan.restart === undefined) return this.#sendAnswer(now, answering);
    // The probes that are under way do not say that the peer was heard: they cannot end its exploration.
    if (plan.restart(now, answering)) this.#sendScheduled(now, answering);
  }

  /** RFC 5534 §6.8, §6.9. The end of an exploration; `proven` is undefined when the peer had nothing to report. */
  #becomeOperational(proven: LocatorPair | undefined, peerState: ReapState, now: number): void {
    const exploration = this.#exploration!;
    this.#switch(proven, exploration.cause);
    this.#setState(ReapState.Operational, "answered");
    if (peerState === ReapState.Operational) this.#startKeepalives(now);
    else {
      this.#sendTimerStart = now;
      this.#sendProbe(this.#current, "final probe on the chosen pair", now);
      if (exploration.plan.answersOnSchedule) this.#finalUnderWayUntil = now + exploration.roundTripMs;
    }
    this.#ignoresOvertaken = exploration.plan.answersOnSchedule === true;
    this.#exploration = undefined;
    this.#logExpires = now + PROBE_RETENTION_MS;
    this.#emit({
      type: "recovered",
      cause: exploration.cause,
      detectionMs: exploration.detectionMs,
      explorationMs: now - exploration.startedAt,
      pair: this.#current,
      probes: exploration.probes,
    });
  }

  #switch(to: LocatorPair | undefined, cause: FailureCause): void {
    if (to === undefined || samePair(to, this.#current)) return;
    const from = this.#current;
    this.#current = to;
    this.#emit({ type: "switch", from, to, cause });
  }

  // Probes

  #candidates(): readonly LocatorPair[] {
    return this.#source.pairs();
  }

  #newPlan(cause: FailureCause, now: number): Plan {
    const { policy, book, profile, random } = this.#env;
    return policy.plan({
      pairs: this.#candidates(),
      current: this.#current,
      cause,
      book,
      preference: (pair) => this.#source.preference?.(pair) ?? ALIKE,
      timing: profile,
      random,
      now,
    });
  }

  /** Sends the next probe of the schedule, with those that follow it without a gap, and plans the one after. */
  #sendScheduled(now: number, answering?: LocatorPair, peerSent?: number): void {
    const { jitter, initialProbeTimeoutMs } = this.#env.profile;
    const exploration = this.#exploration!;
    let waitMs = 0;
    for (let burst = 0; waitMs <= 0 && burst < LARGEST_BURST; burst++) {
      const step = exploration.plan.next(now, burst === 0 ? answering : undefined, peerSent);
      this.#sendProbe(step.pair, step.reason, now);
      waitMs = step.waitMs;
    }
    if (waitMs <= 0) waitMs = Math.max(initialProbeTimeoutMs, 1);
    exploration.nextProbeAt = now + waitMs * (1 + jitter * (2 * this.#env.random() - 1));
  }

  /** Whether the schedule takes care of an answer that brings the peer nothing new. */
  #answersSoon(overtaken: boolean, now: number): boolean {
    const { plan, reported, nextProbeAt } = this.#exploration!;
    return plan.answersOnSchedule === true && reported === undefined &&
      (overtaken || nextProbeAt - now <= ANSWERS_SOON_MS);
  }

  #sendAnswer(now: number, answering: LocatorPair | undefined): void {
    const { plan, reported } = this.#exploration!;
    if (reported !== undefined) return this.#sendProbe(reported, "answer on a pair that the peer reported", now);
    const choice = plan.answer?.(now, answering) ?? plan.next(now, answering);
    this.#sendProbe(choice.pair, `answer: ${choice.reason}`, now);
  }

  #sendProbe(pair: LocatorPair, reason: string, now: number): void {
    const log = this.#log ??= new ProbeLog();
    const report: Report = { source: pair.local, destination: pair.peer, nonce: this.#env.nonce(), data: 0 };
    log.addSent(report, pair, now, this.#state !== ReapState.Operational);
    if (this.#exploration !== undefined) this.#exploration.probes++;
    this.#env.book.probeSent(pair);
    const sent = log.sentReports(), received = log.receivedReports();
    const isExtra = this.#state !== ReapState.Operational && this.#exploration!.probes > 1;
    const effect = { type: "send-probe", pair, state: this.#state, sent, received, reason } as const;
    this.#emit(isExtra ? { ...effect, extra: true } : effect);
  }

  /** Notes which of our probes the peer has seen. The pair to go on with; undefined when no probe of ours is reported. */
  #readReports(probe: Probe, answering: LocatorPair, now: number): LocatorPair | undefined {
    const log = this.#log;
    if (log === undefined) return undefined;
    const { initialProbeTimeoutMs, jitter } = this.#env.profile;
    const answersLost = probe.sent.some((report, i) => i > 0 && !log.hasReceived(report));
    let proven: LocatorPair | undefined;
    for (const report of probe.received) {
      const sent = log.match(report);
      if (sent === undefined) continue;
      if (proven === undefined || samePair(sent.pair, this.#current)) proven = sent.pair;
      if (sent.reported) continue;
      sent.reported = true;
      const rttMs = now - sent.at;
      const exploration = this.#exploration;
      if (exploration !== undefined) {
        exploration.reported = sent.pair;
        if (exploration.roundTripMs === 0 || rttMs < exploration.roundTripMs) exploration.roundTripMs = rttMs;
      }
      // Sure to have left at once are the answer to a single probe, and the final probe: for the one that had come last.
      const isFinal = probe.state === ReapState.Operational && report === probe.received.at(-1);
      const leftAtOnce = exploration?.probes === 1 && !answersLost || exploration !== undefined && isFinal;
      if (leftAtOnce) {
        this.#env.book.roundTrip(sent.pair, answering, rttMs, false);
      }
      // When the peer's first answer was lost, the report waited there for the next probe: no round-trip time.
      const soon = rttMs < initialProbeTimeoutMs * (1 - jitter);
      const measured = sent.asks && (soon || !answersLost && exploration !== undefined);
      this.#env.book.probeAnswered(sent.pair, measured ? rttMs : NaN, now);
      this.#emit({ type: "answered", pair: sent.pair, nonce: report.nonce, rttMs });
    }
    return proven;
  }

  #forgetProbes(): void {
    this.#log = undefined;
    this.#logExpires = Infinity;
  }
}
