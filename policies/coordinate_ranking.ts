/** Whether the order that coordinates give is the order that measurements give. */

import type { PathKnowledge } from "./path_book.ts";
import type { LocatorPair } from "./policy.ts";

/** A pair and what was expected of it. */
export interface Prediction {
  readonly pair: LocatorPair;
  readonly rttMs: number;
}

/** Delays this close are the same to anybody who waits for a packet, in ms one way. */
const SAME_MS = 0.5;

/** Predictions for all pairs; undefined when one cannot be predicted, or was measured before, or there is no choice. */
export function predictAll(pairs: readonly LocatorPair[], book: PathKnowledge): readonly Prediction[] | undefined {
  const predictions = pairs.map((pair) => ({ pair, rttMs: book.coordinates?.predictMs(pair) ?? NaN }));
  const isOpen = ({ pair, rttMs }: Prediction) =>
    !Number.isNaN(rttMs) && Number.isNaN(book.get(pair)?.rttMs ?? NaN) && Number.isNaN(book.get(pair)?.outMs ?? NaN);
  return pairs.length > 1 && predictions.every(isOpen) ? predictions : undefined;
}

/**
 * Whether the pair with the shortest prediction is the fastest one, among those that work and were measured since;
 * undefined when these are less than two.
 */
export function rankedRight(predictions: readonly Prediction[], book: PathKnowledge): boolean | undefined {
  const outMs = (pair: LocatorPair) => book.get(pair)?.outMs ?? NaN;
  const working = predictions.filter(({ pair }) =>
    !Number.isNaN(outMs(pair)) && book.get(pair)!.lastSuccess > book.get(pair)!.lastFailure
  );
  if (working.length < 2) return undefined;
  const first = working.reduce((best, each) => each.rttMs < best.rttMs ? each : best);
  return outMs(first.pair) <= Math.min(...working.map(({ pair }) => outMs(pair))) + SAME_MS;
}
