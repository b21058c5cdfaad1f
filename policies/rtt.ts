/** Ordered by measured delay. */

import { BACKGROUND, clearlyFaster } from "./better.ts";
import { DisjointPolicy } from "./disjoint.ts";
import { CyclingPlan, type Gaps } from "./pacing.ts";
import type { PathBook } from "./path_book.ts";
import {
  type BackgroundProbing,
  type ExplorationStart,
  type LocatorPair,
  type Plan,
  type Policy,
  type ProbeChoice,
  samePair,
} from "./policy.ts";
import { preferredFirst } from "./preference.ts";

/** Gap that is used when no delay is known, and the shortest one, in ms. */
const UNKNOWN_GAP_MS = 100, LEAST_GAP_MS = 20;
/** The gap as a multiple of the longest known round-trip time: an answer comes before the next probe leaves. */
const PATIENCE = 1.3;

/**
 * The pair with the shortest measured delay first, pairs of unknown delay last in the order of `disjoint`, the failed pair
 * at the very end; before that goes what the hosts prefer. Background probes keep the order fresh. Probes follow each other as soon as an answer should have
 * come; after one round over all pairs the gaps double up to the Max Probe Timeout.
 */
export class RttPolicy implements Policy {
  readonly name = "rtt";
  readonly summary = "ordered by measured delay, which background probes keep fresh";
  readonly background: BackgroundProbing = BACKGROUND;

  plan(start: ExplorationStart): Plan {
    const { pairs, current, book, timing } = start;
    const outMs = (pair: LocatorPair) => book.get(pair)?.outMs ?? NaN;
    const isKnown = (pair: LocatorPair) => !Number.isNaN(outMs(pair)) && !samePair(pair, current);
    const known = pairs.filter(isKnown).sort((a, b) => outMs(a) - outMs(b));
    const first: ProbeChoice[] = known.map((pair) => ({ pair, reason: "shortest measured delay first" }));
    const unknown = pairs.filter((pair) => !isKnown(pair));
    const draw = () => {
      const rest = unknown.length === 0 ? undefined : new DisjointPolicy().plan({ ...start, pairs: unknown });
      const round = [...first, ...unknown.map(() => rest!.answer!(start.now))];
      const isFailed = ({ pair }: ProbeChoice) => samePair(pair, current);
      return [...preferredFirst(start, round.filter((choice) => !isFailed(choice))), ...round.filter(isFailed)];
    };
    const slowest = Math.max(0, ...known.map((pair) => book.get(pair)!.rttMs).filter((ms) => !Number.isNaN(ms)));
    const gapMs = known.length === 0 ? UNKNOWN_GAP_MS : Math.max(LEAST_GAP_MS, PATIENCE * slowest);
    return new CyclingPlan(draw, new TrainPacing(gapMs, pairs.length, timing.maxProbeTimeoutMs), false);
  }

  better(pairs: readonly LocatorPair[], current: LocatorPair, book: PathBook): LocatorPair | undefined {
    return clearlyFaster(pairs, current, book);
  }
}

/** Equal gaps for one round, then doubling ones. */
class TrainPacing implements Gaps {
  #sent = 0;

  constructor(readonly gapMs: number, readonly round: number, readonly maxMs: number) {}

  next(): number {
    this.#sent++;
    return Math.min(this.gapMs * 2 ** Math.max(0, this.#sent - this.round + 1), this.maxMs);
  }

  restart(): void {
    this.#sent = 0;
  }
}
