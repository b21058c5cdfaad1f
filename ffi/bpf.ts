/**
 * bpf(2): maps, programs, and their attachment to interfaces by tcx links (Linux 6.6 and later).
 *
 * Everything is held by file descriptors alone, nothing is pinned: when the process ends, however it ends, the kernel
 * detaches and frees all of it.
 */

import { Errno, SystemError } from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { addressOf, cString, stableBytes } from "./memory.ts";

/** Number of bpf(2); it differs by architecture. */
const SYS_BPF = Deno.build.arch === "aarch64" ? 280 : 321;

/** `enum bpf_cmd`. */
const Command = {
  MAP_CREATE: 0,
  MAP_LOOKUP_ELEM: 1,
  MAP_UPDATE_ELEM: 2,
  MAP_DELETE_ELEM: 3,
  PROG_LOAD: 5,
  PROG_TEST_RUN: 10,
  OBJ_GET_INFO_BY_FD: 15,
  PROG_QUERY: 16,
  MAP_LOOKUP_BATCH: 24,
  LINK_CREATE: 28,
} as const;

/** `enum bpf_map_type`, as far as used. */
export const BpfMapType = {
  HASH: 1,
  ARRAY: 2,
  /** When full, the entries that were used least lately make room. */
  LRU_HASH: 9,
} as const;

/**
 * `BPF_F_NO_PREALLOC`: an entry of a hash is memory of its own, which is not used again while a program still has its
 * address.
 */
export const BPF_F_NO_PREALLOC: number = 1 << 0;

/** `BPF_F_MMAPABLE`: the values of an array can be mapped into the process. */
export const BPF_F_MMAPABLE: number = 1 << 10;

const BPF_PROG_TYPE_SCHED_CLS = 3;
const BPF_TCX_INGRESS = 46, BPF_TCX_EGRESS = 47;
const BPF_F_BEFORE = 1 << 3, BPF_F_AFTER = 1 << 4;

const PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

/**
 * `union bpf_attr`. One buffer serves every call, since calls are synchronous; the kernel wants everything after the
 * command's own fields zeroed.
 */
const attributes = stableBytes(144);
const attributesView = new DataView(attributes.buffer);

function clearAttributes(): DataView {
  attributes.fill(0);
  return attributesView;
}

function setAddress(offset: number, buffer: Uint8Array): void {
  attributesView.setBigUint64(offset, BigInt(addressOf(buffer)), true);
}

/** The result, or the errno as a negative number. */
function bpf(command: number): number {
  const result = libc().syscall_bpf(SYS_BPF, command, attributes, attributes.length), code = threadErrno[0];
  return result < 0 ? -code : Number(result);
}

/** The same, but throws {@linkcode SystemError}. */
function mustBpf(command: number, call: string): number {
  const result = bpf(command);
  if (result < 0) throw new SystemError(call, -result);
  return result;
}

/** Names of kernel objects are for `bpftool`; they hold 15 octets. */
function setName(offset: number, name: string): void {
  attributes.set(new TextEncoder().encode(name).subarray(0, 15), offset);
}

/** The kernel refused a program. */
export class BpfLoadError extends SystemError {
  /** `BpfLoadError` */
  override name = "BpfLoadError";
  /** What the verifier said, empty when it was not asked (e.g. no permission). */
  readonly log: string;
  /** `errno` is the refusal, `log` the verifier's words. */
  constructor(program: string, errno: number, log: string) {
    super(`BPF_PROG_LOAD ${program}`, errno);
    this.log = log;
    if (log !== "") this.message += `\n${log}`;
  }
}

/** What a map is made of. */
export interface BpfMapOptions {
  /** One of {@linkcode BpfMapType}. */
  readonly type: number;
  /** Octets of a key. */
  readonly keySize: number;
  /** Octets of a value. */
  readonly valueSize: number;
  /** The map never holds more. */
  readonly maxEntries: number;
  /** `BPF_F_…`. */
  readonly flags?: number;
  /** Shown by `bpftool`, at most 15 octets. */
  readonly name: string;
}

/** A map: memory that programs and this process share. */
export class BpfMap {
  /** For programs, and for this class. */
  readonly fd: number;
  readonly #options: BpfMapOptions;
  readonly #key: Uint8Array<ArrayBuffer>;
  readonly #value: Uint8Array<ArrayBuffer>;
  #entries: { keys: Uint8Array<ArrayBuffer>; values: Uint8Array<ArrayBuffer> } | undefined;
  #mapping: { address: Deno.PointerObject; length: number } | undefined;

  /** Throws {@linkcode SystemError}, EPERM where bpf(2) is not allowed. */
  constructor(options: BpfMapOptions) {
    this.#options = options;
    this.#key = stableBytes(options.keySize);
    this.#value = stableBytes(options.valueSize);
    const view = clearAttributes();
    view.setUint32(0, options.type, true);
    view.setUint32(4, options.keySize, true);
    view.setUint32(8, options.valueSize, true);
    view.setUint32(12, options.maxEntries, true);
    view.setUint32(16, options.flags ?? 0, true);
    setName(28, options.name);
    this.fd = mustBpf(Command.MAP_CREATE, `BPF_MAP_CREATE ${options.name}`);
  }

  /** Sets the value of a key. Throws {@linkcode SystemError}, E2BIG when the map is full. */
  update(key: Uint8Array, value: Uint8Array): void {
    this.#key.set(key);
    this.#value.set(value);
    this.#element(Command.MAP_UPDATE_ELEM, "BPF_MAP_UPDATE_ELEM");
  }

  /** Copies the value of a key to `into`. Returns false when there is none. Throws {@linkcode SystemError}. */
  lookup(key: Uint8Array, into: Uint8Array): boolean {
    this.#key.set(key);
    if (!this.#element(Command.MAP_LOOKUP_ELEM, "BPF_MAP_LOOKUP_ELEM")) return false;
    into.set(this.#value);
    return true;
  }

  /** Returns false when the key was not there. Throws {@linkcode SystemError}. */
  delete(key: Uint8Array): boolean {
    this.#key.set(key);
    return this.#element(Command.MAP_DELETE_ELEM, "BPF_MAP_DELETE_ELEM");
  }

  #element(command: number, call: string): boolean {
    const view = clearAttributes();
    view.setUint32(0, this.fd, true);
    setAddress(8, this.#key);
    if (command !== Command.MAP_DELETE_ELEM) setAddress(16, this.#value);
    const result = bpf(command);
    if (result >= 0) return true;
    if (result === -Errno.ENOENT) return false;
    throw new SystemError(`${call} ${this.#options.name}`, -result);
  }

  /**
   * Reads all entries of a hash by one system call. Entry `i` of `count` lies at `i * keySize` of `keys` and
   * `i * valueSize` of `values`; these buffers are the same at each call. Entries that programs add or remove meanwhile
   * may or may not be among them. Throws {@linkcode SystemError}.
   */
  entries(): { count: number; keys: Uint8Array<ArrayBuffer>; values: Uint8Array<ArrayBuffer> } {
    const { keySize, valueSize, maxEntries, name } = this.#options;
    this.#entries ??= { keys: stableBytes(keySize * maxEntries), values: stableBytes(valueSize * maxEntries) };
    const { keys, values } = this.#entries;
    const view = clearAttributes();
    setAddress(8, this.#key); // out_batch: where a next call would go on; a hash wants 4 octets there
    setAddress(16, keys);
    setAddress(24, values);
    view.setUint32(32, maxEntries, true);
    view.setUint32(36, this.fd, true);
    // ENOENT says that the end was reached, and is how a complete read ends.
    const result = bpf(Command.MAP_LOOKUP_BATCH);
    if (result < 0 && result !== -Errno.ENOENT) throw new SystemError(`BPF_MAP_LOOKUP_BATCH ${name}`, -result);
    return { count: view.getUint32(32, true), keys, values };
  }

  /**
   * Maps the values of an array ({@linkcode BPF_F_MMAPABLE}) into the process. A value takes `valueSize` octets rounded
   * up to 8. The octets must not be touched after {@linkcode close}. Throws {@linkcode SystemError}.
   */
  map(): ArrayBuffer {
    const length = this.#options.maxEntries * Math.ceil(this.#options.valueSize / 8) * 8;
    const address = libc().mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED, this.fd, 0);
    const code = threadErrno[0];
    if (address === null || Deno.UnsafePointer.value(address) === MAP_FAILED) {
      throw new SystemError(`mmap ${this.#options.name}`, code);
    }
    this.#mapping = { address, length };
    return Deno.UnsafePointerView.getArrayBuffer(address, length);
  }

  /** Frees the map, as soon as no program uses it any more. */
  close(): void {
    if (this.#mapping !== undefined) libc().munmap(this.#mapping.address, this.#mapping.length);
    this.#mapping = undefined;
    libc().close(this.fd);
  }
}

/** A loaded program of type SCHED_CLS. */
export class BpfProgram {
  /** For links, and for this class. */
  readonly fd: number;

  /**
   * Loads `instructions` (8 octets each). `name` has at most 15 octets. Throws {@linkcode BpfLoadError}, whose `log`
   * tells what the verifier did not accept.
   */
  constructor(name: string, instructions: Uint8Array) {
    const code = stableBytes(instructions.length);
    code.set(instructions);
    const license = cString("GPL");
    const view = clearAttributes();
    view.setUint32(0, BPF_PROG_TYPE_SCHED_CLS, true);
    view.setUint32(4, instructions.length / 8, true);
    setAddress(8, code);
    setAddress(16, license);
    setName(48, name);
    const fd = bpf(Command.PROG_LOAD);
    if (fd >= 0) {
      this.fd = fd;
      return;
    }
    const refusal = -fd;
    // The verifier is asked for its log only now: writing it costs time, and a good program needs none.
    const log = stableBytes(refusal === Errno.EPERM ? 0 : 1 << 18);
    if (log.length > 0) {
      view.setUint32(24, 1, true);
      view.setUint32(28, log.length, true);
      setAddress(32, log);
      const second = bpf(Command.PROG_LOAD);
      if (second >= 0) libc().close(second);
    }
    throw new BpfLoadError(name, refusal, new TextDecoder().decode(log.subarray(0, log.indexOf(0))).trimEnd());
  }

  /**
   * Runs the program on a frame `repeat` times (for tests and measurements) and returns its last result and the mean
   * duration of a run in ns. Throws {@linkcode SystemError}.
   */
  testRun(frame: Uint8Array, repeat = 1): { result: number; nanoseconds: number } {
    const input = stableBytes(frame.length);
    input.set(frame);
    const view = clearAttributes();
    view.setUint32(0, this.fd, true);
    view.setUint32(8, frame.length, true);
    setAddress(16, input);
    view.setUint32(32, repeat, true);
    mustBpf(Command.PROG_TEST_RUN, "BPF_PROG_TEST_RUN");
    return { result: view.getInt32(4, true), nanoseconds: view.getUint32(36, true) };
  }

  /** Frees the program, as soon as no link holds it any more. */
  close(): void {
    libc().close(this.fd);
  }
}

/** From which side of an interface a program sees packets. */
export type TcxDirection = "ingress" | "egress";

/** In front of the programs that are there, so that nothing takes a packet away unseen, or behind them. */
export type TcxPosition = "first" | "last";

/** A program attached to an interface, for as long as this link is open and the interface exists. */
export class TcxLink {
  readonly #fd: number;

  /**
   * Attaches a program. Throws {@linkcode SystemError}: ENODEV when there is no such interface, EINVAL or EOPNOTSUPP on
   * a kernel without tcx.
   */
  constructor(program: BpfProgram, interfaceIndex: number, direction: TcxDirection, position: TcxPosition) {
    const view = clearAttributes();
    view.setUint32(0, program.fd, true);
    view.setUint32(4, interfaceIndex, true);
    view.setUint32(8, direction === "ingress" ? BPF_TCX_INGRESS : BPF_TCX_EGRESS, true);
    view.setUint32(12, position === "first" ? BPF_F_BEFORE : BPF_F_AFTER, true);
    this.#fd = mustBpf(Command.LINK_CREATE, `BPF_LINK_CREATE tcx ${direction} interface ${interfaceIndex}`);
  }

  /** Whether the interface is still there. One that comes back under the same index has to be attached to anew. */
  get attached(): boolean {
    const info = stableBytes(64);
    const view = clearAttributes();
    view.setUint32(0, this.#fd, true);
    view.setUint32(4, info.length, true);
    setAddress(8, info);
    mustBpf(Command.OBJ_GET_INFO_BY_FD, "BPF_OBJ_GET_INFO_BY_FD");
    return new DataView(info.buffer).getUint32(16, true) !== 0; // bpf_link_info.tcx.ifindex
  }

  /** Detaches. */
  close(): void {
    libc().close(this.#fd);
  }
}

/** How many tcx programs are attached to an interface. Throws {@linkcode SystemError}. */
export function countTcxPrograms(interfaceIndex: number, direction: TcxDirection): number {
  const view = clearAttributes();
  view.setUint32(0, interfaceIndex, true);
  view.setUint32(4, direction === "ingress" ? BPF_TCX_INGRESS : BPF_TCX_EGRESS, true);
  mustBpf(Command.PROG_QUERY, `BPF_PROG_QUERY interface ${interfaceIndex}`);
  return view.getUint32(24, true);
}
