import { assertEquals, assertThrows } from "@std/assert";
import { monotonicNow } from "deno-tun";
import fc from "fast-check";
import { PacketMemory, swap16 } from "../../datapath/packet_memory.ts";
import { onesComplementSum } from "../../wire/checksum.ts";

monotonicNow(); // opens the C library, which stays open, before a test begins and counts what it leaves behind

Deno.test("the sum is the Internet checksum's, at any offset, of any length, from any start", () => {
  const memory = new PacketMemory(1 << 17);
  fc.assert(fc.property(
    fc.uint8Array({ maxLength: 300 }),
    fc.nat(100),
    fc.nat(0xffff),
    (octets, offset, initial) => {
      memory.bytes.set(octets, offset);
      assertEquals(
        swap16(memory.sum(offset, octets.length, initial)) % 0xffff,
        onesComplementSum(memory.bytes, offset, offset + octets.length, swap16(initial)) % 0xffff,
      );
    },
  ));
});

Deno.test("the sum of 64 KiB of ones does not overflow", () => {
  const memory = new PacketMemory(1 << 17);
  memory.bytes.fill(255);
  assertEquals(memory.sum(1, 65536, 0xffffffff), 0xffff);
  assertEquals(memory.sum(0, 65535, 0), 0x00ff);
});

Deno.test("memory is set aside aligned and not beyond its end", () => {
  const memory = new PacketMemory(65536);
  assertEquals([memory.reserve(3, 1), memory.reserve(10, 64), memory.reserve(1, 2)], [0, 64, 74]);
  assertThrows(() => memory.reserve(65536, 1), RangeError);
});
