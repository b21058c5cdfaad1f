/** Packets from and to a TUN device, for the packet loop: nothing here allocates once it is built. */

import { Errno } from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { putAddress } from "./memory.ts";
import type { PacketMemory } from "./raw6_batch.ts";
import { VNET_HEADER_LENGTH } from "./tun.ts";

/** The largest packet: an IPv6 header and 65535 octets. */
export const LARGEST_PACKET = 65575;
/** The packet begins at a multiple of 16; the vnet header ends where it begins. */
const LEAD = 16;

const IOVEC_LENGTH = 16, IOVEC_WORDS = 4;

/**
 * Reads packets into slots, one a system call: a TUN device offers no more. By readv(2), since the length that read(2)
 * takes has 64 bits, and Deno calls what takes such a number 0.4 µs more slowly.
 */
export class TunReader {
  /** How many slots there are. */
  readonly slots: number;
  readonly #fd: number;
  readonly #first: number;
  readonly #stride: number;
  readonly #iovecs: Uint8Array<ArrayBuffer>[];

  /** Sets memory aside for `slots` packets. */
  constructor(fd: number, memory: PacketMemory, slots: number) {
    this.#fd = fd;
    this.slots = slots;
    // An odd number of cache lines, so that the beginnings of slots do not share cache sets.
    this.#stride = ((LEAD + LARGEST_PACKET + 127) & ~127) + 64;
    this.#first = memory.reserve(slots * this.#stride, 64);
    const iovecs = memory.reserve(slots * IOVEC_LENGTH, 64);
    this.#iovecs = Array.from({ length: slots }, (_, i) => {
      const iovec = iovecs + i * IOVEC_LENGTH;
      putAddress(memory.words, iovec >> 2, memory.address + this.start(i) - VNET_HEADER_LENGTH);
      memory.words[(iovec >> 2) + 2] = VNET_HEADER_LENGTH + LARGEST_PACKET;
      return memory.bytes.subarray(iovec, iovec + IOVEC_LENGTH);
    });
  }

  /** Where a packet begins in the memory; its vnet header stands before. */
  start(slot: number): number {
    return this.#first + slot * this.#stride + LEAD;
  }

  /** Reads a packet. Returns its length, 0 when there is none, or a negative errno when the device fails. */
  read(slot: number): number {
    const length = libc().readv(this.#fd, this.#iovecs[slot], 1), code = threadErrno[0];
    if (length >= 0) return Math.max(0, length - VNET_HEADER_LENGTH);
    return code === Errno.EAGAIN || code === Errno.EINTR ? 0 : -code;
  }
}

/** Writes packets, each gathered from several parts. */
export class TunWriter {
  readonly #fd: number;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #address: number;
  readonly #iovecs: number;
  readonly #iovecBytes: Uint8Array<ArrayBuffer>;
  #parts = 0;

  /** `parts`: how many parts a packet has at most, up to 1024. */
  constructor(fd: number, memory: PacketMemory, parts: number) {
    this.#fd = fd;
    this.#words = memory.words;
    this.#address = memory.address;
    const offset = memory.reserve(parts * IOVEC_LENGTH, 64);
    this.#iovecs = offset >> 2;
    this.#iovecBytes = memory.bytes.subarray(offset, offset + parts * IOVEC_LENGTH);
  }

  /** Adds the `length` octets at `offset` to the packet; the first part begins with the vnet header. */
  append(offset: number, length: number): void {
    const iovec = this.#iovecs + this.#parts++ * IOVEC_WORDS;
    putAddress(this.#words, iovec, this.#address + offset);
    this.#words[iovec + 2] = length;
  }

  /** Writes the packet. Returns 0 or the errno: EIO when the device is down, EINVAL for a malformed packet. */
  write(): number {
    const written = libc().writev(this.#fd, this.#iovecBytes, this.#parts), code = threadErrno[0];
    this.#parts = 0;
    return written < 0 ? code : 0;
  }
}
