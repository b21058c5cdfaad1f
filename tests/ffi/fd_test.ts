import { assert, assertEquals } from "@std/assert";
import {
  closeFd,
  createEventFd,
  drainEventFd,
  monotonicNow,
  PollEvent,
  PollSet,
  signalEventFd,
  TimerFd,
} from "deno-tun";

monotonicNow(); // opens the C library, which stays open, before a test begins and counts what it leaves behind

Deno.test("the clock goes on and agrees with performance.now on how fast", async () => {
  const start = monotonicNow(), reference = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 20));
  const elapsed = monotonicNow() - start, expected = performance.now() - reference;
  assert(Math.abs(elapsed - expected) < 5, `${elapsed} ms against ${expected} ms`);
});

Deno.test("an event file is readable from its signal to its drain", () => {
  const fd = createEventFd();
  try {
    const set = new PollSet();
    set.set(fd, PollEvent.IN);
    assertEquals(set.wait(0), 0);
    assertEquals(drainEventFd(fd), false);
    signalEventFd(fd);
    signalEventFd(fd);
    assertEquals(set.wait(0), 1);
    assertEquals(set.ready(fd), PollEvent.IN);
    assertEquals(drainEventFd(fd), true);
    assertEquals(set.wait(0), 0);
    assertEquals(set.ready(fd), 0);
  } finally {
    closeFd(fd);
  }
});

Deno.test("a timer file goes off at its time, at once when that has passed, and never when disarmed", () => {
  const timer = new TimerFd();
  try {
    const set = new PollSet();
    set.set(timer.fd, PollEvent.IN);
    const at = monotonicNow() + 15;
    timer.armAt(at);
    assertEquals(set.wait(1000), 1);
    assert(monotonicNow() >= at);
    assert(timer.drain());
    assertEquals(timer.drain(), false);
    timer.armAt(at - 1000);
    assertEquals(set.wait(1000), 1);
    timer.armAt(monotonicNow() + 5);
    timer.disarm();
    assertEquals(set.wait(20), 0);
  } finally {
    timer.close();
  }
});

Deno.test("an awaited poll ends by an event file and may be followed by another set", async () => {
  const first = createEventFd(), second = createEventFd();
  try {
    const set = new PollSet();
    set.set(first, PollEvent.IN);
    const waiting = set.waitAsync(5000);
    set.set(second, PollEvent.IN); // takes effect with the next wait
    signalEventFd(second);
    signalEventFd(first);
    assertEquals(await waiting, 1);
    assertEquals([set.ready(first), set.ready(second)], [PollEvent.IN, 0]);
    assertEquals(await set.waitAsync(0), 2);
    set.remove(first);
    assertEquals(set.wait(0), 1);
    assertEquals(set.ready(second), PollEvent.IN);
  } finally {
    closeFd(first);
    closeFd(second);
  }
});
