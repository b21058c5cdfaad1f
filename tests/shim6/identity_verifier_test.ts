import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { identityVerifier } from "../../shim6/identity_verifier.ts";
import { parseControlPacket } from "../../wire/codec.ts";
import { type LocatorList, type LocatorOptions, VerificationMethod } from "../../wire/message.ts";
import { packetOf, vector } from "../wire/vectors.ts";
import { cga, fromHex, hba, hbaList, listOf, named, signature } from "./cga_vectors.ts";

const { HBA, CGA } = VerificationMethod;
const hostA = named(hba, "hba-3-prefixes-sec0-hostA").members;
const hostB = named(hba, "hba-3-prefixes-sec0-hostB").members;
const both = named(hba, "cgahba-2-prefixes-sec0-rsa1024").members;
const single = named(cga, "cga-sec0-rsa1024");
const pdsA = fromHex(hostA[0].pds);

/** `true` for each verified locator, or the locator at fault (-1 for none: silence). */
function verdict(ulid: string, options: LocatorOptions, storedPds?: Uint8Array): readonly boolean[] | number {
  const result = identityVerifier.verify(ulid, options, storedPds);
  return "verified" in result ? result.verified : result.locatorIndex;
}

function reason(ulid: string, options: LocatorOptions, storedPds?: Uint8Array): string {
  const result = identityVerifier.verify(ulid, options, storedPds);
  return "refused" in result ? result.refused : "";
}

function withMethods(list: LocatorList, ...methods: number[]): LocatorList {
  return { ...list, locators: list.locators.map(({ address }, i) => ({ address, method: methods[i] })) };
}

Deno.test("all locators of a set verify, whichever member the ULID is and whichever member's PDS came", () => {
  for (const { address } of hostA) {
    for (const { pds } of hostA) {
      assertEquals(verdict(address, { locators: hbaList(hostA), pds: fromHex(pds) }), [true, true, true]);
    }
  }
});

Deno.test("the example packets verify as they stand", () => {
  const names = ["I2-loclist-hba", "I2-keepalive-timeout", "I2-loclist-hba-cga-signed", "R2-loclist-hba", "I2bis"];
  for (const name of names) {
    const result = parseControlPacket(packetOf(vector(name)));
    if (!result.ok) throw new Error(name);
    const { message, source } = result.packet;
    const ulid = "ulidPair" in message ? message.ulidPair?.sender ?? source : source;
    assertEquals(verdict(ulid, message as LocatorOptions), [true, true, true], name);
  }
});

Deno.test("a PDS that does not belong to the ULID is ignored silently, with a list and without", () => {
  assertEquals(verdict(hostB[0].address, { pds: pdsA }), -1);
  assertEquals(verdict(hostB[0].address, { pds: pdsA, locators: hbaList(hostB) }), -1);
  assertEquals(verdict(hostA[0].address, { pds: pdsA.subarray(0, 60), locators: hbaList(hostA) }), -1);
  assertEquals(verdict(hostA[0].address, { pds: new Uint8Array() }), -1);
  assertEquals(reason(hostB[0].address, { pds: pdsA }), "PDS is not that of the ULID: prefix-not-in-set");
  // The stored PDS of the context does not make up for it.
  assertEquals(verdict(hostA[0].address, { pds: fromHex(hostB[0].pds) }, pdsA), -1);
});

Deno.test("a PDS alone is accepted for its ULID", () => {
  assertEquals(verdict(hostA[1].address, { pds: pdsA }), []);
  assertEquals(verdict(single.address, { pds: fromHex(single.pds) }), []);
});

Deno.test("a list without a PDS is verified by the one stored before", () => {
  const update = { locators: hbaList([hostA[1], hostA[2]]) };
  assertEquals(verdict(hostA[0].address, update, pdsA), [true, true]);
  assertEquals(verdict(hostA[0].address, { locators: hbaList([hostA[1], hostB[2]]) }, pdsA), 1);
});

Deno.test("of a peer that never sent a PDS only the ULID is believed", () => {
  assertEquals(verdict(hostA[1].address, { locators: hbaList(hostA) }), [false, true, false]);
  assertEquals(verdict(hostA[1].address, { locators: withMethods(hbaList(hostA), CGA, CGA, HBA) }), [
    false,
    true,
    false,
  ]);
});

Deno.test("one locator that is not of the set fails the message, and its place is told", () => {
  for (const at of [0, 1, 2]) {
    const list = hbaList(hostA.map((member, i) => i === at ? hostB[i] : member));
    assertEquals(verdict(hostA[0].address, { locators: list, pds: pdsA }), at);
  }
  const list = hbaList([hostA[0], { address: "2001:db8:a2:1::1" }, { address: "2001:db8:a3:1::1" }]);
  assertEquals(verdict(hostA[0].address, { locators: list, pds: pdsA }), 1);
  assertEquals(reason(hostA[0].address, { locators: list, pds: pdsA }), "2001:db8:a2:1::1 does not verify: hash1");
});

Deno.test("a method that nobody knows fails the message at its place", () => {
  for (const method of [0, 3, 9, 255]) {
    const list = withMethods(hbaList(hostA), HBA, method, HBA);
    assertEquals(verdict(hostA[0].address, { locators: list, pds: pdsA }), 1);
  }
});

Deno.test("method HBA with the PDS of a single address is inconsistent", () => {
  const locators = hbaList([{ address: single.address }]);
  assertEquals(verdict(single.address, { locators, pds: fromHex(single.pds) }), 0);
});

Deno.test("method CGA with a PDS that has a nonce in the place of the key is inconsistent", () => {
  const locators = withMethods(hbaList(hostA), HBA, HBA, CGA);
  const options = { locators, pds: pdsA, signature: fromHex(signature[0].signature) };
  assertEquals(verdict(hostA[0].address, options), 2);
});

for (const example of signature) {
  Deno.test(`${example.name} is ${example.expect === "ok" ? "accepted" : "refused at the first signed locator"}`, () => {
    const options = {
      locators: listOf(example),
      pds: fromHex(both[0].pds),
      signature: fromHex(example.signature),
    };
    const expected = example.expect === "ok"
      ? example.locators.map(() => true)
      : example.verificationMethods.indexOf(CGA);
    assertEquals(verdict(both[0].address, options), expected);
  });
}

Deno.test("signed locators verify for a single address too, and by the stored PDS", () => {
  const example = named(signature, "sig-all-cga");
  const options = { locators: listOf(example), signature: fromHex(example.signature) };
  assertEquals(verdict(single.address, { ...options, pds: fromHex(single.pds) }), [true, true]);
  assertEquals(verdict(single.address, options, fromHex(single.pds)), [true, true]);
});

Deno.test("a locator with method CGA needs a signature", () => {
  const locators = listOf(named(signature, "sig-2-hba-1-cga"));
  assertEquals(verdict(both[0].address, { locators, pds: fromHex(both[0].pds) }), 2);
  assertEquals(
    reason(both[0].address, { locators, pds: fromHex(both[0].pds) }),
    "2001:db8:f1:1::abcd is not signed: no signature",
  );
});

Deno.test("a key of 512 bits is too short to sign locators", () => {
  const rfc = named(cga, "rfc3972-appendix-a");
  const locators = withMethods(hbaList([{ address: rfc.address }]), CGA);
  const options = { locators, pds: fromHex(rfc.pds), signature: new Uint8Array(64) };
  assertEquals(verdict(rfc.address, options), 0);
});

Deno.test("a hash that fails is told before a signature that fails", () => {
  const locators = withMethods(hbaList([both[0], hostA[0], hostA[1]]), CGA, HBA, HBA);
  assertEquals(verdict(both[0].address, { locators, pds: fromHex(both[0].pds) }), 1);
});

Deno.test("an empty list is nothing to verify", () => {
  assertEquals(verdict(hostA[0].address, { locators: { generation: 1, locators: [] }, pds: pdsA }), []);
});

Deno.test("the verifier never throws, and never believes more than the set and the ULID", () => {
  const addresses = [...hostA, ...hostB, ...both].map(({ address }) => address);
  const pds = fc.oneof(
    fc.constantFrom(...hostA, ...hostB, ...both).map((member) => fromHex(member.pds)),
    fc.uint8Array({ maxLength: 200 }),
  );
  const locator = fc.record({ address: fc.constantFrom(...addresses), method: fc.constantFrom(1, 1, 1, 2, 3) });
  fc.assert(fc.property(
    fc.constantFrom(...addresses),
    fc.option(fc.array(locator, { maxLength: 5 }), { nil: undefined }),
    fc.option(pds, { nil: undefined }),
    fc.option(pds, { nil: undefined }),
    fc.option(fc.uint8Array({ minLength: 128, maxLength: 128 }), { nil: undefined }),
    (ulid, list, sent, stored, signed) => {
      const locators = list && { generation: 7, locators: list };
      const result = verdict(ulid, { locators, pds: sent, signature: signed }, sent === undefined ? undefined : stored);
      if (typeof result === "number") return;
      assertEquals(result.length, list?.length ?? 0);
      const sets = [hostA, hostB, both].map((members) => members.map(({ address }) => address));
      const set = sets.find((members) => members.includes(ulid))!;
      result.forEach((verified, i) => {
        if (verified) assertEquals(set.includes(list![i].address), true);
      });
    },
  ));
});
