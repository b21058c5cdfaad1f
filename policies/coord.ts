/** Ordered by network coordinates where nothing was measured. */

import { AdaptivePolicy } from "./adaptive.ts";
import { BACKGROUND, clearlyFaster } from "./better.ts";
import { type PathBook, type PathKnowledge, type PathRecord, UNKNOWN_PATH } from "./path_book.ts";
import type { BackgroundProbing, ExplorationStart, LocatorPair, Plan, Policy } from "./policy.ts";

/**
 * As `adaptive`, which does not know what to try first with a peer that is new: here coordinates predict the delay of pairs
 * that were never measured. A measurement always wins over a prediction, no suspect is tried first whatever its delay, and no
 * path is left for another one on the strength of a prediction.
 */
export class CoordPolicy implements Policy {
  readonly name = "coord";
  readonly summary = "as adaptive, with the delays of unmeasured pairs predicted by network coordinates";
  /** Coordinates need a sample of each pair more often than delays need to be refreshed; the bit rate stays the same. */
  readonly background: BackgroundProbing = { ...BACKGROUND, freshMs: 120_000 };
  readonly coordinates = true;
  readonly #pacing = new AdaptivePolicy();

  plan(start: ExplorationStart): Plan {
    return this.#pacing.plan({ ...start, book: new PredictingBook(start.book) });
  }

  better(pairs: readonly LocatorPair[], current: LocatorPair, book: PathBook): LocatorPair | undefined {
    return clearlyFaster(pairs, current, book);
  }
}

/** A path book that guesses what was not measured. */
class PredictingBook implements PathKnowledge {
  readonly #book: PathKnowledge;

  constructor(book: PathKnowledge) {
    this.#book = book;
  }

  get coordinates(): PathKnowledge["coordinates"] {
    return this.#book.coordinates;
  }

  get(pair: LocatorPair): PathRecord | undefined {
    const record = this.#book.get(pair);
    if (record !== undefined && !Number.isNaN(record.outMs)) return record;
    const isMeasured = record !== undefined && !Number.isNaN(record.rttMs);
    const rttMs = isMeasured ? record.rttMs : this.#book.coordinates?.predictMs(pair) ?? NaN;
    if (Number.isNaN(rttMs)) return record;
    // Coordinates know no directions: each has half. The way back stays unknown, for it is what the pacing goes by, and a
    // prediction that is too short would cost a probe each time.
    return {
      ...record ?? UNKNOWN_PATH,
      rttMs,
      outMs: rttMs / 2,
      source: isMeasured ? "measured" : "coordinate",
    };
  }

  isSuspect(...question: Parameters<PathKnowledge["isSuspect"]>): boolean {
    return this.#book.isSuspect(...question);
  }

  deadSince(...question: Parameters<PathKnowledge["deadSince"]>): number {
    return this.#book.deadSince(...question);
  }
}
