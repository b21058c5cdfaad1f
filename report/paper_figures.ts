/** What the paper measured with LinShim6 0.4.3 (its §5.2 to §5.4), for comparison. */

/** Figure 4: its lab's Send Timer, ms, which is most of the gap in the throughput. */
export const PAPER_SEND_TIMER_MS = 3_000;

/** Figure 5, n = 16: shares of explorations that ended sooner than so many seconds. */
export const PAPER_N16 = [
  { seconds: 7, share: 0.5 },
  { seconds: 17, share: 0.8 },
  { seconds: 31, share: 0.95 },
];

/** Figure 5, n = 2: the share that the first probe ended, before the second one could leave (0.5 s less the jitter). */
export const PAPER_N2 = { seconds: 0.39, share: 0.86 };

/** Figure 5, n = 1 and n = 2: the second probe ended all of them. */
export const PAPER_SMALL_N_LONGEST = { seconds: 0.6, share: 1 };

/** Figure 7: the share of the two best paths, with probes 500 ms apart and with a burst of four. */
export const PAPER_BEST_TWO = { random: 0.215, burst4: 0.461 };

/** Figure 6: the most frequent round-trip time with a burst of four, ms. */
export const PAPER_FREQUENT_RTT_MS = 30;
