/**
 * Makes one executable of the stock Deno and a bundled program, for machines that cannot get the runtime which
 * `deno compile` builds upon.
 *
 * The executable's PT_NOTE, which nothing needs at run time, becomes a PT_LOAD behind all others. It holds a stub
 * (elf_stub_x86_64.S), what the stub has to know, and the program; the entry point of the file is the stub. It hands
 * the program to Deno as a memory file, so nothing is ever extracted and the file runs from a read-only disk, as any
 * user, with file capabilities.
 *
 * @module
 */
import { STUB_X86_64 } from "./elf_stub_x86_64.ts";

/** Why an executable cannot be packed: what is wrong with it, as the rest of a sentence ("it ..."). */
export class ElfError extends Error {}

/** What is packed into the executable. */
export interface Program {
  /** The bundled JavaScript module. */
  readonly code: Uint8Array;
  /** Deno's arguments before the module's path; their number must be odd, so that the stack stays aligned. */
  readonly denoArguments: readonly string[];
  /** Environment variables that the program runs with, whatever the caller set. */
  readonly environment: Readonly<Record<string, string>>;
}

const PAGE = 4096;

const HEADER_LENGTH = 64;
const CLASS_64 = 2;
const LITTLE_ENDIAN = 1;
const EM_X86_64 = 62;

const PROGRAM_HEADER_LENGTH = 56;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_NOTE = 4;
const READ_AND_EXECUTE = 5;

const DT_PLTRELSZ = 2;
const DT_STRTAB = 5;
const DT_SYMTAB = 6;
const DT_RELA = 7;
const DT_RELASZ = 8;
const DT_JMPREL = 23;
const RELA_LENGTH = 24;
const SYMBOL_LENGTH = 24;
const R_X86_64_GLOB_DAT = 6;
const R_X86_64_JUMP_SLOT = 7;

/** The numeric fields of `params` in elf_stub_x86_64.S: entry, setenv, program, its length, number of arguments. */
const PARAMS_LENGTH = 5 * 8;

interface ProgramHeader {
  /** Where the header stands in the file. */
  readonly at: number;
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly fileLength: number;
  readonly memoryLength: number;
}

/** Reads the parts of an ELF file that packing depends on. */
class Elf {
  readonly #octets: Uint8Array;
  readonly #view: DataView;
  readonly programHeaders: readonly ProgramHeader[];

  constructor(octets: Uint8Array) {
    this.#octets = octets;
    this.#view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
    const isElf = octets.length >= HEADER_LENGTH && this.#view.getUint32(0) === 0x7f454c46;
    if (!isElf || octets[4] !== CLASS_64 || octets[5] !== LITTLE_ENDIAN || this.u16(18) !== EM_X86_64) {
      throw new ElfError("is not an x86-64 ELF executable");
    }
    const table = this.u64(32);
    this.programHeaders = Array.from({ length: this.u16(56) }, (_, index) => {
      const at = table + index * PROGRAM_HEADER_LENGTH;
      return {
        at,
        type: this.u32(at),
        offset: this.u64(at + 8),
        address: this.u64(at + 16),
        fileLength: this.u64(at + 32),
        memoryLength: this.u64(at + 40),
      };
    });
  }

  u16(offset: number): number {
    return this.#view.getUint16(offset, true);
  }

  u32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }

  u64(offset: number): number {
    return Number(this.#view.getBigUint64(offset, true));
  }

  get entry(): number {
    return this.u64(24);
  }

  /** Where the octet at a virtual address stands in the file. */
  fileOffset(address: number): number {
    for (const header of this.programHeaders) {
      if (header.type !== PT_LOAD) continue;
      const distance = address - header.address;
      if (distance >= 0 && distance < header.fileLength) return header.offset + distance;
    }
    throw new ElfError(`has no octets for address 0x${address.toString(16)}`);
  }

  /** The address of the slot in which ld.so stores the address of an imported function. */
  importSlot(name: string): number {
    const dynamic = this.#dynamic();
    const required = (tag: number): number => {
      const value = dynamic.get(tag);
      if (value === undefined) throw new ElfError(`lacks dynamic entry ${tag}`);
      return value;
    };
    const symbols = this.fileOffset(required(DT_SYMTAB));
    const strings = this.fileOffset(required(DT_STRTAB));
    const tables = [[DT_JMPREL, DT_PLTRELSZ], [DT_RELA, DT_RELASZ]].filter(([table]) => dynamic.has(table));
    for (const [table, length] of tables) {
      const start = this.fileOffset(required(table));
      const end = start + required(length);
      for (let at = start; at < end; at += RELA_LENGTH) {
        const type = this.u32(at + 8);
        if (type !== R_X86_64_GLOB_DAT && type !== R_X86_64_JUMP_SLOT) continue;
        const symbol = symbols + this.u32(at + 12) * SYMBOL_LENGTH;
        if (this.#string(strings + this.u32(symbol)) === name) return this.u64(at);
      }
    }
    throw new ElfError(`does not import ${name}`);
  }

  #dynamic(): Map<number, number> {
    const header = this.programHeaders.find((header) => header.type === PT_DYNAMIC);
    if (header === undefined) throw new ElfError("is not dynamically linked");
    const entries = new Map<number, number>();
    for (let at = header.offset; at < header.offset + header.fileLength; at += 16) {
      entries.set(this.u64(at), this.u64(at + 8));
    }
    return entries;
  }

  #string(start: number): string {
    return new TextDecoder().decode(this.#octets.subarray(start, this.#octets.indexOf(0, start)));
  }
}

/**
 * The executable that runs `program` on the Deno executable `deno`.
 *
 * @throws {ElfError} if `deno` is not built as expected
 * @throws {TypeError} if the number of arguments is even
 */
export function packExecutable(deno: Uint8Array, program: Program): Uint8Array<ArrayBuffer> {
  if (program.denoArguments.length % 2 === 0) throw new TypeError("the number of arguments for Deno must be odd");
  const elf = new Elf(deno);
  const note = elf.programHeaders.find((header) => header.type === PT_NOTE);
  if (note === undefined) throw new ElfError("has no PT_NOTE");
  const lastLoad = elf.programHeaders.findLast((header) => header.type === PT_LOAD);
  // Loaded segments must stand in the order of their addresses.
  if (lastLoad === undefined || lastLoad.at > note.at) throw new ElfError("has no PT_NOTE after the last PT_LOAD");

  const address = pageAlign(lastLoad.address + lastLoad.memoryLength);
  const segment = buildSegment(program, {
    address,
    entry: elf.entry,
    setenv: elf.importSlot("setenv"),
  });
  const offset = pageAlign(deno.length);
  const result = new Uint8Array(offset + segment.length);
  result.set(deno);
  result.set(segment, offset);

  const view = new DataView(result.buffer);
  const setU64 = (at: number, value: number) => view.setBigUint64(at, BigInt(value), true);
  setU64(24, address); // entry point
  // No section headers: strip(1) would take the program for refuse, without them it refuses the file.
  setU64(40, 0);
  view.setUint16(60, 0, true);
  view.setUint16(62, 0, true);
  view.setUint32(note.at, PT_LOAD, true);
  view.setUint32(note.at + 4, READ_AND_EXECUTE, true);
  setU64(note.at + 8, offset);
  setU64(note.at + 16, address);
  setU64(note.at + 24, address); // physical address, unused
  setU64(note.at + 32, segment.length); // in the file
  setU64(note.at + 40, segment.length); // in memory
  setU64(note.at + 48, PAGE); // alignment
  return result;
}

/** The loaded segment: stub, its parameters and strings, program. */
function buildSegment(
  program: Program,
  places: { address: number; entry: number; setenv: number },
): Uint8Array<ArrayBuffer> {
  const strings = new TextEncoder().encode(
    [...Object.entries(program.environment).flat(), "", ...program.denoArguments, ""].join("\0"),
  );
  const params = STUB_X86_64.length;
  const programAt = params + PARAMS_LENGTH + strings.length;
  const segment = new Uint8Array(programAt + program.code.length);
  segment.set(STUB_X86_64);
  segment.set(strings, params + PARAMS_LENGTH);
  segment.set(program.code, programAt);
  const view = new DataView(segment.buffer, params);
  const fields = [
    places.entry - (places.address + params),
    places.setenv - (places.address + params),
    programAt - params,
    program.code.length,
    program.denoArguments.length + 1,
  ];
  fields.forEach((value, index) => view.setBigInt64(8 * index, BigInt(value), true));
  return segment;
}

function pageAlign(value: number): number {
  return Math.ceil(value / PAGE) * PAGE;
}
