/** The paper's default policy. */

import { CyclingPlan, Pacing } from "./pacing.ts";
import type { ExplorationStart, Plan, Policy } from "./policy.ts";
import { drawn } from "./preference.ts";

/**
 * Cycles over all pairs, the one in use included, in an order that is drawn anew for each round (paper §5.3: "selects
 * address pairs by cycling randomly over all possible paths"), the preferred ones first where there are preferences.
 * Answers go on in the same cycle, as in the paper.
 */
export class RandomPolicy implements Policy {
  readonly name = "random";
  readonly summary = "random cycle over all locator pairs, four probes 0.5 s apart, then doubling gaps";

  plan(start: ExplorationStart): Plan {
    const draw = () => drawn(start, start.pairs).map((pair) => ({ pair, reason: "next of a random cycle" }));
    return new CyclingPlan(draw, new Pacing(start.timing), false);
  }
}
