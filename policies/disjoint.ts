/** The order of LinShim6 0.9. */

import { CyclingPlan, Pacing } from "./pacing.ts";
import {
  type ExplorationStart,
  type LocatorPair,
  type Plan,
  type Policy,
  type ProbeChoice,
  samePair,
} from "./policy.ts";
import { drawn, preferredFirst } from "./preference.ts";

/**
 * Pairs that share no address with the failed one come first, in random order: they avoid both its access links, so they
 * survive the failure of either. Then the pairs that share one address, and the failed pair itself last. Before all that
 * goes what the hosts prefer.
 */
export class DisjointPolicy implements Policy {
  readonly name = "disjoint";
  readonly summary = "pairs that share no address with the failed one first, as LinShim6 0.9";

  plan(start: ExplorationStart): Plan {
    const { pairs, current, timing } = start;
    const sharesNothing = (pair: LocatorPair) => pair.local !== current.local && pair.peer !== current.peer;
    const apart = pairs.filter(sharesNothing);
    const sharing = pairs.filter((pair) => !sharesNothing(pair) && !samePair(pair, current));
    const failed = pairs.filter((pair) => samePair(pair, current));
    const choices = (of: readonly LocatorPair[], reason: string): ProbeChoice[] =>
      drawn(start, of).map((pair) => ({ pair, reason }));
    const draw = () => [
      ...preferredFirst(start, [
        ...choices(apart, "shares no address with the failed pair"),
        ...choices(sharing, "shares one address with the failed pair"),
      ]),
      ...choices(failed, "the failed pair itself, last"),
    ];
    return new CyclingPlan(draw, new Pacing(timing), true);
  }
}
