/**
 * How often hosts with profile `fast` and policy `adaptive` leave a path that works, in virtual time: a packet a second
 * each way, lost or delayed by chance. Prints a table on standard error and JSON on standard output.
 *
 *     deno run -A bench/false_alarms.ts [--seeds N] [--hours H] [--interval-ms I]
 *
 * @module
 */

import { parseArgs } from "@std/cli";
import { AdaptivePolicy } from "../policies/adaptive.ts";
import { FAST } from "../reap/profile.ts";
import { Traffic } from "../sim/traffic.ts";
import { allPairs, VirtualNetwork } from "../sim/virtual_network.ts";
import { ReapState } from "../wire/message.ts";

interface Count {
  /** Departures from Operational. */
  explorations: number;
  /** Pairs given up for another cause than a better one. */
  switches: number;
  suspicions: number;
  /** Probes of both hosts. */
  messages: number;
}

const A = ["2001:db8:a1::1", "2001:db8:a2::1"], B = ["2001:db8:b1::1", "2001:db8:b2::1"];
const DELAY_MS = 10, WARM_UP_MS = 10_000, HOUR_MS = 3_600_000;
/** Share of packets lost, and what is added to their delay at most, ms. */
const NETWORKS = [{ loss: 0.01, jitterMs: 0 }, { loss: 0.05, jitterMs: 53 }] as const;

const flags = parseArgs(Deno.args, {
  string: ["seeds", "hours", "interval-ms"],
  default: { seeds: "10", hours: "1", "interval-ms": "1000" },
});

function live(seed: number, change: { readonly loss: number; readonly jitterMs: number }): Count {
  const network = new VirtualNetwork({ seed, delayMs: DELAY_MS });
  const [a, b] = [A, B].map((addresses, i) =>
    network.addHost("AB"[i], addresses, { profile: FAST, policy: new AdaptivePolicy() })
  );
  a.establish(A[0], B[0]);
  network.run(1_000);
  for (const { local, peer } of [...allPairs(A, B), ...allPairs(B, A)]) {
    Object.assign(network.path(local, peer), change);
  }
  const intervalMs = Number(flags["interval-ms"]);
  new Traffic(network, { from: a, to: b, ulid: { local: A[0], peer: B[0] }, intervalMs, bothWays: true });
  network.run(WARM_UP_MS);
  const count = { explorations: 0, switches: 0, suspicions: 0, messages: 0 };
  for (const host of [a, b]) {
    host.onEvent = (event) => {
      if (event.kind === "reap" && event.from === ReapState.Operational) count.explorations++;
      else if (event.kind === "switch" && event.cause !== "better-path") count.switches++;
      else if (event.kind === "suspect") count.suspicions++;
      else if (event.kind === "probe-sent") count.messages++;
    };
  }
  network.run(Number(flags.hours) * HOUR_MS);
  return count;
}

if (import.meta.main) {
  const rows = NETWORKS.map((change) => {
    const sum: Count = { explorations: 0, switches: 0, suspicions: 0, messages: 0 };
    for (let seed = 1; seed <= Number(flags.seeds); seed++) {
      const count = live(seed, change);
      for (const key of Object.keys(sum) as (keyof Count)[]) sum[key] += count[key];
    }
    const figures = Object.entries(sum).map(([key, value]) => `${value} ${key}`).join(", ");
    console.error(`loss ${change.loss * 100} %, up to ${change.jitterMs} ms late: ${figures}`);
    return { ...change, ...sum };
  });
  console.log(JSON.stringify({ seeds: Number(flags.seeds), hours: Number(flags.hours), rows }, null, 2));
}
