import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { PAPER } from "../../reap/profile.ts";
import { SeededRandom } from "../../sim/random.ts";
import { Traffic } from "../../sim/traffic.ts";
import { allPairs, VirtualNetwork } from "../../sim/virtual_network.ts";

const A = ["2001:db8:a1::1", "2001:db8:a2::1", "2001:db8:a3::1"];
const B = ["2001:db8:b1::1", "2001:db8:b2::1", "2001:db8:b3::1"];
const ULID = { local: A[0], peer: B[0] };

/** A failure from beginning to end, as text. */
function story(seed: number): string {
  const network = new VirtualNetwork({ seed, delayMs: 5, jitterMs: 3 });
  const a = network.addHost("A", A, { profile: PAPER }), b = network.addHost("B", B, { profile: PAPER });
  a.establish(A[0], B[0]);
  const traffic = new Traffic(network, { from: a, to: b, ulid: ULID, intervalMs: 1_000, bothWays: true, jitter: 0.1 });
  network.run(10_000);
  network.cut(ULID, true);
  network.run(60_000);
  return JSON.stringify([a.events, b.events, traffic.forth, traffic.back]);
}

Deno.test("the same seed gives the same run to the octet, another seed another one", () => {
  assertEquals(story(1), story(1));
  assertNotEquals(story(1), story(2));
});

Deno.test("paths are unidirectional, and each has its own delay and loss", () => {
  const network = new VirtualNetwork({ seed: 1, delayMs: 5 });
  const a = network.addHost("A", A), b = network.addHost("B", B);
  network.path(A[0], B[0]).delayMs = 70;
  network.path(B[0], A[0]).loss = 0.5;
  const traffic = new Traffic(network, { from: a, to: b, ulid: ULID, intervalMs: 10, bothWays: true });
  network.run(65);
  assertEquals(traffic.forth.received, 0);
  network.run(10_000);
  traffic.stop();
  network.run(1_000);
  assertEquals(traffic.forth.received, traffic.forth.sent);
  const share = traffic.back.received / traffic.back.sent;
  assert(share > 0.4 && share < 0.6);
});

Deno.test("jitter lets packets overtake each other", () => {
  const network = new VirtualNetwork({ seed: 1, jitterMs: 100 });
  const a = network.addHost("A", A);
  const arrived: number[] = [];
  const b = network.addHost("B", B);
  const receive = b.receive.bind(b);
  b.receive = (packet) => {
    if (packet.kind === "payload") arrived.push(packet.payload.sequence);
    receive(packet);
  };
  const traffic = new Traffic(network, { from: a, to: b, ulid: ULID, intervalMs: 5, bothWays: false });
  network.run(1_000);
  assertEquals(traffic.forth.received > 150, true);
  assertNotEquals(arrived, arrived.toSorted((x, y) => x - y));
});

Deno.test("packets held during an exploration arrive when it is over, none twice but what was not lost", () => {
  const network = new VirtualNetwork({ seed: 4, delayMs: 10 });
  const a = network.addHost("A", A, { profile: PAPER }), b = network.addHost("B", B, { profile: PAPER });
  a.establish(A[0], B[0]);
  const traffic = new Traffic(network, { from: a, to: b, ulid: ULID, intervalMs: 100, bothWays: true });
  network.run(10_000);
  network.cut(ULID, true);
  network.run(20_000);
  traffic.stop();
  network.run(1_000);
  const lost = traffic.forth.sent - traffic.forth.received;
  assert(lost <= 4, `${lost} lost: only those sent before the suspicion`);
  assertEquals(traffic.forth.duplicates, 0);
});

Deno.test("polling delays what the engine knows, but not what it does with it", () => {
  for (const pollMs of [0, 50]) {
    const network = new VirtualNetwork({ seed: 4, delayMs: 10 });
    const a = network.addHost("A", A, { profile: PAPER, pollMs }),
      b = network.addHost("B", B, { profile: PAPER, pollMs });
    a.establish(A[0], B[0]);
    new Traffic(network, { from: a, to: b, ulid: ULID, intervalMs: 100, bothWays: true });
    network.run(10_000);
    for (const pair of allPairs(A, B)) network.path(pair.local, pair.peer).up = pair.local !== A[0];
    const cutAt = network.clock.now;
    network.run(20_000);
    const left = b.events.find((event) => event.kind === "reap")!;
    assert(left.at - cutAt > 2_800 && left.at - cutAt < 3_200, `poll ${pollMs}: ${left.at - cutAt}`);
    assertEquals(b.context(B[0], A[0])?.lastFailure?.cause, "send-timer");
  }
});

Deno.test("seeded numbers are uniform, and forks are independent", () => {
  const random = new SeededRandom(42);
  const fork = random.fork();
  const counts = new Array(10).fill(0);
  for (let i = 0; i < 10_000; i++) counts[random.below(10)]++;
  for (const count of counts) assert(count > 850 && count < 1_150, `${counts}`);
  assertNotEquals(random.bytes(16), fork.bytes(16));
  assertEquals(random.bytes(7).length, 7);
});
