/** What typed arrays lack. */

/** A longer copy, filled up with zeros. */
export function enlarged<T extends Int32Array | Float64Array>(array: T, length: number): T {
  const larger = new (array.constructor as new (length: number) => T)(length);
  larger.set(array);
  return larger;
}
