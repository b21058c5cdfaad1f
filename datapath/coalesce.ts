/**
 * Joins what arrived in order into a super-packet, so that the kernel handles it at once: segments of one TCP flow, or
 * datagrams of one UDP flow that have the same length. The rules are those of the kernel's own generic receive offload:
 * what was joined could be cut into the very packets that came in. The kernel does that itself for a UDP socket that
 * did not ask for more. Nothing waits: what is open at the end of a batch is written.
 */

import { GsoType, VNET_HEADER_LENGTH, VNET_NEEDS_CSUM } from "deno-tun";
import { IPV6_HEADER_LENGTH } from "../wire/ipv6.ts";
import { type PacketMemory, swap16 } from "./packet_memory.ts";
import { Protocol } from "./segment.ts";

/** Where packets go. The first part of each begins with a vnet header. */
export interface PacketSink {
  /** Adds the `length` octets at `offset` to the packet. */
  append(offset: number, length: number): void;
  /** Writes the packet that was gathered. Returns whether the kernel took it. */
  write(): boolean;
}

/** Flows whose super-packets may be open at the same time. */
const TRAINS = 8;
const PARTS = 64;
/** Every kernel that knows joined datagrams takes 64 in one, the first among them; newer ones take more. */
const UDP_PARTS = 63;
const LARGEST = 65535;
const NEXT_HEADER = 6, ADDRESSES = 8;
/** Within the TCP header: ports 0, sequence 4, acknowledgement 8, data offset and flags and window 12, checksum 16. */
const SEQUENCE = 4, ACKNOWLEDGEMENT = 8, DATA_OFFSET = 12, FLAGS = 13, CHECKSUM = 16, TCP_MINIMUM = 20;
/** Within the UDP header, which begins with the ports too. */
const UDP_LENGTH = 4, UDP_CHECKSUM = 6, UDP_HEADER = 8;
const FIN = 0x01, PSH = 0x08, ACK = 0x10, ECE = 0x40;
/** Flags in which the segments of a super-packet may differ, as they stand in the word at DATA_OFFSET. */
const MAY_DIFFER = (FIN | PSH) << 8;

/** Joins the packets of a batch. Packets start at a multiple of 4, with room for a vnet header before them. */
export class Coalescer {
  readonly #memory: PacketMemory;
  readonly #sink: PacketSink;
  /** Not every kernel takes joined datagrams. */
  #joinsUdp = true;
  /** The open trains: owner, first packet, octets of its transport header and payload, all octets of payload, next sequence number. */
  #open = 0;
  readonly #owner = new Int32Array(TRAINS);
  readonly #start = new Int32Array(TRAINS);
  readonly #headerLength = new Int32Array(TRAINS);
  readonly #size = new Int32Array(TRAINS);
  readonly #total = new Int32Array(TRAINS);
  readonly #sequence = new Uint32Array(TRAINS);
  /** The parts behind the first packet. */
  readonly #parts = new Int32Array(TRAINS);
  readonly #partOffset = new Int32Array(TRAINS * PARTS);
  readonly #partLength = new Int32Array(TRAINS * PARTS);

  /** Joins packets in `memory` and writes them to `sink`. */
  constructor(memory: PacketMemory, sink: PacketSink) {
    this.#memory = memory;
    this.#sink = sink;
  }

  /**
   * Takes the packet in [`start`, `end`), which must stay in place until {@linkcode flush}. Packets with the same
   * `owner` have the same addresses.
   */
  add(owner: number, start: number, end: number): void {
    const { bytes, words, view } = this.#memory;
    const protocol = bytes[start + NEXT_HEADER], transport = start + IPV6_HEADER_LENGTH;
    const udp = protocol === Protocol.UDP && this.#joinsUdp;
    if (!udp && protocol !== Protocol.TCP || transport + (udp ? UDP_HEADER : TCP_MINIMUM) > end) {
      this.#writeAlone(start, end);
      return;
    }
    const headerLength = udp ? UDP_HEADER : (bytes[transport + DATA_OFFSET] >> 4) * 4;
    const flags = udp ? ACK : bytes[transport + FLAGS];
    const payload = end - transport - headerLength;
    const joins = payload > 0 &&
      (udp
        ? view.getUint16(transport + UDP_LENGTH) === UDP_HEADER + payload &&
          view.getUint16(transport + UDP_CHECKSUM) !== 0
        : (flags & ~(FIN | PSH | ECE)) === ACK && headerLength >= TCP_MINIMUM);
    const ends = (flags & (FIN | PSH)) !== 0;

    for (let train = 0; train < this.#open; train++) {
      if (this.#owner[train] !== owner) continue;
      const first = this.#start[train];
      if (words[(first + IPV6_HEADER_LENGTH) >> 2] !== words[transport >> 2]) continue;
      if (joins && this.#fits(train, start, headerLength, payload) && this.#isGood(start, end)) {
        // The first packet of a train is verified when there is something to join.
        if (this.#parts[train] > 0 || this.#isGood(first, first + this.#alone(train))) {
          this.#append(train, transport + headerLength, payload);
          if (!udp) bytes[first + IPV6_HEADER_LENGTH + FLAGS] |= flags & (FIN | PSH);
          if (ends || payload < this.#size[train] || this.#parts[train] === (udp ? UDP_PARTS : PARTS)) {
            this.#close(train);
          }
          return;
        }
      }
      this.#close(train);
      break;
    }

    if (!joins || ends) {
      this.#writeAlone(start, end);
      return;
    }
    if (this.#open === TRAINS) this.#close(0);
    const train = this.#open++;
    this.#owner[train] = owner;
    this.#start[train] = start;
    this.#headerLength[train] = headerLength;
    this.#size[train] = payload;
    this.#total[train] = payload;
    this.#sequence[train] = udp ? 0 : view.getUint32(transport + SEQUENCE) + payload;
    this.#parts[train] = 0;
  }

  /** Writes everything that is open. */
  flush(): void {
    while (this.#open > 0) this.#close(0);
  }

  /** Octets of the first packet of a train. */
  #alone(train: number): number {
    return IPV6_HEADER_LENGTH + this.#headerLength[train] + this.#size[train];
  }

  /** Whether a packet continues a train: headers equal but for what each packet has of its own, in TCP next in sequence. */
  #fits(train: number, start: number, headerLength: number, payload: number): boolean {
    const { words } = this.#memory;
    const a = this.#start[train] >> 2, b = start >> 2;
    if (headerLength !== this.#headerLength[train] || payload > this.#size[train]) return false;
    if (IPV6_HEADER_LENGTH + headerLength + this.#total[train] + payload > LARGEST) return false;
    // Version, traffic class and flow label; next header and hop limit.
    if (words[a] !== words[b] || words[a + 1] >>> 16 !== words[b + 1] >>> 16) return false;
    return headerLength === UDP_HEADER || this.#isNextSegment(train, start, headerLength);
  }

  #isNextSegment(train: number, start: number, headerLength: number): boolean {
    const { words, view } = this.#memory;
    const a = (this.#start[train] + IPV6_HEADER_LENGTH) >> 2, b = (start + IPV6_HEADER_LENGTH) >> 2;
    if (view.getUint32(start + IPV6_HEADER_LENGTH + SEQUENCE) !== this.#sequence[train]) return false;
    if (words[a + ACKNOWLEDGEMENT / 4] !== words[b + ACKNOWLEDGEMENT / 4]) return false;
    if (((words[a + DATA_OFFSET / 4] ^ words[b + DATA_OFFSET / 4]) & ~MAY_DIFFER) !== 0) return false;
    for (let i = TCP_MINIMUM / 4; i < headerLength / 4; i++) {
      if (words[a + i] !== words[b + i]) return false;
    }
    return true;
  }

  /** Whether the transport's checksum is right. */
  #isGood(start: number, end: number): boolean {
    const transport = start + IPV6_HEADER_LENGTH, length = end - transport;
    const protocol = this.#memory.bytes[start + NEXT_HEADER];
    const pseudo = this.#memory.sum(start + ADDRESSES, 32, swap16(length) + swap16(protocol));
    return this.#memory.sum(transport, length, pseudo) === 0xffff;
  }

  #append(train: number, offset: number, length: number): void {
    const part = train * PARTS + this.#parts[train]++;
    this.#partOffset[part] = offset;
    this.#partLength[part] = length;
    this.#total[train] += length;
    this.#sequence[train] += length;
  }

  /** Writes a train and takes it out; the ones behind keep their order. */
  #close(train: number): void {
    const start = this.#start[train], alone = this.#alone(train);
    if (this.#parts[train] === 0) this.#writeAlone(start, start + alone);
    else this.#writeJoined(train, start, alone);
    this.#open--;
    for (let i = train; i < this.#open; i++) {
      this.#owner[i] = this.#owner[i + 1];
      this.#start[i] = this.#start[i + 1];
      this.#headerLength[i] = this.#headerLength[i + 1];
      this.#size[i] = this.#size[i + 1];
      this.#total[i] = this.#total[i + 1];
      this.#sequence[i] = this.#sequence[i + 1];
      const parts = this.#parts[i] = this.#parts[i + 1];
      this.#partOffset.copyWithin(i * PARTS, (i + 1) * PARTS, (i + 1) * PARTS + parts);
      this.#partLength.copyWithin(i * PARTS, (i + 1) * PARTS, (i + 1) * PARTS + parts);
    }
  }

  #writeJoined(train: number, start: number, alone: number): void {
    const { bytes, halves, sum } = this.#memory;
    const transport = start + IPV6_HEADER_LENGTH, length = this.#headerLength[train] + this.#total[train];
    const udp = this.#headerLength[train] === UDP_HEADER;
    const checksum = (transport + (udp ? UDP_CHECKSUM : CHECKSUM)) >> 1, before = halves[checksum];
    halves[(start + 4) >> 1] = swap16(length);
    if (udp) halves[(transport + UDP_LENGTH) >> 1] = swap16(length);
    // The kernel needs no more than the pseudo-header's sum: it will not verify, and completes when it forwards.
    halves[checksum] = sum(start + ADDRESSES, 32, swap16(length) + swap16(bytes[start + NEXT_HEADER]));
    const vnet = (start - VNET_HEADER_LENGTH) >> 1;
    halves[vnet] = VNET_NEEDS_CSUM | (udp ? GsoType.UDP_L4 : GsoType.TCPV6) << 8;
    halves[vnet + 1] = IPV6_HEADER_LENGTH + this.#headerLength[train];
    halves[vnet + 2] = this.#size[train];
    halves[vnet + 3] = IPV6_HEADER_LENGTH;
    halves[vnet + 4] = udp ? UDP_CHECKSUM : CHECKSUM;
    this.#sink.append(start - VNET_HEADER_LENGTH, VNET_HEADER_LENGTH + alone);
    for (let part = train * PARTS, end = part + this.#parts[train]; part < end; part++) {
      this.#sink.append(this.#partOffset[part], this.#partLength[part]);
    }
    if (this.#sink.write() || !udp) return;
    this.#joinsUdp = false;
    halves[(start + 4) >> 1] = halves[(transport + UDP_LENGTH) >> 1] = swap16(alone - IPV6_HEADER_LENGTH);
    halves[checksum] = before;
    this.#writeAlone(start, start + alone);
    for (let part = train * PARTS, end = part + this.#parts[train]; part < end; part++) {
      const payload = this.#partOffset[part];
      this.#writeAlone(payload - UDP_HEADER - IPV6_HEADER_LENGTH, payload + this.#partLength[part]);
    }
  }

  #writeAlone(start: number, end: number): void {
    const { halves } = this.#memory;
    const vnet = (start - VNET_HEADER_LENGTH) >> 1;
    for (let i = 0; i < VNET_HEADER_LENGTH / 2; i++) halves[vnet + i] = 0;
    this.#sink.append(start - VNET_HEADER_LENGTH, end - start + VNET_HEADER_LENGTH);
    this.#sink.write();
  }
}
