/** How long hosts explore when a provider dies, and with it every path through one of a host's locators. */

import type { SeededRandom } from "../random.ts";
import type { FailureOutcome } from "./host_pair.ts";
import { runTrials, type TrialOptions } from "./trials.ts";

/** What the experiment is told. */
export interface ProviderOptions extends TrialOptions {
  /** Providers of one host that die together, fewer than it has. */
  readonly down: number;
  /** The delay of each path is drawn uniformly between these, in ms. */
  readonly delayMs: readonly [number, number];
}

/** Kills the provider on which a host sends, and `down` - 1 others of that host; host A and host B in turn. */
export function runProvider(options: ProviderOptions): FailureOutcome[] {
  const { locators, down, delayMs: [low, high] } = options;
  let turn = 0;
  return runTrials(
    options,
    (random) => low + (high - low) * random.next(),
    (pair, _chooser, random) => {
      const atA = turn++ % 2 === 0;
      const path = atA ? pair.forth : pair.back;
      const locatorOf = (index: number) => atA ? Math.floor(index / locators[1]) : index % locators[1];
      const dead = providers(locators[atA ? 0 : 1], locatorOf(path), down, random);
      const broken = pair.pairs.map((_, index) => index).filter((index) => dead.includes(locatorOf(index)));
      return [...broken, ...broken.map((index) => index + pair.pairs.length)];
    },
  );
}

/** `inUse` and `down` - 1 others of 0 … count - 1. */
function providers(count: number, inUse: number, down: number, random: SeededRandom): number[] {
  const dead = [inUse];
  while (dead.length < down) {
    const drawn = random.below(count);
    if (!dead.includes(drawn)) dead.push(drawn);
  }
  return dead;
}
