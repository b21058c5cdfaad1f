import { assert, assertEquals } from "@std/assert";
import { sign } from "node:crypto";
import { LocalIdentity } from "../../shim6/identity.ts";
import { identityVerifier } from "../../shim6/identity_verifier.ts";
import { VerificationMethod } from "../../wire/message.ts";
import { cga, fromHex, hba, keys, named } from "./cga_vectors.ts";

const hostA = named(hba, "hba-3-prefixes-sec0-hostA").members;
const both = named(hba, "cgahba-2-prefixes-sec0-rsa1024").members;
const single = named(cga, "cga-sec0-rsa1024");
const addresses = hostA.map(({ address }) => address);
const elsewhere = "2001:db8:f1:1::abcd";

let signatures = 0;
const signer = (message: Uint8Array) => {
  signatures++;
  return new Uint8Array(sign("sha1", message, keys.rsa1024.privateKeyPkcs8Pem));
};

Deno.test("a set proves its members by their hash, with the PDS of the ULID's own prefix", () => {
  const identity = new LocalIdentity(fromHex(hostA[0].pds), addresses);
  for (const { address, pds } of hostA) {
    const proof = identity.prove(address, addresses, 5);
    assertEquals(proof?.pds?.toHex(), pds);
    assertEquals(proof?.signature, undefined);
    assertEquals(proof?.locators?.generation, 5);
    assertEquals(proof?.locators?.locators, addresses.map((address) => ({ address, method: 1 })));
    assertEquals(identityVerifier.verify(address, proof!, undefined), { verified: [true, true, true] });
  }
});

Deno.test("a set without a key covers its members only", () => {
  const identity = new LocalIdentity(fromHex(hostA[0].pds), addresses);
  assert(addresses.every((address) => identity.covers(address)));
  assert(!identity.covers(elsewhere));
  assertEquals(identity.prove(addresses[0], [...addresses, elsewhere], 5), undefined);
});

Deno.test("a ULID that is not of the identity has no proof", () => {
  const identity = new LocalIdentity(fromHex(both[0].pds), both.map(({ address }) => address), signer);
  assertEquals(identity.prove(elsewhere, [both[0].address, elsewhere], 5), undefined);
});

Deno.test("a set with a key signs what is not of the set", () => {
  const identity = new LocalIdentity(fromHex(both[0].pds), both.map(({ address }) => address), signer);
  assert(identity.covers(elsewhere));
  const list = [both[0].address, elsewhere, both[1].address];
  const proof = identity.prove(both[1].address, list, 5)!;
  const { HBA, CGA } = VerificationMethod;
  assertEquals(proof.locators?.locators.map(({ method }) => method), [HBA, CGA, HBA]);
  assertEquals(identityVerifier.verify(both[1].address, proof, undefined), { verified: [true, true, true] });
});

Deno.test("a single address signs all locators, itself too", () => {
  const identity = new LocalIdentity(fromHex(single.pds), [single.address], signer);
  const proof = identity.prove(single.address, [single.address, elsewhere], 5)!;
  assertEquals(proof.locators?.locators.map(({ method }) => method), [2, 2]);
  assertEquals(identityVerifier.verify(single.address, proof, undefined), { verified: [true, true] });
});

Deno.test("a list is signed once for all contexts, and anew when it changes", () => {
  const identity = new LocalIdentity(fromHex(both[0].pds), both.map(({ address }) => address), signer);
  signatures = 0;
  for (const { address } of both) identity.prove(address, [both[0].address, elsewhere], 5);
  assertEquals(signatures, 1);
  identity.prove(both[0].address, [both[0].address, elsewhere], 6);
  identity.prove(both[0].address, [both[0].address, "2001:db8:f1:1::abce"], 6);
  assertEquals(signatures, 3);
  identity.prove(both[0].address, [both[0].address], 7);
  assertEquals(signatures, 3);
});
