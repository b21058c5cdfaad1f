/**
 * What happens to packets on emulated paths: delay, jitter, loss, rate, failure. Pure: frames lie in a buffer that the
 * driver (`emulator.ts`) reads into and writes from, and the time is an argument.
 *
 * The way of a frame:
 * 1. `reserve()` names the place in the arena into which the driver reads it.
 * 2. `arrive()` finds its path by source and destination prefix and says whether it is to be written back at once,
 *    was dropped, or is held.
 * 3. When `nextDue()` has come, `takeDue()` yields held frames in the order in which they leave; each is written and
 *    then given back with `finish()`.
 *
 * The arena is a ring: room is taken in order of arrival and reclaimed when the oldest frame has left. A frame of a slow
 * path so keeps the room of later ones for at most the longest delay, which bounds the waste, and no frame is copied.
 */

import { parseAddress, type Prefix } from "../wire/address.ts";

/** How a unidirectional path behaves. */
export interface PathSettings {
  /** From arrival to departure, in ms. */
  readonly delayMs: number;
  /** Added to each packet's delay: uniform in [0, jitterMs). */
  readonly jitterMs: number;
  /** Whether jitter may let a packet overtake another of its path. */
  readonly reorder: boolean;
  /** Share of packets lost, 0 to 1. */
  readonly loss: number;
  /** In Mbit/s (10⁶ bit/s of IPv6 packets); 0 means no limit. */
  readonly rateMbit: number;
  /** How long a packet may wait for the rate limit before it is dropped instead, in ms. */
  readonly queueMs: number;
  /** False: every packet is lost, also those under way. */
  readonly up: boolean;
}

/** A path that changes nothing. */
export const CLEAR_PATH: PathSettings = {
  delayMs: 0,
  jitterMs: 0,
  reorder: false,
  loss: 0,
  rateMbit: 0,
  queueMs: 100,
  up: true,
};

/** What became of a frame that arrived. */
export const Verdict = { FORWARD: 0, HELD: 1, DROPPED: 2 } as const;
/** One of {@linkcode Verdict}. */
export type Verdict = typeof Verdict[keyof typeof Verdict];

/** What a path has done so far. */
export interface PathCounters {
  readonly from: string;
  readonly to: string;
  /** Packets and octets (from the IPv6 header on) passed on. */
  readonly packets: number;
  readonly bytes: number;
  /** Packets dropped by chance, … */
  readonly lost: number;
  /** … because the path was down, … */
  readonly down: number;
  /** … or because the rate limit's queue was full. */
  readonly queue: number;
}

/** Settings that make no sense. */
export class InvalidPathSettings extends Error {
  /** `InvalidPathSettings` */
  override name = "InvalidPathSettings";
}

/** The largest frame: virtio-net header and an IPv6 packet with the largest payload length. */
export const MAX_FRAME: number = 10 + 40 + 65535;
/** Octets of the virtio-net header before each packet. */
export const FRAME_HEADER = 10;

/** Frames start so that the IPv6 header, after the virtio-net header, is aligned and can be read by words. */
const ALIGN = 16;
const FRAME_START = ALIGN - FRAME_HEADER;

/** Words of the IPv6 header that hold the /64 prefixes of source and destination. */
const SOURCE_WORD = 2, DESTINATION_WORD = 6;

const PATHS = 64;

/** Width and number of the bins of {@linkcode PathEmulator.latenessQuantile}. */
const LATENESS_BIN_MS = 0.01, LATENESS_BINS = 10_000;

const FNV_OFFSET = 0x811c9dc5, FNV_PRIME = 0x01000193;

/** All emulated paths of a router. */
export class PathEmulator {
  readonly #octets: Uint8Array;
  readonly #words: Uint32Array;
  readonly #seed: number;

  // Paths, as a struct of arrays. Four words of key each: source prefix, destination prefix.
  #paths = 0;
  readonly #keys = new Uint32Array(4 * PATHS);
  readonly #names: [from: string, to: string][] = [];
  readonly #settings: PathSettings[] = [];
  readonly #random = new Uint32Array(PATHS);
  /** When the last packet leaves, and when the rate limit is free again. */
  readonly #lastDue = new Float64Array(PATHS);
  readonly #busyUntil = new Float64Array(PATHS);
  readonly #packets = new Float64Array(PATHS);
  readonly #bytes = new Float64Array(PATHS);
  readonly #lost = new Float64Array(PATHS);
  readonly #down = new Float64Array(PATHS);
  readonly #queue = new Float64Array(PATHS);

  // Held frames: a ring of records in order of arrival; the number of a frame, masked, is its record.
  readonly #mask: number;
  #oldest = 0;
  #next = 0;
  readonly #offset: Uint32Array;
  readonly #length: Uint32Array;
  readonly #path: Uint8Array;
  readonly #due: Float64Array;
  readonly #done: Uint8Array;
  /** Where the next frame goes in the arena; the oldest frame's offset is where free room ends. */
  #head = 0;

  /** Binary heap of frame numbers: earliest due first, then in order of arrival. */
  readonly #heap: Int32Array;
  #heapSize = 0;

  readonly #lateness = new Uint32Array(LATENESS_BINS);
  #latest = 0;

  /** Packets of no known path. */
  unclassified = 0;
  /** Packets that found no room. */
  overflow = 0;

  /**
   * `arena`: where frames are kept, at an offset that is a multiple of 4, at least three times {@linkcode MAX_FRAME}
   * long. `capacity`: the largest number of frames held, a power of two. `seed` fixes loss and jitter.
   */
  constructor(arena: Uint8Array, capacity: number, seed: number) {
    if (arena.length < 3 * MAX_FRAME) throw new RangeError(`arena of ${arena.length} octets is too small`);
    if (capacity < 2 || (capacity & (capacity - 1)) !== 0) throw new RangeError(`${capacity} is no power of two`);
    this.#octets = arena;
    this.#words = new Uint32Array(arena.buffer, arena.byteOffset, arena.length >> 2);
    this.#seed = seed;
    this.#mask = capacity - 1;
    this.#offset = new Uint32Array(capacity);
    this.#length = new Uint32Array(capacity);
    this.#path = new Uint8Array(capacity);
    this.#due = new Float64Array(capacity);
    this.#done = new Uint8Array(capacity);
    this.#heap = new Int32Array(capacity);
  }

  /**
   * Sets how packets from one /64 prefix to another fare from now on; what is absent keeps its value, at first that of
   * {@linkcode CLEAR_PATH}. Throws {@linkcode InvalidPathSettings}.
   */
  setPath(from: Prefix, to: Prefix, change: Partial<PathSettings>): void {
    const path = this.#find(from, to);
    const settings = { ...this.#settings[path], ...change };
    const within = (name: "delayMs" | "jitterMs" | "loss" | "rateMbit" | "queueMs", highest: number) => {
      const value = settings[name];
      if (!(value >= 0 && value <= highest)) {
        throw new InvalidPathSettings(`${name} ${value} is not between 0 and ${highest}`);
      }
    };
    within("delayMs", 60_000);
    within("jitterMs", 60_000);
    within("loss", 1);
    within("rateMbit", 1e6);
    within("queueMs", 60_000);
    this.#settings[path] = settings;
  }

  /** Whether some path treats packets one by one, so that super-packets must be cut up before they arrive. */
  get needsSinglePackets(): boolean {
    return this.#settings.some((s) => s.loss > 0 || s.rateMbit > 0 || (s.jitterMs > 0 && s.reorder));
  }

  #find(from: Prefix, to: Prefix): number {
    for (const prefix of [from, to]) {
      if (prefix.length !== 64) throw new InvalidPathSettings(`${prefix.address}/${prefix.length} is no /64 prefix`);
    }
    const octets = new Uint8Array(16);
    octets.set(parseAddress(from.address).subarray(0, 8));
    octets.set(parseAddress(to.address).subarray(0, 8), 8);
    const key = new Uint32Array(octets.buffer);
    for (let path = 0; path < this.#paths; path++) {
      if (key.every((word, i) => word === this.#keys[4 * path + i])) return path;
    }
    if (this.#paths === PATHS) throw new InvalidPathSettings(`more than ${PATHS} paths`);
    const path = this.#paths++;
    this.#keys.set(key, 4 * path);
    this.#names[path] = [`${from.address}/64`, `${to.address}/64`];
    this.#settings[path] = CLEAR_PATH;
    // By the prefixes, so that the fate of a path's packets does not depend on the order in which paths were set.
    this.#random[path] = octets.reduce((hash, octet) => Math.imul(hash ^ octet, FNV_PRIME), FNV_OFFSET ^ this.#seed);
    return path;
  }

  /** Where in the arena the next frame of at most {@linkcode MAX_FRAME} octets may be read to; -1 when it is full. */
  reserve(): number {
    const end = this.#octets.length;
    const room = MAX_FRAME + ALIGN;
    if (this.#oldest === this.#next) return (this.#head = 0) + FRAME_START;
    const tail = this.#offset[this.#oldest & this.#mask] - FRAME_START;
    if (this.#next - this.#oldest > this.#mask) return -1;
    if (this.#head > tail) {
      if (end - this.#head >= room) return this.#head + FRAME_START;
      if (tail <= room) return -1;
      return (this.#head = 0) + FRAME_START;
    }
    return tail - this.#head > room ? this.#head + FRAME_START : -1;
  }

  /** A frame of `length` octets was read to `offset`, which {@linkcode reserve} named, at the time `now`. */
  arrive(offset: number, length: number, now: number): Verdict {
    const path = this.#classify(offset);
    if (path < 0 || length < FRAME_HEADER + 40) {
      this.unclassified++;
      return Verdict.DROPPED;
    }
    const settings = this.#settings[path];
    if (!settings.up) {
      this.#down[path]++;
      return Verdict.DROPPED;
    }
    if (settings.loss > 0 && this.#draw(path) < settings.loss) {
      this.#lost[path]++;
      return Verdict.DROPPED;
    }
    let due = now;
    if (settings.rateMbit > 0) {
      due = Math.max(now, this.#busyUntil[path]);
      if (due - now > settings.queueMs) {
        this.#queue[path]++;
        return Verdict.DROPPED;
      }
      due += (length - FRAME_HEADER) * 8 / (settings.rateMbit * 1000);
      this.#busyUntil[path] = due;
    }
    due += settings.delayMs;
    if (settings.jitterMs > 0) due += this.#draw(path) * settings.jitterMs;
    if (!settings.reorder) due = Math.max(due, this.#lastDue[path]);
    this.#lastDue[path] = Math.max(due, this.#lastDue[path]);
    if (due <= now) {
      this.#packets[path]++;
      this.#bytes[path] += length - FRAME_HEADER;
      return Verdict.FORWARD;
    }
    const number = this.#next;
    const record = number & this.#mask;
    this.#next = number + 1;
    this.#offset[record] = offset;
    this.#length[record] = length;
    this.#path[record] = path;
    this.#due[record] = due;
    this.#done[record] = 0;
    this.#head = (offset + length + ALIGN - 1) & -ALIGN;
    this.#push(record);
    return Verdict.HELD;
  }

  /** When the next held frame leaves; Infinity when none is held. */
  nextDue(): number {
    return this.#heapSize === 0 ? Infinity : this.#due[this.#heap[0]];
  }

  /** A held frame whose time has come, or -1. The caller writes it out and gives it back with {@linkcode finish}. */
  takeDue(now: number): number {
    while (this.#heapSize > 0) {
      const record = this.#heap[0];
      if (this.#due[record] > now) return -1;
      this.#pop();
      const path = this.#path[record];
      if (this.#settings[path].up) {
        this.#packets[path]++;
        this.#bytes[path] += this.#length[record] - FRAME_HEADER;
        this.#late(now - this.#due[record]);
        return record;
      }
      this.#down[path]++;
      this.finish(record);
    }
    return -1;
  }

  /** Where a taken frame lies in the arena. */
  offsetOf(frame: number): number {
    return this.#offset[frame];
  }

  /** Octets of a taken frame. */
  lengthOf(frame: number): number {
    return this.#length[frame];
  }

  /** The room of a taken frame may be used again. */
  finish(frame: number): void {
    this.#done[frame] = 1;
    while (this.#oldest < this.#next && this.#done[this.#oldest & this.#mask] === 1) this.#oldest++;
  }

  /** Frames held now. */
  get held(): number {
    return this.#heapSize;
  }

  /** The lateness (from due to taken) in ms that the share `q` of held frames did not exceed, to 10 µs. */
  latenessQuantile(q: number): number {
    const total = this.#lateness.reduce((sum, count) => sum + count, 0);
    if (q >= 1 || total === 0) return this.#latest;
    let seen = 0;
    for (let bin = 0; bin < LATENESS_BINS; bin++) {
      seen += this.#lateness[bin];
      if (seen >= q * total) return (bin + 1) * LATENESS_BIN_MS;
    }
    return this.#latest;
  }

  /** Counters of all paths, in the order in which they were first set. */
  counters(): PathCounters[] {
    return this.#names.map(([from, to], path) => ({
      from,
      to,
      packets: this.#packets[path],
      bytes: this.#bytes[path],
      lost: this.#lost[path],
      down: this.#down[path],
      queue: this.#queue[path],
    }));
  }

  #classify(offset: number): number {
    if (this.#octets[offset + FRAME_HEADER] >> 4 !== 6) return -1;
    const words = this.#words, keys = this.#keys;
    const at = (offset + FRAME_HEADER) >> 2;
    const s0 = words[at + SOURCE_WORD], s1 = words[at + SOURCE_WORD + 1];
    const d0 = words[at + DESTINATION_WORD], d1 = words[at + DESTINATION_WORD + 1];
    for (let path = 0, key = 0; path < this.#paths; path++, key += 4) {
      if (keys[key + 1] === s1 && keys[key + 3] === d1 && keys[key] === s0 && keys[key + 2] === d0) return path;
    }
    return -1;
  }

  /** Uniform in [0, 1): mulberry32, a generator of its own for each path. */
  #draw(path: number): number {
    const state = this.#random[path] = (this.#random[path] + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  #late(ms: number): void {
    this.#lateness[Math.min(LATENESS_BINS - 1, Math.floor(ms / LATENESS_BIN_MS))]++;
    if (ms > this.#latest) this.#latest = ms;
  }

  #before(a: number, b: number): boolean {
    const difference = this.#due[a] - this.#due[b];
    // Of records in the ring the one nearer to the oldest arrived first.
    return difference < 0 || (difference === 0 &&
      ((a - this.#oldest) & this.#mask) < ((b - this.#oldest) & this.#mask));
  }

  #push(record: number): void {
    const heap = this.#heap;
    let at = this.#heapSize++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#before(record, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = record;
  }

  #pop(): void {
    const heap = this.#heap;
    const size = --this.#heapSize;
    if (size === 0) return;
    const record = heap[size];
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#before(heap[child + 1], heap[child])) child++;
      if (!this.#before(heap[child], record)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = record;
  }
}
