/** Protocol constants of RFC 5533 §14, then the choices that the RFC leaves to the implementation. Times in ms. */

/** First I1 retransmission; the nominal wait doubles each time. */
export const I1_TIMEOUT = 4_000;
/** Retransmissions of an I1: five transmissions in all. */
export const I1_RETRIES_MAX = 4;
/** How long a peer that did not answer is left alone, at most. */
export const NO_R1_HOLDDOWN_TIME = 60_000;
/** How long a peer that said it has no Shim6 is left alone, at most. */
export const ICMP_HOLDDOWN_TIME = 600_000;
/** First I2 retransmission. */
export const I2_TIMEOUT = 4_000;
/** Retransmissions of an I2. */
export const I2_RETRIES_MAX = 2;
/** First I2bis retransmission. */
export const I2BIS_TIMEOUT = 4_000;
/** Retransmissions of an I2bis. */
export const I2BIS_RETRIES_MAX = 2;
/** A Responder Nonce is good for at least so long. */
export const VALIDATOR_MIN_LIFETIME = 30_000;
/** First retransmission of an Update Request; doubles up to {@linkcode MAX_UPDATE_TIMEOUT}, without end. */
export const UPDATE_TIMEOUT = 4_000;
/** Longest nominal wait between two transmissions of an Update Request. */
export const MAX_UPDATE_TIMEOUT = 120_000;
/** The Send Timeout that a peer assumes when nothing is announced (RFC 5534 §7). */
export const DEFAULT_SEND_TIMEOUT = 15_000;

/** Idle time after which a context is discarded; RFC 5533 §9 suggests at least 5 minutes. */
export const IDLE_TEARDOWN = 600_000;
/** How often an initiator starts again with an I1 after its I2s went unanswered, before it gives up. */
export const I2_ROUNDS_MAX = 2;
/** Prompted repetitions (an I2 again, an R2 to a crossing I1) per context are no closer than this. */
export const PROMPT_INTERVAL = 1_000;
/** How long a context whose peer said "no Shim6" stays on the ULID pair before REAP looks again. */
export const QUIET_TIME = 10_000;
/** Unreachable errors start at most one exploration of a context in this time. */
export const ICMP_HINT_INTERVAL = 5_000;
/** A switch by hand to a pair that was never probed: probes sent, and the wait for each answer. */
export const TRIAL_PROBES = 4, TRIAL_TIMEOUT = 500;
/** Spacing of the Update Requests of many contexts after one change, so that thousands do not leave at once. */
export const UPDATE_SPACING = 1;
/** Candidate pairs considered for one context, the preferred ones. */
export const PAIRS_MAX = 64;
/**
 * Of all contexts so many may come into being because a peer wants it: somebody with very many addresses must not keep
 * this host from establishing those for its own traffic.
 */
export const PEERS_SHARE = 0.75;
