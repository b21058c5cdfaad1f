/**
 * Packet sockets (packet(7)) that watch traffic. The kernel writes the first octets of each packet that passes a
 * classic BPF filter into a ring which is mapped into the process: a batch is read without any system call, and a ring
 * that nobody reads costs the kernel one look at each packet.
 */

import { attachClassicFilter, type ClassicInstruction, ClassicOpcode } from "./classic_filter.ts";
import { monotonicNow } from "./clock.ts";
import { check, SystemError } from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { stableBytes } from "./memory.ts";

const AF_PACKET = 17;
/** Packets without their link-layer header, whatever the link. */
const SOCK_DGRAM = 2, SOCK_CLOEXEC = 0x80000;
const ETH_P_ALL_NETWORK_ORDER = 0x0300;
const SOCKADDR_LL_LENGTH = 20;
const SOL_PACKET = 263, PACKET_RX_RING = 5, PACKET_VERSION = 10;
const TPACKET_V2 = 1;
const PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const CLOCK_REALTIME = 0;

/** A block is contiguous memory, a whole number of pages of any size up to 64 KiB. */
const BLOCK_LENGTH = 65_536;
const FRAME_LENGTH = 256;
const FRAMES_PER_BLOCK = BLOCK_LENGTH / FRAME_LENGTH;

// struct tpacket2_hdr and the sockaddr_ll behind it, in words of 32 bits.
const STATUS = 0, WIRE_LENGTH = 1, SNAP_LENGTH = 2, OFFSETS = 3, SECONDS = 4, NANOSECONDS = 5;
const PACKET_TYPE = 32 + 10;
const STATUS_KERNEL = 0, STATUS_USER = 1;

/** `PACKET_OUTGOING`: this host sends the packet. */
const OUTGOING = 4;

/** A packet socket with a ring, on all interfaces of the network namespace in which it was opened. */
export class PacketRing {
  /** The ring. */
  readonly octets: Uint8Array;
  /** The same as words; a packet starts at a multiple of 16 octets. */
  readonly words: Uint32Array;

  /** Where the network header of the current packet starts in {@linkcode octets}. */
  offset = 0;
  /** Octets of the current packet that are in the ring. */
  captured = 0;
  /** Octets of the current packet on the wire, from the network header on. */
  length = 0;
  /** Whether this host sent the current packet. */
  outgoing = false;
  /** When the current packet passed, monotonic ms; never earlier than the one before. */
  time = 0;

  readonly #fd: number;
  readonly #frames: number;
  readonly #mapping: Deno.PointerObject;
  readonly #realtime = stableBytes(16);
  #frame = 0;
  /** Whether the current packet still occupies its frame. */
  #held = false;
  #now = 0;
  /** Monotonic minus real time, ms. */
  #clockOffset = 0;

  /**
   * Opens a ring for `packets` packets (rounded up), each cut to what the filter returns, at most
   * {@linkcode PacketRing.MAX_SNAP}. Until {@linkcode setFilter} nothing passes. A full ring loses what comes next.
   * Throws {@linkcode SystemError}, EPERM without CAP_NET_RAW.
   */
  constructor(packets: number) {
    const blocks = Math.ceil(packets / FRAMES_PER_BLOCK);
    this.#frames = blocks * FRAMES_PER_BLOCK;
    // Protocol 0: no packets before everything is set.
    this.#fd = check(libc().socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0), threadErrno[0], "socket AF_PACKET");
    try {
      this.setFilter([[ClassicOpcode.RETURN, 0, 0, 0]]);
      this.#option(PACKET_VERSION, [TPACKET_V2], "PACKET_VERSION");
      this.#option(PACKET_RX_RING, [BLOCK_LENGTH, blocks, FRAME_LENGTH, this.#frames], "PACKET_RX_RING");
      const length = blocks * BLOCK_LENGTH;
      const mapping = libc().mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED, this.#fd, 0);
      const code = threadErrno[0];
      if (mapping === null || Deno.UnsafePointer.value(mapping) === MAP_FAILED) {
        throw new SystemError("mmap packet ring", code);
      }
      this.#mapping = mapping;
      const buffer = Deno.UnsafePointerView.getArrayBuffer(mapping, length);
      this.octets = new Uint8Array(buffer);
      this.words = new Uint32Array(buffer);
      const address = stableBytes(SOCKADDR_LL_LENGTH);
      new Uint16Array(address.buffer).set([AF_PACKET, ETH_P_ALL_NETWORK_ORDER]);
      check(libc().bind(this.#fd, address, SOCKADDR_LL_LENGTH), threadErrno[0], "bind packet socket");
    } catch (error) {
      libc().close(this.#fd);
      throw error;
    }
  }

  /** Octets of a packet that fit in a frame behind the kernel's own header. */
  static readonly MAX_SNAP: number = FRAME_LENGTH - 80;

  #option(name: number, values: readonly number[], call: string): void {
    const value = stableBytes(4 * values.length);
    new Uint32Array(value.buffer).set(values);
    check(libc().setsockopt(this.#fd, SOL_PACKET, name, value, value.length), threadErrno[0], call);
  }

  /** Replaces the filter at once. It sees a packet from the network header on. Throws {@linkcode SystemError}. */
  setFilter(instructions: readonly ClassicInstruction[]): void {
    attachClassicFilter(this.#fd, instructions);
  }

  /**
   * Starts a batch: takes the time, on which the packets' times are based. The kernel stamps by the real-time clock; if
   * that is set meanwhile, times are kept between those of the packet before and of this call. Returns how many
   * packets the ring holds at most, the bound for one batch.
   */
  startBatch(): number {
    const before = monotonicNow();
    libc().clock_gettime(CLOCK_REALTIME, this.#realtime);
    this.#now = monotonicNow();
    const words = new Uint32Array(this.#realtime.buffer, 0, 4);
    const wall = wallMilliseconds(words[0] + words[1] * 4294967296, words[2]);
    this.#clockOffset = (before + this.#now) / 2 - wall;
    return this.#frames;
  }

  /** Gives the frame of the current packet back and moves to the next. Returns false when there is none yet. */
  next(): boolean {
    const words = this.words;
    if (this.#held) {
      Atomics.store(words, this.#frame * FRAME_LENGTH / 4 + STATUS, STATUS_KERNEL);
      this.#frame = (this.#frame + 1) % this.#frames;
      this.#held = false;
    }
    const base = this.#frame * FRAME_LENGTH / 4;
    if ((Atomics.load(words, base + STATUS) & STATUS_USER) === 0) return false;
    this.#held = true;
    this.offset = base * 4 + (words[base + OFFSETS] >>> 16);
    this.captured = words[base + SNAP_LENGTH];
    this.length = words[base + WIRE_LENGTH];
    this.outgoing = this.octets[base * 4 + PACKET_TYPE] === OUTGOING;
    const stamp = wallMilliseconds(words[base + SECONDS], words[base + NANOSECONDS]) + this.#clockOffset;
    this.time = Math.min(Math.max(stamp, this.time), this.#now);
    return true;
  }

  /** The octets must not be touched afterwards. */
  close(): void {
    libc().munmap(this.#mapping, this.octets.length);
    libc().close(this.#fd);
  }
}

function wallMilliseconds(seconds: number, nanoseconds: number): number {
  return seconds * 1000 + nanoseconds / 1e6;
}
