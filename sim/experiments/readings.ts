/**
 * Readings of the protocol that the paper leaves open, as variants of its policy. They exist to find out which of them
 * the paper's figures need; none is a policy of the agent.
 */

import { shuffled } from "../../policies/pacing.ts";
import {
  type ExplorationStart,
  type LocatorPair,
  type Plan,
  type Policy,
  type ProbeChoice,
  type ProbeStep,
  type ProbeTiming,
  samePair,
} from "../../policies/policy.ts";

/** What each reading may be; the first of each is what policy `random` does. */
export const READINGS = {
  /** The pair in use when the failure was noticed: one of the cycle, the last of each round, or the first of all. */
  current: ["cycle", "last", "first"],
  /** An immediate answer: takes the next pair of the cycle, or the reverse of the pair on which the peer's probe came. */
  answer: ["cycle", "reverse"],
  /** The gap is doubled for the first time after the fourth probe, or after the fifth. */
  double: ["fourth", "fifth"],
  /** Whether immediate answers use up initial probes. */
  answers: ["free", "count"],
  /** The order: drawn for each round, or once for an exploration. */
  order: ["round", "once"],
  /** A host that falls back from InboundOk to Exploring starts the schedule anew, or goes on with it. */
  fallback: ["restart", "go-on"],
} as const;

/** A choice among {@linkcode READINGS}, and the gap in ms between the initial probes (NaN: that of the profile). */
export type Reading = { readonly [Key in keyof typeof READINGS]: typeof READINGS[Key][number] } & {
  readonly gapMs: number;
};

/** What policy `random` does. */
export const DEFAULT_READING: Reading = {
  current: "cycle",
  answer: "cycle",
  double: "fourth",
  answers: "free",
  order: "round",
  fallback: "restart",
  gapMs: NaN,
};

/** The paper's policy by another reading. */
export class ReadingPolicy implements Policy {
  readonly name = "reading";
  readonly summary = "the paper's policy by another reading";
  readonly #reading: Reading;

  constructor(reading: Reading) {
    this.#reading = reading;
  }

  plan(start: ExplorationStart): Plan {
    return new ReadingPlan(start, this.#reading);
  }
}

class ReadingPlan implements Plan {
  readonly #reading: Reading;
  readonly #timing: ProbeTiming;
  readonly #drawRound: () => ProbeChoice[];
  #round: ProbeChoice[] = [];
  #sent = 0;
  #isFirst = true;

  constructor({ pairs, current, random, timing }: ExplorationStart, reading: Reading) {
    this.#reading = reading;
    this.#timing = timing;
    const draw = () => {
      const order = shuffled(pairs, random);
      if (reading.current === "cycle") return order;
      const others = order.filter((pair) => !samePair(pair, current));
      const failed = order.filter((pair) => samePair(pair, current));
      return reading.current === "last" ? [...others, ...failed] : [...failed, ...others];
    };
    let once: LocatorPair[] | undefined;
    this.#drawRound = () => {
      const order = reading.order === "once" ? once ??= draw() : draw();
      return order.map((pair) => ({ pair, reason: "next of a random cycle" }));
    };
  }

  next(_now: number, answering?: LocatorPair): ProbeStep {
    const isFirst = this.#isFirst;
    this.#isFirst = false;
    const choice = this.#choose(isFirst && answering !== undefined ? answering : undefined);
    this.#sent++;
    return { ...choice, waitMs: this.#gap() };
  }

  answer(_now: number, answering?: LocatorPair): ProbeChoice {
    if (this.#reading.answers === "count") this.#sent++;
    return this.#choose(answering);
  }

  restart(): boolean {
    if (this.#reading.fallback === "restart") this.#sent = 0;
    return true;
  }

  #choose(answering: LocatorPair | undefined): ProbeChoice {
    if (this.#round.length === 0) this.#round = this.#drawRound();
    const index = this.#reading.answer === "reverse" && answering !== undefined
      ? this.#round.findIndex(({ pair }) => samePair(pair, answering))
      : -1;
    return this.#round.splice(Math.max(0, index), 1)[0];
  }

  /** After the probe that is being sent. */
  #gap(): number {
    const { initialProbeTimeoutMs, initialProbes, maxProbeTimeoutMs } = this.#timing;
    const { double, gapMs } = this.#reading;
    const doublings = this.#sent + (double === "fourth" ? 1 : 0) - initialProbes;
    if (doublings > 0) return Math.min(initialProbeTimeoutMs * 2 ** doublings, maxProbeTimeoutMs);
    return Number.isNaN(gapMs) || this.#sent >= initialProbes ? initialProbeTimeoutMs : gapMs;
  }
}
