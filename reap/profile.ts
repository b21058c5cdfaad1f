/** Named sets of timers. Each value is also a flag or configuration key. All times in milliseconds. */

import type { ProbeTiming } from "../policies/policy.ts";

/** The timers of one host (RFC 5534 §7). */
export interface Profile extends ProbeTiming {
  /** The name on the command line. */
  readonly name: string;
  /** Send Timeout: nothing heard for so long after a payload packet was sent means failure (§7, default 15 s). */
  readonly sendTimeoutMs: number;
  /** Keepalive Timeout until the peer announces its own Send Timeout (§7). */
  readonly keepaliveTimeoutMs: number;
  /** Keepalive Interval as a share of the Keepalive Timeout: 1/3 to 1/2 (§7). */
  readonly keepaliveShare: number;
  /** Each probe interval is multiplied by a uniform factor in [1 - jitter, 1 + jitter]. */
  readonly jitter: number;
  /** When silence is worth a question to the peer, long before the Send Timeout. Absent: only the Send Timer detects. */
  readonly suspicion?: SuspicionTiming;
}

/** When a path is suspect: the peer is silent for longer than it usually is. */
export interface SuspicionTiming {
  /** Multiple of the longest usual silence. */
  readonly patience: number;
  /** Never sooner than this, ms. */
  readonly leastMs: number;
  /** At the latest so long after the usual time, in ms; no bound when absent. */
  readonly mostExtraMs?: number;
}

/** RFC 5534 §7, to the letter. */
export const RFC5534: Profile = {
  name: "rfc5534",
  sendTimeoutMs: 15_000,
  keepaliveTimeoutMs: 15_000,
  keepaliveShare: 1 / 3,
  initialProbeTimeoutMs: 500,
  initialProbes: 4,
  maxProbeTimeoutMs: 60_000,
  jitter: 0.2,
};

/** The lab of the paper: draft-07 rules, Send Timeout lowered to 3 s "to make measurements faster" (§5.1). */
export const PAPER: Profile = {
  name: "paper",
  sendTimeoutMs: 3_000,
  keepaliveTimeoutMs: 10_000,
  keepaliveShare: 0.3, // Keepalive Interval 3 s of a Keepalive Timeout of 10 s, until the peer announces its own
  initialProbeTimeoutMs: 500,
  initialProbes: 4,
  maxProbeTimeoutMs: 60_000,
  jitter: 0.2,
};

/**
 * Adaptive detection: silence beyond what is usual makes the host ask on the current pair and on an alternate, and explore
 * if neither is answered. The Send Timer stays as the last resort, at the least value that
 * RFC 5534 §7 recommends, and is announced to the peer.
 */
export const FAST: Profile = {
  ...RFC5534,
  name: "fast",
  sendTimeoutMs: 10_000,
  suspicion: { patience: 1.25, leastMs: 20, mostExtraMs: 50 },
};

/** The profiles by name. */
export const PROFILES: Readonly<Record<string, Profile>> = { rfc5534: RFC5534, paper: PAPER, fast: FAST };
