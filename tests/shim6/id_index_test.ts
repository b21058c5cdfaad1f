import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { IdIndex, textKey } from "../../shim6/id_index.ts";

Deno.test("an index finds what a plain map finds, whatever is added and deleted, the newest first", () => {
  const step = fc.record({ id: fc.nat(300), key: fc.oneof(fc.nat(5), fc.maxSafeNat()) });
  fc.assert(fc.property(fc.integer(), fc.array(step, { maxLength: 300 }), (seed, steps) => {
    const index = new IdIndex(seed);
    const model = new Map<number, number>(); // in the order of adding
    for (const { id, key } of steps) {
      if (model.delete(id)) index.delete(id);
      else {
        index.add(id, key);
        model.set(id, key);
      }
    }
    for (const key of new Set(steps.map(({ key }) => key))) {
      const found = [...model].filter(([, each]) => each === key).map(([id]) => id).reverse();
      assertEquals([...index.find(key)], found);
      assertEquals(index.has(key), found.length > 0);
    }
  }));
});

Deno.test("keys of texts depend on every letter, and on the seed", () => {
  const keys = new Set<number>();
  for (let i = 0; i < 1_000; i++) keys.add(textKey(`fd00::${i.toString(16)}`, 7));
  assertEquals(keys.size, 1_000);
  assertEquals(textKey("fd00::1", 7) === textKey("fd00::1", 8), false);
});
