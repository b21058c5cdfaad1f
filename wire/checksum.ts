/** The Internet checksum, as Shim6 control messages use it (RFC 5533 §5.3) and as upper layers do (RFC 8200 §8.1). */

import { get16, get32 } from "./octets.ts";

/**
 * Adds the 16-bit words in [`start`, `end`) to `sum`, with end-around carry; an odd last octet counts as the high half
 * of a word. The result has 16 bits and may be fed into the next call, but only after an even number of octets.
 */
export function onesComplementSum(octets: Uint8Array, start: number, end: number, sum = 0): number {
  const even = start + ((end - start) & ~1);
  for (let i = start; i < even; i += 2) sum += octets[i] << 8 | octets[i + 1];
  if (even < end) sum += octets[even] << 8;
  return fold(sum);
}

/** The checksum field for a Shim6 header in [`start`, `end`): the sum takes the field itself, octets 4 and 5, as zero. */
export function shim6Checksum(octets: Uint8Array, start: number, end: number): number {
  return ~onesComplementSum(octets, start + 6, end, onesComplementSum(octets, start, start + 4)) & 0xffff;
}

/** Whether the Shim6 header in [`start`, `end`) arrived as it was sent. There is no pseudo-header (RFC 5533 §5.3). */
export function shim6ChecksumGood(octets: Uint8Array, start: number, end: number): boolean {
  return onesComplementSum(octets, start, end) === 0xffff;
}

/**
 * Sum of the pseudo-header of an upper layer (RFC 8200 §8.1). `addresses` is where source and destination, 32 octets,
 * stand; upper layers above the shim use the ULIDs (RFC 5533 §11.1).
 */
export function pseudoHeaderSum(octets: Uint8Array, addresses: number, upperLength: number, protocol: number): number {
  let sum = upperLength + protocol;
  for (let i = addresses; i < addresses + 32; i += 4) sum += get32(octets, i);
  return fold(sum);
}

/**
 * The checksum field for an upper layer in [`start`, `end`), whose own field at `field` is left out of the sum. UDP
 * sends 0xffff for zero (RFC 768), which is the caller's to do.
 */
export function upperLayerChecksum(
  octets: Uint8Array,
  start: number,
  end: number,
  field: number,
  pseudoSum: number,
): number {
  const whole = onesComplementSum(octets, start, end, pseudoSum);
  return ~fold(whole + (~get16(octets, field) & 0xffff)) & 0xffff;
}

function fold(sum: number): number {
  while (sum > 0xffff) sum = sum % 0x1_0000 + Math.floor(sum / 0x1_0000);
  return sum;
}
