import { assertAlmostEquals, assertEquals } from "@std/assert";
import fc from "fast-check";
import { hostStory, splitSilence } from "../../lab/silence.ts";
import type { EngineEvent } from "../../shim6/api.ts";
import { ReapState } from "../../wire/message.ts";

const { Operational, Exploring, InboundOk } = ReapState;
const PAIR = { local: "2001:db8::a", peer: "2001:db8::b" };

function reap(at: number, from: ReapState, to: ReapState): EngineEvent {
  return { kind: "reap", at, from, to, cause: to === Operational ? "answered" : "send-timer" };
}

function probe(at: number): EngineEvent {
  return { kind: "probe-sent", at, pair: PAIR, nonce: at, state: Exploring, reason: "next" };
}

Deno.test("a silence splits at the first host's detection and at the mover's recovery", () => {
  const mover = [reap(4000, Operational, Exploring), reap(4150, Exploring, Operational)];
  const other = [reap(3900, Operational, InboundOk), reap(4300, InboundOk, Operational)];
  assertEquals(splitSilence({ from: 990, to: 4170 }, 1000, mover, other), {
    silence_ms: 3180,
    detection_ms: 2910,
    exploration_ms: 250,
    resume_ms: 20,
  });
});

Deno.test("what happened before the failure is no part of it", () => {
  const before = [reap(100, Operational, Exploring), reap(200, Exploring, Operational)];
  const mover = [...before, reap(1500, Operational, Exploring), reap(1600, Exploring, Operational)];
  assertEquals(splitSilence({ from: 1000, to: 1700 }, 1000, mover, before).detection_ms, 500);
});

Deno.test("a silence that began after the detection, or that nobody detected, is counted where it belongs", () => {
  const quick = [reap(1005, Operational, Exploring), reap(1020, Exploring, Operational)];
  assertEquals(splitSilence({ from: 1010, to: 1040 }, 1000, quick, []), {
    silence_ms: 30,
    detection_ms: 0,
    exploration_ms: 10,
    resume_ms: 20,
  });
  assertEquals(splitSilence({ from: 1010, to: 1040 }, 1000, [], []).detection_ms, 30);
});

Deno.test("the parts are never negative and add up to the silence", () => {
  const time = fc.integer({ min: 0, max: 10_000 });
  const events = fc.array(time, { maxLength: 6 }).map((times) =>
    times.sort((a, b) => a - b).map((at, i) =>
      i % 2 === 0 ? reap(at, Operational, Exploring) : reap(at, Exploring, Operational)
    )
  );
  fc.assert(fc.property(time, time, time, events, events, (t, u, failedAt, mover, other) => {
    const parts = splitSilence({ from: Math.min(t, u), to: Math.max(t, u) }, failedAt, mover, other);
    const { silence_ms, detection_ms, exploration_ms, resume_ms } = parts;
    assertEquals([detection_ms, exploration_ms, resume_ms].filter((ms) => ms < 0), []);
    assertAlmostEquals(detection_ms + exploration_ms + resume_ms, silence_ms, 1e-9);
  }));
});

Deno.test("a host's story counts from the failure, and its probes until it is back", () => {
  const events = [
    probe(900),
    reap(1500, Operational, Exploring),
    probe(1500),
    probe(2000),
    reap(2100, Exploring, Operational),
    probe(2300),
  ];
  assertEquals(hostStory(events, 1000), { left_after_ms: 500, cause: "send-timer", exploration_ms: 600, probes: 2 });
  assertEquals(hostStory(events.slice(0, 4), 1000).exploration_ms, null);
  assertEquals(hostStory([], 1000), { left_after_ms: null, cause: null, exploration_ms: null, probes: 0 });
});
