import { assert, assertEquals } from "@std/assert";
import { FailureChooser } from "../../sim/experiments/failures.ts";
import { SeededRandom } from "../../sim/random.ts";

const chooser = () => new FailureChooser(9, new SeededRandom(1));

Deno.test("both paths in use break, and each direction keeps one", () => {
  const choose = chooser();
  for (let count = 2; count <= 16; count++) {
    for (let i = 0; i < 50; i++) {
      const broken = choose.next(count, 4, 7);
      assertEquals(new Set(broken).size, count);
      assert(broken.includes(4) && broken.includes(9 + 7));
      const forth = broken.filter((path) => path < 9).length;
      assert(forth < 9 && count - forth < 9 && broken.every((path) => path >= 0 && path < 18));
    }
  }
});

Deno.test("a single failure hits the two directions in turn", () => {
  const choose = chooser();
  assertEquals([1, 2, 3, 4].map(() => choose.next(1, 4, 7)), [[4], [16], [4], [16]]);
});

Deno.test("no combination comes twice until all have come", () => {
  for (const [count, combinations] of [[2, 1], [3, 16], [4, 120], [15, 448], [16, 64]]) {
    const choose = chooser();
    for (let round = 0; round < 2; round++) {
      const drawn = Array.from({ length: combinations }, () => choose.next(count, 0, 0).sort((a, b) => a - b).join());
      assertEquals(new Set(drawn).size, combinations);
    }
  }
});

Deno.test("with two paths each way the other one of each direction is always kept", () => {
  const choose = new FailureChooser(2, new SeededRandom(1));
  assertEquals(choose.next(2, 0, 1), [0, 3]);
});
