/** What an experiment wants to know of one context of one host, gathered from the engine's events. */

import type { FailureCause, LocatorPair } from "../../policies/policy.ts";
import type { EngineEvent } from "../../shim6/api.ts";
import { ReapState } from "../../wire/message.ts";

/** What a failure did to one host. Times in ms. */
export interface HostOutcome {
  /** From the failure to leaving Operational; NaN if the host never left. */
  readonly detectionMs: number;
  /** From there until back in Operational for good; Infinity if the host did not come back. */
  readonly explorationMs: number;
  readonly departures: number;
  readonly cause: string | undefined;
}

/** What a failure at `failedAt` did to the hosts that left Operational, in the order in which they did. */
export function hostOutcomes(watches: readonly HostWatch[], failedAt: number): HostOutcome[] {
  return watches.filter((watch) => watch.departures > 0).sort((x, y) => x.leftAt - y.leftAt).map((watch) => ({
    detectionMs: watch.leftAt - failedAt,
    explorationMs: watch.explorationMs,
    departures: watch.departures,
    cause: watch.cause,
  }));
}

/** One end of a context. */
export class HostWatch {
  /** The pair on which the host sends payload. */
  current: LocatorPair;
  operational = true;
  /** When the host first left Operational since {@linkcode HostWatch.reset}, NaN if it did not; monotonic ms. */
  leftAt: number = NaN;
  /** When it last came back. */
  backAt: number = NaN;
  /** How often it left. */
  departures = 0;
  cause: FailureCause | "answered" | undefined;
  /** Probes sent since {@linkcode HostWatch.reset}. */
  probes = 0;

  constructor(ulid: LocatorPair) {
    this.current = ulid;
  }

  /** Forgets all but the state and the current pair: the next failure begins. */
  reset(): void {
    this.leftAt = NaN;
    this.backAt = NaN;
    this.departures = 0;
    this.cause = undefined;
    this.probes = 0;
  }

  /** Takes an event of this context. */
  handle(event: EngineEvent): void {
    switch (event.kind) {
      case "probe-sent":
        this.probes++;
        return;
      case "switch":
        this.current = event.to;
        return;
      case "reap":
        this.operational = event.to === ReapState.Operational;
        if (this.operational) this.backAt = event.at;
        else if (event.from === ReapState.Operational) this.#leave(event.at, event.cause);
        return;
      case "recovered":
        // Without an exploration: a host that knew where to go.
        if (this.backAt === event.at) return;
        this.#leave(event.at - event.explorationMs, event.cause);
        this.backAt = event.at;
    }
  }

  #leave(at: number, cause: FailureCause | "answered"): void {
    this.departures++;
    if (this.departures > 1) return;
    this.leftAt = at;
    this.cause = cause;
  }

  /** From the first departure to the last return, ms; NaN if the host never left, Infinity if it is not back. */
  get explorationMs(): number {
    if (Number.isNaN(this.leftAt)) return NaN;
    return this.operational ? this.backAt - this.leftAt : Infinity;
  }
}
