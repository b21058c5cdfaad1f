/** What both hosts prefer (RFC 5533 §5.15.3), by the rules of SRV records (RFC 2782). */

import { shuffled } from "./pacing.ts";
import type { ExplorationStart, LocatorPair } from "./policy.ts";

/**
 * The pairs in random order, those of a lower rank first, and among equal ranks those of a greater weight first as a
 * rule: each is the next one with a probability in proportion to its weight.
 */
export function drawn(
  { random, preference }: Pick<ExplorationStart, "random" | "preference">,
  pairs: readonly LocatorPair[],
): LocatorPair[] {
  const wanted = preference === undefined ? [] : pairs.map((pair) => ({ pair, ...preference(pair) }));
  const isAlike = wanted.every(({ rank, weight }) => rank === wanted[0].rank && weight === wanted[0].weight);
  if (isAlike) return shuffled(pairs, random);
  // Of exponential variables with these rates the least is each one with that probability (Efraimidis and Spirakis).
  return wanted.map(({ pair, rank, weight }) => ({ pair, rank, at: -Math.log(1 - random()) / weight }))
    .sort((a, b) => a.rank - b.rank || a.at - b.at).map(({ pair }) => pair);
}

/** The choices in their order, but those of a lower rank before the others. */
export function preferredFirst<T extends { readonly pair: LocatorPair }>(
  { preference }: Pick<ExplorationStart, "preference">,
  choices: readonly T[],
): T[] {
  if (preference === undefined) return [...choices];
  return choices.map((choice) => ({ choice, rank: preference(choice.pair).rank }))
    .sort((a, b) => a.rank - b.rank).map(({ choice }) => choice);
}
