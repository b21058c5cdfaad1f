/**
 * Cuts a super-packet of segmentation offload into the packets that go on the wire, as the kernel would: Linux cannot
 * segment behind a Shim6 header, and each segment needs one of its own. The octets of the payload stay where they are;
 * only headers are written.
 */

import { IPV6_HEADER_LENGTH } from "../wire/ipv6.ts";
import { type PacketMemory, swap16 } from "./packet_memory.ts";

/** IP protocol numbers of the upper layers that the datapath looks into. */
export const Protocol = { TCP: 6, UDP: 17, ICMPV6: 58 } as const;

const SOURCE_ADDRESS = 8, BOTH_ADDRESSES = 32;
const TCP_SEQUENCE = 4, TCP_DATA_OFFSET = 12, TCP_FLAGS = 13, TCP_CHECKSUM = 16, TCP_MINIMUM = 20;
const TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_CWR = 0x80;
const UDP_LENGTH = 4, UDP_CHECKSUM = 6, UDP_HEADER = 8;

/** The segmentation of one super-packet at a time. */
export class Segmenter {
  /** Segments of the present super-packet. */
  count = 0;
  /** Octets from the IPv6 header to the payload. */
  headerLength = 0;
  readonly #memory: PacketMemory;
  #tcp = false;
  #payload = 0;
  #payloadLength = 0;
  #size = 0;
  #transportHeaderLength = 0;
  #sequence = 0;
  #flags = 0;
  /** Sum of pseudo-header and transport header without what differs between segments. */
  #sum = 0;

  /** Works on packets in `memory`. */
  constructor(memory: PacketMemory) {
    this.#memory = memory;
  }

  /**
   * Takes the super-packet in [`start`, `end`) with its transport header (TCP or UDP) at `transport`. At most `size`
   * octets of payload go into a segment. Returns false when its headers do not make sense.
   */
  begin(start: number, end: number, transport: number, protocol: number, size: number): boolean {
    const { bytes, halves, view } = this.#memory;
    const tcp = protocol === Protocol.TCP;
    if (transport < start + IPV6_HEADER_LENGTH || (transport & 1) !== 0 || size <= 0) return false;
    if (transport + (tcp ? TCP_MINIMUM : UDP_HEADER) > end) return false;
    const headerLength = tcp ? (bytes[transport + TCP_DATA_OFFSET] >> 4) * 4 : UDP_HEADER;
    const payload = transport + headerLength;
    if (tcp && headerLength < TCP_MINIMUM || payload > end) return false;
    this.#tcp = tcp;
    this.headerLength = payload - start;
    this.#payload = payload;
    this.#payloadLength = end - payload;
    this.#size = size;
    this.#transportHeaderLength = headerLength;
    this.count = Math.max(1, Math.ceil(this.#payloadLength / size));
    // A sum in one's complement is taken back by adding the complement.
    let sum = this.#memory.sum(start + SOURCE_ADDRESS, BOTH_ADDRESSES, swap16(protocol));
    sum = this.#memory.sum(transport, headerLength, sum);
    const at = transport >> 1;
    if (tcp) {
      this.#sequence = view.getUint32(transport + TCP_SEQUENCE);
      this.#flags = bytes[transport + TCP_FLAGS];
      sum += 0xffff & ~halves[at + TCP_SEQUENCE / 2];
      sum += 0xffff & ~halves[at + TCP_SEQUENCE / 2 + 1];
      sum += 0xffff & ~(this.#flags << 8);
      sum += 0xffff & ~halves[at + TCP_CHECKSUM / 2];
    } else {
      sum += 0xffff & ~halves[at + UDP_LENGTH / 2];
      sum += 0xffff & ~halves[at + UDP_CHECKSUM / 2];
    }
    this.#sum = sum;
    return true;
  }

  /** Where the payload of segment `i` begins. */
  payloadOffset(i: number): number {
    return this.#payload + i * this.#size;
  }

  /** Octets of the payload of segment `i`. */
  payloadLength(i: number): number {
    return Math.min(this.#size, this.#payloadLength - i * this.#size);
  }

  /** Writes what segment `i` has of its own into the copy of the transport header at `transport`, which is even. */
  finish(i: number, transport: number): void {
    const { bytes, halves, view } = this.#memory;
    const length = this.payloadLength(i);
    let sum = this.#sum + swap16(this.#transportHeaderLength + length);
    const at = transport >> 1;
    let checksum: number;
    if (this.#tcp) {
      let flags = this.#flags;
      if (i > 0) flags &= ~TCP_CWR;
      if (i < this.count - 1) flags &= ~(TCP_FIN | TCP_PSH);
      view.setUint32(transport + TCP_SEQUENCE, this.#sequence + i * this.#size);
      bytes[transport + TCP_FLAGS] = flags;
      sum += halves[at + TCP_SEQUENCE / 2] + halves[at + TCP_SEQUENCE / 2 + 1] + (flags << 8);
      checksum = at + TCP_CHECKSUM / 2;
    } else {
      halves[at + UDP_LENGTH / 2] = swap16(UDP_HEADER + length);
      sum += swap16(UDP_HEADER + length);
      checksum = at + UDP_CHECKSUM / 2;
    }
    // Zero would mean "no checksum" in UDP, and in TCP both are the same.
    halves[checksum] = ~this.#memory.sum(this.payloadOffset(i), length, sum) & 0xffff || 0xffff;
  }
}

/**
 * Completes the transport checksum of the packet that ends at `end`: its field at `start + offset` holds the sum of the
 * pseudo-header so far (VNET_NEEDS_CSUM). Returns false when the field does not lie in the packet.
 */
export function completeChecksum(memory: PacketMemory, start: number, offset: number, end: number): boolean {
  const field = start + offset;
  if (start > end || field + 2 > end || (field & 1) !== 0) return false;
  memory.halves[field >> 1] = ~memory.sum(start, end - start, 0) & 0xffff || 0xffff;
  return true;
}
