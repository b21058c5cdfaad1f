import { assert, assertEquals } from "@std/assert";
import { cgaAddress, hash1, hash2, hasZeroBits, secOf, signatureInput, verifyCga } from "../../shim6/cga.ts";
import { cga, FAULTS, fromHex, hba, listOf, named, negative, signature } from "./cga_vectors.ts";

for (const example of cga) {
  Deno.test(`the address of ${example.name} follows from its parameters and verifies`, () => {
    const pds = fromHex(example.pds);
    assertEquals(hash1(pds).toHex(), example.hash1);
    assertEquals(hash2(pds).toHex(), example.hash2);
    assertEquals(cgaAddress(pds, example.sec), example.address);
    assertEquals(secOf(example.address), example.sec);
    assert(hasZeroBits(hash2(pds), example.sec));
    assertEquals(verifyCga(example.address, pds), undefined);
  });
}

for (const example of negative.filter(({ verifier }) => verifier === "cga")) {
  Deno.test(`${example.name}: ${example.why}`, () => {
    const expected = example.expect === "ok" ? undefined : FAULTS[example.failsAtStep!];
    assert(example.expect === "ok" || expected !== undefined, `unknown step ${example.failsAtStep}`);
    assertEquals(verifyCga(example.address, fromHex(example.pds)), expected);
  });
}

Deno.test("members of a set verify as single addresses by their own structure", () => {
  for (const { address, pds } of hba.flatMap(({ members }) => members)) {
    assertEquals(verifyCga(address, fromHex(pds)), undefined);
  }
});

Deno.test("what is signed is the tag, the generation and the locators with method CGA", () => {
  for (const example of signature) assertEquals(signatureInput(listOf(example)).toHex(), example.verifierInput);
});

Deno.test("Sec 1 and 2 want 16 and 32 zero bits", () => {
  assert(hasZeroBits(fromHex("ffff"), 0));
  assert(hasZeroBits(fromHex("0000ff"), 1));
  assert(!hasZeroBits(fromHex("000100"), 1));
  assert(hasZeroBits(fromHex("00000000ff"), 2));
  assert(!hasZeroBits(fromHex("0000000100"), 2));
});

Deno.test("the address of a higher Sec does not verify by a Modifier that was searched for a lower one", () => {
  const example = named(cga, "cga-sec1-rsa1024");
  const pds = fromHex(example.pds);
  assertEquals(verifyCga(cgaAddress(pds, 2), pds), "hash2");
});
