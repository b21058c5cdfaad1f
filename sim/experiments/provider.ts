/** How long hosts explore when a provider dies, and with it every path through one of a host's locators. */

import { providerDies } from "./failures.ts";
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
  return runTrials(options, (random) => low + (high - low) * random.next(), providerDies(locators, down));
}
