import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { verifyCga } from "../../shim6/cga.ts";
import { multiPrefixExtension, verifyBinding, verifyHba } from "../../shim6/hba.ts";
import { emitPds, parsePds, type Pds, withPrefixOf } from "../../shim6/pds.ts";
import { parseRsaKey } from "../../shim6/rsa.ts";
import { parseAddress } from "../../wire/address.ts";
import { cga, fromHex, hba, keys, named } from "./cga_vectors.ts";

const ADDRESS = "2001:db8:a1:1:1840:8507:eb26:2c45";
const structures = [...cga.map(({ pds }) => pds), ...hba.flatMap(({ members }) => members.map(({ pds }) => pds))];

function parsed(hex: string): Pds {
  const pds = parsePds(fromHex(hex));
  if (typeof pds === "string") throw new Error(pds);
  return pds;
}

Deno.test("every example structure parses into its fields and is emitted as it was", () => {
  for (const example of cga) {
    const pds = parsed(example.pds);
    assertEquals(pds.modifier.toHex(), example.modifier);
    assertEquals(pds.collisionCount, example.collisionCount);
    assertEquals(pds.subnetPrefix, parseAddress(example.subnetPrefix.split("/")[0]).subarray(0, 8));
    assert(example.publicKeyAndExtensions.startsWith(pds.publicKey.toHex()));
  }
  for (const hex of structures) assertEquals(emitPds(parsed(hex)).toHex(), hex);
});

Deno.test("an unknown extension is kept", () => {
  const { extensions } = parsed(named(cga, "cga-sec0-unknown-extension").pds);
  assertEquals(extensions, [{ type: 0xfffd, data: fromHex("deadbeef") }]);
});

Deno.test("the Multi-Prefix extension of each set is built as in the example", () => {
  for (const { prefixes, pFlag, multiPrefixExtension: expected, members } of hba) {
    const octets = prefixes.map((prefix) => parseAddress(prefix.split("/")[0]).subarray(0, 8));
    const built = multiPrefixExtension(octets, pFlag === 1);
    assertEquals(parsed(members[0].pds).extensions, [built]);
    assertEquals(`0012${built.data.length.toString(16).padStart(4, "0")}${built.data.toHex()}`, expected);
  }
});

Deno.test("a structure cut anywhere inside its key or an extension is refused", () => {
  const octets = fromHex(named(cga, "cga-sec0-unknown-extension").pds);
  const keyEnd = 25 + keys.rsa1024.spkiDer.length / 2;
  for (let length = 0; length < octets.length; length++) {
    const result = parsePds(octets.subarray(0, length));
    const expected = length < 26
      ? "too-short"
      : length < keyEnd
      ? "bad-public-key"
      : length > keyEnd
      ? "bad-extension"
      : typeof result;
    assertEquals(typeof result === "string" ? result : "object", expected, `${length} octets`);
  }
});

Deno.test("a key whose length is indefinite, or that is no SEQUENCE, is refused", () => {
  const octets = fromHex(cga[1].pds);
  for (const [first, second] of [[0x31, 0x81], [0x30, 0x80], [0x30, 0x84], [0x30, 0xff]]) {
    octets.set([first, second], 25);
    assertEquals(parsePds(octets), "bad-public-key");
  }
});

Deno.test("changing the prefix leaves the original alone", () => {
  const original = fromHex(hba[1].members[0].pds);
  const copy = withPrefixOf(original, parseAddress(hba[1].members[1].address));
  assertEquals(copy.toHex(), hba[1].members[1].pds);
  assertEquals(original.toHex(), hba[1].members[0].pds);
});

Deno.test("no octets make a parser or a verifier throw", () => {
  const damaged = fc.tuple(
    fc.constantFrom(...structures),
    fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { minLength: 1, maxLength: 4 }),
    fc.nat(400),
  ).map(([hex, changes, cut]) => {
    const octets = fromHex(hex);
    for (const [at, value] of changes) octets[at % octets.length] = value;
    return octets.subarray(0, cut);
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), damaged), (octets) => {
      const pds = parsePds(octets);
      if (typeof pds !== "string") assertEquals(emitPds(pds), octets);
      verifyCga(ADDRESS, octets);
      verifyHba(ADDRESS, octets);
      verifyBinding(ADDRESS, octets);
      parseRsaKey(octets);
      parseRsaKey(octets.subarray(25));
    }),
    { numRuns: 2_000 },
  );
});

Deno.test("a change of any one bit of a set's structure is noticed", () => {
  const { address, pds } = named(hba, "hba-3-prefixes-sec0-hostA").members[1];
  fc.assert(fc.property(fc.nat(pds.length * 4 - 1), (bit) => {
    const octets = fromHex(pds);
    octets[bit >> 3] ^= 1 << (bit & 7);
    const inPrefixField = bit >> 3 >= 16 && bit >> 3 < 24; // replaced by that of the address
    assertEquals(verifyHba(address, octets) === undefined, inPrefixField);
  }));
});
