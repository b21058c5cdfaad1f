/**
 * Whether the path in use still works: what a host asks when its peer is silent for longer than usual, and what it concludes
 * from the answers. Only profiles with {@linkcode SuspicionTiming} ask; docs/policies.md tells the whole of it.
 */

import type { Address } from "../wire/address.ts";
import { type Probe, ReapState, type Report } from "../wire/message.ts";
import { type LocatorPair, samePair } from "../policies/policy.ts";
import type { ReapMachine } from "../reap/machine.ts";
import type { Check, Context, Doubt, Question } from "./context.ts";
import type { Core } from "./core.ts";
import type { SharedFate } from "./shared_fate.ts";

/** What a check wants done. */
export interface CheckActions {
  machineOf(context: Context): ReapMachine;
  doubt(context: Context): Doubt;
  sendProbe(
    context: Context,
    pair: LocatorPair,
    state: ReapState,
    sent: readonly Report[],
    received: readonly Report[],
    reason: string,
    now: number,
  ): void;
  /** Payload takes another pair, since the one in use failed at `at`, after a silence that began at `since`. */
  move(context: Context, to: LocatorPair, times: Pick<Check, "since" | "at">, probes: number, now: number): void;
  settle(context: Context, now: number): void;
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

/** The checks of all contexts; a context has one at a time. */
export class Checks {
  readonly #core: Core;
  readonly #sharedFate: SharedFate;
  readonly #actions: CheckActions;

  constructor(core: Core, sharedFate: SharedFate, actions: CheckActions) {
    this.#core = core;
    this.#sharedFate = sharedFate;
    this.#actions = actions;
  }

  /** When the silence that began at `since` is to be asked about; never if the profile does not want it. */
  plan(context: Context, since: number): void {
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
    if (this.#sharedFate.isSilent(context.current.local, since)) afterMs = 0;
    context.suspectAt = since + Math.min(afterMs, sendTimeoutMs);
  }

  /** The peer is silent for longer than usual. */
  suspect(context: Context, now: number): void {
    context.suspectAt = Infinity;
    const since = this.#core.activity.unansweredSince(context.id);
    if (since === 0 || this.#actions.machineOf(context).state !== ReapState.Operational) return;
    this.#sharedFate.suspected(context, now - since, now);
    if (this.#isKnownDead(context, now)) return this.#sharedFate.begin(context, "shared-fate", now);
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
  beDoubted(context: Context, sent: readonly Report[], now: number): void {
    if (this.#core.reap.profile.suspicion === undefined || now < context.quietUntil) return;
    if (this.#actions.machineOf(context).state !== ReapState.Operational) return;
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

  /** One more question on the current pair, or the conclusion: packets get lost, so no single one decides. */
  goOn(context: Context, now: number): void {
    const check = context.check!, { current } = context;
    const { asked, alternate } = check;
    if (check.awaited !== undefined) return this.#awaitPeer(context, check.awaited, now);
    if (this.#isKnownDead(context, now)) {
      context.check = undefined;
      return this.#sharedFate.begin(context, "shared-fate", now);
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
      return this.#actions.settle(context, now);
    }
    const question = asked.length === 0 && check.announced !== undefined
      ? { report: check.announced, at: now }
      : this.#question(current, now);
    asked.push(question);
    const why = asked.length === 1 ? "does the current pair work?" : "does the current pair work, really?";
    budget.probe(now);
    this.#actions.sendProbe(context, current, ReapState.InboundOk, [question.report], [], why, now);
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
    this.#actions.settle(context, now);
  }

  /**
   * The pair to fall back to: of those that share the fewest locators with what is in doubt, and that are known to work if
   * there is one, the policy's first choice.
   */
  alternate(context: Context, now: number): LocatorPair | undefined {
    const { current, incoming } = context;
    const others = context.pairs().filter((pair) => !samePair(pair, current));
    if (others.length === 0) return undefined;
    const doubtful = [current, incoming ?? current];
    const cost = (pair: LocatorPair) =>
      2 * (Number(doubtful.some(({ local }) => local === pair.local)) +
          Number(doubtful.some(({ peer }) => peer === pair.peer))) +
      Number(!this.isKnownToWork(context, pair));
    const least = Math.min(...others.map(cost));
    const { policy, profile, book, random } = this.#core.reap;
    const pairs = others.filter((pair) => cost(pair) === least);
    const preference = (pair: LocatorPair) => context.preference(pair);
    const start = { pairs, current, cause: "suspicion", book, preference, timing: profile, random, now } as const;
    return policy.plan(start).next(now).pair;
  }

  /** Whether the pair answered when it was last tried, so that payload may be sent to the peer there (RFC 5533 §7.2). */
  isKnownToWork(context: Context, pair: LocatorPair): boolean {
    return this.#core.book.works(pair) && context.peer!.isProven(pair.peer);
  }

  /** Reads the reports of a probe that came in on the reverse of `back`. */
  read(context: Context, { received, sent, state }: Probe, back: LocatorPair, now: number): void {
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
      this.#actions.doubt(context).copyTo ??= alternate!.pair;
    }
    // Questions on the alternate that name others are answered there, with what the peer had got by then.
    check.lastReported ||= ofAlternate !== undefined && ofAlternate === alternate!.asked[1];
    if (current === undefined && ofAlternate === undefined) return;
    if (state === ReapState.InboundOk) return this.#beTold(context, (current ?? ofAlternate)!, now);
    if (isOnAlternate) check.answer = sent[0];
    check.heard ||= !isOnAlternate;
    // The last question on the alternate left when the first one on the current pair was overdue: the peer has had none.
    const isSettled = first === "both" && !check.currentReported && !check.heard && !check.payloadCame;
    if (check.lastReported && (isSettled || first === "alternate" && check.extended)) {
      return this.#conclude(context, now);
    }
    if (check.heard && check.currentReported) this.#endCheck(context, true, now);
    else if (first === "alternate" && asked.length === 0) this.goOn(context, now);
  }

  /** Whether a probe answers a question that named others, so that it came back on the alternate. */
  answersDoubt({ check }: Context, { received }: Probe): boolean {
    const answered = received.at(-1);
    return check?.alternate !== undefined && answered !== undefined &&
      check.alternate.asked.some(({ report }, i) => report.nonce === answered.nonce && !(i === 0 && isPlain(check)));
  }

  /** Payload came in: on the peer's own path, unless the peer was told of a doubt and sends copies. */
  notePayload({ check }: Context): void {
    if (check === undefined) return;
    if (check.first === "both" || (check.alternate?.asked.length ?? 0) <= Number(isPlain(check))) {
      check.payloadCame = true;
    }
  }

  /**
   * A question of the peer while the path in use is known to be dead: the peer has found a pair that works, and is told that
   * it is heard there. Any other answer would be lost, or make it ask more. Returns whether that is so.
   */
  answerByMove(context: Context, message: Probe, pair: LocatorPair, now: number): boolean {
    if (message.state !== ReapState.InboundOk || message.received.length > 0 || context.inDoubt) return false;
    if (this.#core.reap.profile.suspicion === undefined || now < context.quietUntil) return false;
    if (!this.#canMove(context, pair, now)) return false;
    context.incoming = context.intern(pair.local, pair.peer); // copies of its payload come from there as well
    const { budget } = this.#core;
    budget.probe(now); // the question, which the peer has sent already
    this.#sharedFate.answer(context, (at) => {
      if (!this.#canMove(context, pair, at)) return;
      budget.probe(at);
      budget.probe(at); // the peer confirms
      const since = this.#core.activity.unansweredSince(context.id) || at;
      this.#actions.move(context, pair, { since, at }, 1, at);
      const question = this.#question(pair, at).report;
      const why = "you are heard on this pair, the other one is dead";
      this.#actions.sendProbe(context, pair, ReapState.InboundOk, [question], [message.sent[0]], why, at);
      this.#actions.settle(context, at);
    }, now);
    return true;
  }

  /** Only the peer is in doubt. What it asked on its current pair tells which direction may be broken. */
  #awaitPeer(context: Context, awaited: Report, now: number): void {
    const check = context.check!;
    if (check.first === "both" && !this.#actions.machineOf(context).hasReceived(awaited)) {
      return this.#ask(context, now);
    }
    // Its path works, so that ours may be what is broken. Then it will ask again, since our answer is lost.
    const end = check.at + 3 * this.#answerMs(context.current);
    if (now >= end) return this.#endCheck(context, false, now);
    check.deadline = end;
    this.#core.reschedule(context);
  }

  #beginCheck(context: Context, since: number, now: number): Check {
    const pair = this.alternate(context, now);
    const doubt = this.#actions.doubt(context);
    const works = pair !== undefined && this.isKnownToWork(context, pair);
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
    this.goOn(context, now);
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
    this.#actions.sendProbe(context, alternate.pair, ReapState.InboundOk, sent, [], "does another pair work?", now);
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

  /** The peer does not only answer: it tells that it hears us where the question went, and wants us there (RFC 5534 §6.8). */
  #beTold(context: Context, { report, at }: Question, now: number): void {
    const { since } = context.check!;
    const { current: from } = context, to = { local: report.source, peer: report.destination };
    if (samePair(from, to) || !context.isCandidate(to)) return;
    context.incoming = context.intern(to.local, to.peer);
    this.#actions.move(context, to, { since, at }, 1, now);
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
    this.#actions.settle(context, now);
  }

  /** All answers should be there. */
  #conclude(context: Context, now: number): void {
    const check = context.check!;
    const { currentReported, alternateReported, payloadCame, first } = check;
    if (this.#actions.machineOf(context).state !== ReapState.Operational) {
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
    this.#sharedFate.begin(context, "suspicion", now);
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
    this.#actions.move(context, to, { since, at }, asked.length + alternate!.asked.length, now);
    const question = this.#question(to, now).report;
    const isTold = answer !== undefined && !heard && !payloadCame;
    const state = isTold ? ReapState.InboundOk : ReapState.Operational;
    const received = isTold ? [answer] : [];
    this.#actions.sendProbe(context, to, state, [question], received, "payload takes this pair now", now);
    this.#actions.settle(context, now);
  }

  /** Tells the peer where it is heard: it moves there and says so (RFC 5534 §6.8). */
  #tell(context: Context, pair: LocatorPair, now: number): void {
    const { answer } = context.check!;
    if (answer === undefined) return;
    const question = this.#question(pair, now).report;
    this.#core.budget.probe(now);
    this.#actions.sendProbe(
      context,
      pair,
      ReapState.InboundOk,
      [question],
      [answer],
      "you are heard on another pair only",
      now,
    );
    this.#actions.machineOf(context).forgiveSilence(now);
    context.suspectAt = Infinity;
  }

  /** Whether the pair in use is dead and another one is not. */
  #canMove(context: Context, pair: LocatorPair, now: number): boolean {
    const isDead = (address: Address) => !Number.isNaN(this.#core.book.deadSince(address, now));
    return context.isEstablished && !context.inDoubt && this.#isKnownDead(context, now) &&
      !isDead(pair.local) && !isDead(pair.peer) && this.isKnownToWork(context, pair) && context.isCandidate(pair);
  }
}

/** Whether the first question on the alternate says nothing of a doubt, so that the peer answers it where it sends. */
function isPlain({ first, announced }: Check): boolean {
  return first === "alternate" && announced === undefined;
}

/** Whether a probe is a question on an alternate, which names the questions on the current pair. */
export function isDoubt({ state, sent, received }: Probe): boolean {
  return state === ReapState.InboundOk && sent.length > 1 && received.length === 0;
}
