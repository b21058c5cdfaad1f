import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { MAX_REPORTS, type Report } from "../../wire/message.ts";
import type { FailureCause } from "../../policies/policy.ts";
import { createPolicy, policyNames } from "../../policies/registry.ts";
import { PAPER, RFC5534 } from "../../reap/profile.ts";
import { Bench, Exploring, InboundOk, Operational, PAIRS } from "./bench.ts";
import { seeded, VirtualPair } from "./virtual_pair.ts";

const CAUSES: readonly FailureCause[] = ["suspicion", "link-down", "address-gone", "icmp", "shared-fate", "operator"];
const profile = fc.constantFrom(PAPER, RFC5534);
const policy = fc.constantFrom(...policyNames());
const pair = fc.nat(PAIRS.length - 1);

Deno.test("whatever arrives in whatever order, a machine never throws, its reports stay bounded, its deadlines move on", () => {
  const report = fc.record({ pair, nonce: fc.integer({ min: 0, max: 60 }), back: fc.boolean() });
  const event = fc.oneof(
    fc.record({ type: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 20_000 }) }),
    fc.record({ type: fc.constant("sent" as const), ago: fc.integer({ min: 0, max: 500 }) }),
    fc.record({ type: fc.constant("received" as const), ago: fc.integer({ min: 0, max: 500 }) }),
    fc.record({ type: fc.constant("keepalive" as const) }),
    fc.record({ type: fc.constant("failure" as const), cause: fc.constantFrom(...CAUSES) }),
    fc.record({ type: fc.constant("pairs" as const), from: pair, count: fc.integer({ min: 1, max: 9 }) }),
    fc.record({ type: fc.constant("switch" as const), pair }),
    fc.record({ type: fc.constant("adopt" as const), ms: fc.integer({ min: 0, max: 65_535 }) }),
    fc.record({
      type: fc.constant("probe" as const),
      state: fc.constantFrom(Operational, Exploring, InboundOk),
      over: pair,
      nonce: fc.integer({ min: 0, max: 60 }), // small: copies, collisions and guesses that hit are frequent
      sent: fc.array(report, { maxLength: MAX_REPORTS - 1 }),
      received: fc.array(report, { maxLength: MAX_REPORTS }),
    }),
  );
  fc.assert(
    fc.property(
      profile,
      policy,
      fc.nat(),
      fc.array(event, { maxLength: 60, size: "max" }),
      (profile, policy, seed, events) => {
        const bench = new Bench(profile, createPolicy(policy), seeded(seed));
        const { machine } = bench;
        const asReport = (of: { pair: number; nonce: number; back: boolean }): Report => {
          const { local, peer } = PAIRS[of.pair];
          const [source, destination] = of.back ? [peer, local] : [local, peer];
          return { source, destination, nonce: of.nonce, data: 0 };
        };
        let now = 1000;
        for (const event of events) {
          if (event.type === "wait") now += event.ms;
          else if (event.type === "sent") machine.handlePayloadSent(now - event.ago);
          else if (event.type === "received") machine.handlePayloadReceived(now - event.ago, now);
          else if (event.type === "keepalive") machine.handleKeepalive(now);
          else if (event.type === "failure") machine.handleFailure(event.cause, now);
          else if (event.type === "pairs") {
            bench.pairs = PAIRS.slice(event.from, event.from + event.count);
            machine.handlePairsChanged(now, "peer-locators");
          } else if (event.type === "switch") machine.switchTo(PAIRS[event.pair], now);
          else if (event.type === "adopt") machine.adoptKeepaliveTimeout(event.ms);
          else {
            const { state, over, nonce } = event;
            const [earlier, received] = [event.sent.map(asReport), event.received.map(asReport)];
            bench.receive(bench.peerProbe(state, { over: PAIRS[over], nonce, earlier, received }), now);
          }
          // What is due at one time is settled in a few calls.
          for (let calls = 0; machine.nextDeadline() <= now; calls++) {
            assert(calls < 4, `the deadline stays at ${machine.nextDeadline()}, it is ${now}`);
            machine.handleTimeout(now);
          }
          assert(!Number.isNaN(machine.nextDeadline()));
          if (machine.state !== Operational) assert(machine.nextDeadline() <= now + 60_000 * 1.2);
          let state: number | undefined;
          for (const effect of bench.effects()) {
            if (effect.type === "send-probe") {
              assert(effect.sent.length >= 1 && effect.sent.length <= MAX_REPORTS);
              assert(effect.received.length <= MAX_REPORTS);
              assertEquals([effect.sent[0].source, effect.sent[0].destination], [effect.pair.local, effect.pair.peer]);
              assertEquals(new Set(effect.sent.map((report) => report.nonce)).size, effect.sent.length);
            } else if (effect.type === "state") {
              assert(effect.from !== effect.to);
              if (state !== undefined) assertEquals(effect.from, state);
              state = effect.to;
            } else if (effect.type === "recovered") {
              assert(effect.detectionMs >= 0 && effect.explorationMs >= 0 && effect.probes >= 0);
            } else if (effect.type === "answered") assert(effect.rttMs >= 0);
          }
          if (state !== undefined) assertEquals(machine.state, state);
        }
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("whatever happened before, both hosts are Operational on working pairs once the network is", () => {
  const step = fc.oneof(
    fc.record({ type: fc.constant("run" as const), ms: fc.integer({ min: 0, max: 8000 }) }),
    fc.record({ type: fc.constant("break" as const), host: fc.constantFrom("a", "b"), pair }),
    fc.record({ type: fc.constant("repair" as const), host: fc.constantFrom("a", "b"), pair }),
    fc.record({
      type: fc.constant("failure" as const),
      host: fc.constantFrom("a", "b"),
      cause: fc.constantFrom(...CAUSES),
    }),
    fc.record({ type: fc.constant("pairs" as const), host: fc.constantFrom("a", "b") }),
    fc.record({ type: fc.constant("switch" as const), host: fc.constantFrom("a", "b"), pair }),
    fc.record({ type: fc.constant("loss" as const), share: fc.constantFrom(0, 0.1, 0.5) }),
  );
  fc.assert(
    fc.property(
      policy,
      policy,
      fc.nat(),
      fc.array(step, { maxLength: 25, size: "max" }),
      (policyA, policyB, seed, steps) => {
        const net: VirtualPair = new VirtualPair({
          profile: PAPER,
          policy: createPolicy(policyA),
          policyB: createPolicy(policyB),
          seed,
          delay: () => 1 + 60 * net.random(), // reorders
        });
        for (const host of [net.a, net.b]) host.machine.adoptKeepaliveTimeout(PAPER.sendTimeoutMs);
        net.stream("a", 700);
        net.stream("b", 900);
        for (const step of steps) {
          if (step.type === "run") net.run(net.now + step.ms);
          else if (step.type === "loss") net.lose = () => net.random() < step.share;
          else {
            const host = step.host === "a" ? net.a : net.b;
            if (step.type === "break") net.break(host.pairs[step.pair]);
            else if (step.type === "repair") net.repair(host.pairs[step.pair]);
            else if (step.type === "failure") host.machine.handleFailure(step.cause, net.now);
            else if (step.type === "pairs") host.machine.handlePairsChanged(net.now, "peer-locators");
            else if (step.type === "switch") host.machine.switchTo(host.pairs[step.pair], net.now);
            net.drain(host);
          }
        }
        net.lose = () => false;
        net.repair(...net.paths().map(({ pair }) => pair));
        // A gap of the schedule at most, then the answers; and it stays so.
        assert(net.run(net.now + 80_000, () => net.converged));
        const before = net.now;
        net.run(before + 30_000);
        assert(net.converged, `left Operational again after ${net.now - before} ms`);
      },
    ),
    { numRuns: 150 },
  );
});
