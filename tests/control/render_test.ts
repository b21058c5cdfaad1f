import { assertEquals, assertStringIncludes } from "@std/assert";
import {
  duration,
  eventText,
  renderContexts,
  renderPaths,
  renderStatus,
  renderWhy,
  table,
} from "../../control/render.ts";
import type { ContextReport, StatusReport } from "../../control/protocol.ts";
import type { LoggedEvent } from "../../agent/event_log.ts";
import { ReapState } from "../../wire/message.ts";

const ulid = { local: "2001:db8:a1::a", peer: "2001:db8:b1::b" };
const other = { local: "2001:db8:a2::a", peer: "2001:db8:b3::b" };
const context: ContextReport = {
  id: 7,
  ulid,
  fii: 0,
  state: "ESTABLISHED",
  reap: "operational",
  current: other,
  local_locators: [ulid.local, other.local],
  peer_locators: [{ address: ulid.peer, verified: true }],
  since_ms: 90_000,
  rtt_ms: 12.3,
  switches: 1,
  last_failure: { cause: "send-timer", detection_ms: 3_210, exploration_ms: 14, recovery_ms: 3_224 },
  counters: {
    sent_packets: 1,
    sent_bytes: 2,
    received_packets: 3,
    received_bytes: 4,
    probes_sent: 5,
    keepalives_sent: 6,
  },
};

Deno.test("durations read well from microseconds to days", () => {
  assertEquals([0.25, 12.4, 999, 3_210, 300_000, 7_200_000].map(duration), [
    "0.3 ms",
    "12 ms",
    "999 ms",
    "3.21 s",
    "5 min",
    "2.0 h",
  ]);
});

Deno.test("columns are as wide as their widest cell", () => {
  assertEquals(table(["A", "LONG"], [["wide cell", "x"]]), "A          LONG\nwide cell  x");
});

Deno.test("a moved context shows its path, and how long the failure took", () => {
  const text = renderContexts([context]);
  assertStringIncludes(text, "2001:db8:a2::a > 2001:db8:b3::b");
  assertStringIncludes(text, "send-timer: 3.21 s to notice, 14 ms to find");
  assertStringIncludes(renderContexts([{ ...context, current: ulid }]), "ULID pair, native");
  assertStringIncludes(renderContexts([]), "no contexts");
});

Deno.test("status puts warnings and unusable locators where they are seen", () => {
  const status: StatusReport = {
    version: "0.1.0",
    policy: "random",
    profile: "rfc5534",
    datapath: "tun",
    accounting: "ebpf",
    protocol: 140,
    uptime_s: 61,
    warnings: ["locators are not verified"],
    locators: [{
      address: ulid.local,
      interface: "eth0",
      usable: false,
      deprecated: false,
      priority: 100,
      weight: 0,
      transient: false,
    }],
    coordinates: null,
    contexts: [],
    counters: { dropped: { "bad-checksum": 2, "hip": 0 }, sent: {}, received: {}, datapath: {} },
  };
  const text = renderStatus(status);
  assertStringIncludes(text, "WARNING: locators are not verified");
  assertStringIncludes(text, "eth0       NO");
  assertStringIncludes(text, "dropped: bad-checksum 2");
  assertEquals(text.includes("hip"), false);
  assertEquals(text.includes("coordinates"), false);
  const places = [{ address: ulid.local, x_ms: 1.25, y_ms: -3, height_ms: 0.5, error: 0.2 }];
  const coordinates = { locators: places, peers: [], rankings: 3, first_best: 2, refused: 4 };
  const told = renderStatus({ ...status, coordinates: { ...coordinates, predictions: 9, median_error: 0.128 } });
  assertStringIncludes(told, "of 9 predictions the last ones were off by 13 % (median)");
  assertStringIncludes(told, "the best working one with 2 of 3 peers; 4 announcements of peers were refused");
  assertStringIncludes(told, "-3.0 ms");
  const untold = renderStatus({ ...status, coordinates: { ...coordinates, predictions: 0, median_error: null } });
  assertStringIncludes(untold, "nothing was predicted and measured yet");
});

Deno.test("why tells the story in order, each step with its reason", () => {
  const at = { at: 0, wall: "2026-01-01T12:00:00.000Z", context: 7 };
  const events: LoggedEvent[] = [
    { ...at, kind: "suspect", silentMs: 400, usualMs: 20 },
    { ...at, kind: "reap", from: ReapState.Operational, to: ReapState.Exploring, cause: "send-timer" },
    { ...at, kind: "probe-sent", pair: other, nonce: 1, state: ReapState.Exploring, reason: "random order" },
    { ...at, kind: "probe-answered", pair: other, nonce: 1, rttMs: 10 },
    { ...at, kind: "switch", from: ulid, to: other, cause: "send-timer" },
  ];
  const lines = renderWhy({ context, events }).split("\n").slice(3);
  assertEquals(lines.length, 5);
  assertStringIncludes(lines[0], "no answer for 400 ms (usually 20 ms)");
  assertStringIncludes(lines[1], "operational → exploring: send-timer");
  assertStringIncludes(lines[2], "random order");
  assertStringIncludes(lines[4], "switch from 2001:db8:a1::a > 2001:db8:b1::b to 2001:db8:a2::a > 2001:db8:b3::b");
});

Deno.test("every kind of event has a line", () => {
  const at = { at: 0, wall: "2026-01-01T12:00:00.000Z" };
  const events: LoggedEvent[] = [
    { ...at, kind: "state", from: "IDLE", to: "I1-SENT", reason: "50 packets" },
    { ...at, kind: "probe-received", pair: other, state: ReapState.InboundOk },
    { ...at, kind: "recovered", cause: "link-down", detectionMs: 1, explorationMs: 2, pair: other, probes: 3 },
    { ...at, kind: "switch-failed", pair: other, reason: "no answer" },
    { ...at, kind: "locators", reason: "addresses changed", locators: [ulid.local] },
    { ...at, kind: "unverified", reason: "no proof" },
    { ...at, kind: "peer-without-shim6", reason: "ICMPv6 error" },
    { ...at, kind: "error-received", code: 2, pointer: 98 },
  ];
  for (const event of events) assertEquals(eventText(event).length > 5, true, event.kind);
});

Deno.test("paths tells what is known of each pair and who uses it", () => {
  const text = renderPaths([{
    ...other,
    rtt_ms: 10,
    rtt_variance_ms: 2,
    source: "measured",
    predicted_rtt_ms: 12,
    last_success_ms: 1_500,
    last_failure_ms: null,
    probes_sent: 4,
    probes_answered: 3,
    contexts: [7],
  }]);
  assertStringIncludes(text, "10 ms ± 2 ms");
  assertStringIncludes(text, "3/4");
  const unmeasured = { rtt_ms: null, rtt_variance_ms: null, source: "coordinate", predicted_rtt_ms: 12 };
  const guess = renderPaths([{
    ...other,
    ...unmeasured,
    ...{ last_success_ms: null, last_failure_ms: null },
    probes_sent: 0,
    probes_answered: 0,
    contexts: [],
  }]);
  assertStringIncludes(guess, "about 12 ms");
  assertStringIncludes(text, "1.50 s ago");
  assertStringIncludes(text, "never");
});
