import { assertEquals, assertStrictEquals } from "@std/assert";
import fc from "fast-check";
import { findShim6Header } from "../../wire/ipv6.ts";
import { get16, put16 } from "../../wire/octets.ts";
import {
  insertPayloadHeader,
  isPayloadHeader,
  nextHeaderOffset,
  PAYLOAD_HEADER_LENGTH,
  payloadInsertOffset,
  payloadTag,
  removePayloadHeader,
  writePayloadHeader,
} from "../../wire/payload.ts";
import { octets, tag } from "./arbitraries.ts";
import { fromHex, packetOf, vectors } from "./vectors.ts";

const examples = vectors.filter((v) => v.decoded.P === 1);

/** A packet with 8 free octets before it. */
function withHeadroom(packet: Uint8Array): Uint8Array<ArrayBuffer> {
  const octets = new Uint8Array(PAYLOAD_HEADER_LENGTH + packet.length);
  octets.set(packet, PAYLOAD_HEADER_LENGTH);
  return octets;
}

/** A packet with a chain of extension headers of the given protocol numbers and lengths, and the places of each. */
function chained(chain: readonly { number: number; units: number }[], last: number, body: Uint8Array) {
  const places: number[] = [];
  let length = 40;
  for (const { units } of chain) {
    places.push(length);
    length += 8 * (units + 1);
  }
  places.push(length);
  const packet = new Uint8Array(length + body.length).fill(0x77);
  packet[0] = 0x60;
  put16(packet, 4, packet.length - 40);
  packet[6] = chain[0]?.number ?? last;
  chain.forEach(({ units }, i) => {
    packet[places[i]] = chain[i + 1]?.number ?? last;
    packet[places[i] + 1] = units;
  });
  packet.set(body, length);
  return { packet, places };
}

const HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, ESP = 50, AUTHENTICATION = 51, DESTINATION = 60, UDP = 17;

for (const v of examples) {
  Deno.test(`the example packet ${v.name} is what the shim makes of its ULID packet, and the other way round`, () => {
    const shimmed = packetOf(v), plain = fromHex(v.explain!.beforeShim!);
    const octets = withHeadroom(plain);
    const start = insertPayloadHeader(octets, PAYLOAD_HEADER_LENGTH, octets.length, 0x5b0e1f2a3b4c);
    assertStrictEquals(start, 0);
    octets.set(shimmed.subarray(8, 40), 8); // locators for ULIDs
    assertEquals(octets.toHex(), v.hex);

    const at = findShim6Header(octets, 0, octets.length);
    assertStrictEquals(at, v.ipv6.shim6Offset);
    assertStrictEquals(isPayloadHeader(octets, at as number), true);
    assertStrictEquals(payloadTag(octets, at as number), 0x5b0e1f2a3b4c);
    assertStrictEquals(removePayloadHeader(octets, 0, at as number), PAYLOAD_HEADER_LENGTH);
    octets.set(plain.subarray(8, 40), PAYLOAD_HEADER_LENGTH + 8);
    assertEquals(octets.subarray(PAYLOAD_HEADER_LENGTH).toHex(), v.explain!.beforeShim);
  });
}

Deno.test("any tag comes out of a payload header as it went in, with P set and a length of 8 octets", () => {
  fc.assert(fc.property(tag, fc.nat(255), (tag, nextHeader) => {
    const into = new Uint8Array(12).fill(0xee);
    writePayloadHeader(into, 2, nextHeader, tag);
    assertStrictEquals(payloadTag(into, 2), tag);
    assertStrictEquals(isPayloadHeader(into, 2), true);
    assertEquals([into[0], into[1], into[2], into[3], into[10], into[11]], [0xee, 0xee, nextHeader, 0, 0xee, 0xee]);
    assertStrictEquals(BigInt("0x" + into.subarray(4, 10).toHex()), BigInt(tag) + (1n << 47n));
  }));
});

Deno.test("a control header, or a payload header with a length of its own, is no payload header", () => {
  assertStrictEquals(isPayloadHeader(fromHex("3b014200ceb32ca1"), 0), false);
  assertStrictEquals(isPayloadHeader(fromHex("1101db0e1f2a3b4c"), 0), false);
});

Deno.test("the header goes behind what a router on the way reads and before what belongs to the end", () => {
  const cases: [number[], number][] = [
    [[], 0],
    [[HOP_BY_HOP], 1],
    [[DESTINATION], 0],
    [[ROUTING], 1],
    [[FRAGMENT], 0],
    [[HOP_BY_HOP, DESTINATION], 1],
    [[DESTINATION, ROUTING], 2],
    [[HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT, DESTINATION], 3],
    [[HOP_BY_HOP, ROUTING, DESTINATION], 2],
    [[HOP_BY_HOP, FRAGMENT, ROUTING], 1],
    [[DESTINATION, FRAGMENT], 0],
    [[AUTHENTICATION, ROUTING], 0],
    [[ESP, ROUTING], 0],
    [[DESTINATION, HOP_BY_HOP], 0], // out of its place: not looked through
  ];
  for (const [numbers, index] of cases) {
    const { packet, places } = chained(numbers.map((number) => ({ number, units: 1 })), UDP, new Uint8Array(8));
    const octets = withHeadroom(packet);
    assertStrictEquals(
      payloadInsertOffset(octets, PAYLOAD_HEADER_LENGTH, octets.length),
      PAYLOAD_HEADER_LENGTH + places[index],
      `${numbers}`,
    );
  }
});

Deno.test("the field that names a header is in the header before it", () => {
  const { packet, places } = chained(
    [{ number: HOP_BY_HOP, units: 0 }, { number: DESTINATION, units: 2 }, { number: ROUTING, units: 1 }],
    UDP,
    new Uint8Array(8),
  );
  assertStrictEquals(nextHeaderOffset(packet, 0, places[0]), 6);
  assertStrictEquals(nextHeaderOffset(packet, 0, places[1]), places[0]);
  assertStrictEquals(nextHeaderOffset(packet, 0, places[2]), places[1]);
  assertStrictEquals(nextHeaderOffset(packet, 0, places[3]), places[2]);
});

const chain = fc.array(
  fc.record({ number: fc.constantFrom(HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT), units: fc.nat(3) }),
  { maxLength: 5 },
);

Deno.test("taking the header out again restores any packet", () => {
  fc.assert(fc.property(chain, octets(0, 64), tag, (headers, body, tag) => {
    const { packet } = chained(headers, UDP, body);
    const octets = withHeadroom(packet);
    assertStrictEquals(insertPayloadHeader(octets, PAYLOAD_HEADER_LENGTH, octets.length, tag), 0);
    assertStrictEquals(get16(octets, 4), packet.length - 40 + PAYLOAD_HEADER_LENGTH);
    const at = findShim6Header(octets, 0, octets.length);
    assertStrictEquals(typeof at, "number");
    assertStrictEquals(payloadTag(octets, at as number), tag);
    assertStrictEquals(removePayloadHeader(octets, 0, at as number), PAYLOAD_HEADER_LENGTH);
    assertEquals(octets.subarray(PAYLOAD_HEADER_LENGTH), packet);
  }));
});

Deno.test("a packet whose headers run past its end is left as it is", () => {
  const { packet } = chained([{ number: HOP_BY_HOP, units: 1 }, { number: ROUTING, units: 2 }], UDP, new Uint8Array(0));
  for (let length = 0; length < packet.length; length++) {
    const octets = withHeadroom(packet.subarray(0, length));
    const before = octets.slice();
    assertStrictEquals(insertPayloadHeader(octets, PAYLOAD_HEADER_LENGTH, octets.length, 1), -1, `${length}`);
    assertEquals(octets, before);
  }
  assertStrictEquals(payloadInsertOffset(packet, 0, packet.length), packet.length);
});

Deno.test("a packet that would become longer than its length field can say is left as it is", () => {
  for (const [payload, fits] of [[65527, true], [65528, false]] as const) {
    const octets = withHeadroom(new Uint8Array(40 + payload));
    octets[PAYLOAD_HEADER_LENGTH] = 0x60;
    octets[PAYLOAD_HEADER_LENGTH + 6] = UDP;
    put16(octets, PAYLOAD_HEADER_LENGTH + 4, payload);
    assertStrictEquals(insertPayloadHeader(octets, PAYLOAD_HEADER_LENGTH, octets.length, 1), fits ? 0 : -1);
  }
});
