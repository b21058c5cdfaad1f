import { assert, assertEquals } from "@std/assert";
import { Suspicion } from "../../reap/suspicion.ts";

const SEND_TIMEOUT = 15_000;

Deno.test("a peer that has answered nothing yet is suspect only shortly before the Send Timeout", () => {
  assertEquals(new Suspicion().suspectAfterMs(SEND_TIMEOUT), 12_000);
});

Deno.test("a path is suspect after four times the usual time to an answer, on a long path 150 ms after that time", () => {
  for (const [usual, suspect] of [[70, 250], [100, 250], [110, 260], [200, 350], [500, 650]]) {
    const suspicion = new Suspicion();
    suspicion.answered("payload", 1000, 1000, 1000 + usual);
    assertEquals(suspicion.usualMs, usual);
    assertEquals(suspicion.suspectAfterMs(SEND_TIMEOUT), suspect);
  }
  const patient = new Suspicion();
  patient.answered("payload", 1000, 1000, 1200);
  assertEquals(patient.suspectAfterMs(SEND_TIMEOUT, { patience: 4, leastMs: 250 }), 800);
});

Deno.test("never sooner than 250 ms, never later than 0.8 of the Send Timeout", () => {
  const suspicion = new Suspicion();
  suspicion.answered("payload", 0, 0, 1);
  assertEquals(suspicion.suspectAfterMs(SEND_TIMEOUT), 250);
  suspicion.answered("payload", 10, 10, 5010);
  assertEquals(suspicion.suspectAfterMs(SEND_TIMEOUT), 5_150);
  suspicion.answered("payload", 6000, 6000, 20_000);
  assertEquals(suspicion.suspectAfterMs(SEND_TIMEOUT), 12_000);
  assertEquals(suspicion.suspectAfterMs(3000), 2400);
});

Deno.test("the slowest answer of late counts and fades to half in 30 s", () => {
  const suspicion = new Suspicion();
  suspicion.answered("payload", 0, 0, 800);
  suspicion.answered("payload", 900, 900, 910);
  assert(suspicion.usualMs > 790);
  suspicion.answered("payload", 30_890, 30_890, 30_910);
  assert(Math.abs(suspicion.usualMs - 400) < 10, `${suspicion.usualMs}`);
  suspicion.answered("payload", 600_000, 600_000, 600_020);
  assertEquals(suspicion.usualMs, 20);
});

Deno.test("a one-way flow that only Keepalives answer is never suspected", () => {
  for (const share of [1 / 3, 1 / 2]) {
    for (const sendTimeout of [3000, 15_000, 100_000]) {
      const suspicion = new Suspicion();
      let since = 0;
      for (let now = 0, lastSent = 0; now < 20 * sendTimeout; now += 10) {
        lastSent = now;
        assert(!suspicion.isSuspect(since, lastSent, sendTimeout), `after ${now - since} ms at ${now}`);
        if (now - since >= sendTimeout * share) {
          suspicion.answered("keepalive", since, lastSent, now);
          since = now + 10;
        }
      }
    }
  }
});

Deno.test("a flow that turns one-way is suspected once at most", () => {
  const suspicion = new Suspicion();
  for (let now = 0; now < 5000; now += 100) suspicion.answered("payload", now, now, now + 20);
  let alarms = 0;
  for (let round = 0; round < 10; round++) {
    const since = 6000 + 5000 * round;
    if (suspicion.isSuspect(since, since + 4990, SEND_TIMEOUT)) alarms++;
    suspicion.answered("keepalive", since, since + 4990, since + 5000);
  }
  assertEquals(alarms, 1);
});

Deno.test("the last packet of a transfer, which only a Keepalive answers, neither alarms nor teaches", () => {
  const suspicion = new Suspicion();
  suspicion.answered("payload", 0, 0, 20);
  assert(!suspicion.isSuspect(100, 100, SEND_TIMEOUT));
  suspicion.answered("keepalive", 100, 100, 5100);
  assertEquals(suspicion.suspectAfterMs(SEND_TIMEOUT), 250);
});

Deno.test("payload that goes on without an answer makes the path suspect", () => {
  const suspicion = new Suspicion();
  suspicion.answered("payload", 0, 0, 20);
  assert(!suspicion.isSuspect(1000, 1249, SEND_TIMEOUT));
  assert(suspicion.isSuspect(1000, 1250, SEND_TIMEOUT));
});

Deno.test("times that make no sense teach nothing", () => {
  const suspicion = new Suspicion();
  suspicion.answered("payload", 100, 100, 50);
  suspicion.answered("payload", NaN, NaN, 50);
  suspicion.answered("keepalive", 100, 50, 200);
  assert(Number.isNaN(suspicion.usualMs));
});
