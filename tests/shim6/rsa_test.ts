import { assert, assertEquals } from "@std/assert";
import { sign } from "node:crypto";
import { parseRsaKey, type RsaPublicKey, verifyRsaSignature } from "../../shim6/rsa.ts";
import { cga, fromHex, hba, keys, signature } from "./cga_vectors.ts";

const ALGORITHM = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-1", publicExponent: Uint8Array.of(1, 0, 1) };

function testKey(): RsaPublicKey {
  const key = parseRsaKey(fromHex(keys.rsa1024.spkiDer));
  assert(key !== undefined);
  return key;
}

function der(tag: number, contents: string): string {
  const length = contents.length / 2;
  const header = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Uint8Array.of(tag, ...header).toHex() + contents;
}

/** A SubjectPublicKeyInfo with these integers, in hexadecimal with their sign octet. */
function keyInfo(modulus: string, exponent: string): Uint8Array {
  const key = der(0x30, der(0x02, modulus) + der(0x02, exponent));
  return fromHex(der(0x30, "300d06092a864886f70d0101010500" + der(0x03, "00" + key)));
}

Deno.test("the example key is read", () => {
  const key = testKey();
  assertEquals([key.bits, key.exponent], [1024, 65_537]);
  assertEquals(key.modulus.toString(16).slice(0, 8), "d272d936");
});

Deno.test("a key of less than 1024 bits is none", () => {
  assertEquals(parseRsaKey(fromHex(cga[0].publicKeyAndExtensions)), undefined);
  assertEquals(parseRsaKey(fromHex(hba[0].encodedKeyOrExtendedModifier)), undefined);
  assertEquals(parseRsaKey(keyInfo("7f" + "ff".repeat(127), "010001")), undefined);
});

Deno.test("keys that could cost much time, or that no signature can come from, are none", () => {
  const bits = (count: number) => "00" + "ff".repeat(count / 8);
  assertEquals(parseRsaKey(keyInfo(bits(4096), "010001"))?.bits, 4096);
  assertEquals(parseRsaKey(keyInfo(bits(4104), "010001")), undefined);
  assertEquals(parseRsaKey(keyInfo(bits(1024), "00ffffffff"))?.exponent, 0xffff_ffff);
  assertEquals(parseRsaKey(keyInfo(bits(1024), "0100000001")), undefined);
  assertEquals(parseRsaKey(keyInfo(bits(1024), "01")), undefined);
  assertEquals(parseRsaKey(keyInfo(bits(1024), "010000")), undefined);
  assertEquals(parseRsaKey(keyInfo("00" + "ff".repeat(127) + "fe", "010001")), undefined);
  assertEquals(parseRsaKey(keyInfo("ff".repeat(128), "010001")), undefined); // negative
  assertEquals(parseRsaKey(keyInfo("0000" + "ff".repeat(128), "010001")), undefined); // not the shortest form
});

Deno.test("octets behind the key, or another algorithm, are refused", () => {
  const good = keyInfo("00" + "ff".repeat(128), "03");
  assert(parseRsaKey(good) !== undefined);
  assertEquals(parseRsaKey(Uint8Array.of(...good, 0)), undefined);
  const other = good.slice();
  other[3 + 14 - 2] ^= 1; // inside the algorithm identifier
  assertEquals(parseRsaKey(other), undefined);
  assertEquals(parseRsaKey(new Uint8Array()), undefined);
});

for (const example of signature) {
  Deno.test(`${example.name}: ${example.note}`, () => {
    const verdict = verifyRsaSignature(testKey(), fromHex(example.verifierInput), fromHex(example.signature));
    assertEquals(verdict, example.expect === "ok");
  });
}

Deno.test("a signature of another length, or not below the modulus, is refused", () => {
  const key = testKey(), { verifierInput, signature: hex } = signature[0];
  const input = fromHex(verifierInput), good = fromHex(hex);
  assert(verifyRsaSignature(key, input, good));
  assert(!verifyRsaSignature(key, input, good.subarray(1)));
  assert(!verifyRsaSignature(key, input, Uint8Array.of(0, ...good)));
  assert(!verifyRsaSignature(key, input, new Uint8Array()));
  const congruent = (BigInt(`0x${hex}`) + key.modulus).toString(16).padStart(256, "0");
  if (congruent.length === 256) assert(!verifyRsaSignature(key, input, fromHex(congruent)));
  assert(!verifyRsaSignature(key, input, new Uint8Array(128).fill(0xff)));
});

Deno.test("a forged signature with garbage behind the digest is refused", () => {
  // Bleichenbacher's forgery for exponent 3: a cube root whose cube starts as it should and ends in anything.
  const key: RsaPublicKey = { modulus: (1n << 2048n) - 1n, bits: 2048, exponent: 3 };
  const digest = "da39a3ee5e6b4b0d3255bfef95601890afd80709"; // SHA-1 of nothing
  const start = BigInt(`0x0001${"ff".repeat(8)}003021300906052b0e03021a05000414${digest}`);
  const target = start << BigInt(2048 - 8 * (11 + 35));
  let low = 0n, high = 1n << 700n;
  while (low < high) {
    const middle = (low + high) >> 1n;
    if (middle ** 3n < target) low = middle + 1n;
    else high = middle;
  }
  assertEquals((low ** 3n) >> BigInt(2048 - 8 * (11 + 35)), start);
  assert(!verifyRsaSignature(key, new Uint8Array(), fromHex(low.toString(16).padStart(512, "0"))));
});

Deno.test("signatures by other implementations verify, quickly", async () => {
  for (const modulusLength of [1024, 2048]) {
    const pair = await crypto.subtle.generateKey({ ...ALGORITHM, modulusLength }, true, ["sign", "verify"]);
    const key = parseRsaKey(new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey)));
    assert(key !== undefined);
    const message = Uint8Array.of(1, 2, 3);
    const byWebCrypto = new Uint8Array(await crypto.subtle.sign(ALGORITHM, pair.privateKey, message));
    const pem = new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey)).toBase64();
    const byNode = new Uint8Array(
      sign("sha1", message, `-----BEGIN PRIVATE KEY-----\n${pem}\n-----END PRIVATE KEY-----`),
    );
    assertEquals(byNode, byWebCrypto);
    for (let i = 0; i < 50; i++) assert(verifyRsaSignature(key, message, byNode));
    const start = performance.now();
    for (let i = 0; i < 20; i++) verifyRsaSignature(key, message, byNode);
    const each = (performance.now() - start) / 20;
    console.log(`RSA verification, ${modulusLength} bits: ${each.toFixed(3)} ms`);
    assert(each < 5, `${each} ms`);
  }
});
