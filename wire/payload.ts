/**
 * The payload extension header (RFC 5533 §5.2) for the hot path: numbers and octets in place, nothing allocated for a
 * packet. A packet is given by the octets it stands in and where its IPv6 header starts.
 */

import { extensionHeaderLength, IPV6_HEADER_LENGTH, Ipv6Offset, NextHeader } from "./ipv6.ts";
import { type ContextTag, SHIM6_PROTOCOL } from "./message.ts";
import { get16, getTag, put16, putTag } from "./octets.ts";

/** Octets of the payload extension header. */
export const PAYLOAD_HEADER_LENGTH = 8;

const LARGEST_PAYLOAD = 0xffff;

/**
 * Where the Shim6 header goes in the packet in [`start`, `end`): behind Hop-by-Hop Options, Routing and the Destination
 * Options that precede Routing, before everything else, a Fragment header and final Destination Options included
 * (RFC 5533 §4.6). -1 when the headers run past the packet.
 */
export function payloadInsertOffset(octets: Uint8Array, start: number, end: number): number {
  let at = start + IPV6_HEADER_LENGTH, insert = at;
  if (at > end) return -1;
  let nextHeader = octets[start + Ipv6Offset.NextHeader];
  let mayBeHopByHop = true;
  while (
    nextHeader === NextHeader.Routing || nextHeader === NextHeader.DestinationOptions ||
    nextHeader === NextHeader.HopByHop && mayBeHopByHop
  ) {
    if (at + 8 > end) return -1;
    const passed = nextHeader;
    nextHeader = octets[at];
    at += extensionHeaderLength(octets, at);
    if (at > end) return -1;
    if (passed !== NextHeader.DestinationOptions) insert = at;
    mayBeHopByHop = false;
  }
  return insert;
}

/** The octet that names the header at `at` in the packet at `start`: the Next Header field of the one before it. */
export function nextHeaderOffset(octets: Uint8Array, start: number, at: number): number {
  let field = start + Ipv6Offset.NextHeader;
  for (let header = start + IPV6_HEADER_LENGTH; header < at; header += extensionHeaderLength(octets, header)) {
    field = header;
  }
  return field;
}

/** Writes a payload extension header, 8 octets, at `at`. */
export function writePayloadHeader(into: Uint8Array, at: number, nextHeader: number, tag: ContextTag): void {
  into[at] = nextHeader;
  into[at + 1] = 0;
  putTag(into, at + 2, tag);
  into[at + 2] |= 0x80;
}

/** Whether the Shim6 header at `at` is a payload extension header, of the only length that it has. */
export function isPayloadHeader(octets: Uint8Array, at: number): boolean {
  return (octets[at + 2] & 0x80) !== 0 && octets[at + 1] === 0;
}

/** The receiver's context tag in the payload extension header at `at`. */
export function payloadTag(octets: Uint8Array, at: number): ContextTag {
  return getTag(octets, at + 2);
}

/**
 * Puts a payload extension header into the packet in [`start`, `end`). The headers move to the front into the 8 octets
 * before `start`, which must be there; what follows stays in place. Returns the new start, or -1 when the packet is
 * malformed or would become too long, and then it is as it was. Upper-layer checksums stay, they cover the ULIDs
 * (RFC 5533 §11.1).
 */
export function insertPayloadHeader(octets: Uint8Array, start: number, end: number, tag: ContextTag): number {
  const insert = payloadInsertOffset(octets, start, end);
  const payloadLength = get16(octets, start + Ipv6Offset.PayloadLength) + PAYLOAD_HEADER_LENGTH;
  if (insert < 0 || payloadLength > LARGEST_PAYLOAD) return -1;
  const field = nextHeaderOffset(octets, start, insert);
  const nextHeader = octets[field];
  octets[field] = SHIM6_PROTOCOL;
  put16(octets, start + Ipv6Offset.PayloadLength, payloadLength);
  octets.copyWithin(start - PAYLOAD_HEADER_LENGTH, start, insert);
  writePayloadHeader(octets, insert - PAYLOAD_HEADER_LENGTH, nextHeader, tag);
  return start - PAYLOAD_HEADER_LENGTH;
}

/**
 * Takes out the payload extension header at `at` of the packet at `start`, which {@linkcode findShim6Header} found. The
 * headers before it move back by 8 octets. Returns the new start.
 */
export function removePayloadHeader(octets: Uint8Array, start: number, at: number): number {
  octets[nextHeaderOffset(octets, start, at)] = octets[at];
  put16(
    octets,
    start + Ipv6Offset.PayloadLength,
    get16(octets, start + Ipv6Offset.PayloadLength) - PAYLOAD_HEADER_LENGTH,
  );
  octets.copyWithin(start + PAYLOAD_HEADER_LENGTH, start, at);
  return start + PAYLOAD_HEADER_LENGTH;
}
