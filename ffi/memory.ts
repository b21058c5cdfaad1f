/**
 * Memory that the kernel or a C structure may point at.
 *
 * A buffer that C knows only by an address inside a structure must stay referenced from JavaScript, or it is collected
 * under the kernel's feet; and V8 may move small typed arrays. Both are settled here: every buffer gets an ArrayBuffer
 * of its own of at least 128 octets, and whoever stores an address keeps the buffer too.
 */

import { libc } from "./libc.ts";

/** Below this V8 may keep the octets inside the object itself, where the collector moves them. */
const SMALLEST_STABLE = 128;

/** Zeroed octets at an address that does not change. */
export function stableBytes(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(Math.max(length, SMALLEST_STABLE)), 0, length);
}

/** The address of a stable buffer as a number (user space lies below 2^47, so a double holds it). */
export function addressOf(buffer: Uint8Array | Uint32Array | Int32Array | BigUint64Array): number {
  return Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer as Uint8Array<ArrayBuffer>)));
}

/** Writes a 64-bit address as two little-endian halves into `words[index]` and `words[index + 1]`. */
export function putAddress(words: Uint32Array, index: number, address: number): void {
  words[index] = address >>> 0;
  words[index + 1] = Math.floor(address / 4294967296);
}

/**
 * Gives the pages that the C library's allocator holds free, between blocks in use, back to the kernel. By itself it
 * gives back only those at the end. Takes a millisecond or so. Does nothing with a C library that cannot do it.
 */
export function giveBackFreePages(): void {
  libc().malloc_trim?.(0);
}

const encoder = new TextEncoder();

/** A NUL-terminated string for C. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  const bytes = encoder.encode(text);
  const buffer = stableBytes(bytes.length + 1);
  buffer.set(bytes);
  return buffer;
}
