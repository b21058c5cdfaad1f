/** The paper's default policy. */

import { CyclingPlan, Pacing, shuffled } from "./pacing.ts";
import type { ExplorationStart, Plan, Policy } from "./policy.ts";

/**
 * Cycles over all pairs, the one in use included, in an order that is drawn anew for each round (paper §5.3: "selects
 * address pairs by cycling randomly over all possible paths"). Answers go on in the same cycle, as in the paper.
 */
export class RandomPolicy implements Policy {
  readonly name = "random";
  readonly summary = "random cycle over all locator pairs, four probes 0.5 s apart, then doubling gaps";

  plan(start: ExplorationStart): Plan {
    const draw = () => shuffled(start.pairs, start.random).map((pair) => ({ pair, reason: "next of a random cycle" }));
    return new CyclingPlan(draw, new Pacing(start.timing), false);
  }
}
