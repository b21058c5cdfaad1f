import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import type { ReapState } from "../../wire/message.ts";
import type { LocatorPair } from "../../policies/policy.ts";
import type { ReapEffect } from "../../reap/machine.ts";
import type { Profile } from "../../reap/profile.ts";
import { Bench, Exploring, InboundOk, InOrder, Operational, PAIRS, reverse, STEADY } from "./bench.ts";

// The probe schedule is stretched out of sight, so that the next deadline shows the Send and Keepalive Timers.
const SLOW: Profile = { ...STEADY, initialProbeTimeoutMs: 1e6, maxProbeTimeoutMs: 1e6 };
const SEND = STEADY.sendTimeoutMs, INTERVAL = STEADY.keepaliveTimeoutMs / 3, PROBE = 1e6, RETENTION = 10_000;

/** A machine in a state and with a timer that runs since time 0, or none. */
const SET_UP: Record<string, (bench: Bench) => void> = {
  "Operational, no timer": () => {},
  "Operational, Send Timer": (bench) => bench.machine.handlePayloadSent(0),
  "Operational, Keepalive Timer": (bench) => bench.machine.handlePayloadReceived(0),
  "Exploring, no timer": (bench) => bench.machine.handleFailure("operator", 0),
  "InboundOk, Send Timer": (bench) => bench.receive(bench.peerProbe(Exploring), 0),
  "InboundOk, no timer": (bench) => {
    bench.receive(bench.peerProbe(Exploring), 0);
    bench.machine.handleKeepalive(1);
  },
};

const at = 1000;

interface Cell {
  readonly from: keyof typeof SET_UP;
  readonly to: ReapState;
  /** State and pair of each probe sent. */
  readonly probes?: readonly [ReapState, LocatorPair][];
  readonly keepalives?: number;
  /** The next deadline. */
  readonly deadline: number;
}

const OTHER = PAIRS[4]; // the pair over which the peer's probes come in
const EVENTS: Record<string, { run: (bench: Bench) => void; cells: readonly Cell[] }> = {
  "payload received": {
    run: ({ machine }) => machine.handlePayloadReceived(at),
    cells: [
      { from: "Operational, no timer", to: Operational, deadline: at + INTERVAL },
      { from: "Operational, Send Timer", to: Operational, deadline: at + INTERVAL },
      { from: "Operational, Keepalive Timer", to: Operational, deadline: INTERVAL }, // START does not restart
      { from: "Exploring, no timer", to: InboundOk, probes: [[InboundOk, PAIRS[1]]], deadline: at + SEND },
      { from: "InboundOk, Send Timer", to: InboundOk, deadline: PROBE },
      { from: "InboundOk, no timer", to: InboundOk, deadline: PROBE },
    ],
  },
  "payload sent": {
    run: ({ machine }) => machine.handlePayloadSent(at),
    cells: [
      { from: "Operational, no timer", to: Operational, deadline: at + SEND },
      { from: "Operational, Send Timer", to: Operational, deadline: SEND }, // START does not restart
      { from: "Operational, Keepalive Timer", to: Operational, deadline: at + SEND },
      { from: "Exploring, no timer", to: Exploring, deadline: PROBE },
      { from: "InboundOk, Send Timer", to: InboundOk, deadline: SEND },
      { from: "InboundOk, no timer", to: InboundOk, deadline: at + SEND },
    ],
  },
  "Keepalive Interval over": {
    run: ({ machine }) => machine.handleTimeout(INTERVAL),
    cells: [{ from: "Operational, Keepalive Timer", to: Operational, keepalives: 1, deadline: 2 * INTERVAL }],
  },
  "Keepalive Timer expires": {
    run: ({ machine }) => machine.handleTimeout(STEADY.keepaliveTimeoutMs),
    cells: [{ from: "Operational, Keepalive Timer", to: Operational, keepalives: 1, deadline: Infinity }],
  },
  "Send Timer expires": {
    run: ({ machine }) => machine.handleTimeout(SEND),
    cells: [
      { from: "Operational, Send Timer", to: Exploring, probes: [[Exploring, PAIRS[0]]], deadline: SEND + PROBE },
      { from: "InboundOk, Send Timer", to: Exploring, probes: [[Exploring, PAIRS[1]]], deadline: SEND + PROBE },
    ],
  },
  "probe retransmission due": {
    run: ({ machine }) => machine.handleTimeout(PROBE),
    cells: [
      { from: "Exploring, no timer", to: Exploring, probes: [[Exploring, PAIRS[1]]], deadline: 2 * PROBE },
      { from: "InboundOk, no timer", to: InboundOk, probes: [[InboundOk, PAIRS[1]]], deadline: PROBE + SEND },
    ],
  },
  "Keepalive received": {
    run: ({ machine }) => machine.handleKeepalive(at),
    cells: [
      { from: "Operational, no timer", to: Operational, deadline: Infinity },
      { from: "Operational, Send Timer", to: Operational, deadline: Infinity },
      { from: "Operational, Keepalive Timer", to: Operational, deadline: INTERVAL },
      { from: "Exploring, no timer", to: InboundOk, probes: [[InboundOk, PAIRS[1]]], deadline: at + SEND },
      { from: "InboundOk, Send Timer", to: InboundOk, deadline: PROBE },
      { from: "InboundOk, no timer", to: InboundOk, deadline: PROBE },
    ],
  },
  "Probe(Exploring) received": {
    run: (bench) => bench.receive(bench.peerProbe(Exploring, { over: OTHER }), at),
    cells: [
      { from: "Operational, no timer", to: InboundOk, probes: [[InboundOk, OTHER]], deadline: at + SEND },
      { from: "Operational, Send Timer", to: InboundOk, probes: [[InboundOk, OTHER]], deadline: at + SEND },
      { from: "Operational, Keepalive Timer", to: InboundOk, probes: [[InboundOk, OTHER]], deadline: at + SEND },
      { from: "Exploring, no timer", to: InboundOk, probes: [[InboundOk, OTHER]], deadline: at + SEND },
      { from: "InboundOk, Send Timer", to: InboundOk, probes: [[InboundOk, OTHER]], deadline: at + SEND },
      { from: "InboundOk, no timer", to: InboundOk, probes: [[InboundOk, OTHER]], deadline: at + SEND },
    ],
  },
  // Without reports the current pair is kept.
  "Probe(InboundOk) received": {
    run: (bench) => bench.receive(bench.peerProbe(InboundOk, { over: OTHER }), at),
    cells: [
      { from: "Operational, no timer", to: Operational, probes: [[Operational, PAIRS[0]]], deadline: at + RETENTION },
      {
        from: "Operational, Send Timer",
        to: Operational,
        probes: [[Operational, PAIRS[0]]],
        deadline: at + RETENTION, // and the Send Timer after it: see below
      },
      {
        from: "Operational, Keepalive Timer",
        to: Operational,
        probes: [[Operational, PAIRS[0]]],
        deadline: at + RETENTION,
      },
      { from: "Exploring, no timer", to: Operational, probes: [[Operational, PAIRS[0]]], deadline: at + RETENTION },
      { from: "InboundOk, Send Timer", to: Operational, probes: [[Operational, PAIRS[0]]], deadline: at + RETENTION },
      { from: "InboundOk, no timer", to: Operational, probes: [[Operational, PAIRS[0]]], deadline: at + RETENTION },
    ],
  },
  "Probe(Operational) received": {
    run: (bench) => bench.receive(bench.peerProbe(Operational, { over: OTHER }), at),
    cells: [
      { from: "Operational, no timer", to: Operational, deadline: at + INTERVAL },
      { from: "Operational, Send Timer", to: Operational, deadline: at + INTERVAL },
      { from: "Operational, Keepalive Timer", to: Operational, deadline: INTERVAL },
      { from: "Exploring, no timer", to: Operational, deadline: at + INTERVAL },
      { from: "InboundOk, Send Timer", to: Operational, deadline: at + INTERVAL },
      { from: "InboundOk, no timer", to: Operational, deadline: at + INTERVAL },
    ],
  },
  "a link fails": {
    run: ({ machine }) => machine.handleFailure("link-down", at),
    cells: [
      { from: "Operational, no timer", to: Exploring, probes: [[Exploring, PAIRS[0]]], deadline: at + PROBE },
      { from: "Operational, Send Timer", to: Exploring, probes: [[Exploring, PAIRS[0]]], deadline: at + PROBE },
      { from: "Operational, Keepalive Timer", to: Exploring, probes: [[Exploring, PAIRS[0]]], deadline: at + PROBE },
      { from: "Exploring, no timer", to: Exploring, deadline: PROBE },
      { from: "InboundOk, Send Timer", to: InboundOk, deadline: SEND },
      { from: "InboundOk, no timer", to: InboundOk, deadline: PROBE },
    ],
  },
};

for (const [event, { run, cells }] of Object.entries(EVENTS)) {
  for (const { from, to, probes = [], keepalives = 0, deadline } of cells) {
    Deno.test(`in ${from}: ${event}`, () => {
      const bench = new Bench(SLOW);
      SET_UP[from](bench);
      bench.effects();
      run(bench);
      const effects = bench.effects();
      assertEquals(bench.machine.state, to);
      const sent = effects.filter((effect) => effect.type === "send-probe");
      assertEquals(sent.map(({ state, pair }) => [state, pair]), probes.map(([state, pair]) => [state, pair]));
      assertEquals(effects.filter((effect) => effect.type === "send-keepalive").length, keepalives);
      assertEquals(bench.machine.nextDeadline(), deadline);
      const states = effects.filter((effect) => effect.type === "state");
      const before = from.startsWith("Operational")
        ? Operational
        : from.startsWith("Exploring")
        ? Exploring
        : InboundOk;
      assertEquals(states.map((effect) => [effect.from, effect.to]), before === to ? [] : [[before, to]]);
    });
  }
}

for (const from of Object.keys(SET_UP)) {
  Deno.test(`in ${from}: the answer to Probe(InboundOk) restarts the Send Timer and stops the Keepalive Timer`, () => {
    const bench = new Bench(SLOW);
    SET_UP[from](bench);
    bench.receive(bench.peerProbe(InboundOk), at);
    bench.machine.handleTimeout(at + RETENTION); // the probes are forgotten
    assertEquals(bench.machine.nextDeadline(), at + SEND);
    bench.effects();
    bench.machine.handleTimeout(at + SEND);
    assertEquals(bench.probes().map(({ state }) => state), [Exploring]);
  });
}

Deno.test("a question on another path than the one in use is answered, and does not end the silence there", () => {
  const bench = new Bench();
  bench.machine.handlePayloadSent(0);
  for (let now = 1_000; now < SEND; now += 1_000) {
    bench.receive(bench.peerProbe(InboundOk, { over: OTHER }), now);
    assertEquals(bench.probes().map(({ state }) => state), [Operational]);
  }
  bench.machine.handleTimeout(SEND);
  assertEquals(bench.probes().map(({ state }) => state), [Exploring]);
});

Deno.test("a pair that the peer reported becomes the current one, and the final probe leaves on it", () => {
  const bench = new Bench();
  bench.machine.handlePayloadSent(500);
  const [first] = bench.run(SEND + 500).map(({ effect }) => effect).filter((effect) => effect.type === "send-probe");
  assertEquals(first.pair, PAIRS[0]);
  const [second] = bench.run(SEND + 1000).map(({ effect }) => effect).filter((effect) => effect.type === "send-probe");
  assertEquals(second.pair, PAIRS[1]);
  const peer = bench.peerProbe(InboundOk, { over: OTHER, received: [second.sent[0]] });
  bench.receive(peer, SEND + 1040);
  const effects = bench.effects();
  assertEquals(effects, [
    { type: "answered", pair: PAIRS[1], nonce: second.sent[0].nonce, rttMs: 40 },
    { type: "switch", from: PAIRS[0], to: PAIRS[1], cause: "send-timer" },
    { type: "state", from: Exploring, to: Operational, cause: "answered" },
    {
      type: "send-probe",
      pair: PAIRS[1],
      state: Operational,
      sent: [{ source: PAIRS[1].local, destination: PAIRS[1].peer, nonce: 3, data: 0 }, first.sent[0]],
      received: [peer.sent[0]],
      reason: "final probe on the chosen pair",
    },
    { type: "recovered", cause: "send-timer", detectionMs: SEND, explorationMs: 540, pair: PAIRS[1], probes: 3 },
  ]);
  assertEquals(bench.machine.current, PAIRS[1]);
});

Deno.test("reports in an Operational probe choose the pair as well", () => {
  const bench = new Bench();
  bench.machine.handleFailure("operator", 0);
  bench.run(500);
  bench.effects();
  bench.receive(bench.peerProbe(Exploring, { over: OTHER }), 600);
  const [answer] = bench.probes();
  bench.receive(bench.peerProbe(Operational, { received: [answer.sent[0]] }), 620);
  assertEquals(bench.machine.state, Operational);
  assertEquals(bench.machine.current, OTHER);
  assertEquals(bench.effects().map(({ type }) => type), ["answered", "switch", "state", "recovered"]);
});

Deno.test("the current pair is kept when it is among the reported ones", () => {
  const bench = new Bench();
  bench.machine.handleFailure("operator", 0);
  const sent = [...bench.probes(), ...probesOf(bench.run(1000))].map((effect) => effect.sent[0]);
  assertEquals(sent.length, 3);
  bench.receive(bench.peerProbe(InboundOk, { received: [sent[2], sent[0], sent[1]] }), 1100);
  assertEquals(bench.machine.current, PAIRS[0]);
  assertEquals(bench.effects().filter(({ type }) => type === "switch"), []);
});

Deno.test("otherwise the pair that is reported first is taken", () => {
  const bench = new Bench();
  bench.machine.handleFailure("operator", 0);
  const sent = [...bench.probes(), ...probesOf(bench.run(1000))].map((effect) => effect.sent[0]);
  bench.receive(bench.peerProbe(InboundOk, { received: [sent[2], sent[1]] }), 1100);
  assertEquals(bench.machine.current, PAIRS[2]);
});

Deno.test("in Operational a report on another pair switches when the current one is not reported", () => {
  const bench = new Bench();
  bench.machine.handleFailure("operator", 0);
  const sent = [...bench.probes(), ...probesOf(bench.run(500))].map((effect) => effect.sent[0]);
  bench.receive(bench.peerProbe(InboundOk), 600);
  assertEquals(bench.machine.current, PAIRS[0]);
  bench.effects();
  bench.receive(bench.peerProbe(InboundOk, { received: [sent[1]] }), 700);
  assertEquals(bench.machine.current, PAIRS[1]);
  const effects = bench.effects();
  assertEquals(effects.map(({ type }) => type), ["answered", "switch", "send-probe"]);
});

Deno.test("the causes of an exploration are told, and what they say about the path goes into the book", () => {
  for (
    const [cause, failed] of [["link-down", true], ["icmp", true], ["suspicion", true], ["operator", false]] as const
  ) {
    const bench = new Bench();
    bench.machine.handlePayloadSent(100);
    bench.machine.handleFailure(cause, 350);
    assertEquals(bench.effects()[0], { type: "state", from: Operational, to: Exploring, cause });
    assertEquals(bench.environment.book.get(PAIRS[0])?.lastFailure, failed ? 350 : -Infinity);
    bench.receive(bench.peerProbe(InboundOk), 400);
    const recovered = bench.effects().at(-1);
    assertEquals(recovered, {
      type: "recovered",
      cause,
      detectionMs: 250,
      explorationMs: 50,
      pair: PAIRS[0],
      probes: 2,
    });
  }
});

Deno.test("detection counts from the first payload that nothing answered", () => {
  const bench = new Bench();
  const { machine } = bench;
  machine.handlePayloadSent(0);
  machine.handlePayloadReceived(10);
  machine.handlePayloadSent(20);
  machine.handlePayloadSent(900);
  machine.handleTimeout(20 + SEND);
  bench.receive(bench.peerProbe(InboundOk), 20 + SEND + 30);
  const recovered = bench.effects().find(({ type }) => type === "recovered");
  assert(recovered?.type === "recovered");
  assertEquals([recovered.detectionMs, recovered.explorationMs], [SEND, 30]);
});

Deno.test("payload sent during an exploration does not count for the next detection", () => {
  const bench = new Bench();
  bench.machine.handlePayloadSent(100);
  bench.receive(bench.peerProbe(Exploring), 200);
  bench.machine.handlePayloadSent(300);
  bench.receive(bench.peerProbe(InboundOk), 400);
  bench.machine.handleFailure("link-down", 1000);
  bench.receive(bench.peerProbe(InboundOk), 1050);
  const detections = bench.effects().flatMap((effect) => effect.type === "recovered" ? [effect.detectionMs] : []);
  assertEquals(detections, [100, 0]);
});

Deno.test("detection of a failure that the peer noticed counts from the first unanswered payload too", () => {
  const bench = new Bench();
  bench.machine.handlePayloadSent(100);
  bench.receive(bench.peerProbe(Exploring), 400);
  bench.receive(bench.peerProbe(InboundOk, { received: [bench.probes()[0].sent[0]] }), 450);
  const recovered = bench.effects().at(-1);
  assert(recovered?.type === "recovered");
  assertEquals([recovered.cause, recovered.detectionMs, recovered.explorationMs], ["peer-probe", 300, 50]);
});

Deno.test("activity that is told late counts from when it happened", () => {
  const bench = new Bench();
  const { machine } = bench;
  machine.handleKeepalive(1000);
  machine.handlePayloadSent(900); // before the Keepalive, which answers it
  assertEquals(machine.nextDeadline(), Infinity);
  machine.handlePayloadSent(1100);
  assertEquals(machine.nextDeadline(), 1100 + SEND);
  machine.handlePayloadReceived(1050); // before the packet that waits for an answer
  assertEquals(machine.nextDeadline(), 1100 + SEND);
  machine.handlePayloadReceived(1200);
  assertEquals(machine.nextDeadline(), 1200 + INTERVAL);
  machine.handlePayloadSent(1150); // before the payload that needs an answer
  assertEquals(machine.nextDeadline(), 1200 + INTERVAL);
});

Deno.test("whatever is heard answers what was sent before it", () => {
  for (const from of Object.keys(SET_UP)) {
    for (const state of [Operational, Exploring, InboundOk]) {
      const bench = new Bench(SLOW);
      SET_UP[from](bench);
      bench.receive(bench.peerProbe(state), at);
      assertEquals(bench.machine.lastHeard, at);
      bench.machine.handlePayloadSent(at - 1); // stops Keepalives, if they had begun before
      const deadline = bench.machine.nextDeadline();
      bench.machine.handlePayloadSent(at - 1);
      assertEquals(bench.machine.nextDeadline(), deadline);
      assert(deadline !== at - 1 + SEND, "no Send Timer");
    }
    for (const hear of ["handleKeepalive", "handlePayloadReceived"] as const) {
      const bench = new Bench(SLOW);
      SET_UP[from](bench);
      bench.machine[hear](at);
      assertEquals(bench.machine.lastHeard, at);
    }
  }
});

Deno.test("at one and the same time the order of the calls counts", () => {
  const { machine } = new Bench();
  machine.handlePayloadReceived(100);
  machine.handlePayloadSent(100);
  assertEquals(machine.nextDeadline(), 100 + SEND);
  machine.handlePayloadReceived(100);
  assertEquals(machine.nextDeadline(), 100 + INTERVAL);
  for (let keepalive = 1; keepalive <= 3; keepalive++) machine.handleTimeout(100 + keepalive * INTERVAL);
  assertEquals(machine.nextDeadline(), Infinity); // the Send Timer was stopped
  machine.handleFailure("link-down", 200);
  machine.handlePayloadReceived(200);
  assertEquals(machine.state, InboundOk);
});

Deno.test("payload that came in before the failure was noticed does not speak against it", () => {
  const bench = new Bench();
  bench.machine.handleFailure("link-down", 1000);
  bench.machine.handlePayloadReceived(990);
  assertEquals(bench.machine.state, Exploring);
  bench.machine.handlePayloadReceived(1010, 1060);
  assertEquals(bench.machine.state, InboundOk);
});

Deno.test("a switch by the operator changes the pair without an exploration", () => {
  const bench = new Bench();
  bench.machine.switchTo(PAIRS[5], 0);
  assertEquals(bench.machine.current, PAIRS[5]);
  assertEquals(bench.machine.state, Operational);
  assertEquals(bench.effects(), []);
});

Deno.test("a late report does not undo a switch by the operator", () => {
  const bench = new Bench();
  bench.machine.handleFailure("operator", 0);
  const sent = bench.probes()[0].sent[0];
  bench.receive(bench.peerProbe(InboundOk, { received: [sent] }), 100);
  bench.machine.switchTo(PAIRS[5], 200);
  bench.receive(bench.peerProbe(InboundOk, { received: [sent] }), 300);
  assertEquals(bench.machine.current, PAIRS[5]);
});

Deno.test("when the pair in use is no candidate any more, an exploration starts over those that are", () => {
  const bench = new Bench();
  bench.pairs = PAIRS.slice(3);
  bench.machine.handlePairsChanged(100, "peer-locators");
  assertEquals(bench.machine.state, Exploring);
  const effects = bench.effects();
  assertEquals(effects[0], { type: "state", from: Operational, to: Exploring, cause: "peer-locators" });
  assert(effects[1].type === "send-probe");
  assertEquals(effects[1].pair, PAIRS[3]);
});

Deno.test("a change of candidates that spares the pair in use changes nothing", () => {
  const bench = new Bench();
  bench.pairs = PAIRS.slice(0, 2);
  bench.machine.handlePairsChanged(100, "address-gone");
  assertEquals(bench.machine.state, Operational);
  assertEquals(bench.effects(), []);
});

Deno.test("an exploration goes on at once over changed candidates, and reports on the old ones no longer count", () => {
  const bench = new Bench();
  bench.machine.handleFailure("operator", 0);
  const [old] = bench.probes();
  bench.run(9000); // the gaps have grown
  bench.pairs = PAIRS.slice(6);
  bench.machine.handlePairsChanged(10_000, "address-gone");
  const [fresh] = bench.probes();
  assertEquals(fresh.pair, PAIRS[6]);
  assertEquals(fresh.sent.map(({ source }) => source), [PAIRS[6].local, PAIRS[6].local]); // and the one of 8.5 s
  assertEquals(bench.machine.nextDeadline(), 10_500);
  bench.receive(bench.peerProbe(InboundOk, { received: [old.sent[0]] }), 10_100);
  assertEquals(bench.machine.state, InboundOk);
  bench.receive(bench.peerProbe(InboundOk, { received: [fresh.sent[0]] }), 10_200);
  assertEquals(bench.machine.state, Operational);
  assertEquals(bench.machine.current, PAIRS[6]);
});

Deno.test("a change of candidates keeps the reports on pairs that still are candidates", () => {
  const bench = new Bench();
  const [early, late] = [bench.peerProbe(Exploring), bench.peerProbe(Exploring, { over: PAIRS[8] })];
  bench.receive(early, 0);
  bench.receive(late, 10);
  bench.receive(bench.peerProbe(Exploring, { over: PAIRS[8], received: [bench.probes()[1].sent[0]] }), 20);
  const [known] = bench.probes();
  assertEquals(known.pair, PAIRS[8]); // the peer has reported it
  bench.pairs = PAIRS.slice(3);
  bench.machine.handlePairsChanged(100, "address-gone");
  assertEquals(bench.probes()[0].received.map(({ destination }) => destination), [PAIRS[8].local, PAIRS[8].local]);
  bench.receive(bench.peerProbe(Exploring, { over: PAIRS[4] }), 110);
  assertEquals(bench.probes()[0].pair, PAIRS[8]);
  bench.pairs = PAIRS.slice(3, 6);
  bench.machine.handlePairsChanged(200, "address-gone");
  bench.effects();
  bench.receive(bench.peerProbe(Exploring, { over: PAIRS[4] }), 210);
  assertEquals(bench.probes()[0].pair, PAIRS[4]);
  bench.pairs = [PAIRS[3], PAIRS[5]]; // the peer has withdrawn the locator of its last probe
  bench.machine.handlePairsChanged(300, "peer-locators");
  assertEquals(bench.probes()[0].received, []);
});

Deno.test("profile and policy can be changed while machines run", () => {
  const bench = new Bench();
  bench.machine.handlePayloadSent(0);
  bench.environment.profile = { ...STEADY, sendTimeoutMs: 3000 };
  bench.environment.policy = new InOrder(true, 4);
  assertEquals(bench.machine.nextDeadline(), 3000);
  bench.machine.handleTimeout(3000);
  assertEquals(bench.probes().map(({ pair }) => pair), PAIRS.slice(0, 4));
});

Deno.test("an answer goes to a pair that the peer has reported, whatever the policy prefers", () => {
  const bench = new Bench();
  bench.machine.handleFailure("operator", 0);
  const sent = [...bench.probes(), ...probesOf(bench.run(1000))].map((effect) => effect.sent[0]);
  const peer = bench.peerProbe(Exploring, { over: OTHER, received: [sent[2]] });
  bench.receive(peer, 1100);
  const [answer] = bench.probes();
  assertEquals([answer.state, answer.pair], [InboundOk, PAIRS[2]]);
  assertEquals(answer.received, [peer.sent[0]]);
  bench.receive(bench.peerProbe(Exploring, { over: PAIRS[8] }), 1200);
  assertEquals(bench.probes().map(({ pair }) => pair), [PAIRS[2]]);
  assertEquals(probesOf(bench.run(1500)).map(({ pair }) => pair), [PAIRS[3]]); // the schedule goes on through all
});

Deno.test("answers do not touch the schedule", () => {
  const bench = new Bench();
  bench.machine.handleFailure("operator", 0);
  bench.effects();
  bench.receive(bench.peerProbe(Exploring, { over: OTHER }), 200);
  bench.receive(bench.peerProbe(Exploring, { over: OTHER }), 300);
  bench.effects();
  const times = bench.run(8500).filter(({ effect }) => effect.type === "send-probe").map(({ at }) => at);
  assertEquals(times, [500, 1000, 1500, 2500, 4500, 8500]);
});

Deno.test("reports are copied back unchanged, in the order of arrival, and the packet's own report is recorded", () => {
  const bench = new Bench();
  const one = bench.peerProbe(Exploring, { over: OTHER }), two = bench.peerProbe(Exploring, { over: PAIRS[8] });
  bench.receive(one, 0);
  bench.machine.handleProbe(two, reverse(PAIRS[0]).local, reverse(PAIRS[0]).peer, 10); // altered on the way
  assertEquals(bench.probes().at(-1)!.received, [one.sent[0], two.sent[0]]);
});

Deno.test("a copy of a probe is ignored", () => {
  const bench = new Bench();
  const probe = bench.peerProbe(Exploring);
  bench.receive(probe, 0);
  bench.effects();
  bench.receive(probe, 10);
  assertEquals(bench.effects(), []);
  bench.receive(bench.peerProbe(InboundOk), 20);
  bench.effects();
  bench.receive(probe, 30); // replayed after the exploration
  assertEquals(bench.effects(), []);
  assertEquals(bench.machine.state, Operational);
});

Deno.test("a probe that was overtaken by a later one does not start a new exploration, but is answered", () => {
  const bench = new Bench();
  const slow = bench.peerProbe(Exploring, { over: OTHER });
  const fast = bench.peerProbe(Exploring, { earlier: slow.sent });
  bench.receive(fast, 0);
  bench.receive(bench.peerProbe(Operational, { received: [bench.probes()[0].sent[0]] }), 10);
  assertStrictEquals(bench.machine.state, Operational);
  const deadline = bench.machine.nextDeadline();
  bench.effects();
  bench.receive(slow, 300);
  assertEquals(bench.machine.state, Operational);
  const [answer] = bench.probes();
  assertEquals([answer.state, answer.pair, answer.received.at(-1)], [Operational, PAIRS[0], slow.sent[0]]);
  assertEquals(bench.machine.nextDeadline(), deadline);
  bench.receive(bench.peerProbe(Exploring), 400); // a new one is taken seriously
  assertEquals(bench.machine.state, InboundOk);
});

/** A profile whose hosts ask questions. */
const ASKING: Profile = { ...STEADY, suspicion: { patience: 1.25, leastMs: 20 } };

Deno.test("where hosts ask questions, one that comes in tells only that the peer is heard, and is reported", () => {
  const bench = new Bench(ASKING);
  bench.machine.handleFailure("operator", 0);
  bench.effects();
  bench.receive(bench.peerProbe(InboundOk, { over: OTHER }), 10);
  const [probe] = bench.probes();
  assertEquals([probe.state, probe.received.length], [InboundOk, 1]);
  assertEquals(bench.machine.state, InboundOk);
});

Deno.test("a question that crossed a probe on the same pair is not answered: it is reported by the next probe", () => {
  const bench = new Bench(ASKING);
  bench.machine.handleFailure("operator", 0);
  const [{ pair }] = bench.probes();
  bench.receive(bench.peerProbe(InboundOk, { over: pair }), 10);
  assertEquals(bench.probes(), []);
  bench.machine.handleTimeout(bench.machine.nextDeadline());
  const [next] = bench.probes();
  assertEquals([next.state, next.received.length], [InboundOk, 1]);
});

function probesOf(run: readonly { readonly effect: ReapEffect }[]): (ReapEffect & { type: "send-probe" })[] {
  return run.map(({ effect }) => effect).filter((effect) => effect.type === "send-probe");
}
