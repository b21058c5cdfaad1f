/** The demo's story in virtual time, for machines on which the real testbed cannot stand: the same engines, no kernel. */

import type { Story } from "../lab/chart.ts";
import type { Kill } from "../lab/failover.ts";
import { longestSilence, Reception } from "../lab/reception.ts";
import { splitSilence } from "../lab/silence.ts";
import type { LocatorPair } from "../policies/policy.ts";
import { createPolicy } from "../policies/registry.ts";
import type { Profile } from "../reap/profile.ts";
import { Traffic } from "../sim/traffic.ts";
import { type VirtualHost, VirtualNetwork } from "../sim/virtual_network.ts";
import { ReapState } from "../wire/message.ts";

/** How to simulate a failover. */
export interface SimulationOptions {
  readonly policy: string;
  readonly profile: Profile;
  readonly kill: Kill;
  readonly killAtMs: number;
  readonly durationMs: number;
  readonly seed: number;
}

/** What a simulated failover came to. */
export interface SimulatedFailover extends Story {
  readonly kill_t_ms: number;
  readonly sent: number;
  readonly received: number;
  readonly timeline: readonly { readonly t_ms: number; readonly bytes: number }[];
}

const A = ["2001:db8:a1::a", "2001:db8:a2::a", "2001:db8:a3::a"];
const B = ["2001:db8:b1::b", "2001:db8:b2::b", "2001:db8:b3::b"];
const ULID = { local: A[0], peer: B[0] };
const DELAY_MS = 2;
/** As the agent reads what the datapath has counted. */
const POLL_MS = 50;
const INTERVAL_MS = 2;
const PACKET_BYTES = 1400;
const SHORTEST_GAP_MS = 20;
const ESTABLISHMENT_MS = 1_000;
const RECOVERY_LIMIT_MS = 90_000;
const AFTERMATH_MS = 1_000;

/** Runs it; the same options give the same result. */
export function simulateFailover(options: SimulationOptions): SimulatedFailover {
  const network = new VirtualNetwork({ seed: options.seed, delayMs: DELAY_MS });
  const host = (name: string, addresses: readonly string[]) =>
    network.addHost(name, addresses, {
      profile: options.profile,
      policy: createPolicy(options.policy),
      pollMs: POLL_MS,
    });
  const a = host("a", A), b = host("b", B);
  a.establish(ULID.local, ULID.peer);
  network.run(ESTABLISHMENT_MS);

  const reception = new Reception(SHORTEST_GAP_MS);
  watch(options.kill === "b-to-a" ? a : b, network, reception);
  const traffic = new Traffic(network, {
    from: a,
    to: b,
    ulid: ULID,
    intervalMs: INTERVAL_MS,
    bothWays: true,
    bytes: PACKET_BYTES,
  });
  const start = network.clock.now;
  network.run(options.killAtMs);
  const before = pairs(a, b), killedAt = network.clock.now;
  breakPath(network, a, before, options.kill);
  const recovered = network.runUntil(() => isBack(a, killedAt) && isBack(b, killedAt), RECOVERY_LIMIT_MS);
  network.run(Math.max(AFTERMATH_MS, start + options.durationMs - network.clock.now));
  const after = pairs(a, b), until = network.clock.now;
  traffic.stop();
  network.run(AFTERMATH_MS);

  const report = reception.report();
  const silence = longestSilence(report, killedAt, until);
  const [mover, other] = options.kill === "b-to-a" ? [b, a] : [a, b];
  const { sent, received } = options.kill === "b-to-a" ? traffic.back : traffic.forth;
  return {
    kill: options.kill,
    recovered,
    ...splitSilence(silence, killedAt, mover.events, other.events),
    intact: recovered && (sent - received) * INTERVAL_MS <= silence.to - silence.from + INTERVAL_MS,
    pair_before: before,
    pair_after: after,
    kill_t_ms: killedAt - report.first,
    sent,
    received,
    timeline: report.bins.map((bytes, i) => ({ t_ms: i * report.bin_ms, bytes })),
  };
}

/** Takes note of the payload that reaches a host, each packet once. */
function watch(host: VirtualHost, network: VirtualNetwork, reception: Reception): void {
  const receive = host.receive.bind(host), seen = new Set<number>();
  host.receive = (packet) => {
    if (packet.kind === "payload" && !seen.has(packet.payload.sequence)) {
      seen.add(packet.payload.sequence);
      reception.add(network.clock.now, packet.payload.bytes);
    }
    receive(packet);
  };
}

function pairs(a: VirtualHost, b: VirtualHost): { a: LocatorPair; b: LocatorPair } {
  return { a: a.context(ULID.local, ULID.peer)!.current, b: b.context(ULID.peer, ULID.local)!.current };
}

function isBack(host: VirtualHost, since: number): boolean {
  return host.events.some((e) => e.kind === "reap" && e.at >= since && e.to === ReapState.Operational);
}

function breakPath(
  network: VirtualNetwork,
  host: VirtualHost,
  pairs: { a: LocatorPair; b: LocatorPair },
  kill: Kill,
): void {
  switch (kill) {
    case "both":
      network.cut(pairs.a);
      return network.cut(pairs.b);
    case "a-to-b":
      return network.cut(pairs.a);
    case "b-to-a":
      return network.cut(pairs.b);
    case "provider":
      for (const peer of B) network.cut({ local: pairs.a.local, peer }, true);
      return;
    case "link":
    case "address":
      return host.setUsable(pairs.a.local, false);
  }
}
