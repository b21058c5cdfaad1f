import { assertEquals } from "@std/assert";
import { SharedRing } from "../../datapath/shared_ring.ts";

Deno.test("records come out in order, around the end, and a full ring takes no more", () => {
  const writer = new SharedRing(4, 8), reader = new SharedRing(4, 8, writer.memory);
  const view = new DataView(writer.memory);
  const write = (n: number) => {
    const at = writer.writeOffset();
    if (at < 0) return false;
    view.setFloat64(at, n);
    writer.commit();
    return true;
  };
  const read = () => {
    const at = reader.readOffset();
    if (at < 0) return undefined;
    const n = view.getFloat64(at);
    reader.release();
    return n;
  };
  assertEquals(read(), undefined);
  let next = 0, expected = 0;
  for (let round = 0; round < 10; round++) {
    for (let i = 0; i < 3; i++) assertEquals(write(next++), true);
    for (let i = 0; i < 3; i++) assertEquals(read(), expected++);
  }
  for (let i = 0; i < 4; i++) assertEquals(write(i), true);
  assertEquals(write(4), false);
  assertEquals(writer.waitForReader(3, 1), false);
  assertEquals(read(), 0);
  assertEquals(writer.waitForReader(3, 1), true);
  assertEquals(write(4), true);
});
