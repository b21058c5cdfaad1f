/**
 * What one context learns serves all others (paper §6): those that use a path, or a locator, that just failed for another
 * are warned before their own timers fire, as fast as the probe budget of the host allows and in the order in which they
 * were found.
 */

import type { FailureCause, LocatorPair } from "../policies/policy.ts";
import { samePair } from "../policies/policy.ts";
import type { Context } from "./context.ts";
import type { Core } from "./core.ts";

/** A context is warned when its payload is unanswered for this share of the time that the first one took to fail. */
const SILENT_SHARE = 1 / 4;
/** All contexts are looked through at most this often, in ms. */
const SCAN_INTERVAL_MS = 50;

/** An exploration that waits for its turn. */
interface Start {
  readonly context: Context;
  readonly cause: FailureCause;
  /** For warnings: how long payload must have been unanswered, in ms. */
  readonly silentMs: number;
}

/** Explorations that are to begin although no timer of their own context has fired. */
export class SharedFate {
  readonly #core: Core;
  readonly #start: (context: Context, cause: FailureCause, now: number) => void;
  readonly #waiting = new Map<Context, Start>();
  #nextScan = Infinity;
  #lastScan = -Infinity;
  #failed: LocatorPair[] = [];
  #silentMs = 0;

  /** `start` makes a context explore. */
  constructor(core: Core, start: (context: Context, cause: FailureCause, now: number) => void) {
    this.#core = core;
    this.#start = start;
  }

  /** When {@linkcode handleTimeout} is due next; Infinity: never. */
  nextDeadline(): number {
    return Math.min(this.#nextScan, this.#waiting.size === 0 ? Infinity : this.#core.budget.nextAt(-Infinity));
  }

  /** A context left Operational because of its path. `silentMs`: how long its payload had been unanswered. */
  failed(pair: LocatorPair, silentMs: number, now: number): void {
    if (!this.#failed.some((failed) => samePair(failed, pair))) this.#failed.push(pair);
    this.#silentMs = Math.max(this.#silentMs, silentMs);
    if (this.#nextScan === Infinity) this.#nextScan = Math.max(now, this.#lastScan + SCAN_INTERVAL_MS);
  }

  /** A context has to explore for a reason of its own; in its turn when there is no budget now. */
  begin(context: Context, cause: FailureCause, now: number): void {
    this.#waiting.set(context, { context, cause, silentMs: 0 });
    this.handleTimeout(now);
  }

  /** Whether the context waits for its turn. */
  knows(context: Context): boolean {
    return this.#waiting.has(context);
  }

  /** The context is not used any more. */
  forget(context: Context): void {
    this.#waiting.delete(context);
  }

  /** Starts what the budget allows. */
  handleTimeout(now: number): void {
    if (now >= this.#nextScan) this.#scan(now);
    for (const [context, { cause, silentMs }] of this.#waiting) {
      if (this.#core.budget.nextAt(now) > now) return;
      this.#waiting.delete(context);
      if (cause !== "shared-fate" || this.#isSilent(context, silentMs, now)) this.#start(context, cause, now);
    }
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
      if (this.#waiting.has(context) || !this.#isSilent(context, silentMs, now)) continue;
      if (!shares(context.current) && !(context.incoming !== undefined && shares(context.incoming))) continue;
      this.#waiting.set(context, { context, cause: "shared-fate", silentMs });
    }
  }

  #isSilent(context: Context, silentMs: number, now: number): boolean {
    const since = this.#core.activity.unansweredSince(context.id);
    return context.isEstablished && !context.inDoubt && since > 0 && now - since >= silentMs;
  }
}
