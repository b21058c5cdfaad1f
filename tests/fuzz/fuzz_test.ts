/** A short run of the fuzzer (`deno task fuzz` is the long one), and what it found before. */

import { assert, assertEquals } from "@std/assert";
import { faultOfFixture, fixtures } from "./fixtures.ts";
import { minimise } from "./minimise.ts";
import { fuzzParsers, type Tally, TARGETS } from "./parsers.ts";
import { faultOfSequence, randomSequence } from "./sequences.ts";

const MESSAGES = 30_000, SEQUENCES = 100;
const SEED = 1;

Deno.test("damaged messages of every type are values or reasons to every parser", () => {
  const tally: Tally = new Map();
  const { played, fault } = fuzzParsers(SEED, MESSAGES, tally);
  assertEquals(fault, undefined);
  assertEquals(played, MESSAGES);
  const outcomes = [...tally.keys()];
  for (const target of Object.keys(TARGETS)) assert(outcomes.some((outcome) => outcome.startsWith(target)), target);
  for (const type of ["I1", "R1", "I2", "R2", "R1bis", "I2bis", "UpdateRequest", "Keepalive", "Probe", "Error"]) {
    assert((tally.get(`message: ${type} accepted`) ?? 0) > 100, `${type} is accepted often enough to mean something`);
  }
});

Deno.test("whatever happens to two hosts and whoever forges, bounds and proofs hold and traffic flows in the end", () => {
  const tally: Tally = new Map();
  for (let seed = SEED; seed < SEED + SEQUENCES; seed++) {
    const fault = faultOfSequence(randomSequence(seed), tally);
    assertEquals(fault, undefined, `seed ${seed}`);
  }
  for (const type of ["I1", "R1", "I2", "R2", "R1bis", "I2bis", "UpdateRequest", "Keepalive", "Probe", "Error"]) {
    assert((tally.get(`received: ${type}`) ?? 0) > 0, `${type} is received`);
  }
});

Deno.test("a sequence does the same each time, so that its seed tells a fault", () => {
  const [first, second]: Tally[] = [new Map(), new Map()];
  faultOfSequence(randomSequence(7), first);
  faultOfSequence(randomSequence(7), second);
  assertEquals([...first], [...second]);
});

Deno.test("what fails is made small", () => {
  const fails = (list: readonly number[]) => list.includes(3) && list.includes(17);
  assertEquals(minimise(Array.from({ length: 40 }, (_, i) => i), fails), [3, 17]);
  assertEquals(minimise([1], () => true), []);
});

for (const [name, fixture] of fixtures()) {
  Deno.test(`what the fuzzer found once does no harm any more: ${name}`, () => {
    assertEquals(faultOfFixture(fixture), undefined);
  });
}
