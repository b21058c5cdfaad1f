/**
 * What one context learns serves all others (paper §6): those that use a path, or a locator, that just failed for another
 * are warned before their own timers fire, as fast as the probe budget of the host allows and in the order in which they
 * were found.
 */

import type { FailureCause, LocatorPair } from "../policies/policy.ts";
import { samePair } from "../policies/policy.ts";
import type { Address } from "../wire/address.ts";
import type { Context } from "./context.ts";
import type { Core } from "./core.ts";

/** A context is warned when its payload is unanswered for this share of the time that the first one took to fail. */
const SILENT_SHARE = 1 / 4;
/** All contexts are looked through at most this often, in ms. */
const SCAN_INTERVAL_MS = 50;

/**
 * When the peers of so many contexts are silent for longer than usual, each for so long in ms, and nobody was heard through
 * their locator meanwhile, it is dead: as many packets get lost by chance as rarely as all questions of one context.
 */
const SILENT_CONTEXTS = 5, SILENT_MS = 100;

/** A warning that waits for its turn: how long payload must have been unanswered by then, in ms. */
interface Warning {
  readonly silentMs: number;
}

/** Explorations that are to begin although no timer of their own context has fired. */
export class SharedFate {
  readonly #core: Core;
  readonly #start: (context: Context, cause: FailureCause, now: number) => void;
  /** Contexts that have a reason of their own, and answers to peers that know theirs: in the order in which they came. */
  readonly #starts = new Map<Context, FailureCause>();
  readonly #answers = new Map<Context, (now: number) => void>();
  readonly #warnings = new Map<Context, Warning>();
  /** The contexts of `#warnings`, oldest first, and some that are there no more. */
  #order: Context[] = [];
  #nextScan = Infinity;
  #lastScan = -Infinity;
  #failed: LocatorPair[] = [];
  #silentMs = 0;
  /** Contexts whose peers are suspiciously silent, by the local locator on which nothing comes in. */
  readonly #suspects = new Map<Address, Set<Context>>();
  /** When anything last came in through a locator of this host, monotonic ms. */
  readonly #heardAt = new Map<Address, number>();

  /** `start` makes a context explore. */
  constructor(core: Core, start: (context: Context, cause: FailureCause, now: number) => void) {
    this.#core = core;
    this.#start = start;
  }

  /** When {@linkcode handleTimeout} is due next; Infinity: never. */
  nextDeadline(): number {
    const { budget } = this.#core;
    const turnAt = this.#starts.size > 0 ? budget.nextAt(-Infinity) : Infinity;
    const answerAt = this.#answers.size > 0 ? budget.emptyAt : Infinity;
    const warningAt = this.#warnings.size > 0 ? this.#warningAt(-Infinity) : Infinity;
    return Math.min(this.#nextScan, turnAt, answerAt, warningAt);
  }

  /** A context left Operational because of its path. `silentMs`: how long its payload had been unanswered. */
  failed(pair: LocatorPair, silentMs: number, now: number): void {
    if (!this.#failed.some((failed) => samePair(failed, pair))) this.#failed.push(pair);
    this.#silentMs = Math.max(this.#silentMs, silentMs);
    if (this.#nextScan === Infinity) this.#nextScan = Math.max(now, this.#lastScan + SCAN_INTERVAL_MS);
  }

  /** Something came in at `at` through a locator of this host. */
  heard(local: Address, at: number): void {
    this.#heardAt.set(local, at);
    if (this.#suspects.size > 0) this.#suspects.delete(local);
  }

  /** Whether a locator of this host is dead, and not only to those peers for whose contexts it failed. */
  isSilent(local: Address, now: number): boolean {
    const since = this.#core.book.deadSince(local, now);
    return !Number.isNaN(since) && !(this.#heardAt.get(local)! > since);
  }

  /** The peer of a context is silent for longer than usual, `silentMs` by now. Enough of them show that a locator is dead. */
  suspected(context: Context, silentMs: number, now: number): void {
    if (silentMs < SILENT_MS) return;
    const { local } = context.incoming ?? context.current;
    const silent = this.#suspects.get(local) ?? new Set();
    this.#suspects.set(local, silent.add(context));
    if (silent.size < SILENT_CONTEXTS) return;
    this.#suspects.delete(local);
    for (const { current, incoming } of silent) {
      this.#core.book.failed(current, now, incoming);
      this.failed(incoming ?? current, silentMs, now);
    }
  }

  /** A context has to explore, in its turn when there is no budget now. With the cause `shared-fate` it is warned. */
  begin(context: Context, cause: FailureCause, now: number): void {
    if (cause === "shared-fate") this.#warn(context, 0);
    else this.#starts.set(context, cause);
    this.handleTimeout(now);
  }

  /** A peer that looks for a working path itself waits for an answer, which leaves in its turn. */
  answer(context: Context, send: (now: number) => void, now: number): void {
    this.#warnings.delete(context);
    if (this.#starts.get(context) === "suspicion") this.#starts.delete(context);
    this.#answers.set(context, send);
    this.handleTimeout(now);
  }

  /** Whether the context waits for its turn. */
  knows(context: Context): boolean {
    return this.#starts.has(context) || this.#answers.has(context) || this.#warnings.has(context);
  }

  /** The context is not used any more. */
  forget(context: Context): void {
    this.#starts.delete(context);
    this.#answers.delete(context);
    this.#warnings.delete(context);
    for (const silent of this.#suspects.values()) silent.delete(context);
  }

  /** Starts what the budget allows. */
  handleTimeout(now: number): void {
    if (now >= this.#nextScan) this.#scan(now);
    const { budget } = this.#core;
    for (const [context, send] of this.#answers) {
      if (budget.isBusy(now)) break;
      this.#answers.delete(context);
      send(now);
    }
    for (const [context, cause] of this.#starts) {
      if (budget.nextAt(now) > now) break;
      this.#starts.delete(context);
      this.#start(context, cause, now);
    }
    while (this.#warningAt(now) <= now) {
      const context = this.#nextWarned();
      if (context === undefined) return;
      const { silentMs } = this.#warnings.get(context)!;
      this.#warnings.delete(context);
      if (this.#isSilent(context, silentMs, now)) this.#start(context, "shared-fate", now);
    }
  }

  /** Peers that ask questions take some of the budget without being asked, so that the part for bursts is left to them. */
  #warningAt(now: number): number {
    const { budget, reap } = this.#core;
    return reap.profile.suspicion === undefined ? budget.nextAt(now) : Math.max(now, budget.emptyAt);
  }

  #warn(context: Context, silentMs: number): void {
    this.#warnings.set(context, { silentMs });
    if (this.#core.reap.profile.suspicion !== undefined) this.#order.push(context);
  }

  /**
   * The one to be warned next: the first, but where peers ask questions the last, which sent payload last, so that its peer
   * will be the last to notice by itself.
   */
  #nextWarned(): Context | undefined {
    while (this.#order.length > 0) {
      const context = this.#order.pop()!;
      if (this.#warnings.has(context)) return context;
    }
    return this.#warnings.keys().next().value;
  }

  #scan(now: number): void {
    const { book, table } = this.#core;
    const silentMs = this.#silentMs * SILENT_SHARE;
    const failed = this.#failed;
    this.#failed = [];
    this.#silentMs = 0;
    this.#nextScan = Infinity;
    this.#lastScan = now;
    const isDead = new Map<string, boolean>();
    for (const { local, peer } of failed) {
      for (const address of [local, peer]) isDead.set(address, !Number.isNaN(book.deadSince(address, now)));
    }
    const shares = (pair: LocatorPair) =>
      isDead.get(pair.local) === true || isDead.get(pair.peer) === true ||
      isDead.has(pair.local) && failed.some((each) => samePair(each, pair));
    for (const context of table.awake()) {
      if (this.knows(context) || !this.#isSilent(context, silentMs, now)) continue;
      if (!shares(context.current) && !(context.incoming !== undefined && shares(context.incoming))) continue;
      this.#warn(context, silentMs);
    }
  }

  #isSilent(context: Context, silentMs: number, now: number): boolean {
    const since = this.#core.activity.unansweredSince(context.id);
    return context.isEstablished && !context.inDoubt && since > 0 && now - since >= silentMs;
  }
}
