/**
 * What passes over the control socket: one JSON object a line. A client sends one request; the agent answers with one
 * reply, or for `watch` with events until the client goes away. Field names are stable: they are what `--json` prints.
 */

import type { Address } from "../wire/address.ts";
import type { FailureCause, LocatorPair } from "../policies/policy.ts";
import type { ContextState, LocatorPreference } from "../shim6/api.ts";
import type { LoggedEvent } from "../agent/event_log.ts";

/** A request. */
export type Request =
  | { readonly command: "status" | "contexts" | "paths" | "watch" }
  | { readonly command: "why" | "explore" | "fork" | "forget"; readonly context: string }
  | { readonly command: "switch"; readonly context: string; readonly local: string; readonly peer: string }
  | { readonly command: "prefer"; readonly preference: string }
  | { readonly command: "policy"; readonly name: string };

/** A reply. `usage` tells a wrong request (exit 2) from one that failed (exit 1). */
export type Reply =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly error: string; readonly usage: boolean };

/** Names of the REAP states on the outside. */
export type ReapName = "operational" | "exploring" | "inbound-ok";

/** A context in `status` and `contexts`. */
export interface ContextReport {
  readonly id: number;
  readonly ulid: LocatorPair;
  readonly fii: number;
  readonly state: ContextState;
  readonly reap: ReapName;
  readonly current: LocatorPair;
  readonly local_locators: readonly Address[];
  readonly peer_locators: readonly {
    readonly address: Address;
    readonly verified: boolean;
    /** Only when the peer has said what it prefers. */
    readonly preference?: LocatorPreference;
  }[];
  /** Time since the current pair was chosen, ms. */
  readonly since_ms: number;
  readonly rtt_ms: number | null;
  readonly switches: number;
  readonly last_failure: {
    readonly cause: FailureCause;
    readonly detection_ms: number;
    readonly exploration_ms: number;
    readonly recovery_ms: number;
  } | null;
  readonly counters: {
    readonly sent_packets: number;
    readonly sent_bytes: number;
    readonly received_packets: number;
    readonly received_bytes: number;
    readonly probes_sent: number;
    readonly keepalives_sent: number;
  };
}

/** `status`. */
export interface StatusReport {
  readonly version: string;
  readonly policy: string;
  readonly profile: string;
  readonly datapath: string;
  readonly accounting: string;
  /** Next header of Shim6. */
  readonly protocol: number;
  readonly uptime_s: number;
  /** What an operator should know at once: unverified locators, a fallback in use. */
  readonly warnings: readonly string[];
  readonly locators: readonly {
    readonly address: Address;
    readonly interface: string;
    readonly usable: boolean;
    readonly deprecated: boolean;
    /** What peers are told to prefer (RFC 5533 §5.15.3): lower is better. */
    readonly priority: number;
    readonly weight: number;
    readonly transient: boolean;
  }[];
  /** Null when no coordinates are exchanged. */
  readonly coordinates: CoordinatesReport | null;
  readonly contexts: readonly ContextReport[];
  readonly counters: {
    readonly dropped: Readonly<Record<string, number>>;
    readonly sent: Readonly<Record<string, number>>;
    readonly received: Readonly<Record<string, number>>;
    readonly datapath: Readonly<Record<string, number>>;
  };
}

/** A locator and its network coordinate. */
export interface PlaceReport {
  readonly address: Address;
  readonly x_ms: number;
  readonly y_ms: number;
  readonly height_ms: number;
  /** Relative error that its owner expects; 1: it knows nothing. */
  readonly error: number;
}

/** Network coordinates in `status`. */
export interface CoordinatesReport {
  readonly locators: readonly PlaceReport[];
  /** Locators of the peers of contexts, as far as they told. */
  readonly peers: readonly PlaceReport[];
  /** Round-trip times that were measured after they had been predicted, and the median relative error of the last 256. */
  readonly predictions: number;
  readonly median_error: number | null;
  /** Peers whose pairs were measured after they had been predicted; those whose first pair was the fastest that works. */
  readonly rankings: number;
  readonly first_best: number;
  /** Announcements of peers that made no sense. */
  readonly refused: number;
}

/** A locator pair in `paths`. Times are ms ago; null when it never happened. */
export interface PathReport {
  readonly local: Address;
  readonly peer: Address;
  readonly rtt_ms: number | null;
  readonly rtt_variance_ms: number | null;
  readonly source: string;
  /** By coordinates, also when it was measured; null when unknown. */
  readonly predicted_rtt_ms: number | null;
  readonly last_success_ms: number | null;
  readonly last_failure_ms: number | null;
  readonly probes_sent: number;
  readonly probes_answered: number;
  /** Contexts that send on this pair now. */
  readonly contexts: readonly number[];
}

/** `why`. */
export interface WhyReport {
  readonly context: ContextReport;
  /** Oldest first. */
  readonly events: readonly LoggedEvent[];
}

/** Longest request or reply line accepted, in octets. */
export const MAX_REQUEST = 4096;
