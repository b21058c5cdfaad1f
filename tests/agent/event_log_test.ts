import { assertEquals } from "@std/assert";
import { EventLog } from "../../agent/event_log.ts";
import type { EngineEvent } from "../../shim6/api.ts";

const event = (context: number, at: number): EngineEvent => ({ at, context, kind: "unverified", reason: `at ${at}` });

const directory = Deno.makeTempDirSync();
globalThis.addEventListener("unload", () => Deno.removeSync(directory, { recursive: true }));

Deno.test("events are kept in order and found by context", () => {
  const log = new EventLog();
  for (let i = 0; i < 10; i++) log.add(event(i % 2, i), 1_000 + i);
  assertEquals(log.recent().map((logged) => logged.at), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assertEquals(log.recent(1).map((logged) => logged.at), [1, 3, 5, 7, 9]);
  assertEquals(log.recent()[3].wall, "1970-01-01T00:00:01.003Z");
  log.close();
});

Deno.test("the ring forgets the oldest events and nothing else", () => {
  const log = new EventLog();
  for (let i = 0; i < 20_000; i++) log.add(event(0, i), 0);
  const kept = log.recent();
  assertEquals(kept.length, 4_096);
  assertEquals(kept[0].at, 20_000 - 4_096);
  assertEquals(kept.at(-1)!.at, 19_999);
  log.close();
});

Deno.test("the file holds one JSON object a line, readable by its owner only, and is appended to", () => {
  const path = directory + "/events.jsonl";
  for (let run = 0; run < 2; run++) {
    const log = new EventLog(path);
    log.add(event(1, run), 0);
    log.close();
  }
  const lines = Deno.readTextFileSync(path).trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(lines.map((line) => line.at), [0, 1]);
  assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);
});

Deno.test("a watcher sees events from when it came until it leaves", () => {
  const log = new EventLog();
  const seen: number[] = [];
  log.add(event(0, 1), 0);
  const leave = log.watch((logged) => seen.push(logged.at));
  log.add(event(0, 2), 0);
  leave();
  log.add(event(0, 3), 0);
  assertEquals(seen, [2]);
  log.close();
});
