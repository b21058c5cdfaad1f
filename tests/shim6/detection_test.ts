import { assert, assertEquals } from "@std/assert";
import { AdaptivePolicy } from "../../policies/adaptive.ts";
import { FAST } from "../../reap/profile.ts";
import { Traffic } from "../../sim/traffic.ts";
import { allPairs, type VirtualHost, VirtualNetwork, type VirtualPacket } from "../../sim/virtual_network.ts";
import { ReapState } from "../../wire/message.ts";

const A = ["2001:db8:a1::1", "2001:db8:a2::1"], B = ["2001:db8:b1::1", "2001:db8:b2::1"];
const ULID = { local: A[0], peer: B[0] };
const BACK = { local: B[0], peer: A[0] };
const HOUR = 3_600_000;
/** So much is added to each delay, evenly spread: several times the delay itself, so that probes overtake each other. */
const JITTER_MS = 1_000 / 19;

interface PairOptions {
  readonly seed?: number;
  readonly loss?: number;
  readonly jitterMs?: number;
  readonly intervalMs: number;
  readonly delayMs?: number;
  readonly bothWays?: boolean;
}

/** Two hosts with profile `fast`, some seconds of traffic behind them. */
function pair({ seed = 1, loss = 0, jitterMs = 0, intervalMs, delayMs = 10, bothWays = true }: PairOptions) {
  const network = new VirtualNetwork({ seed, delayMs });
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

/** How often a host left Operational or its pair although all was well. */
function alarms(...hosts: VirtualHost[]): number {
  return hosts.flatMap((host) => host.events).filter((event) =>
    event.kind === "reap" && event.from === ReapState.Operational ||
    event.kind === "switch" && event.cause !== "better-path"
  ).length;
}

/** Packets that travel while `ms` pass. */
function packetsWithin(network: VirtualNetwork, ms: number): VirtualPacket[] {
  const packets: VirtualPacket[] = [];
  network.filter = (packet) => packets.push(packet) > 0;
  network.run(ms);
  network.filter = undefined;
  return packets;
}

Deno.test("with 1 % loss and a packet a second there is no false alarm in an hour", () => {
  for (let seed = 1; seed <= 5; seed++) {
    const { network, a, b } = pair({ seed, loss: 0.01, intervalMs: 1_000 });
    network.run(HOUR);
    assertEquals(alarms(a, b), 0, `seed ${seed}`);
  }
});

Deno.test("with 5 % loss and reordering no host changes its path in an hour", () => {
  for (let seed = 1; seed <= 5; seed++) {
    const { network, a, b } = pair({ seed, loss: 0.05, jitterMs: JITTER_MS, intervalMs: 1_000 });
    network.run(HOUR);
    assertEquals(alarms(a, b), 0, `seed ${seed}`);
  }
});

Deno.test("a stream that dies without a sign is silent for 50 ms and the time of the way", () => {
  for (const delayMs of [0.1, 10, 50]) {
    const { network, a, b, traffic } = pair({ intervalMs: 10, delayMs });
    network.cut(ULID, true);
    network.run(2_000);
    for (const { longestSilence } of [traffic.forth, traffic.back]) {
      assert(longestSilence <= 60 + delayMs, `${longestSilence} ms with a delay of ${delayMs}`);
    }
    for (const host of [a, b]) {
      assert(!host.events.some((event) => event.kind === "reap"), "what was known to work needs no exploration");
      assertEquals(host.events.filter((event) => event.kind === "switch").length, 1);
    }
  }
});

Deno.test("when only the way back dies, the stream forth has no gap, and only the peer changes its path", () => {
  for (const delayMs of [0.1, 10, 50]) {
    const { network, a, b, traffic } = pair({ intervalMs: 10, delayMs });
    network.path(BACK.local, BACK.peer).up = false;
    network.run(5_000);
    assert(traffic.forth.longestSilence <= 20, `${traffic.forth.longestSilence}`);
    assertEquals(alarms(a), 0);
    assert(alarms(b) > 0);
    assert(traffic.back.longestSilence <= 60 + 2 * delayMs, `${traffic.back.longestSilence}`);
  }
});

Deno.test("a peer that does not look at its own path is told by an exploration that it is not heard", () => {
  const network = new VirtualNetwork({ seed: 1, delayMs: 10 });
  const a = network.addHost("A", A, { profile: FAST, policy: new AdaptivePolicy() });
  const b = network.addHost("B", B);
  a.establish(ULID.local, ULID.peer);
  network.run(1_000);
  const traffic = new Traffic(network, { from: a, to: b, ulid: ULID, intervalMs: 10, bothWays: true });
  network.run(5_000);
  network.path(BACK.local, BACK.peer).up = false;
  network.run(5_000);
  assert(traffic.forth.longestSilence <= 20, `${traffic.forth.longestSilence}`);
  assert(traffic.back.longestSilence <= 1_500, `${traffic.back.longestSilence}`);
});

Deno.test("a provider's death moves a stream to the other provider, whoever's it was", () => {
  for (const dead of [A[0], B[0]]) {
    const { network, traffic } = pair({ intervalMs: 10 });
    for (const other of dead === A[0] ? B : A) network.cut({ local: dead, peer: other }, true);
    network.run(2_000);
    assert(traffic.forth.longestSilence <= 60, `${traffic.forth.longestSilence}`);
    assert(traffic.back.longestSilence <= 60, `${traffic.back.longestSilence}`);
  }
});

Deno.test("the first packet after a pause in which the path died arrives by another one", () => {
  const { network, a, b, traffic } = pair({ intervalMs: 10 });
  traffic.stop();
  network.run(3_000);
  network.cut(ULID, true);
  network.run(2_000);
  const began = network.clock.now;
  const again = new Traffic(network, { from: a, to: b, ulid: ULID, intervalMs: HOUR, bothWays: false });
  assert(network.runUntil(() => again.forth.received === 1, 5_000));
  assert(network.clock.now - began <= 80, `${network.clock.now - began} ms`);
});

Deno.test("an idle context costs nothing when its keepalives are over", () => {
  const { network, traffic } = pair({ intervalMs: 10 });
  traffic.stop();
  network.run(30_000);
  assertEquals(packetsWithin(network, 60_000), []);
});

Deno.test("healthy traffic both ways costs nothing but the probes that learn delays", () => {
  const { network, a, b, traffic } = pair({ intervalMs: 10 });
  const sent = traffic.forth.sent + traffic.back.sent;
  const packets = packetsWithin(network, 30_000).filter(({ kind }) => kind === "payload").length;
  assertEquals(packets, traffic.forth.sent + traffic.back.sent - sent);
  const probes = [a, b].flatMap((host) => host.events).filter((event) =>
    event.kind === "probe-sent" && !/how long|both directions/.test(event.reason)
  );
  assertEquals(probes, []);
  assertEquals(alarms(a, b), 0);
});

/** What was asked and answered, in the order of the times. */
function probes(...hosts: VirtualHost[]): string[] {
  const sent = hosts.flatMap((host) =>
    host.events.flatMap((event) => event.kind === "probe-sent" ? [{ host, event }] : [])
  );
  return sent.sort((x, y) => x.event.at - y.event.at).map(({ host, event }) => `${host.name}: ${event.reason}`);
}

Deno.test("a packet that is lost in a sparse flow costs four messages", () => {
  const { network, a, b } = pair({ intervalMs: 1_000 });
  let lost = 0;
  network.filter = ({ kind, source }) => kind !== "payload" || source !== B[0] || lost++ > 0;
  network.run(2_000);
  assertEquals(probes(a, b), [
    "A: does another pair work?",
    "B: answer: both directions work",
    "A: does the current pair work?",
    "B: answer: both directions work",
  ]);
  assertEquals(alarms(a, b), 0);
});

Deno.test("when one direction of a sparse flow dies, the host that hears nothing tells the other one where it is heard", () => {
  const { network, a, b } = pair({ intervalMs: 1_000 });
  network.path(BACK.local, BACK.peer).up = false;
  network.run(3_000);
  assert(probes(a, b).includes("A: you are heard on another pair only"));
  assertEquals(a.context(ULID.local, ULID.peer)?.current, ULID);
  assertEquals(b.context(BACK.local, BACK.peer)?.current, { local: B[1], peer: A[1] });
  assert([a, b].every(({ events }) => events.every(({ kind }) => kind !== "reap")), "without an exploration");
  // The host that was told knows the failure as one that it found itself would be known.
  const recovered = b.events.filter((event) => event.kind === "recovered");
  assertEquals(recovered.map(({ cause, pair }) => [cause, pair]), [["peer-probe", { local: B[1], peer: A[1] }]]);
  const { lastFailure = NaN, lastSuccess = NaN } = b.engine!.book.get(BACK)!;
  assert(lastFailure > lastSuccess);
});

Deno.test("when both directions of a sparse flow die, one host finds out and the other one follows it at once", () => {
  const { network, a, b, traffic } = pair({ intervalMs: 1_000 });
  network.cut(ULID, true);
  network.run(5_000);
  const switches = [a, b].flatMap(({ events }) => events.filter(({ kind }) => kind === "switch"));
  assertEquals(switches.length, 2);
  assert(Math.abs(switches[0].at - switches[1].at) <= 11, `${switches.map(({ at }) => at)}`);
  assert([a, b].every(({ events }) => events.every(({ kind }) => kind !== "reap")), "without an exploration");
  assert(traffic.forth.longestSilence <= 3_000);
});
