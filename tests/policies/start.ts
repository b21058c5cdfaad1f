/** What the policies' tests have in common. */

import { PathBook } from "../../policies/path_book.ts";
import type { ExplorationStart, LocatorPair, Plan, ProbeStep } from "../../policies/policy.ts";
import { RFC5534 } from "../../reap/profile.ts";

/** All pairs of `locals` × `peers` locators. */
export function pairs(locals: number, peers: number): LocatorPair[] {
  return Array.from({ length: locals * peers }, (_, i) => ({
    local: `2001:db8:a${Math.floor(i / peers) + 1}::1`,
    peer: `2001:db8:b${i % peers + 1}::1`,
  }));
}

/** The start of an exploration after a failure of the first pair. */
export function start(options: Partial<ExplorationStart> = {}): ExplorationStart {
  const candidates = options.pairs ?? pairs(3, 3);
  return {
    pairs: candidates,
    current: candidates[0],
    cause: "send-timer",
    book: new PathBook(),
    timing: RFC5534,
    random: () => 0.5,
    now: 0,
    ...options,
  };
}

/** The first steps of a plan. */
export function take(plan: Plan, count: number): ProbeStep[] {
  return Array.from({ length: count }, () => plan.next(0));
}
