/** The IPv6 header (RFC 8200 §3) and the extension headers that may stand before Shim6 (RFC 5533 §4.6). */

import { ADDRESS_LENGTH } from "./address.ts";
import { SHIM6_PROTOCOL } from "./message.ts";
import { get16, put16 } from "./octets.ts";

/** Octets of an IPv6 header without extension headers. */
export const IPV6_HEADER_LENGTH = 40;

/** Every IPv6 path carries packets of this many octets (RFC 8200 §5). */
export const IPV6_MIN_MTU = 1280;

/** Next Header values that matter to the shim (RFC 8200 §4). */
export const NextHeader = {
  HopByHop: 0,
  Routing: 43,
  Fragment: 44,
  None: 59,
  DestinationOptions: 60,
} as const;

/** Offsets of fields in an IPv6 header. */
export const Ipv6Offset = {
  PayloadLength: 4,
  NextHeader: 6,
  HopLimit: 7,
  Source: 8,
  Destination: 24,
} as const;

/** The fields of an IPv6 header. Mutable, so that a busy sender can reuse one object. */
export interface Ipv6Header {
  /** 16 octets. */
  source: Uint8Array;
  /** 16 octets. */
  destination: Uint8Array;
  /** Octets behind this header. */
  payloadLength: number;
  /** Protocol of what follows. */
  nextHeader: number;
  /** 0 to 255. */
  hopLimit: number;
  /** With the ECN bits; 0 when left out. */
  trafficClass?: number;
  /** 20 bits; 0 when left out. */
  flowLabel?: number;
}

/** Writes a bare IPv6 header, 40 octets, at `offset`. */
export function writeIpv6Header(into: Uint8Array, offset: number, header: Ipv6Header): void {
  const trafficClass = header.trafficClass ?? 0, flowLabel = header.flowLabel ?? 0;
  into[offset] = 0x60 | trafficClass >> 4;
  into[offset + 1] = (trafficClass & 0x0f) << 4 | flowLabel >> 16 & 0x0f;
  put16(into, offset + 2, flowLabel);
  put16(into, offset + Ipv6Offset.PayloadLength, header.payloadLength);
  into[offset + Ipv6Offset.NextHeader] = header.nextHeader;
  into[offset + Ipv6Offset.HopLimit] = header.hopLimit;
  into.set(header.source, offset + Ipv6Offset.Source);
  into.set(header.destination, offset + Ipv6Offset.Source + ADDRESS_LENGTH);
}

/**
 * Where the packet that starts at `start` ends by its Payload Length, or why it is none. Octets behind that end are
 * padding of the link. A jumbogram (Payload Length 0 and an option, RFC 2675) counts as truncated.
 */
export function ipv6PacketEnd(octets: Uint8Array, start: number): number | "not-ipv6" | "truncated" {
  if (octets.length - start < 1 || octets[start] >> 4 !== 6) return "not-ipv6";
  if (octets.length - start < IPV6_HEADER_LENGTH) return "truncated";
  const end = start + IPV6_HEADER_LENGTH + get16(octets, start + Ipv6Offset.PayloadLength);
  return end > octets.length ? "truncated" : end;
}

/**
 * Where the Shim6 header of the packet in [`start`, `end`) stands; its first 8 octets lie before `end`. Before it there
 * may be Hop-by-Hop Options, in first place only, and Destination Options and Routing, in any order, because a receiver
 * takes them as they come (RFC 8200 §4.1, RFC 5533 §4.6). Nothing else is looked through: a Fragment, AH or ESP header
 * is the IP stack's business first.
 */
export function findShim6Header(
  octets: Uint8Array,
  start: number,
  end: number,
  protocol = SHIM6_PROTOCOL,
): number | "not-shim6" | "truncated" {
  let nextHeader = octets[start + Ipv6Offset.NextHeader];
  let at = start + IPV6_HEADER_LENGTH;
  while (nextHeader !== protocol) {
    if (!mayPrecedeShim6(nextHeader, at === start + IPV6_HEADER_LENGTH)) return "not-shim6";
    if (at + 8 > end) return "truncated";
    nextHeader = octets[at];
    at += extensionHeaderLength(octets, at);
  }
  return at + 8 > end ? "truncated" : at;
}

/** Octets of the extension header at `at`, of any kind but Fragment and AH (RFC 8200 §4.2). */
export function extensionHeaderLength(octets: Uint8Array, at: number): number {
  return (octets[at + 1] + 1) * 8;
}

function mayPrecedeShim6(nextHeader: number, first: boolean): boolean {
  return nextHeader === NextHeader.DestinationOptions || nextHeader === NextHeader.Routing ||
    nextHeader === NextHeader.HopByHop && first;
}
