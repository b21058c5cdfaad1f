import { assertEquals } from "@std/assert";
import { monotonicNow } from "deno-tun";
import fc from "fast-check";
import { ContextFlag, ContextTable, ContextWord } from "../../datapath/context_table.ts";
import { PacketMemory } from "../../datapath/packet_memory.ts";

monotonicNow(); // opens the C library, which stays open, before a test begins and counts what it leaves behind

const ulid = (n: number, peer: boolean) =>
  Uint8Array.from({ length: 16 }, (_, i) => i === 15 ? n : i === 14 ? Number(peer) : 0);
const tag = (n: number) => Uint8Array.from([0x80, 0, 0, 0, n >> 8, n & 255]);

/** A table beside a plain map that says what it should hold. */
function harness(capacity: number) {
  const memory = new PacketMemory(1 << 20);
  const table = new ContextTable(memory, capacity, 0x12345678);
  const scratch = memory.reserve(64, 64);
  return {
    table,
    memory,
    byUlid(n: number) {
      memory.bytes.set(ulid(n, false), scratch);
      memory.bytes.set(ulid(n, true), scratch + 16);
      const record = table.findByUlid(scratch >> 2);
      return record < 0 ? -1 : table.slot(record);
    },
    byTag(n: number) {
      memory.bytes.set([17, 0, ...tag(n)], scratch);
      const record = table.findByTag(scratch >> 2);
      return record < 0 ? -1 : table.slot(record);
    },
  };
}

Deno.test("a forked context is found by its tag alone, whichever came first and whichever goes", () => {
  for (const forkFirst of [true, false]) {
    const { table, byUlid, byTag } = harness(4);
    const add = (slot: number, isForked: boolean) =>
      table.add(slot, ulid(1, false), ulid(1, true), tag(10 + slot), tag(1), isForked);
    const slots = [{ slot: 0, isForked: forkFirst }, { slot: 1, isForked: !forkFirst }];
    for (const { slot, isForked } of slots) add(slot, isForked);
    const [fork, other] = forkFirst ? [0, 1] : [1, 0];
    assertEquals([byUlid(1), byTag(10 + fork), byTag(10 + other)], [other, fork, other]);
    table.retag(fork, tag(20), tag(1));
    assertEquals([byUlid(1), byTag(20)], [other, fork]);
    table.remove(other);
    assertEquals([byUlid(1), byTag(20)], [-1, fork]);
    add(other, false);
    table.remove(fork);
    assertEquals([byUlid(1), byTag(20), byTag(10 + other)], [other, -1, other]);
  }
});

Deno.test("contexts are found by ULID pair and by tag through any sequence of changes", () => {
  const CAPACITY = 8;
  const operation = fc.record({
    kind: fc.constantFrom("toggle", "toggle", "retag"),
    slot: fc.nat(CAPACITY - 1),
    tag: fc.nat(0xfffe),
  });
  fc.assert(fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
    const { table, byUlid, byTag } = harness(CAPACITY);
    const tags = new Map<number, number>();
    for (const { kind, slot, tag: n } of operations) {
      if ([...tags.values()].includes(n)) continue;
      if (kind === "retag") {
        if (!tags.has(slot)) continue;
        table.retag(slot, tag(n), tag(1));
        tags.set(slot, n);
      } else if (tags.delete(slot)) table.remove(slot);
      else {
        table.add(slot, ulid(slot, false), ulid(slot, true), tag(n), tag(1));
        tags.set(slot, n);
      }
      for (let s = 0; s < CAPACITY; s++) assertEquals(byUlid(s), tags.has(s) ? s : -1);
      for (const [s, t] of tags) assertEquals(byTag(t), s);
      assertEquals(byTag(0xffff), -1);
    }
  }));
});

Deno.test("the record has the addresses and the payload header as packets have them", () => {
  const { table, memory } = harness(4);
  const record = table.add(2, ulid(5, false), ulid(5, true), tag(3), Uint8Array.from([0xff, 1, 2, 3, 4, 5]));
  const octets = (
    word: number,
    length: number,
  ) => [...memory.bytes.subarray((record + word) * 4, (record + word) * 4 + length)];
  assertEquals(octets(ContextWord.PAYLOAD_HEADER, 8), [0, 0, 0xff, 1, 2, 3, 4, 5]);
  assertEquals(octets(ContextWord.ULID_PEER, 16), [...ulid(5, true)]);
  assertEquals(octets(ContextWord.SOCKADDR, 2), [10, 0]);
  assertEquals(memory.words[record + ContextWord.FLAGS], ContextFlag.USED);
});
