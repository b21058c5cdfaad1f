/** What a receiving program saw over time: octets in bins, and the gaps in which nothing came. Pure. */

/** A time in which nothing arrived: from the last arrival before it to the first one after, monotonic ms. */
export interface Gap {
  readonly from: number;
  readonly to: number;
}

/** What arrived, as a traffic program reports it. */
export interface ReceptionReport {
  /** Monotonic ms of the first and the last arrival; 0 when nothing came. */
  readonly first: number;
  readonly last: number;
  readonly bytes: number;
  /** Octets in each interval of `bin_ms` since `first`. */
  readonly bin_ms: number;
  readonly bins: readonly number[];
  /** Gaps of at least the wanted length, in order of time. */
  readonly gaps: readonly Gap[];
}

/** Width of a bin in ms. */
const BIN_MS = 10;
/** An hour of bins: what comes later is counted in the last one. */
const MOST_BINS = 360_000;
/** More gaps than this are the normal state of the stream and say nothing. */
const MOST_GAPS = 20_000;

/** Keeps account of arrivals. */
export class Reception {
  readonly #shortestGap: number;
  readonly #bins: number[] = [];
  readonly #gaps: Gap[] = [];
  #first = 0;
  #last = 0;
  #bytes = 0;

  /** `shortestGapMs`: gaps shorter than this are not reported. */
  constructor(shortestGapMs: number) {
    this.#shortestGap = shortestGapMs;
  }

  /** `bytes` octets arrived at `at` (monotonic ms). */
  add(at: number, bytes: number): void {
    if (this.#first === 0) this.#first = at;
    else if (at - this.#last >= this.#shortestGap && this.#gaps.length < MOST_GAPS) {
      this.#gaps.push({ from: this.#last, to: at });
    }
    this.#last = at;
    this.#bytes += bytes;
    const bin = Math.min(MOST_BINS - 1, Math.floor((at - this.#first) / BIN_MS));
    while (this.#bins.length <= bin) this.#bins.push(0);
    this.#bins[bin] += bytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  report(): ReceptionReport {
    return {
      first: this.#first,
      last: this.#last,
      bytes: this.#bytes,
      bin_ms: BIN_MS,
      bins: this.#bins,
      gaps: this.#gaps,
    };
  }
}

/**
 * The silence after `from`: the longest time without an arrival that ends after `from` and before `until`. A stream
 * that never came back is silent until `until`.
 */
export function longestSilence(report: ReceptionReport, from: number, until: number): Gap {
  let longest: Gap = { from, to: from };
  const ended = report.last < until ? [{ from: report.last, to: until }] : [];
  for (const gap of [...report.gaps, ...ended]) {
    if (gap.to > from && gap.from < until && gap.to - gap.from > longest.to - longest.from) longest = gap;
  }
  return longest;
}
