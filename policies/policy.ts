/**
 * The strategy interface for path selection. A policy is one small file next to this one; adding one touches nothing
 * else but `registry.ts`. Policies are pure: the path book, the time and the random source are arguments.
 */

import type { Address } from "../wire/address.ts";
import type { PathBook, PathKnowledge } from "./path_book.ts";

/** An ordered address pair as its sender sees it: a unidirectional path (RFC 5534 §4). */
export interface LocatorPair {
  /** The sender's own locator. */
  readonly local: Address;
  /** The locator of the peer. */
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

/** How much a pair is wanted by its two hosts (RFC 5533 §5.15.3). */
export interface PairPreference {
  /** Pairs of a lower rank come first. */
  readonly rank: number;
  /** Share among pairs of the same rank; above 0. */
  readonly weight: number;
  /** One of the two hosts says that its locator does not work. */
  readonly broken: boolean;
}

/** What a policy is told when an exploration starts. */
export interface ExplorationStart {
  /** Candidate pairs, at least one; the preferred ones first (RFC 3484 order and locator preferences). */
  readonly pairs: readonly LocatorPair[];
  /** The pair in use when the exploration started. */
  readonly current: LocatorPair;
  /** Why the host explores. */
  readonly cause: FailureCause;
  /** What is known about the pairs. */
  readonly book: PathKnowledge;
  /** What the hosts prefer; absent: all pairs alike. */
  readonly preference?: (pair: LocatorPair) => PairPreference;
  /** The schedule to keep (RFC 5534 §7). */
  readonly timing: ProbeTiming;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** Monotonic milliseconds. */
  readonly now: number;
}

/** Which pair to probe. */
export interface ProbeChoice {
  /** The pair on which the probe leaves. */
  readonly pair: LocatorPair;
  /** Why this pair now, for the story of a switch (`why`). */
  readonly reason: string;
}

/** One probe of a plan's schedule. */
export interface ProbeStep extends ProbeChoice {
  /** Nominal milliseconds from this probe to the next; 0 sends the next at once. Jitter is the machine's business. */
  readonly waitMs: number;
}

/**
 * An endless sequence of probes, made for one exploration. `answering` is given when a probe also answers one of the
 * peer's: the reverse of the pair on which that one came, which a plan may prefer.
 */
export interface Plan {
  /**
   * The next probe of the schedule. `now` is the time at which it is sent. `peerSent`: when the peer began the exploration,
   * the number of its probes of which the one that came in is the last: all but this one were lost or overtaken.
   */
  next(now: number, answering?: LocatorPair, peerSent?: number): ProbeStep;
  /**
   * The pair for a probe outside the schedule, the immediate answer to what the peer sent: goes on in the order of the
   * pairs, not in the pacing. Without it {@linkcode next} is asked and the wait ignored.
   */
  answer?(now: number, answering?: LocatorPair): ProbeChoice;
  /**
   * Whether the probe that comes next in the schedule may answer what the peer sends while both hosts probe, instead of
   * an immediate one for each: for plans that probe quickly.
   */
  readonly answersOnSchedule?: boolean;
  /**
   * Starts the pacing anew while the order of the pairs goes on: the Send Timer expired, or something was heard while
   * both hosts explored; `answering` is as above if it was a probe. Returns whether the next probe leaves now; otherwise
   * the schedule goes on as it was. Without this method the policy makes a new plan.
   */
  restart?(now: number, answering?: LocatorPair): boolean;
}

/** Probes while all is well, so that a policy knows the delays before it needs them. */
export interface BackgroundProbing {
  /** For each peer, all its contexts together; probes and the answers they cause. */
  readonly bitsPerSecond: number;
  /** A pair that works is probed again after so many ms. */
  readonly freshMs: number;
}

/** A path-selection policy. */
export interface Policy {
  /** The name on the command line. */
  readonly name: string;
  /** One line for `--help`. */
  readonly summary: string;
  /** Absent: nothing is probed while all is well. */
  readonly background?: BackgroundProbing;
  /** Whether network coordinates are exchanged with peers. */
  readonly coordinates?: true;
  /** The probes to send, in order and with their pacing, after a failure. */
  plan(start: ExplorationStart): Plan;
  /**
   * A voluntary switch while all is well: a pair that is clearly better than `current`, or undefined. Asked rarely, and
   * only about pairs that were verified and answered a probe.
   */
  better?(pairs: readonly LocatorPair[], current: LocatorPair, book: PathBook, now: number): LocatorPair | undefined;
}
