/**
 * The memory in which the packet loop keeps packets, and the Internet checksum over it (RFC 1071).
 *
 * It is a WebAssembly memory, because the checksum of the payload is the one thing that touches every octet of every
 * translated packet: the routine below adds 64 octets a step with vector instructions. The memory never grows, so its
 * address never changes and the kernel may read and write it.
 */

import { addressOf, type PacketMemory as RawPacketMemory } from "deno-tun";

/** Types and instructions of WebAssembly that the checksum needs (WebAssembly 2.0, binary format, §5.3 and §5.4). */
const I32 = 0x7f, I64 = 0x7e, V128 = 0x7b, VOID = 0x40;
const BLOCK = 0x02, LOOP = 0x03, END = 0x0b, BR = 0x0c, BR_IF = 0x0d;
const GET = 0x20, SET = 0x21;
const I32_LOAD8_U = [0x2d, 0, 0], I32_LOAD16_U = [0x2f, 0, 0], I64_LOAD32_U = [0x35, 0, 0];
const I32_CONST = 0x41, I64_CONST = 0x42, I32_LT_U = 0x49;
const I32_ADD = 0x6a, I32_SUB = 0x6b, I64_ADD = 0x7c, I64_AND = 0x83, I64_SHR_U = 0x88;
const I32_WRAP_I64 = 0xa7, I64_EXTEND_I32_U = 0xad;
const V128_LOAD = [0xfd, 0x00, 0], I32X4_EXTRACT_LANE = [0xfd, 0x1b];
const I32X4_EXTADD_PAIRWISE_I16X8_U = [0xfd, 0x7f], I32X4_ADD = [0xfd, 0xae, 0x01];

/** The parameters and then the variables of the routine. */
const AT = 0, LENGTH = 1, INITIAL = 2, SUM = 3, FIRST = 4, SECOND = 5;
/** 64 and 0xffff as signed LEB128; numbers below 64 stand for themselves. */
const N64 = [0xc0, 0x00], NFFFF = [0xff, 0xff, 0x03];

/** Adds the 16 octets at AT + `offset`, as eight numbers of 16 bits, to the four 32-bit lanes of `vector`. */
const addVector = (vector: number, offset: number) => [
  ...[GET, vector, GET, AT, ...V128_LOAD, offset, ...I32X4_EXTADD_PAIRWISE_I16X8_U, ...I32X4_ADD, SET, vector],
];
const addLane = (vector: number, lane: number) => [
  ...[GET, SUM, GET, vector, ...I32X4_EXTRACT_LANE, lane, I64_EXTEND_I32_U, I64_ADD, SET, SUM],
];
/** Runs `body` and moves on by `octets`, as long as there are so many left. */
const eachOf = (octets: number[], body: number[]) => [
  ...[BLOCK, VOID, LOOP, VOID, GET, LENGTH, I32_CONST, ...octets, I32_LT_U, BR_IF, 1, ...body],
  ...[GET, AT, I32_CONST, ...octets, I32_ADD, SET, AT, GET, LENGTH, I32_CONST, ...octets, I32_SUB, SET, LENGTH],
  ...[BR, 0, END, END],
];
const FOLD = [
  ...[GET, SUM, I64_CONST, ...NFFFF, I64_AND, GET, SUM, I64_CONST, 16, I64_SHR_U, I64_ADD, SET, SUM],
];

const BODY = [
  ...[GET, INITIAL, I64_EXTEND_I32_U, SET, SUM],
  // A lane holds 2 × 65535 a step, so that it can take 1 MiB.
  ...eachOf(N64, [...addVector(FIRST, 0), ...addVector(SECOND, 16), ...addVector(FIRST, 32), ...addVector(SECOND, 48)]),
  ...eachOf([16], addVector(FIRST, 0)),
  ...eachOf([4], [GET, SUM, GET, AT, ...I64_LOAD32_U, I64_ADD, SET, SUM]),
  ...eachOf([2], [GET, SUM, GET, AT, ...I32_LOAD16_U, I64_EXTEND_I32_U, I64_ADD, SET, SUM]),
  ...eachOf([1], [GET, SUM, GET, AT, ...I32_LOAD8_U, I64_EXTEND_I32_U, I64_ADD, SET, SUM]),
  ...[FIRST, SECOND].flatMap((vector) => [0, 1, 2, 3].flatMap((lane) => addLane(vector, lane))),
  ...[...FOLD, ...FOLD, ...FOLD, GET, SUM, I32_WRAP_I64, END],
];

function unsignedLeb128(n: number): number[] {
  return n < 128 ? [n] : [n & 127 | 128, ...unsignedLeb128(n >>> 7)];
}
const vector = (items: number[][]) => [...unsignedLeb128(items.length), ...items.flat()];
const sized = (octets: number[]) => [...unsignedLeb128(octets.length), ...octets];
const section = (id: number, items: number[][]) => [id, ...sized(vector(items))];

const LOCALS = vector([[1, I64], [2, V128]]);
const MODULE = new Uint8Array([
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...section(1, [[0x60, 3, I32, I32, I32, 1, I32]]),
  ...section(2, [[1, 0x6d, 1, 0x6d, 2, 1, 1, ...unsignedLeb128(65536)]]), // m.m, a memory of any size
  ...section(3, [[0]]),
  ...section(7, [[1, 0x73, 0, 0]]), // s
  ...section(10, [sized([...LOCALS, ...BODY])]),
]);

const PAGE = 65536;

/** Packet memory. 16-bit sums here are in memory order: as the little-endian machine loads the network's words. */
export class PacketMemory implements RawPacketMemory {
  /** All of it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same as 16-bit numbers, little-endian. */
  readonly halves: Uint16Array<ArrayBuffer>;
  /** The same as 32-bit numbers, little-endian. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** For big-endian and unaligned fields. */
  readonly view: DataView<ArrayBuffer>;
  /** Where it lies, for the kernel. */
  readonly address: number;
  /**
   * Adds the `length` octets at `offset` to `initial` (32 bits) in one's complement. Returns 16 bits in memory order:
   * stored at an even offset through `halves`, its complement is the checksum.
   */
  readonly sum: (offset: number, length: number, initial: number) => number;
  #reserved = 0;

  /** Sets `length` octets of address space aside; the system gives real memory for what is touched. */
  constructor(length: number) {
    const pages = Math.ceil(length / PAGE);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const buffer = memory.buffer as ArrayBuffer;
    this.bytes = new Uint8Array(buffer);
    this.halves = new Uint16Array(buffer);
    this.words = new Uint32Array(buffer);
    this.view = new DataView(buffer);
    this.address = addressOf(this.bytes);
    const { s } = new WebAssembly.Instance(new WebAssembly.Module(MODULE), { m: { m: memory } }).exports;
    this.sum = s as PacketMemory["sum"];
  }

  /** Sets `length` octets aside, at a multiple of `alignment`. Throws `RangeError` when the memory is used up. */
  reserve(length: number, alignment: number): number {
    const offset = Math.ceil(this.#reserved / alignment) * alignment;
    if (offset + length > this.bytes.length) throw new RangeError(`packet memory of ${this.bytes.length} is used up`);
    this.#reserved = offset + length;
    return offset;
  }
}

/** A 16-bit number between network order and memory order. */
export function swap16(n: number): number {
  return (n & 0xff) << 8 | n >>> 8 & 0xff;
}
