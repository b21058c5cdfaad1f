/** Numbers about many trials. Rounded on the way out, so that the same run prints the same octets on every machine. */

/** Quantiles of a list; NaN in each when the list is empty. */
export interface Quantiles {
  readonly p50: number;
  readonly p80: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

/** The smallest value that at least the share `q` (0 … 1) of an ascending list does not exceed (nearest rank). */
export function quantile(ascending: readonly number[], q: number): number {
  if (ascending.length === 0) return NaN;
  return ascending[Math.max(0, Math.ceil(q * ascending.length) - 1)];
}

/** The quantiles that the experiments print, to a thousandth. */
export function quantiles(values: readonly number[]): Quantiles {
  const ascending = values.toSorted((a, b) => a - b);
  const at = (q: number) => round(quantile(ascending, q), 3);
  return { p50: at(0.5), p80: at(0.8), p95: at(0.95), p99: at(0.99), max: at(1) };
}

/** Share of the values that are smaller than `limit`, to a ten-thousandth. */
export function shareBelow(values: readonly number[], limit: number): number {
  return round(values.filter((value) => value < limit).length / values.length, 4);
}

/** Arithmetic mean; NaN for no values. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Rounds to so many decimals. */
export function round(value: number, decimals: number): number {
  const scale = 10 ** decimals;
  return Math.round(value * scale) / scale;
}

/** The largest number of events in any window of `windowMs`; `times` ascend. A window is closed at its beginning only. */
export function peakInWindow(times: readonly number[], windowMs: number): number {
  let peak = 0;
  for (let first = 0, next = 0; next < times.length; next++) {
    while (times[next] - times[first] >= windowMs) first++;
    peak = Math.max(peak, next - first + 1);
  }
  return peak;
}
