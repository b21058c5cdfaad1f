import { assertEquals, assertStrictEquals } from "@std/assert";
import fc from "fast-check";
import { findShim6Header, ipv6PacketEnd, writeIpv6Header } from "../../wire/ipv6.ts";
import { octets } from "./arbitraries.ts";
import { fromHex, packetOf, vectors } from "./vectors.ts";

const PAD = "000104000000"; // extension header after Next Header and Hdr Ext Len: PadN of 6 octets

/** A packet with the given extension headers, each `[its protocol number, its octets after Next Header]`. */
function packetWith(headers: [number, string][], last: number, rest: string): Uint8Array<ArrayBuffer> {
  const numbers = [...headers.map(([number]) => number), last];
  const chain = headers.map(([, body], i) => numbers[i + 1].toString(16).padStart(2, "0") + body).join("") + rest;
  const length = (chain.length / 2).toString(16).padStart(4, "0");
  return fromHex("60000000" + length + numbers[0].toString(16).padStart(2, "0") + "40" + "11".repeat(32) + chain);
}

const KEEPALIVE = "3b014200ceb32ca1b2c3d4e500000000";

Deno.test("an IPv6 header carries all its fields", () => {
  fc.assert(fc.property(
    octets(16, 16),
    octets(16, 16),
    fc.nat(0xffff),
    fc.nat(0xff),
    fc.nat(0xff),
    fc.nat(0xff),
    fc.nat(0xfffff),
    (source, destination, payloadLength, nextHeader, hopLimit, trafficClass, flowLabel) => {
      const into = new Uint8Array(44).fill(0xee);
      writeIpv6Header(into, 2, {
        source,
        destination,
        payloadLength,
        nextHeader,
        hopLimit,
        trafficClass,
        flowLabel,
      });
      const view = new DataView(into.buffer, 2);
      assertStrictEquals(view.getUint32(0), (6 * 0x1000_0000) + trafficClass * 0x10_0000 + flowLabel);
      assertStrictEquals(view.getUint16(4), payloadLength);
      assertEquals([into[8], into[9]], [nextHeader, hopLimit]);
      assertEquals(into.slice(10, 26), source);
      assertEquals(into.slice(26, 42), destination);
      assertEquals([into[0], into[1], into[42], into[43]], [0xee, 0xee, 0xee, 0xee]);
    },
  ));
});

Deno.test("traffic class and flow label are zero when left out", () => {
  const into = new Uint8Array(40).fill(0xee);
  const zero = new Uint8Array(16);
  writeIpv6Header(into, 0, { source: zero, destination: zero, payloadLength: 8, nextHeader: 140, hopLimit: 64 });
  assertEquals(into.subarray(0, 8).toHex(), "6000000000088c40");
});

Deno.test("a packet ends where its payload length says", () => {
  const packet = packetWith([], 140, KEEPALIVE);
  assertStrictEquals(ipv6PacketEnd(packet, 0), 56);
  const padded = new Uint8Array(64);
  padded.set(packet, 4);
  assertStrictEquals(ipv6PacketEnd(padded, 4), 60);
});

Deno.test("what is shorter than its lengths say is truncated", () => {
  const packet = packetWith([], 140, KEEPALIVE);
  for (let length = 1; length < packet.length; length++) {
    assertStrictEquals(ipv6PacketEnd(packet.subarray(0, length), 0), "truncated");
  }
  assertStrictEquals(ipv6PacketEnd(new Uint8Array(), 0), "not-ipv6");
  packet[0] = 0x45;
  assertStrictEquals(ipv6PacketEnd(packet, 0), "not-ipv6");
});

Deno.test("the Shim6 header of each example packet is found", () => {
  for (const v of vectors) {
    const packet = packetOf(v);
    assertStrictEquals(findShim6Header(packet, 0, packet.length), v.ipv6.shim6Offset, v.name);
  }
});

Deno.test("the Shim6 header is found behind Hop-by-Hop, Destination Options and Routing", () => {
  const hopByHop: [number, string] = [0, "00" + PAD], destination: [number, string] = [60, "00" + PAD];
  const routing: [number, string] = [43, "02" + "0400" + "00".repeat(20)];
  const cases: [[number, string][], number][] = [
    [[hopByHop], 48],
    [[destination], 48],
    [[routing], 64],
    [[destination, routing], 72],
    [[hopByHop, destination, routing], 80],
    [[hopByHop, routing, destination], 80],
  ];
  for (const [headers, offset] of cases) {
    const packet = packetWith(headers, 140, KEEPALIVE);
    assertStrictEquals(findShim6Header(packet, 0, packet.length), offset);
    const moved = new Uint8Array(packet.length + 10);
    moved.set(packet, 10);
    assertStrictEquals(findShim6Header(moved, 10, moved.length), offset + 10);
  }
});

Deno.test("a Shim6 header is not looked for behind a Fragment, AH, ESP or late Hop-by-Hop header", () => {
  const cases: [number, string][][] = [
    [[44, "00" + "0000" + "00000001"]],
    [[51, "04" + "00".repeat(22)]],
    [[50, "00".repeat(7)]],
    [[60, "00" + PAD], [0, "00" + PAD]],
    [[0, "00" + PAD], [0, "00" + PAD]],
    [[6, "00".repeat(19)]],
  ];
  for (const headers of cases) {
    const packet = packetWith(headers, 140, KEEPALIVE);
    assertStrictEquals(findShim6Header(packet, 0, packet.length), "not-shim6");
  }
});

Deno.test("an extension header that runs past the packet is found out", () => {
  const packet = packetWith([[0, "05" + PAD]], 140, "00".repeat(8));
  assertStrictEquals(findShim6Header(packet, 0, packet.length), "truncated");
  const short = packetWith([[0, "00" + PAD]], 140, "3b0142");
  assertStrictEquals(findShim6Header(short, 0, short.length), "truncated");
});
