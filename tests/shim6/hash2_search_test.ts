import { sha1 } from "@noble/hashes/legacy.js";
import { assert, assertEquals } from "@std/assert";
import { expectedHashes, Hash2Search } from "../../shim6/hash2_search.ts";
import { cga, fromHex, hba, named } from "./cga_vectors.ts";

/** Hash2 of a Modifier by the general library. */
function reference(modifier: Uint8Array, rest: Uint8Array): Uint8Array {
  return sha1(Uint8Array.of(...modifier, ...new Uint8Array(9), ...rest));
}

Deno.test("the search finds the Modifier of each example, after as many steps", () => {
  const examples = [
    ...cga.map((example) => ({ ...example, rest: example.publicKeyAndExtensions })),
    ...hba.map((set) => ({ ...set, rest: set.encodedKeyOrExtendedModifier + set.multiPrefixExtension })),
  ];
  for (const { name, sec, initialModifier, modifierIncrements, modifier, rest } of examples) {
    const start = () => new Hash2Search(fromHex(rest), sec, fromHex(initialModifier));
    assertEquals(start().run(modifierIncrements + 1)?.toHex(), modifier, name);
    assertEquals(start().run(modifierIncrements), undefined, name);
  }
});

Deno.test("a search that is called again goes on where it was", () => {
  const { encodedKeyOrExtendedModifier, multiPrefixExtension, ...set } = named(hba, "hba-4-prefixes-sec1");
  const rest = fromHex(encodedKeyOrExtendedModifier + multiPrefixExtension);
  const search = new Hash2Search(rest, set.sec, fromHex(set.initialModifier));
  let steps = 0;
  let found: Uint8Array | undefined;
  while (found === undefined) {
    found = search.run(1_000);
    steps++;
  }
  assertEquals(found.toHex(), set.modifier);
  assertEquals(steps, Math.ceil((set.modifierIncrements + 1) / 1_000));
});

Deno.test("the Modifier counts on past all its words", () => {
  const rest = new Uint8Array(30);
  const start = new Uint8Array(16).fill(0xff);
  const search = new Hash2Search(rest, 1, start);
  const found = search.run(1_000_000);
  assert(found !== undefined);
  // From all ones the next is zero: the hit is the first of 0, 1, 2 …
  assertEquals(found.subarray(0, 12), new Uint8Array(12));
  const modifier = new Uint8Array(16);
  for (let n = 0;; n++) {
    new DataView(modifier.buffer).setUint32(12, n);
    const digest = reference(modifier, rest);
    if (digest[0] === 0 && digest[1] === 0) break;
  }
  assertEquals(found, modifier);
});

Deno.test("SHA-1 as written out here is SHA-1, for inputs of every number of blocks", () => {
  for (const length of [0, 30, 31, 38, 39, 40, 94, 95, 102, 103, 104, 326]) {
    const rest = new Uint8Array(length).map((_, i) => i);
    const found = new Hash2Search(rest, 1, new Uint8Array(16)).run(2_000_000);
    assert(found !== undefined);
    assertEquals(reference(found, rest).subarray(0, 2), new Uint8Array(2), `${length} octets`);
  }
});

Deno.test("Sec 0 takes the first Modifier, and each step more multiplies the work by 65536", () => {
  const modifier = new Uint8Array(16).fill(7);
  assertEquals(new Hash2Search(new Uint8Array(10), 0, modifier).run(1), modifier);
  assertEquals([expectedHashes(0), expectedHashes(1), expectedHashes(2)], [1, 65_536, 2 ** 32]);
});
