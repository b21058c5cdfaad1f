/** Whatever arrives, in whatever order: nothing is thrown, nothing grows, no payload goes to an unverified locator. */

import { assert } from "@std/assert";
import fc from "fast-check";
import { PAPER } from "../../reap/profile.ts";
import type { LocatorVerifier } from "../../shim6/api.ts";
import { EngineError } from "../../shim6/engine.ts";
import { insecureVerifier } from "../../shim6/verifier.ts";
import { Traffic } from "../../sim/traffic.ts";
import { allPairs, VirtualNetwork } from "../../sim/virtual_network.ts";
import { parsePrefix } from "../../wire/address.ts";
import { emitMessage } from "../../wire/codec.ts";
import { type LocatorOptions, type Message, MessageType, ReapState } from "../../wire/message.ts";
import { A1, A2, A3, activity, B1, B2, B3, Bench, list, locator, PEER_TAG, STRANGER, ULID } from "./bench.ts";

const LOCAL = [A1, A2, A3], PEER = [B1, B2, B3, STRANGER];

/** Believes B1 and B2 only, so that there is always something that must not be used. */
const VERIFIER: LocatorVerifier = insecureVerifier([parsePrefix("2001:db8:b1::/48"), parsePrefix("2001:db8:b2::/48")]);

/** Small numbers from which a step takes what it needs. */
const step = fc.record({ kind: fc.nat(17), pick: fc.array(fc.nat(1_000), { minLength: 6, maxLength: 6 }) });
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

class Fuzz {
  readonly bench = new Bench({ profile: PAPER, verifier: VERIFIER, limits: { contexts: 6, contextsPerPeer: 3 } });
  #checked = 0;
  readonly #tags: number[] = [PEER_TAG, PEER_TAG + 1];
  readonly #nonces: number[] = [1];
  readonly #proofs: { responderNonce: number; validator: Uint8Array; packetTag: number }[] = [];

  readonly #reports: { source: string; destination: string; nonce: number; data: number }[] = [];

  constructor(established: boolean) {
    if (!established) return;
    this.#tags.push(this.bench.toEstablished());
    this.bench.log.length = 0;
  }

  apply({ kind, pick }: Step): void {
    const { bench } = this;
    const { engine } = bench;
    bench.now += pick[5] / 2; // or every answer would be held back by the rate limit
    // Mostly the addresses that the context uses, so that the steps get somewhere.
    const peer = pick[0] % 2 === 0 ? B1 : PEER[pick[0] % PEER.length];
    const local = pick[1] % 2 === 0 ? A1 : LOCAL[pick[1] % LOCAL.length];
    const id = 1 + pick[2] % 3;
    switch (kind) {
      case 0:
        return this.#console(() => engine.establish(local, peer, bench.now, pick[3] % 2));
      case 1:
        return this.#console(() => engine.explore(id, bench.now));
      case 2:
        return this.#console(() => engine.switchPair(id, { local, peer }, bench.now));
      case 3:
        if (pick[3] % 5 === 0) this.#console(() => engine.forget(id, bench.now));
        return;
      case 4:
        bench.run(pick[3] * 40);
        return;
      case 5:
        if (engine.context(id) !== undefined) bench.payloadSent(id);
        bench.now += pick[3];
        return;
      case 6:
        if (engine.context(id) !== undefined) bench.payloadReceived(id);
        return;
      case 7: {
        const left = LOCAL.filter((_, i) => (pick[3] >> i & 1) === 0 || i === pick[4] % 3);
        const locators = left.map((a, i) => locator(a, { usable: (pick[5] >> i & 1) === 0 }));
        return engine.handleLocators(locators, bench.now);
      }
      case 8: {
        const kinds = ["unreachable", "time-exceeded", "no-shim6", "packet-too-big"] as const;
        engine.handleIcmpError({ kind: kinds[pick[3] % 4], local, peer, tag: this.#tag(pick[4]) }, bench.now);
        return;
      }
      case 9:
        return engine.handleUnknownTag(this.#tag(pick[4])!, peer, local, bench.now);
      default: {
        // An I2 or I2bis needs the validator of an R1 or R1bis on the same pair.
        if (kind === 12) this.#receive({ ...this.#common(pick), type: MessageType.I1 }, peer, local);
        if (kind === 14) engine.handleUnknownTag(PEER_TAG, peer, local, bench.now);
        this.listen();
        return this.#receive(this.#message(kind, pick), peer, local, pick[5] % 20 === 0 ? pick[4] : undefined);
      }
    }
  }

  #receive(message: Message, source: string, destination: string, brokenBit?: number): void {
    const octets = emitMessage(message);
    if (brokenBit !== undefined) octets[brokenBit % octets.length] ^= 1 << brokenBit % 8;
    this.bench.engine.handleControlMessage(octets, source, destination, this.bench.now);
  }

  /** What must hold after every step. */
  check(): void {
    const { bench } = this;
    bench.sent();
    assert(bench.engine.size <= 6);
    for (; this.#checked < bench.effects.length; this.#checked++) {
      const effect = bench.effects[this.#checked];
      if (effect.type === "path") assert(effect.pair.peer === B1 || this.#isOwnUlid(effect), JSON.stringify(effect));
    }
    for (const context of bench.engine.contexts()) {
      const { current, ulid, peerLocators } = context;
      const fits = current === ulid || peerLocators.some((l) => l.address === current.peer && l.verified) ||
        current.peer === ulid.peer || current.peer === B1 || current.peer === B2;
      assert(fits, JSON.stringify(context));
      assert(current.peer !== B3 && current.peer !== STRANGER || current.peer === ulid.peer, JSON.stringify(context));
    }
    for (const { message, destination } of bench.log) {
      if (message.type !== MessageType.Probe) continue;
      const ulids = [...bench.events].some((e) => e.ulid?.peer === destination);
      assert(destination === B1 || destination === B2 || ulids, `probe to ${destination}`);
    }
    bench.log.length = 0;
    bench.sent();
  }

  /** B2 is believed, and any peer address may be the ULID of a context of its own. */
  #isOwnUlid(effect: { id: number; pair: { peer: string } }): boolean {
    if (effect.pair.peer === B2) return true;
    const added = this.bench.effects.filter((e) => e.type === "context-added" && e.id === effect.id).at(-1);
    return added?.type === "context-added" && added.ulid.peer === effect.pair.peer;
  }

  #console(call: () => unknown): void {
    try {
      call();
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
    }
  }

  /** Learns what an attentive peer would know. */
  listen(): void {
    for (const { message } of this.bench.sent()) {
      if ("initiatorTag" in message) this.#tags.push(message.initiatorTag);
      if ("responderTag" in message) this.#tags.push(message.responderTag);
      if ("initiatorNonce" in message && "initiatorTag" in message) this.#nonces.push(message.initiatorNonce);
      if ("requestNonce" in message) this.#nonces.push(message.requestNonce);
      if (message.type === MessageType.R1 || message.type === MessageType.R1bis) {
        const { responderNonce, validator } = message;
        this.#proofs.push({ responderNonce, validator, packetTag: PEER_TAG });
      }
      if (message.type === MessageType.Probe) this.#reports.push(message.sent[0]);
    }
  }

  #tag(pick: number): number {
    return this.#tags[this.#tags.length - 1 - pick % Math.min(4, this.#tags.length)];
  }

  #nonce(pick: number[]): number {
    return this.#nonces[this.#nonces.length - 1 - (pick[3] % 3 === 0 ? pick[3] % Math.min(4, this.#nonces.length) : 0)];
  }

  #common(pick: number[]) {
    return {
      initiatorTag: PEER_TAG + (pick[5] % 5 === 0 ? 1 : 0),
      initiatorNonce: this.#nonce(pick),
      fii: pick[5] % 7 === 0 ? 1 : undefined,
      ulidPair: pick[5] % 3 === 0 ? { sender: PEER[pick[4] % 4], receiver: LOCAL[pick[3] % 3] } : undefined,
    };
  }

  #message(kind: number, pick: number[]): Message {
    const tag = this.#tag(pick[2]);
    const nonce = this.#nonce(pick);
    const proof = this.#proofs.at(-1 - (pick[3] % 5 === 0 ? 1 : 0)) ??
      { responderNonce: 1, validator: new Uint8Array(20), packetTag: 5 };
    const addresses = PEER.filter((_, i) => (pick[4] >> i & 1) === 0);
    const options: LocatorOptions = addresses.length === 0 ? {} : { locators: list(pick[4], ...addresses) };
    const common = this.#common(pick);
    switch (kind) {
      case 10:
        return { type: MessageType.I1, ...common };
      case 11:
        return {
          type: MessageType.R1,
          initiatorNonce: nonce,
          responderNonce: 3,
          validator: new Uint8Array(pick[4] % 64),
        };
      case 12:
        return { ...common, ...proof, ...options, type: MessageType.I2 };
      case 13:
        return {
          type: MessageType.R2,
          responderTag: PEER_TAG + (pick[5] % 4 === 0 ? 1 : 0),
          initiatorNonce: nonce,
          ...options,
        };
      case 14:
        return pick[5] % 2 === 0
          ? {
            type: MessageType.R1bis,
            packetTag: PEER_TAG + pick[4] % 3,
            responderNonce: 3,
            validator: new Uint8Array(20),
          }
          : { type: MessageType.I2bis, ...common, ...proof, ...options };
      case 15:
        return pick[5] % 3 === 0
          ? { type: MessageType.UpdateAcknowledgement, receiverTag: tag, requestNonce: nonce }
          : {
            type: MessageType.UpdateRequest,
            receiverTag: tag,
            requestNonce: nonce,
            ...options,
            preferences: {
              generation: pick[4],
              elementLength: 1,
              elements: addresses.map((_, i) => [pick[3] >> i & 1]),
            },
            keepaliveTimeout: pick[5] % 100,
          };
      case 16:
        return { type: MessageType.Keepalive, receiverTag: tag };
      default: {
        const state = [ReapState.Operational, ReapState.Exploring, ReapState.InboundOk][pick[5] % 3];
        const sent = { source: PEER[pick[0] % 4], destination: LOCAL[pick[1] % 3], nonce: pick[3], data: 0 };
        return { type: MessageType.Probe, receiverTag: tag, state, sent: [sent], received: this.#reports.slice(-15) };
      }
    }
  }
}

Deno.test("random messages, clocks, addresses and commands break nothing and never move payload to an unverified locator", () => {
  fc.assert(
    fc.property(fc.boolean(), fc.array(step, { minLength: 20, maxLength: 120 }), (established, steps) => {
      const fuzz = new Fuzz(established);
      for (const each of steps) {
        fuzz.apply(each);
        fuzz.listen();
        fuzz.check();
      }
      // And nothing keeps the timers busy for ever.
      const before = fuzz.bench.now;
      fuzz.bench.run(60_000);
      assert(fuzz.bench.now === before + 60_000);
    }),
    { numRuns: 150 },
  );
});

Deno.test("however two hosts were disturbed, traffic flows again soon after a path works in both directions", () => {
  const A = [A1, A2], B = [B1, B2];
  const pairs = allPairs(A, B);
  const disturbance = fc.record({ what: fc.nat(8), where: fc.nat(7), forMs: fc.integer({ min: 1, max: 8_000 }) });
  fc.assert(
    fc.property(fc.integer(), fc.array(disturbance, { maxLength: 12 }), fc.nat(3), (seed, disturbances, left) => {
      const network = new VirtualNetwork({ seed, delayMs: 5, jitterMs: 10 });
      const options = { profile: PAPER, establish: { afterPackets: 5 } };
      const a = network.addHost("A", A, options), b = network.addHost("B", B, options);
      const traffic = new Traffic(network, {
        from: a,
        to: b,
        ulid: ULID,
        intervalMs: 200,
        bothWays: true,
        jitter: 0.2,
      });
      network.run(3_000);
      for (const { what, where, forMs } of disturbances) {
        const pair = pairs[where % 4], host = where % 2 === 0 ? a : b;
        const reverse = { local: pair.peer, peer: pair.local };
        if (what < 3) network.cut(where < 4 ? pair : reverse, what === 0);
        else if (what === 3) network.mend(where < 4 ? pair : reverse, true);
        else if (what === 4) host.killAgent();
        else if (what === 5) {
          host.killAgent();
          host.startAgent();
        } else if (what === 6) host.setUsable(host.addresses[where % 2], where > 3);
        else network.filter = what === 7 ? (packet) => packet.kind !== "control" || forMs % 3 === 0 : undefined;
        network.run(forMs);
        if (host.engine === undefined) host.startAgent();
      }
      network.filter = undefined;
      for (const host of [a, b]) for (const address of host.addresses) host.setUsable(address, true);
      for (const pair of pairs) network.cut(pair, true);
      // The ULIDs' own path works as well when no context may exist: without one nobody can know of another.
      const known = a.context(A1, B1)?.state === "ESTABLISHED" && b.context(B1, A1)?.state === "ESTABLISHED";
      network.mend(known ? pairs[left] : ULID, true);
      const before = [traffic.forth.received, traffic.back.received];
      const flows = () => traffic.forth.received > before[0] + 5 && traffic.back.received > before[1] + 5;
      assert(network.runUntil(flows, 400_000), `forth ${traffic.forth.received}, back ${traffic.back.received}`);
    }),
    { numRuns: 60 },
  );
});

Deno.test("activity of any shape does no harm", () => {
  const time = fc.oneof(fc.constant(0), fc.nat(20_000), fc.constant(1e15));
  const any = fc.record({ lastSent: time, lastReceived: time, firstUnanswered: time, firstUnreplied: time });
  fc.assert(
    fc.property(fc.array(any, { maxLength: 30 }), (reports) => {
      const bench = new Bench({ profile: PAPER });
      bench.toEstablished();
      for (const report of reports) {
        bench.now += 500;
        bench.engine.handleActivity(1, activity(report), bench.now);
        bench.sent();
        bench.run(100);
      }
    }),
    { numRuns: 50 },
  );
});
