import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { VirtualClock } from "../../sim/virtual_clock.ts";

Deno.test("actions happen in order of time, and in order of planning when the time is the same", () => {
  fc.assert(fc.property(fc.array(fc.nat(20), { maxLength: 100 }), (times) => {
    const clock = new VirtualClock();
    const happened: [number, number][] = [];
    const start = clock.now;
    times.forEach((time, i) => clock.at(start + time, () => happened.push([clock.now - start, i])));
    while (clock.step());
    const expected = times.map((time, i): [number, number] => [time, i]).sort(([a, i], [b, j]) => a - b || i - j);
    assertEquals(happened, expected);
  }));
});

Deno.test("an action planned for the past happens now, and time never goes back", () => {
  const clock = new VirtualClock();
  clock.runUntil(5_000);
  let at = 0;
  clock.at(10, () => at = clock.now);
  clock.step();
  assertEquals(at, 5_000);
});

Deno.test("time passes to the given end also when nothing happens", () => {
  const clock = new VirtualClock();
  clock.runUntil(7_000);
  assertEquals([clock.now, clock.next, clock.step()], [7_000, Infinity, false]);
});
