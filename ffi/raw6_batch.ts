/**
 * Many packets a system call, for the packet loop: nothing here allocates once it is built. Packets lie in one piece of
 * memory that the caller owns; they are named by their offset in it.
 */

import {} from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { putAddress } from "./memory.ts";

/** Memory for packets and for the structures that describe them to the kernel. */
export interface PacketMemory {
  /** All of it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same memory as 32-bit words. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** The address of its first octet. */
  readonly address: number;
  /** Sets `length` octets aside, at a multiple of `alignment`, and returns their offset. */
  reserve(length: number, alignment: number): number;
}

/** struct mmsghdr in words: name 0, its length 2, iovecs 4, their number 6, control 8, its length 10, flags 12, octets received 14. */
const HEADER_LENGTH = 64, HEADER_WORDS = 16;
const NAME = 0, NAME_LENGTH = 2, IOV = 4, IOV_COUNT = 6, CONTROL = 8, CONTROL_LENGTH = 10, FLAGS = 12, RECEIVED = 14;
/** struct iovec in words: base 0, length 2. */
const IOVEC_LENGTH = 16, IOVEC_WORDS = 4;
const SOCKADDR_LENGTH = 28, SOCKADDR_AREA = 32, SOCKADDR_ADDRESS = 8;
/** struct cmsghdr in words: length 0, level 2, type 3, data 4. */
const CMSG_LEVEL = 2, CMSG_TYPE = 3, CMSG_DATA = 4, CMSG_HEADER_LENGTH = 16;
const CONTROL_AREA = 128, CONTROL_AREA_WORDS = 32;
const SOL_IPV6 = 41, IPV6_FLOWINFO = 11, IPV6_PKTINFO = 50, IPV6_HOPLIMIT = 52;
const MSG_DONTWAIT = 0x40, MSG_TRUNC = 0x20;
const DEFAULT_HOP_LIMIT = 64;

/** Octets that are free before each slot of a receiver. */
export const SLOT_LEAD = 64;

/** Receives batches from the payload socket into slots. */
export class PayloadReceiver {
  readonly #fd: number;
  readonly #memory: PacketMemory;
  readonly #slots: number;
  readonly #stride: number;
  readonly #firstSlot: number;
  readonly #names: number;
  readonly #controls: number;
  readonly #headers: number;
  readonly #headerBytes: Uint8Array<ArrayBuffer>;

  /**
   * `slots` packets a batch, each of at most `slotLength` octets. Slots lie an odd number of cache lines apart, so that
   * their beginnings do not share cache sets; {@linkcode SLOT_LEAD} octets before each are free for the caller.
   */
  constructor(fd: number, memory: PacketMemory, slots: number, slotLength: number) {
    this.#fd = fd;
    this.#memory = memory;
    this.#slots = slots;
    this.#stride = ((slotLength + 127) & ~127) + SLOT_LEAD;
    this.#firstSlot = memory.reserve(slots * this.#stride, 64) + SLOT_LEAD;
    this.#names = memory.reserve(slots * SOCKADDR_AREA, 64);
    this.#controls = memory.reserve(slots * CONTROL_AREA, 64);
    this.#headers = memory.reserve(slots * HEADER_LENGTH, 64) >> 2;
    this.#headerBytes = memory.bytes.subarray(this.#headers * 4, this.#headers * 4 + slots * HEADER_LENGTH);
    const iovecs = memory.reserve(slots * IOVEC_LENGTH, 64);
    const words = memory.words;
    for (let i = 0; i < slots; i++) {
      putAddress(words, (iovecs >> 2) + i * IOVEC_WORDS, memory.address + this.#firstSlot + i * this.#stride);
      words[(iovecs >> 2) + i * IOVEC_WORDS + 2] = slotLength;
      const header = this.#headers + i * HEADER_WORDS;
      putAddress(words, header + NAME, memory.address + this.#names + i * SOCKADDR_AREA);
      putAddress(words, header + IOV, memory.address + iovecs + i * IOVEC_LENGTH);
      words[header + IOV_COUNT] = 1;
      putAddress(words, header + CONTROL, memory.address + this.#controls + i * CONTROL_AREA);
    }
  }

  /** Receives what has come in, at most a batch. Returns the number of packets, 0 when there is none. */
  receive(): number {
    const words = this.#memory.words;
    for (let i = 0, header = this.#headers; i < this.#slots; i++, header += HEADER_WORDS) {
      words[header + NAME_LENGTH] = SOCKADDR_LENGTH;
      words[header + CONTROL_LENGTH] = CONTROL_AREA;
    }
    const received = libc().recvmmsg(this.#fd, this.#headerBytes, this.#slots, MSG_DONTWAIT, null);
    return received > 0 ? received : 0;
  }

  /** Where packet `i` of the batch lies in the memory, from its Shim6 header on. */
  offset(i: number): number {
    return this.#firstSlot + i * this.#stride;
  }

  /** Octets of packet `i`; 0 when it did not fit into its slot. */
  length(i: number): number {
    const header = this.#headers + i * HEADER_WORDS;
    return (this.#memory.words[header + FLAGS] & MSG_TRUNC) !== 0 ? 0 : this.#memory.words[header + RECEIVED];
  }

  /** Offset in the memory of the source address of packet `i`. */
  source(i: number): number {
    return this.#names + i * SOCKADDR_AREA + SOCKADDR_ADDRESS;
  }

  /** Offset in the memory of the destination address of packet `i`; -1 when the kernel did not give it. */
  destination(i: number): number {
    const data = this.#find(i, IPV6_PKTINFO);
    return data < 0 ? -1 : data * 4;
  }

  /** Traffic class and flow label of packet `i`: the first word of its IPv6 header in memory order, without version. */
  flowInfo(i: number): number {
    // Left out by the kernel when all of it is zero.
    const data = this.#find(i, IPV6_FLOWINFO);
    return data < 0 ? 0 : this.#memory.words[data];
  }

  /** Hop limit of packet `i`. */
  hopLimit(i: number): number {
    const data = this.#find(i, IPV6_HOPLIMIT);
    return data < 0 ? DEFAULT_HOP_LIMIT : this.#memory.words[data];
  }

  /** Index in words of the data of a control message; -1 when it is not there. */
  #find(i: number, type: number): number {
    const words = this.#memory.words;
    let at = (this.#controls >> 2) + i * CONTROL_AREA_WORDS;
    const end = at + (words[this.#headers + i * HEADER_WORDS + CONTROL_LENGTH] >> 2);
    while (at + CMSG_DATA <= end) {
      if (words[at + CMSG_TYPE] === type && words[at + CMSG_LEVEL] === SOL_IPV6) return at + CMSG_DATA;
      const length = words[at];
      if (length < CMSG_HEADER_LENGTH) return -1;
      at += ((length + 7) & ~7) >> 2;
    }
    return -1;
  }
}

/** Collects packets, each a header part and a payload part, and sends them by one system call for each sender. */
export class SendBatch {
  /** Packets it holds at most. */
  readonly capacity: number;
  /** How many it holds. */
  count = 0;
  readonly #memory: PacketMemory;
  readonly #headers: number;
  readonly #headerBytes: Uint8Array<ArrayBuffer>[];
  readonly #iovecs: number;
  readonly #fds: Int32Array;
  readonly #base: number;

  /** Sets memory aside for `capacity` packets. */
  constructor(memory: PacketMemory, capacity: number) {
    this.#memory = memory;
    this.capacity = capacity;
    this.#base = memory.address;
    this.#headers = memory.reserve(capacity * HEADER_LENGTH, 64) >> 2;
    this.#headerBytes = Array.from({ length: capacity }, (_, i) => {
      const start = this.#headers * 4 + i * HEADER_LENGTH;
      return memory.bytes.subarray(start, this.#headers * 4 + capacity * HEADER_LENGTH);
    });
    const iovecs = memory.reserve(capacity * 2 * IOVEC_LENGTH, 64);
    this.#iovecs = iovecs >> 2;
    this.#fds = new Int32Array(capacity);
    for (let i = 0; i < capacity; i++) {
      const header = this.#headers + i * HEADER_WORDS;
      memory.words[header + NAME_LENGTH] = SOCKADDR_LENGTH;
      putAddress(memory.words, header + IOV, memory.address + iovecs + i * 2 * IOVEC_LENGTH);
    }
  }

  /**
   * Adds a packet for the sender `fd`: `headerLength` octets at `header`, then `payloadLength` at `payload`, to the
   * sockaddr_in6 at `to`. All must stay untouched until it is sent.
   */
  push(fd: number, to: number, header: number, headerLength: number, payload: number, payloadLength: number): void {
    const words = this.#memory.words;
    const i = this.count++;
    this.#fds[i] = fd;
    const mmsghdr = this.#headers + i * HEADER_WORDS;
    putAddress(words, mmsghdr + NAME, this.#base + to);
    words[mmsghdr + IOV_COUNT] = payloadLength === 0 ? 1 : 2;
    const iovec = this.#iovecs + i * 2 * IOVEC_WORDS;
    putAddress(words, iovec, this.#base + header);
    words[iovec + 2] = headerLength;
    putAddress(words, iovec + IOVEC_WORDS, this.#base + payload);
    words[iovec + IOVEC_WORDS + 2] = payloadLength;
  }

  /** The sender of packet `i`. */
  fd(i: number): number {
    return this.#fds[i];
  }

  /**
   * Sends from packet `first` on, as far as they have the same sender. Returns how many were sent; or, when the first
   * of them failed, its errno as a negative number.
   */
  send(first: number): number {
    const fd = this.#fds[first];
    let end = first + 1;
    while (end < this.count && this.#fds[end] === fd) end++;
    const sent = libc().sendmmsg(fd, this.#headerBytes[first], end - first, MSG_DONTWAIT), code = threadErrno[0];
    return sent > 0 ? sent : -code;
  }

  /** Forgets all packets. */
  clear(): void {
    this.count = 0;
  }
}
