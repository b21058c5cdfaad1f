/** A bound on the probes of a host, so that many failures at once are no storm (paper §6). */

/** Messages in any 100 ms when nothing else is configured. */
export const PROBES_PER_100_MS = 350;
/** Probes of both hosts that an exploration needs at least: one, its answer, and the final one. */
const LEAST_MESSAGES = 3;
/** The share of the bound that a burst may take at once; the rest is the steady rate. */
const BURST_SHARE = 0.12;

/** A leaky bucket. Counts what the peers will send because of us as well: it travels over the same access link. */
export class ProbeBudget {
  readonly #costMs: number;
  readonly #toleranceMs: number;
  /** When the bucket is empty again, monotonic ms. */
  #emptyAt = -Infinity;

  /** `per100ms`: messages in any 100 ms. */
  constructor(per100ms = PROBES_PER_100_MS) {
    this.#costMs = 100 / (per100ms * (1 - BURST_SHARE));
    this.#toleranceMs = per100ms * BURST_SHARE * this.#costMs;
  }

  /** When the next probe may leave, monotonic ms; `now` if at once. */
  nextAt(now: number): number {
    return Math.max(now, this.#emptyAt - this.#toleranceMs);
  }

  /** When all that was counted has left, monotonic ms. */
  get emptyAt(): number {
    return this.#emptyAt;
  }

  /** Whether explorations are going on: no time for anything else. */
  isBusy(now: number): boolean {
    return this.#emptyAt > now;
  }

  /** An exploration starts: it will take three messages. */
  exploration(now: number): void {
    this.#take(LEAST_MESSAGES, now);
  }

  /** A probe leaves that was not counted in advance. */
  probe(now: number): void {
    this.#take(1, now);
  }

  #take(messages: number, now: number): void {
    this.#emptyAt = Math.max(this.#emptyAt, now) + messages * this.#costMs;
  }
}
