/** Whether two samples may come from the same distribution: the two-sample Kolmogorov-Smirnov test, with room for noise. */

/** What {@linkcode agreement} found. */
export interface Agreement {
  /** The largest difference of the two distribution functions, 0 … 1. */
  readonly gap: number;
  /** Accident alone keeps the gap below this, but for a share `alpha` of all pairs of samples. */
  readonly bound: number;
  /** Whether it is below. */
  readonly agrees: boolean;
}

/**
 * Compares what was measured with what was expected. Measured values may be larger or smaller by `tolerance`, which
 * covers what the measurement itself adds. `alpha`: how often two samples of one distribution may be told apart.
 *
 * The bound is Smirnov's for large samples. It holds for independent values; those of a distribution with steps stay
 * further below it.
 */
export function agreement(
  expected: readonly number[],
  measured: readonly number[],
  tolerance: number,
  alpha: number,
): Agreement {
  const below = distribution(expected), measuredBelow = distribution(measured);
  let gap = 0;
  for (const value of expected) gap = Math.max(gap, below(value) - measuredBelow(value + tolerance));
  for (const value of measured) gap = Math.max(gap, measuredBelow(value) - below(value + tolerance));
  const bound = Math.sqrt(-Math.log(alpha / 2) / 2 * (1 / expected.length + 1 / measured.length));
  return { gap, bound, agrees: gap < bound };
}

/** The share of the values that are at most so large. */
function distribution(values: readonly number[]): (value: number) => number {
  const ascending = values.toSorted((a, b) => a - b);
  return (value) => {
    let low = 0, high = ascending.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (ascending[middle] <= value) low = middle + 1;
      else high = middle;
    }
    return low / ascending.length;
  };
}
