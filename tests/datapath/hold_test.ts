import { assert, assertEquals } from "@std/assert";
import { monotonicNow } from "deno-tun";
import fc from "fast-check";
import { HoldStore, NONE } from "../../datapath/hold.ts";
import { PacketMemory } from "../../datapath/packet_memory.ts";
import { ReleaseFilter } from "../../datapath/release.ts";
import { pattern, tcp, udp } from "./packets.ts";

monotonicNow(); // opens the C library, which stays open, before a test begins and counts what it leaves behind

/** What a store holds for a context: time and octets of each copy, oldest first. */
function contents(memory: PacketMemory, hold: HoldStore, context: number): { time: number; octets: Uint8Array }[] {
  const copies = [];
  for (let copy = hold.first(context); copy !== NONE; copy = hold.next(copy)) {
    const offset = hold.offset(copy);
    assertEquals(offset % 16, 0);
    copies.push({ time: hold.time(copy), octets: memory.bytes.slice(offset, offset + hold.length(copy)) });
  }
  return copies;
}

Deno.test("each context keeps its newest packets in order, within its share, and what is lost is counted", () => {
  const CONTEXTS = 3, SIZE = 4096, SHARE = 2048, ENTRIES = 64;
  const operation = fc.record({
    context: fc.nat(CONTEXTS - 1),
    length: fc.integer({ min: 1, max: 1500 }),
    clear: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 120 }), (operations) => {
      const memory = new PacketMemory(1 << 16);
      const source = memory.reserve(2048, 64);
      const hold = new HoldStore(memory, CONTEXTS, SIZE, ENTRIES, SHARE);
      const added: { time: number; octets: Uint8Array }[][] = Array.from({ length: CONTEXTS }, () => []);
      let lost = 0;
      operations.forEach(({ context, length, clear }, now) => {
        if (clear) {
          hold.clear(context);
          assertEquals(hold.first(context), NONE);
          lost += added[context].length;
          added[context] = [];
        }
        const octets = pattern(length, now + 1);
        memory.bytes.set(octets, source);
        hold.add(context, source, length, now);
        added[context].push({ time: now, octets });
        assertEquals(contents(memory, hold, context).at(-1), { time: now, octets });
      });
      let kept = 0, all = lost;
      for (let context = 0; context < CONTEXTS; context++) {
        const held = contents(memory, hold, context);
        // The newest ones, without a gap, and unharmed by all the others.
        assertEquals(held, added[context].slice(added[context].length - held.length));
        assert(hold.held(context) <= SHARE);
        kept += held.length;
        all += added[context].length;
      }
      assert(kept + hold.dropped <= all);
      if (lost === 0) assertEquals(kept + hold.dropped, all);
    }),
    { numRuns: 200 },
  );
});

Deno.test("one busy context does not push out more than its share", () => {
  const memory = new PacketMemory(1 << 16);
  const source = memory.reserve(1024, 64);
  const hold = new HoldStore(memory, 2, 8192, 64, 2048);
  hold.add(0, source, 1000, 1);
  for (let i = 0; i < 5; i++) hold.add(1, source, 1000, i);
  assertEquals(contents(memory, hold, 0).length, 1);
  assertEquals(contents(memory, hold, 1).map(({ time }) => time), [3, 4]);
});

Deno.test("a packet larger than a share is not kept", () => {
  const memory = new PacketMemory(1 << 17);
  const hold = new HoldStore(memory, 1, 8192, 4, 2048);
  hold.add(0, 0, 2049, 1);
  assertEquals([hold.first(0), hold.dropped], [NONE, 1]);
});

const LEAD = 16;

/** Which of the packets, each sent at its time, a release at 1000 sends again. */
function released(packets: readonly [number, Uint8Array][], heard: number, datagramLifetime = 100): number[] {
  const memory = new PacketMemory(1 << 18);
  const source = memory.reserve(4096, 64);
  const hold = new HoldStore(memory, 1, 65536, 64, 65536);
  for (const [time, packet] of packets) {
    memory.bytes.set(packet, source + LEAD);
    hold.add(0, source, packet.length + LEAD, time);
  }
  const filter = new ReleaseFilter(memory, hold, 0, LEAD, heard, 1000, datagramLifetime);
  const times: number[] = [];
  for (let copy = hold.first(0); copy !== NONE; copy = hold.next(copy)) {
    if (filter.passes(copy)) times.push(hold.time(copy));
  }
  return times;
}

const segment = (sequence: number, length: number, flags = 0x10, ports?: number) =>
  tcp({ sequence, flags, payload: pattern(length), ports });

Deno.test("what was sent before the peer was last heard is not sent again", () => {
  const datagram = udp(pattern(20));
  assertEquals(released([[950, datagram], [960, datagram], [970, datagram]], 960), [970]);
  assertEquals(released([[950, segment(1, 10)], [970, segment(11, 10)]], 960), [970]);
});

Deno.test("of a TCP segment and its repetitions only the newest is sent again", () => {
  assertEquals(
    released([[10, segment(1, 10)], [20, segment(11, 10)], [30, segment(1, 10)], [40, segment(1, 10)]], 0),
    [20, 40],
  );
  assertEquals(released([[10, segment(1, 10, 0x10, 5)], [20, segment(1, 10, 0x10, 6)]], 0), [10, 20]);
});

Deno.test("of acknowledgements only the newest is sent again, and an end is not taken for one", () => {
  const packets = [[10, segment(1, 0)], [20, segment(1, 0, 0x11)], [30, segment(2, 0)]] as const;
  assertEquals(released(packets.map(([time, packet]) => [time, packet]), 0), [20, 30]);
});

Deno.test("old datagrams are not sent again, old TCP segments are", () => {
  const datagram = udp(pattern(20));
  assertEquals(released([[500, datagram], [501, segment(1, 10)], [950, datagram]], 0), [501, 950]);
});
