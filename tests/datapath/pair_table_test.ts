import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FlowTable } from "../../datapath/flow_table.ts";
import { PairTable } from "../../datapath/pair_table.ts";

/** The words of a pair, made from one number; pairs with the same number modulo 8 have the same peer. */
function words(number: number): Uint32Array {
  return new Uint32Array([0xfd00, 0, 0, number, 0xfd01, 0, 0, number % 8]);
}

const seed = fc.integer({ min: 0, max: 0xffffffff });

Deno.test("a pair table behaves as a map, whatever is added and removed", () => {
  const step = fc.record({ remove: fc.boolean(), number: fc.nat(20) });
  fc.assert(fc.property(seed, fc.array(step, { maxLength: 200 }), (seed, steps) => {
    const table = new PairTable(16, seed), model = new Map<number, number>();
    for (const { remove, number } of steps) {
      const known = model.get(number);
      assertEquals(table.find(words(number), 0, 4), known ?? -1);
      if (remove && known !== undefined) {
        table.remove(known);
        model.delete(number);
      } else if (!remove && known === undefined) {
        if (table.full) assertThrows(() => table.insert(words(number), 0, 4), RangeError, "more than 16");
        else model.set(number, table.insert(words(number), 0, 4));
      }
      assertEquals(table.size, model.size);
      assertEquals(new Set(model.values()).size, model.size);
      for (const [number, pair] of model) assertEquals(table.find(words(number), 0, 4), pair);
    }
  }));
});

Deno.test("the two addresses of a pair may lie anywhere, and their order matters", () => {
  const table = new PairTable(4, 1);
  const pair = table.insert(words(7), 0, 4);
  const swapped = new Uint32Array([...words(7).subarray(4), ...words(7).subarray(0, 4)]);
  assertEquals(table.find(swapped, 4, 0), pair);
  assertEquals(table.find(swapped, 0, 4), -1);
  assertEquals(table.octets(pair), new Uint8Array(words(7).buffer));
});

Deno.test("a flow table is full of those seen last, and reports those seen since its last report, newest first", () => {
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.record({ kind: fc.constant("count" as const), number: fc.nat(12) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("forget" as const), number: fc.nat(12) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("report" as const), number: fc.constant(0) }) },
  );
  fc.assert(fc.property(seed, fc.array(step, { maxLength: 200 }), (seed, steps) => {
    const table = new FlowTable(8, seed);
    let model: { number: number; packets: number; firstSeen: number; lastSeen: number; changed: boolean }[] = [];
    steps.forEach(({ kind, number }, time) => {
      const known = model.find((flow) => flow.number === number);
      if (kind === "report") {
        assertEquals(
          table.report().map(({ packets, bytes, firstSeen, lastSeen }) => ({ packets, bytes, firstSeen, lastSeen })),
          model.filter((flow) => flow.changed)
            .map(({ packets, firstSeen, lastSeen }) => ({ packets, bytes: 100 * packets, firstSeen, lastSeen })),
        );
        for (const flow of model) flow.changed = false;
        return;
      }
      model = model.filter((flow) => flow !== known);
      if (kind === "forget") {
        table.forget(words(number), 0, 4);
      } else {
        table.count(words(number), 0, 4, time, 2, 200);
        const { packets, firstSeen } = known ?? { packets: 0, firstSeen: time };
        model = [{ number, packets: packets + 2, firstSeen, lastSeen: time, changed: true }, ...model].slice(0, 8);
      }
      for (let n = 0; n <= 12; n++) assertEquals(table.has(words(n), 0, 4), model.some((flow) => flow.number === n));
    });
  }));
});

Deno.test("a flow is reported with its addresses", () => {
  const table = new FlowTable(2, 1);
  const octets = new Uint8Array(32).fill(0);
  octets.set([0xfd, 1], 0);
  octets[15] = 0xa;
  octets.set([0xfd, 2], 16);
  octets[31] = 0xb;
  table.count(new Uint32Array(octets.buffer), 0, 4, 5, 1, 60);
  assertEquals(table.report(), [
    { local: "fd01::a", peer: "fd02::b", packets: 1, bytes: 60, firstSeen: 5, lastSeen: 5 },
  ]);
});
