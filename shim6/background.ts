/**
 * Probes while all is well, for policies that want to know delays before they need them, and the voluntary switches that
 * follow from what is learnt.
 *
 * Harmless to any peer of RFC 5534: the probe says InboundOk, and a peer in Operational answers it and stays there
 * (§6.8). The peer's Send Timer starts with the answer, so a Keepalive follows if nothing else does: the machine sends it
 * when the answer comes, and this file when it does not. One budget for each peer, however many contexts there are with it.
 */

import type { Report } from "../wire/message.ts";
import { clearlySlower } from "../policies/better.ts";
import { predictAll, type Prediction, rankedRight } from "../policies/coordinate_ranking.ts";
import { type BackgroundProbing, type LocatorPair, samePair } from "../policies/policy.ts";
import { coordinatesOptionLength } from "../wire/coordinates_option.ts";
import type { Context } from "./context.ts";
import type { Core } from "./core.ts";
import { Deadlines } from "./deadlines.ts";

/** What background probing wants done. */
export interface BackgroundActions {
  probe(context: Context, pair: LocatorPair, report: Report, now: number): void;
  keepalive(context: Context): void;
  switchPair(context: Context, pair: LocatorPair, now: number): void;
}

/** Octets of a probe with one report and of an answer with two, each in an IPv6 packet, and of the Keepalive. */
const EXCHANGE_OCTETS = [104, 144, 56];
/** What a peer that is new may cost at once, in exchanges: enough to learn most pairs of 3x3 locators. */
const DEPTH = 8;
/** Gap between the probes of a peer while there is budget for them. */
const GAP_MS = 250;
/** A probe that was not answered in this time is lost. */
const ANSWER_MS = 1_000;
/** The first pair is measured at most so often before the others, and as long as it gets faster by so much, in ms. */
const MOST_LOOKS = 4, FASTER_MS = 1;
/** Peers with which nothing was exchanged for so long are not probed. */
const ACTIVE_MS = 60_000;
/** While payload is unanswered for longer, the path may be failing, and delays are not the question. */
const SILENT_MS = 500;
/** How soon to look again when there was no occasion. */
const RETRY_MS = 1_000;
/** No voluntary switch for so long after any other; doubles with each one, up to the second value, while there is payload. */
const HOLD_DOWN_MS = 10_000, LONGEST_HOLD_DOWN_MS = 3_600_000;

/** One peer. */
interface Peer {
  readonly key: string;
  /** Its number in the queue of deadlines. */
  readonly number: number;
  readonly contexts: Set<Context>;
  /** Exchanges that the budget allows at `creditAt`. */
  credit: number;
  creditAt: number;
  /** Pairs with their delays as they were predicted before the first of them was measured; undefined when told. */
  predicted: readonly Prediction[] | undefined;
  /** The pair that was measured first, while it is to be measured again before the others. */
  first: { readonly pair: LocatorPair; readonly leastMs: number; readonly looks: number } | undefined;
  /** When a switch that is wanted, but must wait, is to be considered again; Infinity: none is wanted. */
  switchAt: number;
  pending:
    | { readonly context: Context; readonly pair: LocatorPair; readonly report: Report; readonly at: number }
    | undefined;
}

/** All peers that are probed. */
export class Background {
  readonly #core: Core;
  readonly #actions: BackgroundActions;
  readonly #peers = new Map<string, Peer>();
  readonly #ofContext = new Map<Context, Peer>();
  readonly #byNumber: (Peer | undefined)[] = [];
  readonly #freeNumbers: number[] = [];
  readonly #deadlines = new Deadlines();
  /** Contexts that switched: until when they must not do it again, and how long the last hold-down was, in ms. */
  readonly #holdDowns = new WeakMap<Context, { until: number; ms: number }>();

  constructor(core: Core, actions: BackgroundActions) {
    this.#core = core;
    this.#actions = actions;
  }

  /** When {@linkcode handleTimeout} is due next; Infinity: never. */
  nextDeadline(): number {
    return this.#deadlines.next;
  }

  /** Payload was exchanged: the context's peer is worth knowing. */
  consider(context: Context, now: number): void {
    if (this.#core.reap.policy.background === undefined || this.#ofContext.has(context)) return;
    const key = context.peer!.hostKey(context.ulid.peer);
    let peer = this.#peers.get(key);
    if (peer === undefined) {
      const predicted = predictAll(context.pairs(), this.#core.book);
      const number = this.#freeNumbers.pop() ?? this.#byNumber.length;
      peer = {
        key,
        number,
        contexts: new Set(),
        credit: DEPTH,
        creditAt: now,
        predicted,
        first: undefined,
        switchAt: Infinity,
        pending: undefined,
      };
      this.#peers.set(key, peer);
      this.#byNumber[number] = peer;
      this.#deadlines.set(number, now + GAP_MS * (1 + this.#core.reap.random()));
    }
    peer.contexts.add(context);
    this.#ofContext.set(context, peer);
  }

  /**
   * The peer sends on another pair than before. This host follows unless that is worse: while both send on the same pair,
   * a failure leaves no doubt about which locators are suspect. The peer's hold-down bounds how often that happens.
   */
  peerMoved(context: Context, now: number): void {
    const { current, incoming: to } = context;
    if (to === undefined || samePair(to, current) || !this.#ofContext.has(context)) return;
    // Hosts that moved at the same time would change places again and again.
    if (now < context.since + HOLD_DOWN_MS / 2 || this.#isPinned(context)) return;
    if (this.#core.reap.policy.better === undefined || !this.#isCalm(context, now)) return;
    const isChoice = this.#choices(context).some((pair) => samePair(pair, to));
    if (isChoice && !clearlySlower(to, current, this.#core.book)) this.#switch(context, to, now);
  }

  /** The operator moved the context: it stays there until that pair fails. */
  pin(context: Context): void {
    this.#holdDowns.set(context, { until: Infinity, ms: HOLD_DOWN_MS });
  }

  /** The context is not where the operator wanted it any more. */
  unpin(context: Context): void {
    if (this.#isPinned(context)) this.#holdDowns.delete(context);
  }

  #isPinned(context: Context): boolean {
    return this.#holdDowns.get(context)?.until === Infinity;
  }

  /** An exploration of the context ended: the pair that failed is worth another look before long. */
  recovered(context: Context, now: number): void {
    this.unpin(context);
    const peer = this.#ofContext.get(context);
    if (peer === undefined) return;
    this.#deadlines.set(peer.number, now + GAP_MS);
    peer.switchAt = Math.min(peer.switchAt, now + HOLD_DOWN_MS);
  }

  /** Whether there is more about the context than it knows itself. */
  knows(context: Context): boolean {
    return this.#ofContext.has(context) || this.#holdDowns.has(context);
  }

  /** The context is not used any more. */
  forget(context: Context): void {
    const peer = this.#ofContext.get(context);
    if (peer === undefined) return;
    this.#ofContext.delete(context);
    peer.contexts.delete(context);
    if (peer.pending?.context === context) peer.pending = undefined;
    if (peer.contexts.size > 0) return;
    this.#peers.delete(peer.key);
    this.#byNumber[peer.number] = undefined;
    this.#freeNumbers.push(peer.number);
    this.#deadlines.delete(peer.number);
  }

  /** Probes what is due. */
  handleTimeout(now: number): void {
    for (let due = this.#deadlines.due(now); due !== undefined; due = this.#deadlines.due(now)) {
      const peer = this.#byNumber[due]!;
      if (now >= peer.switchAt) this.#considerSwitches(peer, now);
      const at = Math.min(this.#probe(peer, now), peer.switchAt);
      if (peer.contexts.size > 0) this.#deadlines.set(peer.number, Math.max(at, now + 1));
    }
  }

  /** Reads the reports of a probe that came in on the reverse of `back`. */
  handleReports(context: Context, reports: readonly Report[], back: LocatorPair, now: number): void {
    const peer = this.#ofContext.get(context), pending = peer?.pending;
    if (pending === undefined || pending.context !== context) return;
    const { source, destination, nonce } = pending.report;
    const isOurs = reports.some((report) =>
      report.nonce === nonce && report.source === source && report.destination === destination
    );
    if (!isOurs) return;
    peer!.pending = undefined;
    const { book } = this.#core;
    const rttMs = now - pending.at;
    context.peer!.prove(pending.pair.peer);
    book.probeAnswered(pending.pair, rttMs, now);
    const isFirst = context.pairs().every((pair) => {
      const record = book.get(pair);
      return record === undefined || Number.isNaN(record.outMs) && Number.isNaN(record.inMs);
    });
    book.roundTrip(pending.pair, back, rttMs, isFirst);
    peer!.first = this.#lookAgain(peer!.first, pending.pair, rttMs, isFirst);
    this.#core.event(context, { kind: "probe-answered", pair: pending.pair, nonce, rttMs }, now);
    this.#judge(peer!);
    this.#considerSwitches(peer!, now);
  }

  /**
   * All delays are known only in relation to the pair that is measured first, and hosts are slow when they do something for
   * the first time: that pair is measured until it gets no faster.
   */
  #lookAgain(first: Peer["first"], pair: LocatorPair, rttMs: number, isFirst: boolean): Peer["first"] {
    if (isFirst) return { pair, leastMs: rttMs, looks: 1 };
    if (first === undefined || !samePair(pair, first.pair)) return undefined;
    const looks = first.looks + 1;
    return looks < MOST_LOOKS && rttMs <= first.leastMs - FASTER_MS ? { pair, leastMs: rttMs, looks } : undefined;
  }

  /** Once every pair was tried: were the predictions in the right order? */
  #judge(peer: Peer): void {
    const { predicted } = peer, { book } = this.#core;
    if (predicted === undefined || predicted.some(({ pair }) => book.trialDue(pair, 0) === -Infinity)) return;
    peer.predicted = undefined;
    const right = rankedRight(predicted, book);
    if (right !== undefined) book.coordinates!.judged(right);
  }

  /** Returns when to look again. */
  #probe(peer: Peer, now: number): number {
    const { policy, random, book } = this.#core.reap;
    const { pending } = peer;
    if (pending !== undefined) {
      if (now < pending.at + ANSWER_MS) return pending.at + ANSWER_MS;
      peer.pending = undefined;
      peer.first = undefined;
      if (pending.context.isEstablished) this.#actions.keepalive(pending.context);
    }
    for (const context of peer.contexts) {
      if (this.#isActive(context, now)) continue;
      this.forget(context);
      if (now >= (this.#holdDowns.get(context)?.until ?? Infinity)) this.#holdDowns.delete(context);
    }
    const { background } = policy;
    if (background === undefined) {
      for (const context of peer.contexts) this.forget(context);
      return Infinity;
    }
    this.#earn(peer, background, now);
    if (this.#core.budget.isBusy(now)) return now + RETRY_MS;
    let best: { context: Context; pair: LocatorPair } | undefined, due = Infinity, rank = Infinity;
    for (const context of peer.contexts) {
      if (!this.#isCalm(context, now)) continue;
      for (const pair of context.pairs()) {
        const isAgain = peer.first !== undefined && samePair(pair, peer.first.pair);
        const at = isAgain ? -Infinity : book.trialDue(pair, background.freshMs);
        const pairRank = isAgain ? -1 : rankOf(pair, context.current);
        if (at < due || at === due && pairRank < rank) [best, due, rank] = [{ context, pair }, at, pairRank];
      }
    }
    if (best === undefined) return this.#later(now);
    if (due > now) return Math.min(due, now + background.freshMs);
    if (peer.credit < 1) return now + (1 - peer.credit) * this.#exchangeBits() / background.bitsPerSecond * 1_000;
    peer.credit--;
    const { context, pair } = best;
    const report = { source: pair.local, destination: pair.peer, nonce: this.#core.nonce(), data: 0 };
    peer.pending = { context, pair, report, at: now };
    book.tried(pair, now);
    this.#actions.probe(context, pair, report, now);
    return now + GAP_MS * (1 + random());
  }

  #earn(peer: Peer, { bitsPerSecond }: BackgroundProbing, now: number): void {
    peer.credit = Math.min(DEPTH, peer.credit + (now - peer.creditAt) / 1_000 * bitsPerSecond / this.#exchangeBits());
    peer.creditAt = now;
  }

  /** What an exchange costs. The peer is taken to have as many locators as this host. */
  #exchangeBits(): number {
    const { usesCoordinates, local } = this.#core;
    const added = usesCoordinates ? coordinatesOptionLength(Math.max(1, local.announced.length)) : 0;
    return EXCHANGE_OCTETS.reduce((bits, octets) => bits + 8 * (octets + added), 0);
  }

  #isActive(context: Context, now: number): boolean {
    const { activity } = this.#core, { id } = context;
    return context.isEstablished && now - Math.max(activity.lastSent(id), activity.lastReceived(id)) < ACTIVE_MS;
  }

  #isCalm(context: Context, now: number): boolean {
    if (context.inDoubt || context.doubt !== undefined || now < context.quietUntil) return false;
    const since = this.#core.activity.unansweredSince(context.id);
    return since === 0 || now - since < SILENT_MS;
  }

  /** Not always after the same time: payload may be as regular, and unanswered whenever this host looks. */
  #later(now: number): number {
    return now + RETRY_MS * (1 / 2 + this.#core.reap.random());
  }

  #considerSwitches(peer: Peer, now: number): void {
    peer.switchAt = Infinity;
    for (const context of peer.contexts) {
      const to = context.inDoubt ? undefined : this.#wanted(context, now);
      if (to === undefined) continue;
      const allowedAt = Math.max(context.since + HOLD_DOWN_MS, this.#holdDowns.get(context)?.until ?? 0);
      if (now >= allowedAt && this.#isCalm(context, now)) this.#switch(context, to, now);
      // A faster pair can wait for the next measurement; translation costs something all the time.
      else if (samePair(to, context.ulid)) {
        peer.switchAt = Math.min(peer.switchAt, Math.max(allowedAt, this.#later(now)));
      }
    }
  }

  /**
   * Asks the policy for a better pair than the one in use. Back to the ULID pair, which costs nothing, if the policy has
   * nothing against it.
   */
  #wanted(context: Context, now: number): LocatorPair | undefined {
    const { policy, book } = this.#core.reap;
    if (policy.better === undefined) return undefined;
    const { current, ulid } = context;
    const rank = (pair: LocatorPair) => context.preference(pair).rank;
    const pairs = this.#choices(context);
    // What the hosts prefer comes before what is fast.
    const to = pairs.find((pair) => rank(pair) < rank(current)) ?? policy.better(pairs, current, book, now);
    if (to !== undefined) return samePair(to, current) ? undefined : to;
    if (samePair(current, ulid) || !pairs.some((pair) => samePair(pair, ulid))) return undefined;
    return clearlySlower(ulid, current, book) ? undefined : ulid;
  }

  /** Pairs that are known to work, and that the hosts want no less than the one in use. */
  #choices(context: Context): LocatorPair[] {
    const rank = (pair: LocatorPair) => context.preference(pair).rank;
    return context.pairs().filter((pair) =>
      this.#core.book.works(pair) && context.peer!.isProven(pair.peer) && rank(pair) <= rank(context.current)
    );
  }

  #switch(context: Context, to: LocatorPair, now: number): void {
    const hold = this.#holdDowns.get(context);
    const ms = hold === undefined ? HOLD_DOWN_MS : Math.min(2 * hold.ms, LONGEST_HOLD_DOWN_MS);
    this.#holdDowns.set(context, { until: now + ms, ms });
    this.#actions.switchPair(context, to, now);
  }
}

/** What is worth to be known first: the pair in use, then those that could take its place, that share no locator with it. */
function rankOf(pair: LocatorPair, current: LocatorPair): number {
  if (samePair(pair, current)) return 0;
  return 1 + Number(pair.local === current.local) + Number(pair.peer === current.peer);
}
