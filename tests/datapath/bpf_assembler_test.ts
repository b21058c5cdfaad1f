import { assertEquals, assertThrows } from "@std/assert";
import {
  AssemblerError,
  BpfAssembler,
  FP,
  Helper,
  networkOrder16,
  R0,
  R1,
  R2,
  R6,
  R7,
} from "../../datapath/bpf_assembler.ts";

/** The program as one line of hexadecimal digits for each instruction. */
function listing(assembler: BpfAssembler): string[] {
  const octets = assembler.assemble();
  return Array.from({ length: octets.length / 8 }, (_, i) => octets.subarray(8 * i, 8 * i + 8).toHex());
}

Deno.test("arithmetic is encoded as 64-bit operations on a register or an immediate", () => {
  assertEquals(
    listing(
      new BpfAssembler().set(R6, R1).set(R0, -1).add(R2, FP).add(R2, -40).subtract(R1, R2).divide(R1, R7).or(R1, 4)
        .and(R1, 0xfff).shiftLeft(R1, 3).shiftRight(R1, R2),
    ),
    [
      "bf16000000000000",
      "b7000000ffffffff",
      "0fa2000000000000",
      "07020000d8ffffff",
      "1f21000000000000",
      "3f71000000000000",
      "4701000004000000",
      "57010000ff0f0000",
      "6701000003000000",
      "7f21000000000000",
    ],
  );
});

Deno.test("memory is accessed by width, base and offset", () => {
  assertEquals(
    listing(
      new BpfAssembler().load("u32", R2, R6, 16).load("u8", R1, FP, -34).load("u16", R1, FP, -36).load("u64", R1, R0, 8)
        .store("u64", R7, 0, R0).store("u16", FP, -2, R1).store("u64", R7, 16, 0).store("u32", FP, -4, -1)
        .atomicAdd("u64", R7, 32, R1),
    ),
    [
      "6162100000000000",
      "71a1deff00000000",
      "69a1dcff00000000",
      "7901080000000000",
      "7b07000000000000",
      "6b1afeff00000000",
      "7a07100000000000",
      "620afcffffffffff",
      "db17200000000000",
    ],
  );
});

Deno.test("a map takes two instructions, and octets are swapped by width", () => {
  assertEquals(listing(new BpfAssembler().setMap(R1, 5).toBigEndian(R1, 16).call(Helper.mapLookup).exit()), [
    "1811000005000000",
    "0000000000000000",
    "dc01000010000000",
    "8500000001000000",
    "9500000000000000",
  ]);
});

Deno.test("jumps reach labels before and after them", () => {
  assertEquals(
    listing(
      new BpfAssembler().label("again").jumpIf(R1, "!=", 7, "end").jumpIf(R1, ">=", R2, "again").jump("end")
        .set(R0, 1).label("end").exitWith(0),
    ),
    [
      "5501030007000000",
      "3d21feff00000000",
      "0500010000000000",
      "b700000001000000",
      "b700000000000000",
      "9500000000000000",
    ],
  );
});

Deno.test("each condition has its opcode", () => {
  for (
    const [condition, opcode] of [["==", "15"], ["!=", "55"], [">", "25"], [">=", "35"], ["<", "a5"], ["<=", "b5"], [
      "&",
      "45",
    ]] as const
  ) {
    assertEquals(listing(new BpfAssembler().jumpIf(R1, condition, 1, "x").label("x")), [opcode + "01000001000000"]);
  }
});

Deno.test("what cannot be encoded is refused with the reason", () => {
  assertThrows(() => new BpfAssembler().jump("nowhere").assemble(), AssemblerError, "no label nowhere");
  assertThrows(() => new BpfAssembler().label("a").label("a"), AssemblerError, "label a is there twice");
  assertThrows(() => new BpfAssembler().set(R0, 2 ** 31), AssemblerError, "2147483648 does not fit in 32 bits");
  assertThrows(() => new BpfAssembler().set(R0, 0.5), AssemblerError, "0.5 does not fit");
  assertThrows(() => new BpfAssembler().load("u8", R0, R1, 40_000).assemble(), AssemblerError, "offset 40000");
});

Deno.test("a 16-bit value in network order has its octets swapped", () => {
  assertEquals(networkOrder16(0x86dd), 0xdd86);
  assertEquals(networkOrder16(53), 0x3500);
});
