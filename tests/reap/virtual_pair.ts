/** Two REAP machines, A and B, over a tiny virtual network of unidirectional paths. */

import { MessageType, type Probe, ReapState } from "../../wire/message.ts";
import { PathBook } from "../../policies/path_book.ts";
import { type LocatorPair, pairKey, type Policy, samePair } from "../../policies/policy.ts";
import { type ReapEffect, type ReapEnvironment, ReapMachine } from "../../reap/machine.ts";
import type { Profile } from "../../reap/profile.ts";

/** A seeded generator, uniform in [0, 1) (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = state + 0x6d2b79f5 >>> 0;
    let mixed = Math.imul(state ^ state >>> 15, state | 1);
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61);
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
  };
}

/** The locators of a host: `2001:db8:a1::1`, `2001:db8:a2::1` … for "a". */
export function locators(host: "a" | "b", count: number): string[] {
  return Array.from({ length: count }, (_, i) => `2001:db8:${host}${i + 1}::1`);
}

/** All pairs of two lists, in order. */
export function pairsOf(local: readonly string[], peer: readonly string[]): LocatorPair[] {
  return local.flatMap((l) => peer.map((p) => ({ local: l, peer: p })));
}

/** An effect, or a packet that came in, with its time. */
export type Trace = { readonly at: number } & ReapEffect;

/** One end. */
export class Host {
  readonly machine: ReapMachine;
  readonly environment: ReapEnvironment;
  readonly trace: Trace[] = [];
  pairs: readonly LocatorPair[];

  constructor(pairs: readonly LocatorPair[], environment: ReapEnvironment) {
    this.pairs = pairs;
    this.environment = environment;
    const source = { pairs: () => this.pairs };
    this.machine = new ReapMachine(environment, source, pairs[0]);
  }

  /** The effects of one type so far. */
  all<T extends ReapEffect["type"]>(type: T): (Trace & { type: T })[] {
    return this.trace.filter((entry): entry is Trace & { type: T } => entry.type === type);
  }
}

/** How to build a {@linkcode VirtualPair}. */
export interface VirtualPairOptions {
  readonly profile: Profile;
  readonly policy: Policy;
  readonly policyB?: Policy;
  readonly locators?: readonly [number, number];
  readonly seed?: number;
  /** One-way delay in ms of a path. */
  readonly delay?: (path: LocatorPair) => number;
  /** Nonces in order of use, then random ones. */
  readonly nonces?: { readonly a: readonly number[]; readonly b: readonly number[] };
}

interface Event {
  readonly at: number;
  readonly run: () => void;
}

/** The network and its clock. */
export class VirtualPair {
  now = 0;
  readonly a: Host;
  readonly b: Host;
  readonly random: () => number;
  /** Keys of the broken paths, seen by their sender. */
  readonly broken = new Set<string>();
  /** Asked for each packet that a working path would carry. */
  lose: (from: "a" | "b", effect: ReapEffect | "payload") => boolean = () => false;
  readonly #delay: (path: LocatorPair) => number;
  readonly #events: Event[] = [];

  constructor(options: VirtualPairOptions) {
    const random = this.random = seeded(options.seed ?? 1);
    const [m, n] = options.locators ?? [3, 3];
    const locatorsA = locators("a", m), locatorsB = locators("b", n);
    const environment = (policy: Policy, nonces: readonly number[]): ReapEnvironment => {
      let used = 0;
      return {
        profile: options.profile,
        policy,
        book: new PathBook(),
        random,
        nonce: () => used < nonces.length ? nonces[used++] : Math.floor(random() * 2 ** 32),
      };
    };
    this.a = new Host(pairsOf(locatorsA, locatorsB), environment(options.policy, options.nonces?.a ?? []));
    this.b = new Host(
      pairsOf(locatorsB, locatorsA),
      environment(options.policyB ?? options.policy, options.nonces?.b ?? []),
    );
    this.#delay = options.delay ?? (() => 1);
  }

  /** All 2·m·n paths by sender. */
  paths(): { from: "a" | "b"; pair: LocatorPair }[] {
    return [
      ...this.a.pairs.map((pair) => ({ from: "a" as const, pair })),
      ...this.b.pairs.map((pair) => ({ from: "b" as const, pair })),
    ];
  }

  break(...pairs: LocatorPair[]): void {
    for (const pair of pairs) this.broken.add(pairKey(pair));
  }

  /**
   * Breaks `count` paths as the paper did (§5.3): one current pair for 1, else both and others at random, but never the
   * last path of a direction.
   */
  breakPaths(count: number): void {
    const current = [this.a.machine.current, this.b.machine.current];
    if (count === 1) return this.break(current[this.random() < 0.5 ? 0 : 1]);
    const left = { a: this.a.pairs.length - 1, b: this.b.pairs.length - 1 };
    const others = this.paths().filter(({ pair }) => !current.some((used) => samePair(used, pair)));
    this.break(...current);
    for (let toBreak = count - 2; toBreak > 0;) {
      const [{ from, pair }] = others.splice(Math.floor(this.random() * others.length), 1);
      if (left[from] === 1) continue;
      left[from]--;
      toBreak--;
      this.break(pair);
    }
  }

  repair(...pairs: LocatorPair[]): void {
    for (const pair of pairs) this.broken.delete(pairKey(pair));
  }

  /** Calls `run` at a time. */
  at(time: number, run: () => void): void {
    let index = this.#events.length;
    while (index > 0 && this.#events[index - 1].at > time) index--;
    this.#events.splice(index, 0, { at: time, run });
  }

  /** Sends one payload packet now on the sender's current pair. */
  payload(from: "a" | "b"): void {
    const sender = this[from], receiver = from === "a" ? this.b : this.a;
    sender.machine.handlePayloadSent(this.now);
    this.#transfer(from, sender.machine.current, "payload", () => {
      receiver.machine.handlePayloadReceived(this.now);
      this.drain(receiver);
    });
    this.drain(sender);
  }

  /** Payload from one end each `interval` ms, for ever. */
  stream(from: "a" | "b", interval: number, start = this.now): void {
    this.at(start, () => {
      this.payload(from);
      this.stream(from, interval, start + interval);
    });
  }

  /** Carries out what the machine of a host wants. */
  drain(host: Host): void {
    const from = host === this.a ? "a" : "b", other = host === this.a ? this.b : this.a;
    for (let effect = host.machine.nextEffect(); effect !== undefined; effect = host.machine.nextEffect()) {
      host.trace.push({ at: this.now, ...effect });
      if (effect.type === "send-probe") {
        const { pair, state, sent, received } = effect;
        const probe: Probe = { type: MessageType.Probe, receiverTag: 1, state, sent, received };
        this.#transfer(from, pair, effect, () => {
          other.machine.handleProbe(probe, pair.local, pair.peer, this.now);
          this.drain(other);
        });
      } else if (effect.type === "send-keepalive") {
        this.#transfer(from, effect.pair, effect, () => {
          other.machine.handleKeepalive(this.now);
          this.drain(other);
        });
      }
    }
  }

  /** Lets time pass until `until`, or until `done` holds. Returns whether it did. */
  run(until: number, done: () => boolean = () => false): boolean {
    while (!done()) {
      const deadlines = [this.a.machine.nextDeadline(), this.b.machine.nextDeadline()];
      const next = Math.min(this.#events[0]?.at ?? Infinity, ...deadlines);
      if (next > until) {
        this.now = until;
        return false;
      }
      this.now = Math.max(this.now, next);
      if (this.#events.length > 0 && this.#events[0].at <= this.now) {
        this.#events.shift()!.run();
        continue;
      }
      const host = deadlines[0] <= this.now ? this.a : this.b;
      host.machine.handleTimeout(this.now);
      this.drain(host);
    }
    return true;
  }

  /** Whether both ends are Operational and each one's pair works. */
  get converged(): boolean {
    return [this.a, this.b].every(({ machine }) =>
      machine.state === ReapState.Operational && !this.broken.has(pairKey(machine.current))
    );
  }

  #transfer(from: "a" | "b", pair: LocatorPair, what: ReapEffect | "payload", deliver: () => void): void {
    if (this.broken.has(pairKey(pair)) || this.lose(from, what)) return;
    this.at(this.now + this.#delay(pair), deliver);
  }
}
