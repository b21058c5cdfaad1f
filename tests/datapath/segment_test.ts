import { assert, assertEquals } from "@std/assert";
import { monotonicNow } from "deno-tun";
import fc from "fast-check";
import { Coalescer, type PacketSink } from "../../datapath/coalesce.ts";
import { PacketMemory } from "../../datapath/packet_memory.ts";
import { completeChecksum, Protocol, Segmenter } from "../../datapath/segment.ts";
import { onesComplementSum, pseudoHeaderSum } from "../../wire/checksum.ts";
import { pattern, readTcp, tcp, type TcpPacket, udp } from "./packets.ts";

monotonicNow(); // opens the C library, which stays open, before a test begins and counts what it leaves behind

const ACK = 0x10, PSH = 0x08, FIN = 0x01, CWR = 0x80, ECE = 0x40;
const memory = new PacketMemory(4 << 20);
const SUPER = memory.reserve(70_000, 64), HEADER = memory.reserve(512, 64);

/** Cuts a packet as the datapath does; transport headers behind `extension` octets of extension headers. */
function segment(packet: Uint8Array, protocol: number, size: number): Uint8Array[] {
  memory.bytes.set(packet, SUPER);
  const segmenter = new Segmenter(memory);
  assert(segmenter.begin(SUPER, SUPER + packet.length, SUPER + 40, protocol, size));
  return Array.from({ length: segmenter.count }, (_, i) => {
    memory.bytes.copyWithin(HEADER, SUPER, SUPER + segmenter.headerLength);
    segmenter.finish(i, HEADER + 40);
    const length = segmenter.payloadLength(i), from = segmenter.payloadOffset(i);
    const out = new Uint8Array(segmenter.headerLength + length);
    out.set(memory.bytes.subarray(HEADER, HEADER + segmenter.headerLength));
    out.set(memory.bytes.subarray(from, from + length), segmenter.headerLength);
    new DataView(out.buffer).setUint16(4, out.length - 40);
    return out;
  });
}

/** What the coalescer writes for these packets, without the vnet header, which is returned too. */
function coalesce(
  packets: readonly Uint8Array[],
  owner: (i: number) => number = () => 1,
  takes: (vnet: Uint8Array) => boolean = () => true,
) {
  const written: { vnet: Uint8Array; packet: Uint8Array }[] = [];
  let parts: Uint8Array[] = [];
  const sink: PacketSink = {
    append: (offset, length) => parts.push(memory.bytes.slice(offset, offset + length)),
    write() {
      const all = Uint8Array.from(parts.flatMap((part) => [...part]));
      parts = [];
      const taken = takes(all);
      if (taken) written.push({ vnet: all.slice(0, 10), packet: all.slice(10) });
      return taken;
    },
  };
  const coalescer = new Coalescer(memory, sink);
  let at = SUPER;
  packets.forEach((packet, i) => {
    at += 64;
    memory.bytes.set(packet, at);
    coalescer.add(owner(i), at, at + packet.length);
    at = at + packet.length + 63 & ~63;
  });
  coalescer.flush();
  return written;
}

const arbitraryTcp: fc.Arbitrary<TcpPacket> = fc.record({
  sequence: fc.nat(0xffffffff),
  flags: fc.constantFrom(ACK, ACK | PSH, ACK | FIN, ACK | PSH | FIN, ACK | ECE, ACK | CWR, ACK | CWR | PSH),
  payload: fc.tuple(fc.integer({ min: 1, max: 20_000 }), fc.nat()).map(([length, seed]) => pattern(length, seed)),
  options: fc.constantFrom(undefined, pattern(12), pattern(40)),
});

Deno.test("segments of TCP carry the octet stream, with right numbers, flags and checksums", () => {
  fc.assert(
    fc.property(arbitraryTcp, fc.integer({ min: 1, max: 1440 }), (packet, size) => {
      const limit = Math.max(size, Math.ceil(packet.payload.length / 60)); // as many segments as the kernel makes
      const segments = segment(tcp(packet), Protocol.TCP, limit).map(readTcp);
      const stream: number[] = [];
      segments.forEach((s, i) => {
        assert(s.good && s.lengthMatches);
        assertEquals(s.sequence, (packet.sequence + stream.length) >>> 0);
        const last = i === segments.length - 1;
        const flags = packet.flags & ~(last ? 0 : PSH | FIN) & ~(i === 0 ? 0 : CWR);
        assertEquals(s.flags, flags);
        assertEquals(s.options, [...packet.options ?? []]);
        assert(last ? s.payload.length <= limit : s.payload.length === limit);
        stream.push(...s.payload);
      });
      assertEquals(Uint8Array.from(stream), packet.payload);
    }),
    { numRuns: 60 },
  );
});

Deno.test("segments of UDP are datagrams with lengths and checksums of their own", () => {
  const payload = pattern(2500);
  const datagrams = segment(udp(payload), Protocol.UDP, 1000);
  assertEquals(datagrams, [0, 1000, 2000].map((from) => udp(payload.slice(from, from + 1000))));
});

Deno.test("nonsense headers are refused", () => {
  const segmenter = new Segmenter(memory);
  const packet = tcp({ sequence: 1, flags: ACK, payload: pattern(100) });
  const begin = (change: (octets: Uint8Array) => void, transport = 40, size = 10, length = packet.length) => {
    memory.bytes.set(packet, SUPER);
    change(memory.bytes.subarray(SUPER, SUPER + packet.length));
    return segmenter.begin(SUPER, SUPER + length, SUPER + transport, Protocol.TCP, size);
  };
  assertEquals(begin(() => {}), true);
  assertEquals(begin((octets) => octets[52] = 0x40), false);
  assertEquals(begin((octets) => octets[52] = 0xf0, 40, 10, 90), false);
  assertEquals(begin(() => {}, 41), false);
  assertEquals(begin(() => {}, 38), false);
  assertEquals(begin(() => {}, 40, 0), false);
  assertEquals(begin(() => {}, 150), false);
});

Deno.test("a checksum that the kernel left open is completed", () => {
  const packet = udp(pattern(101));
  const open = packet.slice();
  new DataView(open.buffer).setUint16(46, pseudoHeaderSum(packet, 8, packet.length - 40, 17));
  memory.bytes.set(open, SUPER);
  assert(completeChecksum(memory, SUPER + 40, 6, SUPER + open.length));
  assertEquals(memory.bytes.slice(SUPER, SUPER + open.length), packet);
  assertEquals(completeChecksum(memory, SUPER + 40, 200, SUPER + open.length), false);
  assertEquals(completeChecksum(memory, SUPER + 400, 6, SUPER + open.length), false);
});

Deno.test("what was cut is joined again to the very packet that was cut", () => {
  fc.assert(
    fc.property(arbitraryTcp, fc.integer({ min: 100, max: 1440 }), (packet, size) => {
      if ((packet.flags & CWR) !== 0) return; // segments with CWR stay alone
      const limit = Math.max(size, Math.ceil(packet.payload.length / 60));
      const whole = tcp(packet);
      const segments = segment(whole, Protocol.TCP, limit);
      const written = coalesce(segments);
      assertEquals(written.length, 1);
      const { vnet, packet: joined } = written[0];
      const view = new DataView(vnet.buffer);
      if (segments.length === 1) {
        assertEquals([...vnet], Array(10).fill(0));
        assertEquals(joined, whole);
        return;
      }
      assertEquals([vnet[0], vnet[1]], [1, 4]); // checksum to be completed, TCP over IPv6
      assertEquals(view.getUint16(2, true), whole.length - packet.payload.length);
      assertEquals([view.getUint16(4, true), view.getUint16(6, true), view.getUint16(8, true)], [limit, 40, 16]);
      // The field holds the pseudo-header's sum, as the kernel wants it; with the rest added it is the checksum.
      const field = new DataView(joined.buffer).getUint16(56);
      assertEquals(field % 0xffff, pseudoHeaderSum(joined, 8, joined.length - 40, 6) % 0xffff);
      new DataView(joined.buffer).setUint16(56, ~onesComplementSum(joined, 40, joined.length) & 0xffff);
      assert(readTcp(joined).good);
      joined.set(whole.subarray(56, 58), 56);
      assertEquals(joined, whole);
    }),
    { numRuns: 60 },
  );
});

/** A flow of packets of 100 octets, one after the other. */
function flow(count: number, change: (i: number) => Partial<TcpPacket> = () => ({}), first = 1000): Uint8Array[] {
  return Array.from(
    { length: count },
    (_, i) => tcp({ sequence: first + 100 * i, flags: ACK, payload: pattern(100, i), ...change(i) }),
  );
}
const lengths = (packets: readonly Uint8Array[], owner?: (i: number) => number) =>
  coalesce(packets, owner).map(({ packet }) => packet.length - 60);

Deno.test("packets that differ in more than a segment's own fields stay apart", () => {
  assertEquals(lengths(flow(4)), [400]);
  assertEquals(lengths(flow(4, (i) => i === 2 ? { acknowledgement: 78 } : {})), [200, 100, 100]);
  assertEquals(lengths(flow(4, (i) => i === 2 ? { window: 501 } : {})), [200, 100, 100]);
  assertEquals(lengths(flow(4, (i) => i === 2 ? { flow: 0x12345 } : {})), [200, 100, 100]);
  assertEquals(lengths(flow(4, (i) => i === 2 ? { flow: 0x300000 } : {})), [200, 100, 100]); // congestion experienced
  assertEquals(lengths(flow(4, (i) => i === 2 ? { hopLimit: 63 } : {})), [200, 100, 100]);
  assertEquals(lengths(flow(4, (i) => i === 2 ? { flags: ACK | ECE } : {})), [200, 100, 100]);
  assertEquals(lengths(flow(4, (i) => i === 2 ? { flags: ACK | CWR } : {})), [200, 100, 100]);
  assertEquals(lengths(flow(4, (i) => ({ options: pattern(12, i >> 1) }))), [212, 212]);
  assertEquals(lengths(flow(4, (i) => i === 2 ? { sequence: 1199 } : {})), [200, 100, 100]);
  assertEquals(lengths(flow(4), (i) => i >> 1), [200, 200]);
});

Deno.test("a push, an end or a short segment ends a super-packet; a longer one begins the next", () => {
  assertEquals(lengths(flow(4, (i) => i === 1 ? { flags: ACK | PSH } : {})), [200, 200]);
  assertEquals(lengths(flow(4, (i) => i === 1 ? { flags: ACK | FIN } : {})), [200, 200]);
  assertEquals(lengths(flow(3, (i) => i === 1 ? { payload: pattern(50) } : { sequence: i === 0 ? 1000 : 1150 })), [
    150,
    100,
  ]);
  assertEquals(lengths(flow(3, (i) => i === 0 ? {} : { payload: pattern(120), sequence: 980 + 120 * i })), [100, 240]);
  assertEquals(lengths(flow(3, (i) => i === 0 ? { flags: ACK | PSH } : {})), [100, 200]);
});

Deno.test("the order within a flow is kept, whatever stands between", () => {
  const packets = flow(6, (i) => i === 3 ? { payload: new Uint8Array(0) } : i > 3 ? { sequence: 900 + 100 * i } : {});
  assertEquals(lengths(packets), [300, 0, 200]);
});

Deno.test("flows that take turns are joined each by itself", () => {
  const packets = flow(12, (i) => ({ ports: i % 3, sequence: 1000 + 100 * Math.floor(i / 3) }));
  assertEquals(lengths(packets), [400, 400, 400]);
  const many = flow(40, (i) => ({ ports: i % 20, sequence: 1000 + 100 * Math.floor(i / 20) }));
  assertEquals(lengths(many).reduce((sum, n) => sum + n), 4000);
});

Deno.test("a packet with a wrong checksum is neither joined nor repaired", () => {
  for (const bad of [0, 1, 3]) {
    const packets = flow(4);
    packets[bad][80] ^= 1;
    const written = coalesce(packets);
    const alone = written.find(({ packet }) => packet.length === 160 && packet[80] === packets[bad][80])!;
    assertEquals(alone.packet, packets[bad]);
    assertEquals([...alone.vnet], Array(10).fill(0));
    assertEquals(written.reduce((sum, { packet }) => sum + packet.length - 60, 0), 400);
  }
});

Deno.test("datagrams of one length are joined, and a shorter one ends the super-packet", () => {
  const datagrams = [100, 100, 100, 70, 100, 100, 120].map((length, i) => udp(pattern(length, i)));
  const written = coalesce(datagrams);
  assertEquals(written.map(({ packet }) => packet.length - 48), [370, 200, 120]);
  assertEquals([...written[0].vnet], [1, 5, 48, 0, 100, 0, 40, 0, 6, 0]); // checksum to be completed, UDP segments of 100
  const joined = written[0].packet, view = new DataView(joined.buffer);
  assertEquals([view.getUint16(4), view.getUint16(44)], [378, 378]);
  assertEquals(view.getUint16(46) % 0xffff, pseudoHeaderSum(joined, 8, 378, 17) % 0xffff);
  assertEquals(segment(joined, Protocol.UDP, 100), datagrams.slice(0, 4));
  assertEquals(written[2].packet, datagrams[6]);
});

Deno.test("the kernel gets at most 64 datagrams in one", () => {
  const written = coalesce(Array.from({ length: 130 }, (_, i) => udp(pattern(64, i))));
  assertEquals(written.map(({ packet }) => (packet.length - 48) / 64), [64, 64, 2]);
});

Deno.test("datagrams that are empty, unsummed, damaged or of another length than they say are written as they are", () => {
  const odd = [udp(new Uint8Array(0)), udp(pattern(100)), udp(pattern(100)), udp(pattern(100))];
  odd[1].fill(0, 46, 48);
  odd[2][90] ^= 1;
  odd[3][45]--;
  for (const one of odd) {
    const packets = [udp(pattern(100, 1)), udp(pattern(100, 2)), one, udp(pattern(100, 3)), udp(pattern(100, 4))];
    const written = coalesce(packets);
    assertEquals(written.map(({ packet }) => packet.length - 48), [200, one.length - 48, 200]);
    assertEquals(written[1].packet, one);
  }
});

Deno.test("where the kernel refuses joined datagrams each is written by itself, then and later", () => {
  const datagrams = Array.from({ length: 130 }, (_, i) => udp(pattern(64, i)));
  let refused = 0;
  const written = coalesce(datagrams, undefined, (vnet) => {
    const joined = vnet[1] !== 0;
    if (joined) refused++;
    return !joined;
  });
  assertEquals(written.map(({ packet }) => packet), datagrams);
  assertEquals(refused, 1);
});

Deno.test("other protocols and broken TCP headers pass unchanged", () => {
  const broken = tcp({ sequence: 1, flags: ACK, payload: pattern(10) });
  broken[52] = 0xf0;
  for (const packet of [udp(pattern(30)), broken, broken.subarray(0, 50)]) {
    assertEquals(coalesce([packet]).map((w) => w.packet), [packet]);
  }
});

Deno.test("a super-packet stays within the length of IPv6", () => {
  const packets = Array.from(
    { length: 60 },
    (_, i) => tcp({ sequence: 1440 * i, flags: ACK, payload: pattern(1440, i) }),
  );
  const written = coalesce(packets);
  assertEquals(written.length, 2);
  assert(written.every(({ packet }) => packet.length <= 65535));
});
