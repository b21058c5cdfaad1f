/**
 * The strategy interface for path selection. A policy is one small file next to this one; adding one touches nothing
 * else but `registry.ts`. Policies are pure: the path book, the time and the random source are arguments.
 */

import type { Address } from "../wire/address.ts";
import type { PathBook } from "./path_book.ts";

/** An ordered address pair as its sender sees it: a unidirectional path (RFC 5534 §4). */
export interface LocatorPair {
  readonly local: Address;
  readonly peer: Address;
}

/** Whether two pairs are the same path. */
export function samePair(a: LocatorPair, b: LocatorPair): boolean {
  return a.local === b.local && a.peer === b.peer;
}

/** A key for maps: unique for each pair. */
export function pairKey(pair: LocatorPair): string {
  return pair.local + ">" + pair.peer;
}

/** What made a host leave Operational, or suspect the current path. */
export type FailureCause =
  | "send-timer" // RFC 5534 §6.4
  | "suspicion" // adaptive: this peer usually answers sooner
  | "link-down"
  | "address-gone"
  | "address-deprecated"
  | "icmp" // a hint, never a proof (RFC 5534 §3.3)
  | "peer-probe" // the peer explores: it does not hear us (RFC 5534 §6.7)
  | "peer-locators" // the peer withdrew the locator in use (RFC 5533 §10.4)
  | "shared-fate" // another context saw this path fail
  | "operator";

/** The timing parameters of the probe schedule (RFC 5534 §7). */
export interface ProbeTiming {
  /** Initial Probe Timeout in ms. */
  readonly initialProbeTimeoutMs: number;
  /** Number of Initial Probes. */
  readonly initialProbes: number;
  /** Max Probe Timeout in ms. */
  readonly maxProbeTimeoutMs: number;
}

/** What a policy is told when an exploration starts. */
export interface ExplorationStart {
  /** Candidate pairs, at least one; the preferred ones first (RFC 3484 order and locator preferences). */
  readonly pairs: readonly LocatorPair[];
  /** The pair in use when the exploration started. */
  readonly current: LocatorPair;
  readonly cause: FailureCause;
  readonly book: PathBook;
  readonly timing: ProbeTiming;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** Monotonic milliseconds. */
  readonly now: number;
}

/** One probe of a plan. */
export interface ProbeStep {
  readonly pair: LocatorPair;
  /** Nominal milliseconds from this probe to the next; 0 sends the next at once. Jitter is the machine's business. */
  readonly waitMs: number;
  /** Why this pair now, for the story of a switch (`why`). */
  readonly reason: string;
}

/** An endless sequence of probes, made for one exploration. */
export interface Plan {
  /** The next probe. `now` is the time at which it is sent. */
  next(now: number): ProbeStep;
}

/** A path-selection policy. */
export interface Policy {
  /** The name on the command line. */
  readonly name: string;
  /** One line for `--help`. */
  readonly summary: string;
  /** The probes to send, in order and with their pacing, after a failure. */
  plan(start: ExplorationStart): Plan;
  /**
   * A voluntary switch while all is well: a pair that is clearly better than `current`, or undefined. Asked rarely, and
   * only about pairs that were verified and answered a probe.
   */
  better?(pairs: readonly LocatorPair[], current: LocatorPair, book: PathBook, now: number): LocatorPair | undefined;
}
