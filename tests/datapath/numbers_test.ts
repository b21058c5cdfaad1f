import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { Numbers } from "../../datapath/numbers.ts";

Deno.test("a number that was given back rests until all others have been in use", () => {
  const numbers = new Numbers(3);
  assertEquals([numbers.take(), numbers.take()], [0, 1]);
  numbers.give(1);
  numbers.give(0);
  assertEquals([numbers.take(), numbers.take(), numbers.take(), numbers.take()], [2, 1, 0, -1]);
});

Deno.test("no number is in use twice, and none is lost, whatever is taken and given back", () => {
  fc.assert(fc.property(fc.array(fc.option(fc.nat(7)), { maxLength: 100 }), (steps) => {
    const numbers = new Numbers(8), used: number[] = [];
    for (const step of steps) {
      if (step === null) {
        const number = numbers.take();
        assertEquals(number < 0, used.length === 8);
        if (number >= 0) used.push(number);
      } else if (step < used.length) numbers.give(used.splice(step, 1)[0]);
      assertEquals(new Set(used).size, used.length);
      assertEquals(numbers.size, used.length);
      assertEquals(used.every((number) => number < numbers.limit), true);
    }
  }));
});
