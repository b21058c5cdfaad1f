/** The acceptance test: an unmodified stream between two real hosts outlives its path. */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { monotonicNow } from "deno-tun";
import {
  FAILOVER_DEFAULTS,
  type FailoverResult,
  type Kill,
  PACE,
  runFailover,
  type Transport,
} from "../../lab/failover.ts";
import { thisProgram } from "../../lab/self.ts";
import { type LocatorPair, samePair } from "../../policies/policy.ts";

monotonicNow(); // opens the C library, which stays open, before a test begins and counts what it leaves behind

const needsRoot = Deno.uid() !== 0;
if (needsRoot) console.log("failovers are left out: not root");

/** Short, so that the tests are. */
const SEND_TIMEOUT_MS = 1_000;

/** Less than the second that TCP's third retransmission takes: the stream must not wait for TCP's own timer. */
const MOST_RESUME_MS = 800;

/** How it is noticed, and how long it may take until then, from the failure on (ms). */
const SILENT = { causes: ["send-timer", "peer-probe"], least: 0.8 * SEND_TIMEOUT_MS, most: SEND_TIMEOUT_MS + 1_000 };
const LINK = { causes: ["link-down"], least: 0, most: 500 };
const ADDRESS = { causes: ["address-gone"], least: 0, most: 500 };

const EXPECTED: Record<Kill, { causes: string[]; least: number; most: number }> = {
  "both": SILENT,
  "a-to-b": SILENT,
  "b-to-a": SILENT,
  "provider": SILENT,
  "link": LINK,
  "address": ADDRESS,
};

/** Whether what a host sends on `pair` is lost after the failure. */
function isBroken(pair: LocatorPair, host: "a" | "b", result: FailoverResult): boolean {
  const before = result.pair_before;
  switch (result.kill) {
    case "both":
      return samePair(pair, before[host]);
    case "a-to-b":
      return host === "a" && samePair(pair, before.a);
    case "b-to-a":
      return host === "b" && samePair(pair, before.b);
    case "provider":
    case "link":
    case "address":
      return [pair.local, pair.peer].includes(before.a.local);
  }
}

async function failover(transport: Transport, kill: Kill, hold = true): Promise<FailoverResult> {
  const result = await runFailover({
    ...FAILOVER_DEFAULTS,
    ...PACE[transport],
    name: "shim6-test-failover",
    transport,
    kill,
    hold,
    killAtMs: 0,
    durationMs: 0,
    patienceMs: 20_000,
    executable: thisProgram(),
    agentArgs: ["--send-timeout-ms", String(SEND_TIMEOUT_MS)],
  });
  const { timeline: _, ...figures } = result;
  const told = JSON.stringify(figures);
  assert(result.recovered, told);
  assert(result.intact, told);
  const { causes, least, most } = EXPECTED[kill];
  const first = [result.hosts.a, result.hosts.b]
    .filter((host) => host.left_after_ms !== null)
    .sort((x, y) => x.left_after_ms! - y.left_after_ms!)[0];
  assert(causes.includes(first.cause!), told);
  assert(first.left_after_ms! >= least && first.left_after_ms! <= most, told);
  assert(result.resume_ms < MOST_RESUME_MS, told);
  assert(!isBroken(result.pair_after.a, "a", result) && !isBroken(result.pair_after.b, "b", result), told);
  assertAlmostEquals(result.detection_ms + result.exploration_ms + result.resume_ms, result.silence_ms, 0.001);
  assertEquals(result.timeline.reduce((sum, { bytes }) => sum + bytes, 0), result.bytes_received);
  return result;
}

for (const kill of Object.keys(EXPECTED) as Kill[]) {
  Deno.test({
    name: `a TCP stream arrives whole though its path fails: ${kill}`,
    ignore: needsRoot,
    fn: async () => {
      const result = await failover("tcp", kill);
      assertEquals(result.bytes_received, result.bytes_sent);
      assert(result.bytes_sent > 1e6);
    },
  });
}

Deno.test({
  name: "UDP loses nothing but what was sent into the silence",
  ignore: needsRoot,
  fn: async () => {
    const result = await failover("udp", "both");
    assert(result.silence_ms > 0.8 * SEND_TIMEOUT_MS);
    assertEquals(result.datagrams!.a_to_b.corrupt, 0);
  },
});
