/** What the paper measured with LinShim6 0.4.3 (its §5.3 and §5.4), for comparison. */

/** Figure 5, n = 16: shares of explorations that ended sooner than so many seconds. */
export const PAPER_N16 = [
  { seconds: 7, share: 0.5 },
  { seconds: 17, share: 0.8 },
  { seconds: 31, share: 0.95 },
];

/** Figure 5, n = 2: the share that the first probe ended; all ended within 600 ms. */
export const PAPER_N2 = { seconds: 0.39, share: 0.86 };

/** Figure 7: the share of the two best paths, with probes 500 ms apart and with a burst of four. */
export const PAPER_BEST_TWO = { random: 0.215, burst4: 0.461 };

/** Figure 6: the most frequent round-trip time with a burst of four, ms. */
export const PAPER_FREQUENT_RTT_MS = 30;
