import { assertEquals, assertThrows } from "@std/assert";
import { runCommand } from "../../tools/command.ts";
import { ElfError, packExecutable, type Program } from "../../tools/elf.ts";
import { STUB_X86_64 } from "../../tools/elf_stub_x86_64.ts";
import { ROOT } from "../../tools/source_files.ts";

const PROGRAM: Program = {
  code: new TextEncoder().encode("console.log(1);"),
  denoArguments: ["run", "--no-prompt", "--ext=js"],
  environment: { NAME: "value", EMPTY: "" },
};

/** Virtual addresses and file offsets of the parts of {@linkcode smallElf}. */
const SETENV_SLOT = 0x2f00;
const ENTRY = 0x1100;
const HEADERS = 64;

interface Layout {
  /** Name of the imported function. */
  readonly imported?: string;
  /** Whether the note stands before the loaded segment. */
  readonly noteFirst?: boolean;
  readonly machine?: number;
}

/** A dynamically linked executable reduced to what packing looks at. Its one segment loads offset x at 0x1000 + x. */
function smallElf({ imported = "setenv", noteFirst = false, machine = 62 }: Layout = {}): Uint8Array<ArrayBuffer> {
  const octets = new Uint8Array(1000);
  const view = new DataView(octets.buffer);
  const setU64 = (at: number, value: number) => view.setBigUint64(at, BigInt(value), true);
  octets.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(18, machine, true);
  setU64(24, ENTRY);
  setU64(32, HEADERS);
  setU64(40, 900);
  view.setUint16(56, 3, true);
  view.setUint16(60, 5, true);
  const load = { type: 1, offset: 0, address: 0x1000, length: 1000, memory: 0x2345 };
  const dynamic = { type: 2, offset: 300, address: 0x112c, length: 96, memory: 96 };
  const note = { type: 4, offset: 290, address: 0x1122, length: 10, memory: 10 };
  const headers = noteFirst ? [note, load, dynamic] : [load, dynamic, note];
  headers.forEach((header, index) => {
    const at = HEADERS + 56 * index;
    view.setUint32(at, header.type, true);
    setU64(at + 8, header.offset);
    setU64(at + 16, header.address);
    setU64(at + 32, header.length);
    setU64(at + 40, header.memory);
  });
  const entries = [[5, 0x1190], [6, 0x11c0], [7, 0x1200], [8, 48]]; // string, symbol and relocation table, its length
  entries.forEach(([tag, value], index) => {
    setU64(300 + 16 * index, tag);
    setU64(308 + 16 * index, value);
  });
  octets.set(new TextEncoder().encode(`\0${imported}\0`), 0x190);
  view.setUint32(0x1c0 + 24, 1, true); // symbol 1: the imported function
  setU64(0x200 + 8, 8); // R_X86_64_RELATIVE
  setU64(0x218, SETENV_SLOT);
  view.setUint32(0x218 + 8, 6, true); // R_X86_64_GLOB_DAT
  view.setUint32(0x218 + 12, 1, true);
  return octets;
}

Deno.test("packing turns the note into a segment behind all others, and the entry point into its start", () => {
  const elf = smallElf();
  const packed = packExecutable(elf, PROGRAM);
  const view = new DataView(packed.buffer);
  const u64 = (at: number) => Number(view.getBigUint64(at, true));
  const note = HEADERS + 2 * 56;
  const address = 0x4000; // 0x1000 + 0x2345, on the next page
  assertEquals([view.getUint32(note, true), view.getUint32(note + 4, true)], [1, 5]);
  assertEquals([u64(24), u64(note + 16)], [address, address]);
  const offset = u64(note + 8);
  assertEquals([offset, u64(note + 32)], [4096, packed.length - 4096]);
  assertEquals([u64(40), view.getUint16(60, true)], [0, 0], "no section headers");
  assertEquals(packed.subarray(offset, offset + STUB_X86_64.length), STUB_X86_64);

  const params = offset + STUB_X86_64.length;
  const i64 = (index: number) => Number(view.getBigInt64(params + 8 * index, true));
  const paramsAddress = address + STUB_X86_64.length;
  assertEquals([i64(0) + paramsAddress, i64(1) + paramsAddress, i64(4)], [ENTRY, SETENV_SLOT, 4]);
  assertEquals(packed.subarray(params + i64(2)), PROGRAM.code);
  assertEquals(i64(3), PROGRAM.code.length);
  assertEquals(
    new TextDecoder().decode(packed.subarray(params + 40, params + i64(2))),
    "NAME\0value\0EMPTY\0\0\0run\0--no-prompt\0--ext=js\0",
  );
});

Deno.test("an executable that is not built as expected is refused, with the reason", () => {
  const refused = (elf: Uint8Array, why: string) => assertThrows(() => packExecutable(elf, PROGRAM), ElfError, why);
  refused(new TextEncoder().encode("#!/bin/sh\n"), "is not an x86-64 ELF");
  refused(smallElf({ machine: 183 }), "is not an x86-64 ELF");
  refused(smallElf({ imported: "getenv" }), "does not import setenv");
  refused(smallElf({ noteFirst: true }), "has no PT_NOTE after the last PT_LOAD");
});

Deno.test("a number of arguments that would misalign the stack is refused", () => {
  assertThrows(
    () => packExecutable(smallElf(), { ...PROGRAM, denoArguments: ["run", "-A"] }),
    TypeError,
    "must be odd",
  );
});

const hasAssembler = (await runCommand("as", ["--version"], { timeoutMs: 5000 })).code === 0;
if (!hasAssembler) console.log("no assembler (binutils): the stub is not compared with its source");

Deno.test({
  name: "the embedded stub is what its source assembles to",
  ignore: !hasAssembler || Deno.build.arch !== "x86_64",
  async fn() {
    const directory = await Deno.makeTempDir();
    try {
      const [object, binary] = [`${directory}/stub.o`, `${directory}/stub.bin`];
      const run = async (command: string, args: string[]) => {
        const result = await runCommand(command, args, { timeoutMs: 10_000 });
        assertEquals(result.code, 0, result.stderr);
      };
      await run("as", [`${ROOT}tools/elf_stub_x86_64.S`, "-o", object]);
      await run("objcopy", ["-O", "binary", "-j", ".text", object, binary]);
      assertEquals(await Deno.readFile(binary), STUB_X86_64);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});
