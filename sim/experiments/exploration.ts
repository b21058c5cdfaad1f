/** How long hosts explore when n unidirectional paths are broken (paper §5.3, figure 5). */

import { pathsBreak } from "./failures.ts";
import type { FailureOutcome } from "./host_pair.ts";
import { runTrials, type TrialOptions } from "./trials.ts";

/** What the experiment is told. */
export interface ExplorationOptions extends TrialOptions {
  /** Broken paths, of all directions: 1 to 2 × pairs - 2. */
  readonly broken: number;
  /** The delay of each path is drawn uniformly between these, in ms. */
  readonly delayMs: readonly [number, number];
}

/** Breaks both paths in use and `broken` - 2 others, again and again; a single one in alternate directions. */
export function runExploration(options: ExplorationOptions): FailureOutcome[] {
  const { broken, delayMs: [low, high] } = options;
  return runTrials(options, (random) => low + (high - low) * random.next(), pathsBreak(broken));
}
