/** One machine on a bench: the test is the network and the clock. */

import { MessageType, type Probe, ReapState, type Report } from "../../wire/message.ts";
import { CyclingPlan, Pacing } from "../../policies/pacing.ts";
import { PathBook } from "../../policies/path_book.ts";
import type { LocatorPair, Policy } from "../../policies/policy.ts";
import { type ReapEffect, type ReapEnvironment, ReapMachine } from "../../reap/machine.ts";
import { type Profile, RFC5534 } from "../../reap/profile.ts";
import { locators, pairsOf } from "./virtual_pair.ts";

/** Probes the candidate pairs in the order in which they are given, again and again. */
export class InOrder implements Policy {
  readonly name = "in-order";
  readonly summary = "for tests";
  constructor(readonly answerInReverse = true, readonly burst = 1, readonly order?: readonly LocatorPair[]) {}
  plan({ pairs, timing }: Parameters<Policy["plan"]>[0]): CyclingPlan {
    const draw = () => (this.order ?? pairs).map((pair) => ({ pair, reason: "next in order" }));
    return new CyclingPlan(draw, new Pacing(timing, this.burst), this.answerInReverse);
  }
}

/** RFC 5534 §7 without jitter. */
export const STEADY: Profile = { ...RFC5534, jitter: 0 };

/** The pairs of a host with three locators and a peer with three, from the host's side. */
export const PAIRS = pairsOf(locators("a", 3), locators("b", 3));

/** The same pair as the other end sees it. */
export function reverse(pair: LocatorPair): LocatorPair {
  return { local: pair.peer, peer: pair.local };
}

export class Bench {
  readonly environment: ReapEnvironment;
  readonly machine: ReapMachine;
  pairs: readonly LocatorPair[] = PAIRS;
  #nonce = 0;
  #peerNonce = 0xb000_0000;

  constructor(profile: Profile = STEADY, policy: Policy = new InOrder(), random: () => number = () => 0.5) {
    const nonce = () => ++this.#nonce;
    this.environment = { profile, policy, book: new PathBook(), random, nonce };
    this.machine = new ReapMachine(this.environment, { pairs: () => this.pairs }, PAIRS[0]);
  }

  /** All effects since the last call. */
  effects(): ReapEffect[] {
    const effects: ReapEffect[] = [];
    for (let effect = this.machine.nextEffect(); effect !== undefined; effect = this.machine.nextEffect()) {
      effects.push(effect);
    }
    return effects;
  }

  /** The probes among the effects since the last call. */
  probes(): (ReapEffect & { type: "send-probe" })[] {
    return this.effects().filter((effect) => effect.type === "send-probe");
  }

  /** A probe of the peer, as it arrives over the reverse of `over`. */
  peerProbe(state: ReapState, options: {
    readonly over?: LocatorPair;
    readonly nonce?: number;
    readonly earlier?: readonly Report[];
    readonly received?: readonly Report[];
  } = {}): Probe {
    const { local, peer } = options.over ?? PAIRS[0];
    const own: Report = { source: peer, destination: local, nonce: options.nonce ?? ++this.#peerNonce, data: 7 };
    return {
      type: MessageType.Probe,
      receiverTag: 1,
      state,
      sent: [own, ...options.earlier ?? []],
      received: options.received ?? [],
    };
  }

  /** Lets the machine receive a probe over the addresses that its first report names. */
  receive(probe: Probe, now: number): void {
    this.machine.handleProbe(probe, probe.sent[0].source, probe.sent[0].destination, now);
  }

  /** Calls `handleTimeout` at each deadline up to and including `until`, and returns what happened when. */
  run(until: number): { readonly at: number; readonly effect: ReapEffect }[] {
    const seen: { at: number; effect: ReapEffect }[] = [];
    for (let deadline = this.machine.nextDeadline(); deadline <= until; deadline = this.machine.nextDeadline()) {
      this.machine.handleTimeout(deadline);
      for (const effect of this.effects()) seen.push({ at: deadline, effect });
    }
    return seen;
  }
}

export const { Operational, Exploring, InboundOk } = ReapState;
