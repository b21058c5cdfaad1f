/** Adaptive suspicion: noticing that a peer is silent for longer than it usually is, well before the Send Timeout. */

import type { SuspicionTiming } from "./profile.ts";

/**
 * Without a question to the peer: above the delayed acknowledgements (200 ms) and the shortest retransmissions of TCP, and
 * four times the usual time to an answer. On long paths sooner: TCP's first retransmission comes some 200 ms after that
 * time, the next one as late again as the path is long, and what is to be released must have been held before.
 */
const CAUTIOUS: SuspicionTiming = { patience: 4, leastMs: 250, mostExtraMs: 150 };
/** At the latest after this share of the Send Timeout. Keepalives come after half of it at most (RFC 5534 §7). */
const MOST_SHARE = 0.8;
/** The memory of a slow answer fades to half in this time, in ms. */
const HALF_LIFE_MS = 30_000;

/** A {@linkcode Suspicion} as plain data: slowest answer in ms if there was one, when that was learnt, whether it was wrong. */
export type SuspicionData = readonly [number | null, number, boolean];

/**
 * Learns how long the peer of one context takes to answer.
 *
 * Suspicion is no proof: it makes the host keep copies of what it sends and, if the profile says so, ask the peer. So that
 * silence is not mistaken for failure,
 * - the slowest answer of late counts, not the mean, and fades slowly;
 * - packets must have been sent all the while: the last packet of a transfer, which nobody answers, raises no suspicion;
 * - an answer by Keepalive says how long the peer lets one-way payload go unanswered, but nothing about a single packet.
 */
export class Suspicion {
  #slowestMs = NaN;
  #learntAt = 0;
  #wasWrong = false;

  /** All of it as plain data. */
  toJSON(): SuspicionData {
    return [Number.isNaN(this.#slowestMs) ? null : this.#slowestMs, this.#learntAt, this.#wasWrong];
  }

  /** From what {@linkcode toJSON} gave. */
  static fromJSON([slowestMs, learntAt, wasWrong]: SuspicionData): Suspicion {
    const suspicion = new Suspicion();
    suspicion.#slowestMs = slowestMs ?? NaN;
    suspicion.#learntAt = learntAt;
    suspicion.#wasWrong = wasWrong;
    return suspicion;
  }

  /** The slowest answer of late in ms; NaN when the peer has answered nothing yet. */
  get usualMs(): number {
    return this.#slowestMs;
  }

  /**
   * Something was heard from the peer at `at`. `since`: when the first payload was sent after the peer was heard before;
   * `lastSent`: when the last was. All in monotonic ms.
   */
  answered(by: "payload" | "keepalive", since: number, lastSent: number, at: number): void {
    const sample = by === "payload" ? at - since : lastSent - since;
    if (!(sample > 0)) return;
    const faded = this.#slowestMs * 0.5 ** (Math.max(0, at - this.#learntAt) / HALF_LIFE_MS);
    this.#slowestMs = faded > sample ? faded : sample;
    this.#learntAt = at;
  }

  /** The peer is there although it was silent from `since` to `at`: such a silence is usual, from now on. */
  refuted(since: number, at: number): void {
    this.answered("payload", since, at, at);
    this.#wasWrong = true;
  }

  /** A suspicion was wrong although the silence was not usual: a packet was lost. */
  noteMistake(): void {
    this.#wasWrong = true;
  }

  /** Whether the peer was ever suspected although all was well. */
  get wasWrong(): boolean {
    return this.#wasWrong;
  }

  /** How long payload may go unanswered before the path is suspect, in ms. */
  suspectAfterMs(sendTimeoutMs: number, timing: SuspicionTiming = CAUTIOUS): number {
    const { leastMs, patience, mostExtraMs = Infinity } = timing;
    const most = MOST_SHARE * sendTimeoutMs, usual = this.#slowestMs;
    if (Number.isNaN(usual)) return most;
    return Math.min(most, Math.max(leastMs, Math.min(patience * usual, usual + mostExtraMs)));
  }

  /** Whether the path is suspect: payload was sent for too long without an answer. Arguments as in {@linkcode answered}. */
  isSuspect(since: number, lastSent: number, sendTimeoutMs: number): boolean {
    return lastSent - since >= this.suspectAfterMs(sendTimeoutMs);
  }
}
