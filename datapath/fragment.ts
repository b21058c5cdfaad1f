/**
 * Fragments a packet for a path that is narrower than it (RFC 8200 §4.5). The Shim6 header belongs to the headers that
 * each fragment carries: the Fragment header comes behind it (RFC 5533 §4.6), so that the receiver restores the ULIDs
 * of each fragment before it reassembles. A packet that is a fragment already is cut into smaller ones of the same
 * datagram.
 */

import { NextHeader } from "../wire/ipv6.ts";
import type { PacketMemory } from "./packet_memory.ts";

/** Octets of the Fragment header: next header, reserved, offset and flags at 2, identification at 4. */
export const FRAGMENT_HEADER_LENGTH = 8;
const OFFSET_AND_FLAGS = 2, IDENTIFICATION = 4, MORE = 1;
const LARGEST_OFFSET = 0xfff8;

/** The fragmentation of one packet at a time. */
export class Fragmenter {
  /** Fragments of the present packet. */
  count = 0;
  readonly #memory: PacketMemory;
  #data = 0;
  #dataLength = 0;
  #size = 0;
  #nextHeader = 0;
  #offset = 0;
  #more = 0;
  #identification = 0;
  #lastIdentification: number;

  /** `identification`: 32 unpredictable bits from which the identifications count up. */
  constructor(memory: PacketMemory, identification: number) {
    this.#memory = memory;
    this.#lastIdentification = identification;
  }

  /**
   * Takes the fragmentable part of a packet, in [`start`, `end`), which begins with the header `nextHeader`. `room`
   * octets of a fragment are left for the Fragment header and what follows it. Returns false when it cannot be done.
   */
  begin(start: number, end: number, nextHeader: number, room: number): boolean {
    const { view } = this.#memory;
    this.#size = (room - FRAGMENT_HEADER_LENGTH) & ~7;
    if (this.#size <= 0) return false;
    if (nextHeader === NextHeader.Fragment) {
      if (start + FRAGMENT_HEADER_LENGTH > end) return false;
      this.#nextHeader = view.getUint8(start);
      const field = view.getUint16(start + OFFSET_AND_FLAGS);
      this.#offset = field & LARGEST_OFFSET;
      this.#more = field & MORE;
      this.#identification = view.getUint32(start + IDENTIFICATION);
      this.#data = start + FRAGMENT_HEADER_LENGTH;
    } else {
      this.#nextHeader = nextHeader;
      this.#offset = 0;
      this.#more = 0;
      this.#identification = this.#lastIdentification = (this.#lastIdentification + 1) >>> 0;
      this.#data = start;
    }
    this.#dataLength = end - this.#data;
    this.count = Math.max(1, Math.ceil(this.#dataLength / this.#size));
    return this.#offset + this.#dataLength <= LARGEST_OFFSET + 7;
  }

  /** Where the data of fragment `i` begins. */
  dataOffset(i: number): number {
    return this.#data + i * this.#size;
  }

  /** Octets of the data of fragment `i`. */
  dataLength(i: number): number {
    return Math.min(this.#size, this.#dataLength - i * this.#size);
  }

  /** Writes the Fragment header of fragment `i` at `at`. */
  writeHeader(i: number, at: number): void {
    const { view } = this.#memory;
    const more = i < this.count - 1 ? MORE : this.#more;
    view.setUint8(at, this.#nextHeader);
    view.setUint8(at + 1, 0);
    view.setUint16(at + OFFSET_AND_FLAGS, (this.#offset + i * this.#size) | more);
    view.setUint32(at + IDENTIFICATION, this.#identification);
  }
}
