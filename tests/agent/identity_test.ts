import { assert, assertEquals, assertNotEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { UsageError } from "../../agent/errors.ts";
import {
  afterCollision,
  cgaNew,
  checkIdentityTarget,
  hbaNew,
  type Identity,
  IdentityError,
  type IdentityFault,
  loadIdentityFile,
  localIdentity,
  parseIdentity,
  readIdentityFile,
  replaceIdentityFile,
  writeIdentityFile,
} from "../../agent/identity.ts";
import { secOf, verifyCga } from "../../shim6/cga.ts";
import { verifyHba } from "../../shim6/hba.ts";
import { identityVerifier } from "../../shim6/identity_verifier.ts";
import { parsePds, type Pds, withPrefixOf } from "../../shim6/pds.ts";
import { parseAddress, parsePrefix, type Prefix } from "../../wire/address.ts";

const prefixes = ["2001:db8:a1:1::/64", "2001:db8:a2:1::/64", "2001:db8:a3:1::/64"].map(parsePrefix);
const elsewhere = "2001:db8:f1:1::abcd";

// Made once: a key takes a while.
const set = await hbaNew({ prefixes, sec: 0 });
const setWithKey = await hbaNew({ prefixes, sec: 0, cga: true });
const single = await cgaNew({ prefixes, sec: 1 });

/** A folder for the time of a test. */
class Folder implements Disposable {
  readonly path = Deno.makeTempDirSync({ prefix: "shim6-identity-" });
  readonly file = `${this.path}/identity.json`;
  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

function fault(work: () => unknown): { fault: IdentityFault; message: string } {
  const { fault, message } = assertThrows(work, IdentityError);
  return { fault, message };
}

async function complaint(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (error instanceof UsageError) return error.message;
  }
  throw new Error("no UsageError");
}

Deno.test("a set has one address in each prefix, in order, all bound to each other", () => {
  assertEquals([set.kind, set.sec, set.privateKey], ["HBA", 0, undefined]);
  set.addresses.forEach((address, i) => {
    assertEquals(parseAddress(address).subarray(0, 8), parseAddress(prefixes[i].address).subarray(0, 8));
    assertEquals(verifyHba(address, set.pds), undefined);
    assertEquals(parseAddress(address)[8] & 0x03, 0, "u and g bits");
  });
  assertEquals(verifyHba(elsewhere, set.pds), "prefix-not-in-set");
});

Deno.test("a set with a key is of kind CGA/HBA, and its P flag says so", () => {
  assertEquals(setWithKey.kind, "CGA/HBA");
  for (const address of setWithKey.addresses) assertEquals(verifyHba(address, setWithKey.pds), undefined);
  assertEquals((parsePds(setWithKey.pds) as Pds).extensions[0].data[0], 0x80);
  assertEquals((parsePds(set.pds) as Pds).extensions[0].data[0], 0);
});

Deno.test("CGAs of Sec 1 under one key verify each by its own prefix", () => {
  assertEquals([single.kind, single.sec], ["CGA", 1]);
  for (const address of single.addresses) {
    assertEquals(verifyCga(address, withPrefixOf(single.pds, parseAddress(address))), undefined);
    assertEquals(secOf(address), 1);
  }
});

Deno.test("two sets of the same prefixes share nothing", async () => {
  const other = await hbaNew({ prefixes, sec: 0 });
  assertNotEquals((parsePds(other.pds) as Pds).modifier, (parsePds(set.pds) as Pds).modifier);
  assertNotEquals((parsePds(other.pds) as Pds).publicKey, (parsePds(set.pds) as Pds).publicKey);
});

Deno.test("a peer believes each kind of identity", () => {
  for (const identity of [set, setWithKey, single]) {
    const prover = localIdentity(identity);
    const list = identity.kind === "HBA" ? identity.addresses : [...identity.addresses, elsewhere];
    for (const ulid of identity.addresses) {
      const proof = prover.prove(ulid, list, 0x5a17c0de);
      assert(proof !== undefined);
      assertEquals(identityVerifier.verify(ulid, proof, undefined), { verified: list.map(() => true) });
      assertEquals(proof.signature?.length, identity.kind === "HBA" ? undefined : 256);
    }
  }
});

Deno.test("a collision changes all addresses, and the third one ends it", () => {
  for (const identity of [set, single]) {
    let current: Identity | undefined = identity;
    const seen = new Set<string>();
    for (let count = 0; count <= 2; count++) {
      assert(current !== undefined);
      assertEquals((parsePds(current.pds) as Pds).collisionCount, count);
      for (const address of current.addresses) {
        seen.add(address);
        const pds = withPrefixOf(current.pds, parseAddress(address));
        assertEquals(verifyCga(address, pds), undefined);
      }
      current = afterCollision(current);
    }
    assertEquals(current, undefined);
    assertEquals(seen.size, 9);
  }
});

Deno.test("prefixes that no locator can come from are refused with the reason", async () => {
  const refused = (...prefixes: Prefix[]) => complaint(hbaNew({ prefixes, sec: 0 }));
  assertEquals(await refused(), "no prefix given");
  assertStringIncludes(await refused(parsePrefix("2001:db8::/48")), "a prefix of 64 bits is needed");
  assertStringIncludes(await refused(parsePrefix("fe80::/64")), "no address of it can be a locator");
  assertStringIncludes(await refused(parsePrefix("ff02::/64")), "no address of it can be a locator");
  assertStringIncludes(await refused(parsePrefix("2001:db8::1/64")), "its prefix ends in ::/64");
  assertStringIncludes(await refused(prefixes[0], prefixes[1], prefixes[0]), "given twice");
  const many = Array.from({ length: 17 }, (_, i) => parsePrefix(`2001:db8:0:${i}::/64`));
  assertStringIncludes(await refused(...many), "at most 16 prefixes");
  assertStringIncludes(await complaint(hbaNew({ prefixes, sec: 3 })), "Sec is 0, 1 or 2");
  assertStringIncludes(await complaint(cgaNew({ prefixes, sec: 0.5 })), "Sec is 0, 1 or 2");
});

Deno.test("an identity is the same after it was written and loaded", () => {
  for (const identity of [set, setWithKey, single]) {
    using folder = new Folder();
    writeIdentityFile(folder.file, identity);
    assertEquals(Deno.statSync(folder.file).mode! & 0o777, 0o600);
    assertEquals(loadIdentityFile(folder.file), identity);
  }
});

Deno.test("a file that others may read is refused", () => {
  using folder = new Folder();
  writeIdentityFile(folder.file, set);
  for (const mode of [0o640, 0o604, 0o660, 0o644, 0o601]) {
    Deno.chmodSync(folder.file, mode);
    assertEquals(fault(() => loadIdentityFile(folder.file)), {
      fault: "too-open",
      message: `${folder.file} may be read by others (mode 0${mode.toString(8)}): chmod 600 ${folder.file}`,
    });
  }
  Deno.chmodSync(folder.file, 0o400);
  assertEquals(loadIdentityFile(folder.file).addresses, set.addresses);
});

Deno.test("an existing file is never overwritten", () => {
  using folder = new Folder();
  Deno.writeTextFileSync(folder.file, "precious");
  assertEquals(fault(() => writeIdentityFile(folder.file, set)).fault, "unwritable");
  assertEquals(fault(() => checkIdentityTarget(folder.file)).fault, "unwritable");
  assertEquals(Deno.readTextFileSync(folder.file), "precious");
});

Deno.test("whether a file can be written is known before, and leaves no trace", () => {
  using folder = new Folder();
  checkIdentityTarget(folder.file);
  assertEquals([...Deno.readDirSync(folder.path)], []);
  assertEquals(fault(() => checkIdentityTarget(`${folder.path}/none/x`)).fault, "unwritable");
});

Deno.test("an identity that changed takes the place of the former, as private as it was", () => {
  using folder = new Folder();
  writeIdentityFile(folder.file, set);
  const next = afterCollision(set)!;
  replaceIdentityFile(folder.file, next);
  assertEquals(loadIdentityFile(folder.file), next);
  assertEquals([...Deno.readDirSync(folder.path)].length, 1);
});

Deno.test("missing files, folders and huge files are refused", () => {
  using folder = new Folder();
  assertEquals(fault(() => loadIdentityFile(folder.file)).fault, "unreadable");
  assertEquals(fault(() => loadIdentityFile(folder.path)).fault, "not-an-identity");
  Deno.writeFileSync(folder.file, new Uint8Array(70_000), { mode: 0o600 });
  assertEquals(fault(() => loadIdentityFile(folder.file)).fault, "not-an-identity");
});

Deno.test("each damage of a file is told by its field", () => {
  using folder = new Folder();
  writeIdentityFile(folder.file, single);
  const text = Deno.readTextFileSync(folder.file);
  const changed = (changes: Record<string, unknown>) => {
    const document = { ...JSON.parse(text), ...changes };
    return fault(() => parseIdentity(JSON.stringify(document), "x.json"));
  };
  assertEquals(fault(() => parseIdentity("{", "x.json")).fault, "not-an-identity");
  assertEquals(fault(() => parseIdentity("[]", "x.json")).fault, "not-an-identity");
  assertEquals(fault(() => parseIdentity("null", "x.json")).fault, "not-an-identity");
  assertEquals(changed({ shim6_identity: 2 }).message, "x.json: version 2 is not known, only 1");
  assertEquals(changed({ parameters: "xyz" }).fault, "bad-parameters");
  assertEquals(changed({ parameters: single.pds.subarray(0, 100).toHex() }).fault, "bad-parameters");
  assertEquals(changed({ addresses: [] }).fault, "bad-address");
  assertEquals(changed({ addresses: ["2001:db8::g"] }).fault, "bad-address");
  assertEquals(changed({ addresses: new Array(17).fill("::1") }).fault, "bad-address");
  assertEquals(changed({ addresses: [7] }).fault, "bad-address");
  assertEquals(changed({ private_key: undefined }).fault, "bad-key");
  assertEquals(changed({ private_key: 7 }).fault, "bad-key");
  assertEquals(
    changed({ private_key: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----" }).fault,
    "bad-key",
  );
  assertEquals(changed({ private_key: setWithKey.privateKey }).fault, "bad-key");
});

Deno.test("a file whose addresses do not belong to its parameters is refused", () => {
  using folder = new Folder();
  writeIdentityFile(folder.file, { ...set, addresses: [set.addresses[0], elsewhere] });
  const { fault: name, message } = fault(() => loadIdentityFile(folder.file));
  assertEquals(name, "bad-address");
  assertStringIncludes(message, `${elsewhere} does not belong to the parameters (prefix-not-in-set)`);
  assertEquals(readIdentityFile(folder.file).addresses, [set.addresses[0], elsewhere]);
});

Deno.test("no text makes the parser throw anything but an IdentityError", () => {
  const document = fc.record({
    shim6_identity: fc.constantFrom<unknown>(1, 1, 1, 2, "1"),
    addresses: fc.oneof(fc.array(fc.oneof(fc.string(), fc.ipV6())), fc.jsonValue()),
    parameters: fc.oneof(fc.constant(set.pds.toHex()), fc.uint8Array().map((o) => o.toHex()), fc.jsonValue()),
    private_key: fc.option(fc.oneof(fc.string(), fc.jsonValue()), { nil: undefined }),
  }, { requiredKeys: [] }).map((value) => JSON.stringify(value));
  fc.assert(fc.property(fc.oneof(fc.string(), fc.json(), document), (text) => {
    try {
      parseIdentity(text, "x.json");
    } catch (error) {
      assert(error instanceof IdentityError, String(error));
    }
  }));
});

Deno.test("a set of three takes far less than 50 ms at Sec 0, and some tenths of a second at Sec 1", async () => {
  const timed = async (sec: number, count: number) => {
    const times = [];
    for (let i = 0; i < count; i++) {
      const start = performance.now();
      await hbaNew({ prefixes, sec });
      times.push(performance.now() - start);
    }
    return times.sort((a, b) => a - b)[count >> 1];
  };
  const sec0 = await timed(0, 9), sec1 = await timed(1, 9);
  console.log(`a set of 3: Sec 0 in ${sec0.toFixed(2)} ms, Sec 1 in ${sec1.toFixed(0)} ms (medians)`);
  assert(sec0 < 50, `${sec0} ms`);
  assert(sec1 < 5_000, `${sec1} ms`);
});
