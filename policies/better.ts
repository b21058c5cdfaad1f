/** When a switch is worth while although the path in use works. */

import type { PathBook } from "./path_book.ts";
import type { BackgroundProbing, LocatorPair } from "./policy.ts";

/** What the policies that order by delay ask for. */
export const BACKGROUND: BackgroundProbing = { bitsPerSecond: 1_000, freshMs: 600_000 };

/** A switch must save this much, one way, in ms … */
const LEAST_GAIN_MS = 10;
/** … and this share of the round-trip time, and more than both delays usually deviate. */
const LEAST_GAIN_SHARE = 0.15;

/** The fastest of `pairs` if it is clearly faster than `current`; undefined when it is not, or when delays are unknown. */
export function clearlyFaster(
  pairs: readonly LocatorPair[],
  current: LocatorPair,
  book: PathBook,
): LocatorPair | undefined {
  const now = book.get(current);
  if (now === undefined || Number.isNaN(now.outMs) || Number.isNaN(now.rttMs)) return undefined;
  const needed = Math.max(LEAST_GAIN_MS, LEAST_GAIN_SHARE * now.rttMs);
  let best: LocatorPair | undefined, bestMs = now.outMs - needed;
  for (const pair of pairs) {
    const { outMs = NaN, rttVarianceMs = 0 } = book.get(pair) ?? {};
    if (outMs <= bestMs && now.outMs - outMs > now.rttVarianceMs + rttVarianceMs) [best, bestMs] = [pair, outMs];
  }
  return best;
}

/**
 * Whether payload would clearly be slower on `pair` than on `current`, both ways together, which both hosts know alike. What
 * is unknown is not.
 */
export function clearlySlower(pair: LocatorPair, current: LocatorPair, book: PathBook): boolean {
  const { outMs = NaN, inMs = NaN } = book.get(pair) ?? {};
  const { outMs: outNow = NaN, inMs: inNow = NaN } = book.get(current) ?? {};
  const isWhole = !Number.isNaN(inMs + inNow);
  const ms = isWhole ? outMs + inMs : outMs, nowMs = isWhole ? outNow + inNow : outNow;
  return ms - nowMs >= Math.max(LEAST_GAIN_MS, LEAST_GAIN_SHARE * ms);
}
