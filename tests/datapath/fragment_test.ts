import { assert, assertEquals } from "@std/assert";
import { monotonicNow } from "deno-tun";
import fc from "fast-check";
import { Fragmenter } from "../../datapath/fragment.ts";
import { PacketMemory } from "../../datapath/packet_memory.ts";
import { pattern } from "./packets.ts";

monotonicNow(); // opens the C library, which stays open, before a test begins and counts what it leaves behind

const memory = new PacketMemory(1 << 20);
const START = 1000, HEADER = 500;

interface Fragment {
  readonly nextHeader: number;
  readonly offset: number;
  readonly more: boolean;
  readonly identification: number;
  readonly data: Uint8Array;
}

function fragment(fragmenter: Fragmenter, part: Uint8Array, nextHeader: number, room: number): Fragment[] {
  memory.bytes.set(part, START);
  assert(fragmenter.begin(START, START + part.length, nextHeader, room));
  return Array.from({ length: fragmenter.count }, (_, i) => {
    fragmenter.writeHeader(i, HEADER);
    const from = fragmenter.dataOffset(i), length = fragmenter.dataLength(i);
    assert(8 + length <= room);
    return read(memory.bytes.slice(HEADER, HEADER + 8), memory.bytes.slice(from, from + length));
  });
}

function read(header: Uint8Array, data: Uint8Array): Fragment {
  const view = new DataView(header.buffer);
  assertEquals(header[1], 0);
  return {
    nextHeader: header[0],
    offset: view.getUint16(2) & 0xfff8,
    more: (view.getUint16(2) & 1) === 1,
    identification: view.getUint32(4),
    data,
  };
}

/** The octets of a datagram whose fragments are all there; fragments but the last one carry multiples of 8. */
function reassemble(fragments: readonly Fragment[]): Uint8Array {
  const octets: number[] = [];
  fragments.forEach((f, i) => {
    assertEquals(f.offset, octets.length);
    assertEquals(f.more, i < fragments.length - 1);
    assertEquals(f.identification, fragments[0].identification);
    octets.push(...f.data);
  });
  return Uint8Array.from(octets);
}

Deno.test("fragments reassemble to the packet, and fit", () => {
  const fragmenter = new Fragmenter(memory, 0xffffffff);
  fc.assert(fc.property(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 16, max: 1240 }), (length, room) => {
    const part = pattern(length, room);
    const fragments = fragment(fragmenter, part, 17, room);
    assertEquals(reassemble(fragments), part);
    assert(fragments.every((f) => f.nextHeader === 17));
  }));
});

Deno.test("packets get different identifications", () => {
  const fragmenter = new Fragmenter(memory, 0xffffffff);
  const ids = [0, 1, 2].map(() => fragment(fragmenter, pattern(100), 17, 64)[0].identification);
  assertEquals(ids, [0, 1, 2]);
});

Deno.test("a fragment is cut into fragments of the same datagram", () => {
  const fragmenter = new Fragmenter(memory, 7);
  const whole = fragment(fragmenter, pattern(3000), 58, 1240);
  const smaller = whole.flatMap((f) => {
    const header = new Uint8Array(8);
    const view = new DataView(header.buffer);
    header[0] = f.nextHeader;
    view.setUint16(2, f.offset | (f.more ? 1 : 0));
    view.setUint32(4, f.identification);
    return fragment(fragmenter, Uint8Array.from([...header, ...f.data]), 44, 600);
  });
  assert(smaller.length > whole.length);
  assertEquals(reassemble(smaller), pattern(3000));
});

Deno.test("what cannot be fragmented is refused", () => {
  const fragmenter = new Fragmenter(memory, 7);
  assertEquals(fragmenter.begin(START, START + 100, 17, 15), false);
  assertEquals(fragmenter.begin(START, START + 7, 44, 600), false);
  memory.view.setUint16(START + 2, 0xfff8);
  assertEquals(fragmenter.begin(START, START + 8 + 100, 44, 600), false);
});
