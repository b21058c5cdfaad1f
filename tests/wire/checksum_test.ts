import { assertEquals, assertStrictEquals } from "@std/assert";
import fc from "fast-check";
import {
  onesComplementSum,
  pseudoHeaderSum,
  shim6Checksum,
  shim6ChecksumGood,
  upperLayerChecksum,
} from "../../wire/checksum.ts";
import { get16, put16 } from "../../wire/octets.ts";
import { octets } from "./arbitraries.ts";
import { fromHex, packetOf, vector, vectors } from "./vectors.ts";

Deno.test("the sum of RFC 1071 §3 comes out", () => {
  assertStrictEquals(onesComplementSum(fromHex("0001f203f4f5f6f7"), 0, 8), 0xddf2);
});

Deno.test("the sum equals end-around addition of big-endian words, also over many octets", () => {
  fc.assert(fc.property(octets(0, 200), fc.nat(0xffff), (array, initial) => {
    let sum = initial;
    for (let i = 0; i < array.length; i += 2) {
      sum += array[i] * 256 + (array[i + 1] ?? 0);
      if (sum > 0xffff) sum -= 0xffff;
    }
    assertStrictEquals(onesComplementSum(array, 0, array.length, initial), sum);
  }));
  assertStrictEquals(onesComplementSum(new Uint8Array(200_000).fill(0xff), 0, 200_000), 0xffff);
});

Deno.test("the sum of a part takes no octet from outside", () => {
  const array = fromHex("ffff0102030405ffff");
  assertStrictEquals(onesComplementSum(array, 2, 7), 0x0102 + 0x0304 + 0x0500);
});

Deno.test("the checksum of each example message is the one in its header, whatever stands in the field", () => {
  for (const v of vectors) {
    if (v.decoded.checksumOk !== true) continue;
    const packet = packetOf(v), start = v.ipv6.shim6Offset;
    put16(packet, start + 4, 0x1234);
    assertStrictEquals(shim6Checksum(packet, start, packet.length), Number(v.decoded.checksum), v.name);
    assertStrictEquals(shim6ChecksumGood(packet, start, packet.length), false);
    put16(packet, start + 4, Number(v.decoded.checksum));
    assertStrictEquals(shim6ChecksumGood(packet, start, packet.length), true);
  }
});

Deno.test("each flipped bit of an example message breaks the checksum", () => {
  for (const v of vectors) {
    if (v.decoded.checksumOk !== true) continue;
    const message = packetOf(v).subarray(v.ipv6.shim6Offset);
    for (let bit = 0; bit < message.length * 8; bit++) {
      message[bit >> 3] ^= 0x80 >> (bit & 7);
      assertStrictEquals(shim6ChecksumGood(message, 0, message.length), false, `${v.name} bit ${bit}`);
      message[bit >> 3] ^= 0x80 >> (bit & 7);
    }
  }
});

Deno.test("the UDP checksum of an example packet covers the ULIDs", () => {
  const packet = fromHex(vector("Payload-UDP").explain!.beforeShim!);
  const sum = pseudoHeaderSum(packet, 8, packet.length - 40, 17);
  assertStrictEquals(upperLayerChecksum(packet, 40, packet.length, 46, sum), get16(packet, 46));
});

Deno.test("a packet with its upper-layer checksum filled in sums up to 0xffff", () => {
  fc.assert(fc.property(octets(60, 120), fc.nat(9), (packet, word) => {
    const field = 40 + 2 * word;
    const sum = pseudoHeaderSum(packet, 8, packet.length - 40, 6);
    put16(packet, field, upperLayerChecksum(packet, 40, packet.length, field, sum));
    assertEquals(onesComplementSum(packet, 40, packet.length, sum), 0xffff);
  }));
});
