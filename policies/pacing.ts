/** What the policies share: the probe schedule of RFC 5534 §4.3 and an endless walk over an order of pairs. */

import { type LocatorPair, type Plan, type ProbeChoice, type ProbeStep, type ProbeTiming, samePair } from "./policy.ts";

/**
 * The nominal gaps of the probe schedule (RFC 5534 §4.3, §7): the initial probes follow each other at the Initial Probe
 * Timeout, and from the last of them on each gap is twice the one before, up to the Max Probe Timeout. With the default
 * values probes leave at 0, 0.5, 1, 1.5, 2.5, 4.5, 8.5 … seconds, as the paper measured (§5.3).
 */
export class Pacing implements Gaps {
  readonly #timing: ProbeTiming;
  readonly #burst: number;
  #sent = 0;

  /** `burst`: so many probes leave at once before the schedule takes over; they use up the initial probes. */
  constructor(timing: ProbeTiming, burst = 1) {
    this.#timing = timing;
    this.#burst = burst;
  }

  /** The gap in ms after the probe that is being sent. */
  next(): number {
    const { initialProbeTimeoutMs, initialProbes, maxProbeTimeoutMs } = this.#timing;
    this.#sent++;
    if (this.#sent < this.#burst) return 0;
    const doublings = Math.max(0, this.#sent + 1 - Math.max(initialProbes, this.#burst));
    return Math.min(initialProbeTimeoutMs * 2 ** doublings, maxProbeTimeoutMs);
  }

  /** Begins anew with the first probe. */
  restart(): void {
    this.#sent = 0;
  }
}

/** The pairs in uniformly random order (Fisher and Yates). */
export function shuffled(pairs: readonly LocatorPair[], random: () => number): LocatorPair[] {
  const order = [...pairs];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** The gaps between the probes of a plan. */
export interface Gaps {
  /** The gap in ms after the probe that is being sent. */
  next(): number;
  /** Begins anew with the first probe. */
  restart(): void;
}

/** A plan that walks over all pairs, round by round, at the pace of the probe schedule. */
export class CyclingPlan implements Plan {
  readonly #drawRound: () => ProbeChoice[];
  readonly #pacing: Gaps;
  readonly #answerInReverse: boolean;
  #round: ProbeChoice[] = [];

  /**
   * `drawRound` gives the order of one round, at least one pair. `answerInReverse`: the answer to a probe leaves on the
   * reverse of the pair on which it came, unless the round has had that pair already. Most failures hit both directions
   * of a path, so the reverse of a path that works is the best guess; a cycle that ignores it is the paper's.
   */
  constructor(drawRound: () => ProbeChoice[], pacing: Gaps, answerInReverse: boolean) {
    this.#drawRound = drawRound;
    this.#pacing = pacing;
    this.#answerInReverse = answerInReverse;
  }

  next(now: number, answering?: LocatorPair): ProbeStep {
    const { pair, reason } = this.answer(now, answering);
    return { pair, reason, waitMs: this.#pacing.next() };
  }

  answer(_now: number, answering?: LocatorPair): ProbeChoice {
    if (this.#round.length === 0) this.#round = this.#drawRound();
    if (this.#answerInReverse && answering !== undefined) {
      const index = this.#round.findIndex((choice) => samePair(choice.pair, answering));
      if (index >= 0) {
        const [{ pair }] = this.#round.splice(index, 1);
        return { pair, reason: "reverse of the path on which the peer's probe came" };
      }
    }
    return this.#round.shift()!;
  }

  restart(): boolean {
    this.#pacing.restart();
    return true;
  }
}
