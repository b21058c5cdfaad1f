import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { Deadlines } from "../../shim6/deadlines.ts";

Deno.test("the queue of deadlines agrees with a plain list, whatever is set, moved and taken out", () => {
  const step = fc.record({ item: fc.nat(99), time: fc.oneof(fc.nat(50), fc.constant(Infinity)) });
  fc.assert(fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
    const queue = new Deadlines();
    const model = new Map<number, number>();
    for (const { item, time } of steps) {
      queue.set(item, time);
      if (time === Infinity) model.delete(item);
      else model.set(item, time);
      assertEquals(queue.next, Math.min(Infinity, ...model.values()));
      assertEquals(queue.size, model.size);
      const due = queue.allDue(25).sort((a, b) => a - b);
      assertEquals(due, [...model].filter(([, at]) => at <= 25).map(([item]) => item).sort((a, b) => a - b));
    }
    for (let item = 0; item < 100; item++) queue.delete(item);
    assertEquals([queue.size, queue.next], [0, Infinity]);
  }));
});

Deno.test("a queue of 100,000 deadlines gives them back in order", () => {
  const queue = new Deadlines();
  for (let i = 0; i < 100_000; i++) queue.set(i, (i * 7_919) % 100_003);
  let before = -1;
  while (queue.size > 0) {
    const time = queue.next;
    if (time < before) throw new Error(`${time} after ${before}`);
    before = time;
    queue.delete(queue.allDue(time)[0]);
  }
});
