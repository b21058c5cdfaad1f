/**
 * A small eBPF assembler (RFC 9669). It is pure: the instructions come out as octets, which `BpfProgram` of deno-tun
 * loads. The programs of the datapath are short enough to be read as what the processor does, and so the agent needs
 * no compiler, no object files and no BTF on the machine it runs on.
 *
 * Arithmetic is 64-bit; loads extend with zeros. Only little-endian machines are served (x86-64, aarch64).
 */

/** Thrown when a program cannot be encoded: an unknown label, a value out of range. */
export class AssemblerError extends Error {
  /** `AssemblerError` */
  override name = "AssemblerError";
}

/** A register of the eBPF machine. */
export class Register {
  /** 0..10. */
  readonly number: number;
  /** The register with this number; there is a constant for each. */
  constructor(number: number) {
    this.number = number;
  }
}

/** Results of helpers and of the program. Helpers clobber R0 to R5. */
export const R0: Register = new Register(0);
/** First argument; the context (`struct __sk_buff *`) when the program starts. */
export const R1: Register = new Register(1);
/** Second argument. */
export const R2: Register = new Register(2);
/** Third argument. */
export const R3: Register = new Register(3);
/** Fourth argument. */
export const R4: Register = new Register(4);
/** Fifth argument. */
export const R5: Register = new Register(5);
/** Survives helper calls. */
export const R6: Register = new Register(6);
/** Survives helper calls. */
export const R7: Register = new Register(7);
/** Survives helper calls. */
export const R8: Register = new Register(8);
/** Survives helper calls. */
export const R9: Register = new Register(9);
/** Top of the stack (512 octets, negative offsets); read only. */
export const FP: Register = new Register(10);

/** Width of a memory access. */
export type Width = "u8" | "u16" | "u32" | "u64";

/** A condition on unsigned values; `&` is true when the two have a bit in common. */
export type Condition = "==" | "!=" | ">" | ">=" | "<" | "<=" | "&";

const WIDTHS: Record<Width, number> = { u32: 0x00, u16: 0x08, u8: 0x10, u64: 0x18 };
const CONDITIONS: Record<Condition, number> = {
  "==": 0x10,
  ">": 0x20,
  ">=": 0x30,
  "&": 0x40,
  "!=": 0x50,
  "<": 0xa0,
  "<=": 0xb0,
};

/** Instruction classes and modes (RFC 9669 §3). */
const LOAD_WIDE = 0x18, LOAD = 0x61, STORE_IMMEDIATE = 0x62, STORE = 0x63, ATOMIC = 0xc3;
const ALU64 = 0x07, JUMP = 0x05, OPERAND_IS_REGISTER = 0x08;
const TO_BIG_ENDIAN = 0xdc, CALL = 0x85, EXIT = 0x95;
/** Source register of a wide load whose value is the file descriptor of a map. */
const PSEUDO_MAP_FD = 1;

interface Instruction {
  readonly opcode: number;
  readonly destination: number;
  readonly source: number;
  readonly offset: number;
  readonly immediate: number;
  /** Where a jump goes; its offset is known when all labels are. */
  readonly target?: string;
}

/** Builds one program. Methods append an instruction and return the assembler. */
export class BpfAssembler {
  readonly #instructions: Instruction[] = [];
  readonly #labels = new Map<string, number>();

  /** `destination = operand` */
  set(destination: Register, operand: Register | number): this {
    return this.#alu(0xb0, destination, operand);
  }
  /** `destination += operand` */
  add(destination: Register, operand: Register | number): this {
    return this.#alu(0x00, destination, operand);
  }
  /** `destination -= operand` */
  subtract(destination: Register, operand: Register | number): this {
    return this.#alu(0x10, destination, operand);
  }
  /** `destination /= operand`, unsigned; division by zero yields 0. */
  divide(destination: Register, operand: Register | number): this {
    return this.#alu(0x30, destination, operand);
  }
  /** `destination |= operand`; a negative immediate is extended with its sign. */
  or(destination: Register, operand: Register | number): this {
    return this.#alu(0x40, destination, operand);
  }
  /** `destination &= operand`; a negative immediate is extended with its sign. */
  and(destination: Register, operand: Register | number): this {
    return this.#alu(0x50, destination, operand);
  }
  /** `destination <<= operand` */
  shiftLeft(destination: Register, operand: Register | number): this {
    return this.#alu(0x60, destination, operand);
  }
  /** `destination >>= operand`, filling with zeros. */
  shiftRight(destination: Register, operand: Register | number): this {
    return this.#alu(0x70, destination, operand);
  }

  /** Turns the low 16, 32 or 64 bits from host order to network order or back, and clears the rest. */
  toBigEndian(register: Register, bits: 16 | 32 | 64): this {
    return this.#emit(TO_BIG_ENDIAN, register.number, 0, 0, bits);
  }

  /** `destination = *(width *)(base + offset)` */
  load(width: Width, destination: Register, base: Register, offset: number): this {
    return this.#emit(LOAD | WIDTHS[width], destination.number, base.number, offset, 0);
  }
  /** `*(width *)(base + offset) = value` */
  store(width: Width, base: Register, offset: number, value: Register | number): this {
    return value instanceof Register
      ? this.#emit(STORE | WIDTHS[width], base.number, value.number, offset, 0)
      : this.#emit(STORE_IMMEDIATE | WIDTHS[width], base.number, 0, offset, value);
  }
  /** `*(width *)(base + offset) += value`, atomically. */
  atomicAdd(width: "u32" | "u64", base: Register, offset: number, value: Register): this {
    return this.#emit(ATOMIC | WIDTHS[width], base.number, value.number, offset, 0);
  }

  /** `destination = ` the map behind a file descriptor, for a helper's map argument. */
  setMap(destination: Register, mapFd: number): this {
    return this.#emit(LOAD_WIDE, destination.number, PSEUDO_MAP_FD, 0, mapFd).#emit(0, 0, 0, 0, 0);
  }

  /** Calls a helper (see {@linkcode Helper}): arguments in R1 to R5, result in R0. */
  call(helper: number): this {
    return this.#emit(CALL, 0, 0, 0, helper);
  }

  /** Marks the place that jumps to `name` reach. */
  label(name: string): this {
    if (this.#labels.has(name)) throw new AssemblerError(`label ${name} is there twice`);
    this.#labels.set(name, this.#instructions.length);
    return this;
  }
  /** Goes on at `label`. */
  jump(label: string): this {
    return this.#emit(JUMP, 0, 0, 0, 0, label);
  }
  /** Goes on at `label` when `left condition right` holds. Immediates are extended with their sign. */
  jumpIf(left: Register, condition: Condition, right: Register | number, label: string): this {
    const opcode = JUMP | CONDITIONS[condition];
    return right instanceof Register
      ? this.#emit(opcode | OPERAND_IS_REGISTER, left.number, right.number, 0, 0, label)
      : this.#emit(opcode, left.number, 0, 0, right, label);
  }

  /** Ends the program with R0 as its result. */
  exit(): this {
    return this.#emit(EXIT, 0, 0, 0, 0);
  }
  /** Ends the program with `value` as its result. */
  exitWith(value: number): this {
    return this.set(R0, value).exit();
  }

  /** The instructions, 8 octets each. Throws {@linkcode AssemblerError}. */
  assemble(): Uint8Array {
    const octets = new Uint8Array(8 * this.#instructions.length);
    const view = new DataView(octets.buffer);
    this.#instructions.forEach((instruction, index) => {
      const { opcode, destination, source, immediate, target } = instruction;
      let { offset } = instruction;
      if (target !== undefined) {
        const place = this.#labels.get(target);
        if (place === undefined) throw new AssemblerError(`no label ${target}`);
        offset = place - index - 1;
      }
      if (offset < -0x8000 || offset > 0x7fff) throw new AssemblerError(`offset ${offset} does not fit in 16 bits`);
      view.setUint8(8 * index, opcode);
      view.setUint8(8 * index + 1, source << 4 | destination);
      view.setInt16(8 * index + 2, offset, true);
      view.setInt32(8 * index + 4, immediate, true);
    });
    return octets;
  }

  #alu(operation: number, destination: Register, operand: Register | number): this {
    return operand instanceof Register
      ? this.#emit(ALU64 | operation | OPERAND_IS_REGISTER, destination.number, operand.number, 0, 0)
      : this.#emit(ALU64 | operation, destination.number, 0, 0, operand);
  }

  #emit(
    opcode: number,
    destination: number,
    source: number,
    offset: number,
    immediate: number,
    target?: string,
  ): this {
    if ((immediate | 0) !== immediate) throw new AssemblerError(`immediate ${immediate} does not fit in 32 bits`);
    this.#instructions.push({ opcode, destination, source, offset, immediate, target });
    return this;
  }
}

/** A 16-bit value as a load from a packet yields it: the octets swapped. */
export function networkOrder16(value: number): number {
  return (value & 0xff) << 8 | value >> 8;
}

/** Helper functions of the kernel (`enum bpf_func_id`). */
export const Helper = {
  /** `void *(map, const void *key)`: the value's address or 0. */
  mapLookup: 1,
  /** `long (map, const void *key, const void *value, u64 flags)` */
  mapUpdate: 2,
  /** `u64 ()`: CLOCK_MONOTONIC in ns. */
  ktimeGetNs: 5,
  /** `long (skb, u32 offset, const void *from, u32 length, u64 flags)` */
  skbStoreBytes: 9,
  /** `long (u32 ifindex, u64 flags)`: what the program ends with to send the packet by another device. */
  redirect: 23,
  /** `long (skb, u32 length)`: makes the first octets contiguous. */
  skbPullData: 39,
  /** `long (skb, s32 difference, u32 mode, u64 flags)`: room behind the IPv6 header, more or less. */
  skbAdjustRoom: 50,
  /** `long (const skb, u32 offset, void *to, u32 length, u32 startHeader)` */
  skbLoadBytesRelative: 68,
  /** `long (sock)`: gives back what a lookup returned. */
  skRelease: 86,
  /** `struct bpf_tcp_sock *(sock)`: 0 when it is no TCP connection. */
  tcpSock: 96,
  /** `struct bpf_sock *(ctx, const struct bpf_sock_tuple *, u32 length, u64 netns, u64 flags)`; to be released. */
  skcLookupTcp: 99,
  /** `long (u32 ifindex, void *, int, u64 flags)`: as `redirect`; next hop and link-layer header are the kernel's. */
  redirectNeigh: 152,
  /**
   * `long (skb, u32 ifindex, u32 *length, s32 difference, u64 flags)`: 0 when a packet of so many octets from the
   * network header on, and the difference, fits the device.
   */
  checkMtu: 163,
} as const;

/** `startHeader` of {@linkcode Helper.skbLoadBytesRelative}: offsets count from the network header. */
export const FROM_NETWORK_HEADER = 1;

/** Offsets in `struct __sk_buff`. */
export const SkBuff = {
  len: 0,
  /** 0 (PACKET_HOST) when the frame came in for this interface. */
  pktType: 4,
  /** EtherType, network order. */
  protocol: 16,
  /** 0 when there is no VLAN tag beside the packet. */
  vlanTci: 24,
  /** Where the packet came in; 0 for one that this host made. */
  ingressIfindex: 36,
  gsoSegs: 164,
  gsoSize: 176,
} as const;

/** Result of a tcx program: the packet's fate is left to the next program and to the kernel. */
export const TCX_NEXT: number = -1;
/** Result of a tcx program: the packet ends here. */
export const TCX_DROP: number = 2;
