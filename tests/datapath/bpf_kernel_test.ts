import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { BpfLoadError, BpfProgram } from "deno-tun";
import { BpfAssembler, type Condition, R0, R1, R2, R6, R7, R8, type Register } from "../../datapath/bpf_assembler.ts";
import { bpfRefused } from "./bpf_allowed.ts";

const FRAME = new Uint8Array(64);

/** Runs a program in the kernel. */
function run(assembler: BpfAssembler): number {
  const program = new BpfProgram("test", assembler.assemble());
  try {
    return program.testRun(FRAME).result;
  } finally {
    program.close();
  }
}

const MASK = (1n << 64n) - 1n;
const OPERATIONS: Record<string, (a: bigint, b: bigint) => bigint> = {
  set: (_, b) => b,
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  divide: (a, b) => b === 0n ? 0n : a / b,
  or: (a, b) => a | b,
  and: (a, b) => a & b,
  shiftLeft: (a, b) => a << b,
  shiftRight: (a, b) => a >> b,
};
type Operation = "set" | "add" | "subtract" | "divide" | "or" | "and" | "shiftLeft" | "shiftRight";
const REGISTERS: readonly Register[] = [R6, R7, R8];

Deno.test({
  name: "the kernel computes what the assembler says",
  ignore: bpfRefused,
  fn() {
    const operand = fc.oneof(fc.integer(), fc.integer({ min: -3, max: 3 }), fc.constantFrom(...REGISTERS));
    const step = fc.record({
      operation: fc.constantFrom(...Object.keys(OPERATIONS) as Operation[]),
      destination: fc.nat(2),
      operand,
    });
    fc.assert(
      fc.property(fc.array(fc.integer(), { minLength: 3, maxLength: 3 }), fc.array(step, { maxLength: 12 }), (
        values,
        steps,
      ) => {
        const assembler = new BpfAssembler();
        const model = values.map((value) => BigInt(value) & MASK);
        values.forEach((value, i) => assembler.set(REGISTERS[i], value));
        for (const { operation, destination, operand } of steps) {
          let value = operand;
          // The verifier refuses shifts beyond the register's width and constant division by zero.
          if (/shift/.test(operation)) value = typeof value === "number" ? value & 63 : 1;
          if (operation === "divide" && value === 0) value = 1;
          assembler[operation](REGISTERS[destination], value);
          const right = typeof value === "number" ? BigInt(value) & MASK : model[REGISTERS.indexOf(value)];
          model[destination] = OPERATIONS[operation](model[destination], right) & MASK;
        }
        // Both halves of all registers come out, mixed.
        assembler.set(R0, R6);
        for (const register of [R7, R8]) {
          assembler.set(R1, R0).shiftLeft(R1, 7).add(R0, R1).add(R0, register);
        }
        assembler.set(R1, R0).shiftRight(R1, 32).add(R0, R1).exit();
        let expected = model[0];
        for (const value of [model[1], model[2]]) expected = (expected + (expected << 7n) + value) & MASK;
        expected = expected + (expected >> 32n);
        assertEquals(run(assembler), Number(BigInt.asIntN(32, expected)));
      }),
      { numRuns: 60 },
    );
  },
});

Deno.test({
  name: "jumps are taken as their condition says, on unsigned values",
  ignore: bpfRefused,
  fn() {
    const conditions: Record<Condition, (a: bigint, b: bigint) => boolean> = {
      "==": (a, b) => a === b,
      "!=": (a, b) => a !== b,
      ">": (a, b) => a > b,
      ">=": (a, b) => a >= b,
      "<": (a, b) => a < b,
      "<=": (a, b) => a <= b,
      "&": (a, b) => (a & b) !== 0n,
    };
    const samples = [0, 1, 2, -1, 0x7fffffff, -0x80000000];
    const assembler = new BpfAssembler().set(R0, 0).set(R7, 0);
    let expected = 0n, checks = 0;
    for (const [condition, holds] of Object.entries(conditions) as [Condition, (a: bigint, b: bigint) => boolean][]) {
      for (const a of samples) {
        for (const b of samples) {
          for (const right of [b, R2]) {
            const label = `${checks++}`;
            assembler.set(R1, a).set(R2, b).set(R8, R7).shiftLeft(R8, 1).add(R7, R8) // R7 *= 3
              .jumpIf(R1, condition, right, label).add(R7, 1).label(label);
            expected = expected * 3n + (holds(BigInt(a) & MASK, BigInt(b) & MASK) ? 0n : 1n) & MASK;
          }
        }
      }
    }
    assertEquals(run(assembler.set(R0, R7).exit()), Number(BigInt.asIntN(32, expected)));
  },
});

Deno.test({
  name: "a program that the verifier refuses is told with its log",
  ignore: bpfRefused,
  fn() {
    const bad = new BpfAssembler().load("u32", R0, R2, 0).exit().assemble();
    const error = assertThrows(() => new BpfProgram("bad", bad), BpfLoadError, "BPF_PROG_LOAD bad: EACCES");
    assertEquals(error.log.includes("R2"), true, error.log);
  },
});
