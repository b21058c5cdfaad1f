import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { Deadlines, type Timed } from "../../shim6/deadlines.ts";

class Item implements Timed {
  queueIndex = -1;
  constructor(readonly name: number) {}
}

Deno.test("the queue of deadlines agrees with a plain list, whatever is set, moved and taken out", () => {
  const step = fc.record({ item: fc.nat(19), time: fc.oneof(fc.nat(50), fc.constant(Infinity)) });
  fc.assert(fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
    const queue = new Deadlines<Item>();
    const items = Array.from({ length: 20 }, (_, i) => new Item(i));
    const model = new Map<Item, number>();
    for (const { item, time } of steps) {
      queue.set(items[item], time);
      if (time === Infinity) model.delete(items[item]);
      else model.set(items[item], time);
      assertEquals(queue.next, Math.min(Infinity, ...model.values()));
      assertEquals(queue.size, model.size);
      const due = queue.allDue(25).map(({ name }) => name).sort((a, b) => a - b);
      assertEquals(due, [...model].filter(([, at]) => at <= 25).map(([{ name }]) => name).sort((a, b) => a - b));
    }
    for (const item of items) {
      queue.delete(item);
      assertEquals(item.queueIndex, -1);
    }
    assertEquals([queue.size, queue.next], [0, Infinity]);
  }));
});

Deno.test("a queue of 100,000 deadlines gives them back in order", () => {
  const queue = new Deadlines<Item>();
  for (let i = 0; i < 100_000; i++) queue.set(new Item(i), (i * 7_919) % 100_003);
  let before = -1;
  while (queue.size > 0) {
    const time = queue.next;
    if (time < before) throw new Error(`${time} after ${before}`);
    before = time;
    queue.delete(queue.allDue(time)[0]);
  }
});
