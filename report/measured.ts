/** What a comparison has found, before it is drawn and written. */

import type { DelaysReport } from "../sim/experiments/delays.ts";
import type { StormReport } from "../sim/experiments/storm.ts";
import type { RecoveryReport } from "../sim/experiments/trials.ts";
import type { RecoveryExperiment } from "./experiments.ts";

/** A report for each policy. */
export type ByPolicy<R> = Readonly<Record<string, R>>;

/** What the simulator found and, where it was asked too, the testbed. */
export interface Found<R> {
  readonly simulated: ByPolicy<R>;
  readonly testbed?: ByPolicy<R>;
}

/** The exploration times of `random` with the profile `paper` for so many broken paths, ms (the paper's figure 5). */
export interface Curve {
  readonly broken: number;
  readonly simulated: readonly number[];
  readonly testbed?: readonly number[];
}

/** A stream over a failure in the testbed (the paper's figure 4). Times in ms. */
export interface Failover {
  readonly policy: string;
  readonly profile: string;
  /** One-way delay of each path. */
  readonly delay_ms: number;
  readonly silence_ms: number;
  readonly detection_ms: number;
  readonly exploration_ms: number;
  readonly resume_ms: number;
  readonly intact: boolean;
  /** When the path broke, on the clock of the timeline. */
  readonly kill_t_ms: number;
  readonly timeline: readonly { readonly t_ms: number; readonly bytes: number }[];
}

/** Everything. */
export interface Measured {
  readonly recoveries: readonly { readonly experiment: RecoveryExperiment; readonly found: Found<RecoveryReport> }[];
  readonly delays: Found<DelaysReport>;
  readonly storm: ByPolicy<StormReport>;
  readonly curves: readonly Curve[];
  /** The paper's policy on paths of different delays. */
  readonly paperFailovers: readonly Failover[];
  /** Each policy. */
  readonly failovers: readonly Failover[];
  /** 95th percentile of how late the testbed's own timers were, ms; undefined without testbed. */
  readonly latenessMs?: number;
}

/** What was asked for. */
export interface RunDescription {
  readonly policies: readonly string[];
  readonly profile: string;
  /** Failures of each policy in each simulated experiment, and in the testbed. */
  readonly trials: number;
  readonly labTrials: number;
  /** Peers of the host in the storm. */
  readonly stormContexts: number;
  readonly seed: number;
}
