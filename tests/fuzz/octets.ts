/** Damage to octets: what a fuzzer does to a valid message, a key or an address text. */

import { shim6Checksum } from "../../wire/checksum.ts";
import { put16 } from "../../wire/octets.ts";
import type { SeededRandom } from "../../sim/random.ts";

/** Values at which lengths, counters and signs change their meaning. */
const EDGES = [0, 1, 2, 3, 4, 7, 8, 15, 16, 0x3b, 0x7f, 0x80, 0x8c, 0xfe, 0xff];

/** A copy with one to four changes: bits, octets, edge values, cuts, insertions, moved and repeated pieces. */
export function mutate(original: Uint8Array, random: SeededRandom, longest = 1400): Uint8Array<ArrayBuffer> {
  let octets = new Uint8Array(original);
  for (let times = 1 + random.below(4); times > 0; times--) octets = mutateOnce(octets, random, longest);
  return octets;
}

function mutateOnce(octets: Uint8Array<ArrayBuffer>, random: SeededRandom, longest: number): Uint8Array<ArrayBuffer> {
  const { length } = octets;
  if (length === 0) return new Uint8Array(random.bytes(1 + random.below(16)));
  const at = random.below(length);
  switch (random.below(8)) {
    case 0:
      octets[at] ^= 1 << random.below(8);
      return octets;
    case 1:
      octets[at] = random.below(256);
      return octets;
    case 2:
      octets[at] = EDGES[random.below(EDGES.length)];
      return octets;
    case 3:
      return octets.slice(0, at);
    case 4: // room for more options, or for fewer
      return resized(octets, Math.min(longest, length + 8 * (1 + random.below(8))));
    case 5: {
      const from = random.below(length), piece = octets.slice(from, from + 1 + random.below(24));
      octets.set(piece.subarray(0, Math.min(piece.length, length - at)), at);
      return octets;
    }
    case 6: { // a piece twice: repeated options and reports
      const end = Math.min(length, at + 8 * (1 + random.below(4)));
      const longer = new Uint8Array(Math.min(longest, length + end - at));
      longer.set(octets.subarray(0, Math.min(end, longer.length)));
      longer.set(octets.subarray(at, at + Math.max(0, longer.length - end)), end);
      return longer;
    }
    default: { // a piece less
      const end = Math.min(length, at + 8 * (1 + random.below(4)));
      const shorter = new Uint8Array(length - (end - at));
      shorter.set(octets.subarray(0, at));
      shorter.set(octets.subarray(end), at);
      return shorter;
    }
  }
}

function resized(octets: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(length);
  copy.set(octets.subarray(0, length));
  return copy;
}

/** Makes the Shim6 header at `at` look right: its length to what there is, if so wanted, and its checksum. */
export function seal(octets: Uint8Array, at: number, fixLength: boolean): void {
  if (octets.length < at + 8) return;
  if (fixLength) octets[at + 1] = Math.min(255, Math.floor((octets.length - at) / 8) - 1);
  const end = at + (octets[at + 1] + 1) * 8;
  if (end <= octets.length) put16(octets, at + 4, shim6Checksum(octets, at, end));
}
