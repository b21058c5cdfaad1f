import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { parseAddress, parsePrefix } from "../../wire/address.ts";
import {
  CLEAR_PATH,
  FRAME_HEADER,
  InvalidPathSettings,
  MAX_FRAME,
  PathEmulator,
  type PathSettings,
  Verdict,
} from "../../lab/emulator_core.ts";

const A = "2001:db8:a1:1::", B = "2001:db8:b1:1::";
const PREFIX_A = parsePrefix(`${A}/64`), PREFIX_B = parsePrefix(`${B}/64`);
const ARENA = 4 * MAX_FRAME;

/** An emulator and the frames that came out of it: number, time, and whether the octets are as they went in. */
class Bench {
  readonly arena = new Uint8Array(ARENA);
  readonly emulator: PathEmulator;
  readonly out: { id: number; at: number; whole: boolean }[] = [];
  full = 0;

  constructor(settings: Partial<PathSettings>, seed = 1, capacity = 256) {
    this.emulator = new PathEmulator(this.arena, capacity, seed);
    this.emulator.setPath(PREFIX_A, PREFIX_B, settings);
  }

  send(id: number, now: number, length = 100, from = A, to = B): Verdict | undefined {
    const offset = this.emulator.reserve();
    if (offset < 0) {
      this.full++;
      return undefined;
    }
    const frame = this.arena.subarray(offset, offset + length);
    for (let i = 0; i < length; i++) frame[i] = id + i;
    frame[FRAME_HEADER] = 0x60;
    frame.set(parseAddress(from + "1"), FRAME_HEADER + 8);
    frame.set(parseAddress(to + "2"), FRAME_HEADER + 24);
    new DataView(frame.buffer, frame.byteOffset).setUint32(0, id);
    const verdict = this.emulator.arrive(offset, length, now);
    if (verdict === Verdict.FORWARD) this.#leave(offset, length, now);
    return verdict;
  }

  /** Lets all that is due by `now` leave, each at its own time. */
  run(now: number): void {
    while (this.emulator.nextDue() <= now) {
      const at = this.emulator.nextDue();
      const frame = this.emulator.takeDue(at);
      if (frame < 0) continue;
      this.#leave(this.emulator.offsetOf(frame), this.emulator.lengthOf(frame), at);
      this.emulator.finish(frame);
    }
  }

  #leave(offset: number, length: number, at: number): void {
    const frame = this.arena.subarray(offset, offset + length);
    const id = new DataView(frame.buffer, frame.byteOffset).getUint32(0);
    let whole = true;
    for (let i = FRAME_HEADER + 40; i < length; i++) whole &&= frame[i] === (id + i & 0xff);
    this.out.push({ id, at, whole });
  }
}

Deno.test("a path without settings forwards each packet at once", () => {
  const bench = new Bench({});
  assertEquals(bench.send(1, 5), Verdict.FORWARD);
  assertEquals(bench.out, [{ id: 1, at: 5, whole: true }]);
  assertEquals(bench.emulator.nextDue(), Infinity);
});

Deno.test("a packet leaves exactly one delay after it came", () => {
  const bench = new Bench({ delayMs: 80 });
  assertEquals(bench.send(1, 5), Verdict.HELD);
  bench.run(84.9);
  assertEquals(bench.out, []);
  bench.run(85);
  assertEquals(bench.out, [{ id: 1, at: 85, whole: true }]);
});

Deno.test("packets of no known path are dropped and counted", () => {
  const bench = new Bench({});
  assertEquals(bench.send(1, 0, 100, B, A), Verdict.DROPPED); // the reverse direction is another path
  assertEquals(bench.send(2, 0, 100, A, "ff02::"), Verdict.DROPPED);
  assertEquals(bench.emulator.unclassified, 2);
});

Deno.test("held packets leave in the order of their times, and of arrival when these are equal", () => {
  const bench = new Bench({ delayMs: 30 });
  bench.emulator.setPath(PREFIX_B, PREFIX_A, { delayMs: 10 });
  for (let i = 0; i < 20; i++) bench.send(2 * i, i, 100), bench.send(2 * i + 1, i, 100, B, A);
  bench.run(1000);
  const expected = [...bench.out].sort((a, b) => a.at - b.at || a.id - b.id);
  assertEquals(bench.out, expected);
  assertEquals(bench.out.length, 40);
});

Deno.test("a shorter delay set later does not let packets overtake, unless reordering is wanted", () => {
  for (const [reorder, order] of [[false, [1, 2]], [true, [2, 1]]] as const) {
    const bench = new Bench({ delayMs: 100, reorder });
    bench.send(1, 0);
    bench.emulator.setPath(PREFIX_A, PREFIX_B, { delayMs: 10 });
    bench.send(2, 1);
    bench.run(1000);
    assertEquals(bench.out.map((frame) => frame.id), [...order]);
  }
});

Deno.test("a path that goes down loses what is under way and what comes, and recovers", () => {
  const bench = new Bench({ delayMs: 10 });
  bench.send(1, 0);
  bench.emulator.setPath(PREFIX_A, PREFIX_B, { up: false });
  assertEquals(bench.send(2, 1), Verdict.DROPPED);
  bench.run(50);
  bench.emulator.setPath(PREFIX_A, PREFIX_B, { up: true });
  bench.send(3, 60);
  bench.run(100);
  assertEquals(bench.out.map((frame) => frame.id), [3]);
  assertEquals(bench.emulator.counters()[0].down, 2);
});

Deno.test("loss takes the share asked for, and the same packets for the same seed", () => {
  const lossOf = (seed: number, other: boolean) => {
    const bench = new Bench({}, seed);
    if (other) bench.emulator.setPath(PREFIX_B, PREFIX_A, { loss: 0.5 });
    bench.emulator.setPath(PREFIX_A, PREFIX_B, { loss: 0.1 });
    for (let i = 0; i < 20_000; i++) {
      bench.send(i, i);
      if (other) bench.send(100_000 + i, i, 100, B, A);
    }
    return bench.out.map((frame) => frame.id).filter((id) => id < 100_000);
  };
  const first = lossOf(7, false);
  assertAlmostEquals(1 - first.length / 20_000, 0.1, 0.01);
  assertEquals(lossOf(7, true), first); // other paths draw from streams of their own
  assert(lossOf(8, false).join() !== first.join());
});

Deno.test("jitter spreads delays over its width and keeps the order unless told otherwise", () => {
  for (const reorder of [false, true]) {
    const bench = new Bench({ delayMs: 20, jitterMs: 10, reorder }, 3, 1024);
    for (let i = 0; i < 500; i++) bench.send(i, i);
    bench.run(10_000);
    assertEquals(bench.out.length, 500);
    const delays = bench.out.map((frame) => frame.at - frame.id);
    assert(Math.min(...delays) >= 20 && Math.max(...delays) < 30);
    assert(Math.max(...delays) - Math.min(...delays) > (reorder ? 9 : 3)); // kept in order, the slow ones set the pace
    const inOrder = bench.out.every((frame, i) => i === 0 || bench.out[i - 1].id < frame.id);
    assertEquals(inOrder, !reorder);
  }
});

Deno.test("a rate limit spaces packets by their length and drops what would wait too long", () => {
  // 1 Mbit/s: a packet of 1250 octets takes 10 ms. Ten at once: the queue takes those that wait at most 50 ms.
  const bench = new Bench({ rateMbit: 1, queueMs: 50 });
  for (let i = 0; i < 10; i++) bench.send(i, 0, 1250 + FRAME_HEADER);
  bench.run(1000);
  assertEquals(bench.out.map((frame) => Math.round(frame.at)), [10, 20, 30, 40, 50, 60]);
  assertEquals(bench.emulator.counters()[0].queue, 4);
});

Deno.test("only paths that judge single packets ask for single packets", () => {
  const asks = (settings: Partial<PathSettings>) => new Bench(settings).emulator.needsSinglePackets;
  assertEquals([{}, { delayMs: 9 }, { up: false }, { jitterMs: 2 }].map(asks), [false, false, false, false]);
  assertEquals([{ loss: 0.1 }, { rateMbit: 9 }, { jitterMs: 2, reorder: true }].map(asks), [true, true, true]);
});

Deno.test("settings that make no sense are refused by name and change nothing", () => {
  const bench = new Bench({ loss: 0.25 });
  const set = (change: Partial<PathSettings>) => () => bench.emulator.setPath(PREFIX_A, PREFIX_B, change);
  assertThrows(set({ loss: 1.5 }), InvalidPathSettings, "loss 1.5");
  assertThrows(set({ delayMs: -1 }), InvalidPathSettings, "delayMs -1");
  assertThrows(set({ rateMbit: NaN }), InvalidPathSettings, "rateMbit NaN");
  assertThrows(
    () => bench.emulator.setPath(parsePrefix("2001:db8::/48"), PREFIX_B, CLEAR_PATH),
    InvalidPathSettings,
    "2001:db8::/48",
  );
  assertEquals(bench.emulator.needsSinglePackets, true);
});

Deno.test("an arena that is full refuses packets and takes new ones when old ones have left", () => {
  const bench = new Bench({ delayMs: 100 });
  for (let i = 0; i < 10; i++) bench.send(i, 0, MAX_FRAME);
  const held = bench.emulator.held;
  assert(held >= 2 && bench.full === 10 - held);
  bench.run(100);
  assertEquals(bench.out.length, held);
  bench.send(11, 200, MAX_FRAME);
  bench.run(300);
  assert(bench.out.every((frame) => frame.whole));
  assertEquals(bench.out.at(-1)!.id, 11);
});

Deno.test("lateness is measured from when a packet was due to when it was taken", () => {
  const bench = new Bench({ delayMs: 10 });
  for (let i = 0; i < 100; i++) bench.send(i, i);
  for (let i = 0; i < 100; i++) bench.emulator.finish(bench.emulator.takeDue(i + 10 + (i === 99 ? 3 : 0.2)));
  assertAlmostEquals(bench.emulator.latenessQuantile(0.5), 0.2, 0.02);
  assertAlmostEquals(bench.emulator.latenessQuantile(1), 3, 1e-9);
});

Deno.test("whatever comes and however long it is held, each packet leaves once, whole and not too early", () => {
  const step = fc.record({
    gap: fc.nat(8),
    length: fc.oneof(fc.integer({ min: 50, max: 2000 }), fc.integer({ min: 50, max: MAX_FRAME })),
    delay: fc.nat(40),
    forth: fc.boolean(),
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
    const bench = new Bench({ reorder: true }, 1, 32);
    const arrivals = new Map<number, number>();
    let now = 0;
    steps.forEach(({ gap, length, delay, forth }, id) => {
      now += gap;
      bench.run(now);
      const [from, to] = forth ? [PREFIX_A, PREFIX_B] : [PREFIX_B, PREFIX_A];
      bench.emulator.setPath(from, to, { delayMs: delay, reorder: true });
      const verdict = bench.send(id, now, length, from.address, to.address);
      if (verdict !== undefined) arrivals.set(id, now + delay);
    });
    bench.run(1e6);
    assertEquals(new Map(bench.out.map((frame) => [frame.id, frame.at])), arrivals);
    assertEquals(bench.out.length, arrivals.size);
    assert(bench.out.every((frame) => frame.whole));
    assertEquals(bench.emulator.held, 0);
  }));
});
