import { assert, assertEquals } from "@std/assert";
import { cgaAddress, hash1, hash2 } from "../../shim6/cga.ts";
import { extendedModifierKey, isHba, prefixesOf, verifyBinding, verifyHba } from "../../shim6/hba.ts";
import { parsePds, type Pds } from "../../shim6/pds.ts";
import { parseRsaKey } from "../../shim6/rsa.ts";
import { cga, FAULTS, fromHex, hba, keys, named, negative } from "./cga_vectors.ts";

for (const set of hba) {
  Deno.test(`each member of ${set.name} verifies by the structure of any other`, () => {
    for (const { pds } of set.members) {
      for (const { address } of set.members) {
        assertEquals(verifyHba(address, fromHex(pds)), undefined);
        assertEquals(verifyBinding(address, fromHex(pds)), undefined);
      }
    }
  });

  Deno.test(`hashes and addresses of ${set.name} follow from its parameters`, () => {
    for (const member of set.members) {
      const pds = fromHex(member.pds);
      assertEquals(hash1(pds).toHex(), member.hash1);
      assertEquals(hash2(pds).toHex(), set.hash2);
      assertEquals(cgaAddress(pds, set.sec), member.address);
    }
  });
}

for (const example of negative.filter(({ verifier }) => verifier === "hba")) {
  Deno.test(`${example.name}: ${example.why}`, () => {
    const expected = example.expect === "ok" ? undefined : FAULTS[example.failsAtStep!];
    assert(example.expect === "ok" || expected !== undefined, `unknown step ${example.failsAtStep}`);
    assertEquals(verifyHba(example.address, fromHex(example.pds)), expected);
  });
}

Deno.test("a Multi-Prefix extension that ends inside a prefix is refused", () => {
  const octets = fromHex(named(hba, "hba-2-prefixes-sec0").members[0].pds);
  const length = octets.length - 24 + 3;
  octets[length] -= 1;
  const cut = octets.subarray(0, octets.length - 1);
  assertEquals(verifyHba("2001:db8:c1:1:802:ad33:be10:1cae", cut), "bad-multi-prefix");
});

Deno.test("the Extended Modifier is encoded as the examples have it", () => {
  for (const { encodedKeyOrExtendedModifier: expected, name } of hba.slice(0, 4)) {
    const nonce = fromHex(expected).subarray(25, 25 + 48);
    assertEquals(extendedModifierKey(nonce).toHex(), expected, name);
  }
  assertEquals(extendedModifierKey(new Uint8Array(48))[25], 0x80);
});

Deno.test("a nonce in the place of the key is no key", () => {
  assertEquals(parseRsaKey(extendedModifierKey(new Uint8Array(48).fill(0xff))), undefined);
});

Deno.test("a single address is told from a set", () => {
  const single = parsePds(fromHex(cga[1].pds)) as Pds, set = parsePds(fromHex(hba[5].members[0].pds)) as Pds;
  assertEquals([isHba(single), isHba(set)], [false, true]);
  assertEquals(prefixesOf(single), "no-multi-prefix");
  assertEquals(set.publicKey.toHex(), keys.rsa1024.spkiDer);
});

Deno.test("a set of three is verified in far less than a millisecond", () => {
  const { members } = named(hba, "hba-3-prefixes-sec0-hostA");
  const pds = fromHex(members[0].pds);
  const verifySet = () => members.forEach(({ address }) => assertEquals(verifyHba(address, pds), undefined));
  for (let i = 0; i < 200; i++) verifySet();
  const times = Array.from({ length: 50 }, () => {
    const start = performance.now();
    verifySet();
    return performance.now() - start;
  }).sort((a, b) => a - b);
  console.log(`a set of 3 in ${(times[25] * 1_000).toFixed(0)} µs`);
  assert(times[25] < 1, `${times[25]} ms`);
});
