/** Big-endian fields in octets: what DataView does, without a view for each packet. Nothing here checks bounds. */

import type { ContextTag } from "./message.ts";

/** The unsigned 16-bit field at `offset`. */
export function get16(octets: Uint8Array, offset: number): number {
  return octets[offset] << 8 | octets[offset + 1];
}

/** The unsigned 32-bit field at `offset`. */
export function get32(octets: Uint8Array, offset: number): number {
  return (octets[offset] << 24 | octets[offset + 1] << 16 | octets[offset + 2] << 8 | octets[offset + 3]) >>> 0;
}

/** The 47-bit context tag in the six octets at `offset`; the top bit, P or reserved, is not part of it (RFC 5533 §5). */
export function getTag(octets: Uint8Array, offset: number): ContextTag {
  return ((octets[offset] & 0x7f) << 8 | octets[offset + 1]) * 0x1_0000_0000 + get32(octets, offset + 2);
}

/** Writes the low 16 bits of `value`. */
export function put16(octets: Uint8Array, offset: number, value: number): void {
  octets[offset] = value >>> 8;
  octets[offset + 1] = value;
}

/** Writes the low 32 bits of `value`. */
export function put32(octets: Uint8Array, offset: number, value: number): void {
  octets[offset] = value >>> 24;
  octets[offset + 1] = value >>> 16;
  octets[offset + 2] = value >>> 8;
  octets[offset + 3] = value;
}

/** Writes a context tag into six octets, with the top bit clear. */
export function putTag(octets: Uint8Array, offset: number, tag: ContextTag): void {
  put16(octets, offset, Math.floor(tag / 0x1_0000_0000) & 0x7fff);
  put32(octets, offset + 2, tag);
}
