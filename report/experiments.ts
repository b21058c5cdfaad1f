/** The experiments of which a comparison is made: the same ones for the simulator and for the testbed. */

import { type FailureKind, pathsBreak, providerDies } from "../sim/experiments/failures.ts";
import type { DelayDraw } from "../sim/experiments/trials.ts";

/** Failures from which two hosts recover. */
export interface RecoveryExperiment {
  /** In names of files. */
  readonly key: string;
  readonly title: string;
  /** What `sim` and `lab` call it, with its arguments. */
  readonly command: string;
  /** Of host A and host B. */
  readonly locators: readonly [number, number];
  /** What breaks; it may count, so each run has its own. */
  readonly kind: () => FailureKind;
}

/** One-way delays of the paths, but in the paper's experiments, which set their own; ms. */
export const DELAY_MS = [5, 50] as const;

/**
 * Hosts are left in peace so long before each failure, in the simulator as in the testbed: a policy that probes in peace
 * finds out in it that a path works again.
 */
export const PAUSE_MS = 20_000;

/** Draws a delay within {@linkcode DELAY_MS}. */
export const drawDelay: DelayDraw = (random): number => DELAY_MS[0] + (DELAY_MS[1] - DELAY_MS[0]) * random.next();

const DELAY = `--delay-ms ${DELAY_MS.join("-")}`;

/** All of them. */
export const RECOVERY_EXPERIMENTS: readonly RecoveryExperiment[] = [
  ...[2, 8, 16].map((broken): RecoveryExperiment => ({
    key: `exploration-${broken}`,
    title: `${broken} of 18 unidirectional paths break`,
    command: `exploration --broken ${broken} ${DELAY}`,
    locators: [3, 3],
    kind: () => pathsBreak(broken),
  })),
  ...([[2, 2], [3, 3], [4, 4]] as const).map((locators): RecoveryExperiment => ({
    key: `provider-${locators.join("x")}`,
    title: `a provider dies, ${locators.join("x")} locators`,
    command: `provider --locators ${locators.join("x")} ${DELAY}`,
    locators,
    kind: () => providerDies(locators, 1),
  })),
];
