/**
 * How much a host says to addresses that have proved nothing (RFC 5533 §16.2): answers to I1, to packets of unknown
 * contexts and to malformed ones. An attacker may have forged the source, so the answers must not be a weapon.
 */

import type { Address } from "../wire/address.ts";

/** Answers a second that one address always gets, though the smallest R1 is larger than the smallest I1 (§5.4, §5.5). */
export const FREE_ANSWERS = 4;
/** Answers a second to one address that sends at least as many octets as it gets. */
export const MAX_ANSWERS = 64;
/** Answers a second to all strangers together. */
export const GLOBAL_ANSWERS = 2_000;
/** Length of the window in which an address is judged, ms. */
const WINDOW = 1_000;

interface Account {
  windowStart: number;
  answers: number;
  /** Octets received less octets sent in this window. */
  balance: number;
}

/**
 * Counts octets in and out per address. Beyond {@linkcode FREE_ANSWERS} a second no answer leaves that would make the
 * octets sent to an address more than those that came from it.
 */
export class AnswerLimit {
  // In order of the last window's start: the first is the one to forget.
  readonly #accounts = new Map<Address, Account>();
  readonly #capacity: number;
  #tokens = GLOBAL_ANSWERS;
  #refilled = -Infinity;

  /** `capacity`: the number of addresses watched at a time. */
  constructor(capacity = 4_096) {
    this.#capacity = capacity;
  }

  /** Number of addresses watched. */
  get size(): number {
    return this.#accounts.size;
  }

  /** Whether nobody gets an answer now, whoever asks. */
  isExhausted(now: number): boolean {
    this.#refill(now);
    return this.#tokens < 1;
  }

  /** Whether `octetsOut` may go to `address` in answer to `octetsIn` from it. Both count from the IPv6 header. */
  allow(address: Address, octetsIn: number, octetsOut: number, now: number): boolean {
    const account = this.#account(address, now);
    account.balance += octetsIn;
    const withinMeans = account.answers < MAX_ANSWERS && account.balance >= octetsOut;
    if (account.answers >= FREE_ANSWERS && !withinMeans) return false;
    if (!this.#takeToken(now)) return false;
    account.answers++;
    account.balance -= octetsOut;
    return true;
  }

  #account(address: Address, now: number): Account {
    let account = this.#accounts.get(address);
    if (account !== undefined && now - account.windowStart < WINDOW) return account;
    if (account !== undefined) this.#accounts.delete(address);
    for (const [other, { windowStart }] of this.#accounts) {
      if (now - windowStart < WINDOW && this.#accounts.size < this.#capacity) break;
      this.#accounts.delete(other); // its window is over, or its place is needed
    }
    account = { windowStart: now, answers: 0, balance: 0 };
    this.#accounts.set(address, account);
    return account;
  }

  #refill(now: number): void {
    if (this.#refilled === -Infinity) this.#refilled = now;
    this.#tokens = Math.min(GLOBAL_ANSWERS, this.#tokens + (now - this.#refilled) * GLOBAL_ANSWERS / 1_000);
    this.#refilled = now;
  }

  #takeToken(now: number): boolean {
    if (this.isExhausted(now)) return false;
    this.#tokens--;
    return true;
  }
}
