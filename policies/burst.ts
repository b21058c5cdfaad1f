/** Several first probes at once (paper §5.4). */

import { CyclingPlan, Pacing } from "./pacing.ts";
import type { ExplorationStart, Plan, Policy } from "./policy.ts";
import { drawn } from "./preference.ts";

/** The largest burst: as many as the paper's testbed has unidirectional paths. */
export const MAX_BURST = 18;

/**
 * As `random`, but the first N probes leave at once: the answer that comes back first belongs to the path with the
 * lowest delay of those tried (paper §5.4, N = 4). This departs from the sequential probing of RFC 5534 §4.3. With fewer
 * than N pairs each gets one probe of the burst.
 */
export class BurstPolicy implements Policy {
  readonly name: string;
  readonly summary: string;
  readonly #size: number;

  /** `size`: 1 to {@linkcode MAX_BURST}. Throws `RangeError` otherwise. */
  constructor(size: number) {
    if (!Number.isInteger(size) || size < 1 || size > MAX_BURST) {
      throw new RangeError(`a burst has 1 to ${MAX_BURST} probes, not ${size}`);
    }
    this.#size = size;
    this.name = `burst${size}`;
    this.summary = size === 1
      ? "a burst of one: the same as random"
      : `random cycle whose first ${size} probes leave at once, so that the fastest path answers first`;
  }

  plan(start: ExplorationStart): Plan {
    const size = Math.min(this.#size, start.pairs.length);
    const draw = () =>
      drawn(start, start.pairs).map((pair) => ({ pair, reason: `next of a random cycle, burst of ${size}` }));
    return new CyclingPlan(draw, new Pacing(start.timing, size), false);
  }
}
