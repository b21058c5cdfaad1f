import { assert, assertEquals } from "@std/assert";
import { pairKey } from "../../policies/policy.ts";
import { createPolicy, policyNames } from "../../policies/registry.ts";
import { PAPER, type Profile, RFC5534 } from "../../reap/profile.ts";
import { seeded, VirtualPair, type VirtualPairOptions } from "./virtual_pair.ts";

const HOUR = 3_600_000;

interface Trial {
  readonly net: VirtualPair;
  readonly converged: boolean;
  readonly failedAt: number;
  /** Exploration times in ms of the hosts that left Operational because of the failure. */
  readonly explorations: number[];
}

/** A failure of `broken` paths while one packet per second travels each way (paper §5.3). */
function trial(policy: string, broken: number, seed: number, options: {
  readonly profile?: Profile;
  readonly loss?: number;
  readonly delay?: VirtualPairOptions["delay"];
} = {}): Trial {
  const { profile = PAPER, loss = 0, delay } = options;
  const net = new VirtualPair({ profile, policy: createPolicy(policy), seed, delay });
  for (const host of [net.a, net.b]) host.machine.adoptKeepaliveTimeout(profile.sendTimeoutMs);
  net.stream("a", 1000, 1000 * net.random());
  net.stream("b", 1000, 1000 * net.random());
  net.run(2000 + 1000 * net.random());
  const failedAt = net.now;
  net.lose = () => loss > 0 && net.random() < loss;
  net.breakPaths(broken);
  const recoveries = () => [...net.a.all("recovered"), ...net.b.all("recovered")];
  const converged = net.run(failedAt + HOUR, () => net.converged && recoveries().length > 0);
  return { net, converged, failedAt, explorations: recoveries().map(({ explorationMs }) => explorationMs) };
}

/** The exploration times of all trials, sorted; fails when one does not converge. */
function explorations(policy: string, broken: number, trials: number): number[] {
  const all: number[] = [];
  for (let seed = 0; seed < trials; seed++) {
    const result = trial(policy, broken, seed);
    assert(result.converged, `${policy}, ${broken} broken, seed ${seed}: not in an hour`);
    all.push(...result.explorations);
  }
  return all.sort((x, y) => x - y);
}

function share(sorted: readonly number[], below: number): number {
  return sorted.filter((ms) => ms < below).length / sorted.length;
}

function quantile(sorted: readonly number[], p: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))];
}

for (const broken of [1, 2, 16]) {
  Deno.test(`with ${broken} of 18 paths broken and a Send Timeout of 3 s both hosts find a working pair, by any policy`, () => {
    for (const policy of policyNames()) explorations(policy, broken, policy.startsWith("burst") ? 20 : 200);
    explorations("burst4", broken, 200);
  });
}

Deno.test("n = 1: every exploration ends with the second probe at the latest, as in the paper", () => {
  const times = explorations("random", 1, 300);
  assertEquals(share(times, 600), 1);
  assert(share(times, 390) > 0.75, `${share(times, 390)} with the first probe`);
});

Deno.test("n = 2: the first probe succeeds in about 86 % of the explorations, as in the paper", () => {
  const times = explorations("random", 2, 500);
  const first = share(times, 390);
  assert(first > 0.8 && first < 0.9, `${first}`);
  assert(share(times, 600) > 0.98, `${share(times, 600)} below 600 ms`);
});

Deno.test("n = 16: half of the explorations last less than 7 s, 80 % less than 17 s, 95 % less than 31 s, as in the paper", () => {
  const times = explorations("random", 16, 500);
  const [p50, p80, p95] = [0.5, 0.8, 0.95].map((p) => quantile(times, p));
  assert(p50 > 1500 && p50 < 7000, `${p50}`);
  assert(p80 < 17_000, `${p80}`);
  assert(p95 < 31_000, `${p95}`);
});

Deno.test("a burst over paths of different delay causes no second exploration and both ends take the fastest path", () => {
  for (let seed = 0; seed < 100; seed++) {
    const random = seeded(seed + 1000);
    const delays = new Map<string, number>();
    const delay: VirtualPairOptions["delay"] = (path) => {
      const key = pairKey(path);
      if (!delays.has(key)) delays.set(key, 5 + 400 * random());
      return delays.get(key)!;
    };
    const { net, converged } = trial("burst9", 2, seed, { delay });
    assert(converged);
    net.run(net.now + 2000);
    assertEquals([net.a.all("recovered").length, net.b.all("recovered").length], [1, 1], `seed ${seed}`);
    // The host that noticed the failure first sends its burst undisturbed.
    const [first] = [net.a, net.b].sort((x, y) => x.all("state")[0].at - y.all("state")[0].at);
    const working = first.pairs.filter((pair) => !net.broken.has(pairKey(pair)));
    assertEquals(delay(first.machine.current), Math.min(...working.map(delay)), `seed ${seed}`);
  }
});

Deno.test("with one packet in five lost the hosts converge all the same", () => {
  for (const policy of ["random", "burst4", "disjoint"]) {
    for (const broken of [1, 2, 10]) {
      for (let seed = 0; seed < 40; seed++) {
        assert(trial(policy, broken, seed, { loss: 0.2 }).converged, `${policy}, ${broken} broken, seed ${seed}`);
      }
    }
  }
});

Deno.test("with the timers of RFC 5534 the hosts converge too", () => {
  for (let seed = 0; seed < 100; seed++) {
    assert(trial("random", 16, seed, { profile: RFC5534 }).converged, `seed ${seed}`);
  }
});

Deno.test("when all paths are broken the hosts go on probing, and recover within a Max Probe Timeout of the repair", () => {
  for (let seed = 0; seed < 20; seed++) {
    const { net } = trial("random", 2, seed);
    net.break(...net.paths().map(({ pair }) => pair));
    net.run(net.now + 20 * 60_000);
    const probes = net.a.all("send-probe").filter(({ at }) => at > net.now - 600_000).length;
    assert(probes >= 8 && probes <= 13, `${probes} probes in the last ten minutes`);
    net.repair(...net.paths().map(({ pair }) => pair));
    assert(net.run(net.now + 72_100, () => net.converged), `seed ${seed}`);
  }
});

Deno.test("a host whose peer neither hears it nor speaks leaves Operational alone", () => {
  const net = new VirtualPair({ profile: PAPER, policy: createPolicy("random") });
  net.break(...net.paths().map(({ pair }) => pair));
  net.stream("a", 1000);
  net.run(60_000);
  assertEquals([net.a.machine.state, net.b.machine.state], [1, 0]);
});
