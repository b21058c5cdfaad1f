import { assert, assertEquals } from "@std/assert";
import { AdaptivePolicy } from "../../policies/adaptive.ts";
import { FAST } from "../../reap/profile.ts";
import { Traffic } from "../../sim/traffic.ts";
import { allPairs, type VirtualHost, VirtualNetwork } from "../../sim/virtual_network.ts";
import { ReapState } from "../../wire/message.ts";

const A = ["2001:db8:a1::1", "2001:db8:a2::1"], B = ["2001:db8:b1::1", "2001:db8:b2::1"];
const ULID = { local: A[0], peer: B[0] };
const BACK = { local: B[0], peer: A[0] };
const HOUR = 3_600_000;

/** Two hosts with profile `fast`, some seconds of traffic behind them. */
function pair(options: { loss?: number; jitterMs?: number; intervalMs: number; delayMs?: number; bothWays?: boolean }) {
  const { loss = 0, jitterMs = 0, intervalMs, delayMs = 10, bothWays = true } = options;
  const network = new VirtualNetwork({ seed: 1, delayMs });
  const hosts = [A, B].map((addresses, i) =>
    network.addHost("AB"[i], addresses, { profile: FAST, policy: new AdaptivePolicy() })
  );
  const [a, b] = hosts;
  a.establish(ULID.local, ULID.peer);
  network.run(1_000);
  for (const { local, peer } of [...allPairs(A, B), ...allPairs(B, A)]) {
    Object.assign(network.path(local, peer), { loss, jitterMs });
  }
  const traffic = new Traffic(network, { from: a, to: b, ulid: ULID, intervalMs, bothWays });
  network.run(10_000);
  for (const host of hosts) host.events.length = 0;
  return { network, a, b, traffic };
}

/** How often a host left Operational. */
function alarms(...hosts: VirtualHost[]): number {
  return hosts.flatMap((host) => host.events)
    .filter((event) => event.kind === "reap" && event.from === ReapState.Operational).length;
}

Deno.test("with 1 % loss and a packet a second there is at most one false alarm in an hour", () => {
  const { network, a, b } = pair({ loss: 0.01, intervalMs: 1_000 });
  network.run(HOUR);
  assert(alarms(a, b) <= 1);
});

Deno.test("with 5 % loss and reordering hosts explore by mistake at most four times in an hour", () => {
  const { network, a, b } = pair({ loss: 0.05, jitterMs: 1_000 / 19, intervalMs: 1_000 });
  network.run(HOUR);
  assert(alarms(a, b) <= 4);
});

Deno.test("a stream that dies without a sign goes on over another path long before the Send Timeout", () => {
  for (const delayMs of [0.1, 10, 50]) {
    const { network, traffic } = pair({ intervalMs: 10, delayMs });
    network.cut(ULID, true);
    network.run(2_000);
    assert(traffic.forth.longestSilence < 400);
    assert(traffic.forth.sent - traffic.forth.received <= 40);
  }
});

Deno.test("when only the way back dies, the stream forth has no gap", () => {
  const { network, a, traffic } = pair({ intervalMs: 10 });
  network.path(BACK.local, BACK.peer).up = false;
  network.run(5_000);
  assert(alarms(a) > 0);
  assert(traffic.forth.longestSilence <= 20);
});

Deno.test("healthy traffic both ways costs no probe but those that learn delays", () => {
  const { network, a, b } = pair({ intervalMs: 10 });
  network.run(30_000);
  const probes = [a, b].flatMap((host) => host.events).filter((event) =>
    event.kind === "probe-sent" && !/how long|both directions/.test(event.reason)
  );
  assertEquals(probes, []);
  assertEquals(alarms(a, b), 0);
});
