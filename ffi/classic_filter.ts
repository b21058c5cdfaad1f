/** Socket filters in classic BPF: the kernel runs them on each packet before it reaches the socket. */

import { check } from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { addressOf, putAddress, stableBytes } from "./memory.ts";

const SOL_SOCKET = 1, SO_ATTACH_FILTER = 26;

/** An instruction of classic BPF. Jumps count from the next instruction. */
export type ClassicInstruction = readonly [code: number, jumpTrue: number, jumpFalse: number, k: number];

/** Opcodes of classic BPF, as far as used. */
export const ClassicOpcode = {
  LOAD_WORD: 0x20,
  LOAD_HALF: 0x28,
  LOAD_OCTET: 0x30,
  AND: 0x54,
  JUMP_IF_EQUAL: 0x15,
  JUMP_IF_GREATER: 0x25,
  JUMP_IF_AT_LEAST: 0x35,
  JUMP_IF_SET: 0x45,
  /** Ends with the number of octets that go to the socket; 0 drops the packet. */
  RETURN: 0x06,
} as const;

/** What a filter can load beside the packet's octets (`SKF_AD_…`), as the constant of a load. */
export const Ancillary = {
  /** EtherType. */
  PROTOCOL: 0xfffff000,
  /** 0 when the packet is for this host, 4 when this host sends it. */
  PACKET_TYPE: 0xfffff004,
  INTERFACE: 0xfffff008,
  /** 0 when there is no VLAN tag beside the packet. */
  VLAN_TAG: 0xfffff02c,
} as const;

/** Sets or replaces the filter of a socket. Throws {@linkcode SystemError}. */
export function attachClassicFilter(fd: number, instructions: readonly ClassicInstruction[]): void {
  const code = stableBytes(8 * instructions.length);
  const view = new DataView(code.buffer);
  instructions.forEach(([opcode, jumpTrue, jumpFalse, k], i) => {
    view.setUint16(8 * i, opcode, true);
    view.setUint8(8 * i + 2, jumpTrue);
    view.setUint8(8 * i + 3, jumpFalse);
    view.setUint32(8 * i + 4, k, true);
  });
  const program = stableBytes(16);
  const words = new Uint32Array(program.buffer, 0, 4);
  words[0] = instructions.length;
  putAddress(words, 2, addressOf(code));
  check(libc().setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, program, 16), threadErrno[0], "SO_ATTACH_FILTER");
}
