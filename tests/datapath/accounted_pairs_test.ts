import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { AccountedPairs } from "../../datapath/accounted_pairs.ts";

const ulid = (number: number) => ({ local: "fd00::1", peer: `fd01::${number + 1}` });

Deno.test("contexts with the same ULIDs share a pair, which ends with the last of them", () => {
  const step = fc.record({ id: fc.nat(100), peer: fc.nat(5) });
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const pairs = new AccountedPairs(6), model = new Map<number, number>();
    for (const { id, peer } of steps) {
      if (model.has(id)) {
        pairs.remove(id);
        model.delete(id);
      } else {
        pairs.add(id, ulid(peer));
        model.set(id, peer);
      }
      assertEquals(pairs.of(id) >= 0, model.has(id));
      for (const [one, peerOfOne] of model) {
        assertEquals(pairs.users(pairs.of(one)), [...model.values()].filter((each) => each === peerOfOne).length);
        for (const [other, peerOfOther] of model) {
          assertEquals(pairs.of(one) === pairs.of(other), peerOfOne === peerOfOther);
        }
      }
    }
  }));
});

Deno.test("a pair too many is refused, and nothing is changed by it", () => {
  const pairs = new AccountedPairs(1);
  const pair = pairs.add(1, ulid(1));
  assertThrows(() => pairs.add(2, ulid(2)), RangeError, "more than 1");
  assertEquals(pairs.of(2), -1);
  assertEquals(pairs.add(70_000, ulid(1)), pair);
  assertEquals(pairs.octets(pair)[31], 2);
});
