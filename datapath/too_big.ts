/** ICMPv6 Packet Too Big (RFC 4443 §3.2) for a packet that does not fit its path once it has a payload header. */

import { VNET_HEADER_LENGTH } from "deno-tun";
import { IPV6_HEADER_LENGTH, IPV6_MIN_MTU, Ipv6Offset } from "../wire/ipv6.ts";
import type { PacketSink } from "./coalesce.ts";
import { type PacketMemory, swap16 } from "./packet_memory.ts";
import { Protocol } from "./segment.ts";

const TYPE_TOO_BIG = 2, FIRST_INFORMATIONAL_TYPE = 128;
const CHECKSUM = 2, MTU = 4, ICMPV6_HEADER = 8;
const HOP_LIMIT = 64;

/** Answers packets that are too big, as a router at the peer's address would. */
export class TooBigWriter {
  readonly #memory: PacketMemory;
  readonly #sink: PacketSink;
  readonly #packet: number;

  /** Answers go to `sink`. */
  constructor(memory: PacketMemory, sink: PacketSink) {
    this.#memory = memory;
    this.#sink = sink;
    this.#packet = memory.reserve(16 + IPV6_MIN_MTU, 64) + 16;
  }

  /**
   * Answers the packet in [`start`, `end`). Returns false when it must not be answered: ICMPv6 errors never cause
   * others (RFC 4443 §2.4 e).
   */
  answer(start: number, end: number, mtu: number): boolean {
    const { bytes, halves, view, sum } = this.#memory;
    const isIcmp = bytes[start + Ipv6Offset.NextHeader] === Protocol.ICMPV6;
    if (isIcmp && bytes[start + IPV6_HEADER_LENGTH] < FIRST_INFORMATIONAL_TYPE) return false;
    const packet = this.#packet, icmp = packet + IPV6_HEADER_LENGTH;
    const quoted = Math.min(end - start, IPV6_MIN_MTU - IPV6_HEADER_LENGTH - ICMPV6_HEADER);
    const length = ICMPV6_HEADER + quoted;
    bytes.fill(0, packet - VNET_HEADER_LENGTH, icmp + ICMPV6_HEADER);
    bytes[packet] = 0x60;
    halves[(packet + Ipv6Offset.PayloadLength) >> 1] = swap16(length);
    bytes[packet + Ipv6Offset.NextHeader] = Protocol.ICMPV6;
    bytes[packet + Ipv6Offset.HopLimit] = HOP_LIMIT;
    bytes.copyWithin(packet + Ipv6Offset.Source, start + Ipv6Offset.Destination, start + IPV6_HEADER_LENGTH);
    bytes.copyWithin(packet + Ipv6Offset.Destination, start + Ipv6Offset.Source, start + Ipv6Offset.Destination);
    bytes[icmp] = TYPE_TOO_BIG;
    view.setUint32(icmp + MTU, mtu);
    bytes.copyWithin(icmp + ICMPV6_HEADER, start, start + quoted);
    const pseudo = sum(packet + Ipv6Offset.Source, 32, swap16(length) + swap16(Protocol.ICMPV6));
    halves[(icmp + CHECKSUM) >> 1] = ~sum(icmp, length, pseudo);
    this.#sink.append(packet - VNET_HEADER_LENGTH, VNET_HEADER_LENGTH + IPV6_HEADER_LENGTH + length);
    this.#sink.write();
    return true;
  }
}
