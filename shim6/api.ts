/**
 * What goes into the engine and what comes out. The engine (`engine.ts`) is sans-IO: the agent, the simulator and the
 * tests call its `handle…` methods with the time, then drain `nextEffect()` and sleep until `nextDeadline()`.
 */

import type { Address, Prefix } from "../wire/address.ts";
import type { ContextTag, LocatorOptions, MessageType, ReapState } from "../wire/message.ts";
import type { FailureCause, LocatorPair, Policy } from "../policies/policy.ts";
import type { Profile } from "../reap/profile.ts";
import type { LocatorProver } from "./identity.ts";

/** States of a context (RFC 5533 §6.2). A context that does not exist is IDLE. */
export type ContextState = "I1-SENT" | "I2-SENT" | "ESTABLISHED" | "I2BIS-SENT" | "E-FAILED" | "NO-SUPPORT";

/** One of this host's addresses. */
export interface LocalLocator {
  readonly address: Address;
  /** Interface index; where packets from this address leave. */
  readonly interfaceIndex: number;
  readonly interfaceName: string;
  /** Assigned, not tentative, and the interface is up and running (RFC 5534 §3.1, §3.2). */
  readonly usable: boolean;
  /** Preferred lifetime over: still works, but not for new contexts. */
  readonly deprecated: boolean;
  /** Locator preference (RFC 5533 §5.15.3), 0 to 255: lower is better. */
  readonly priority?: number;
  /** Share among locators of the same priority, 0 to 255. */
  readonly weight?: number;
  /** Not there to stay: of the same priority, others are better. */
  readonly transient?: boolean;
}

/** What is preferred of a locator (RFC 5533 §5.15.3). */
export interface LocatorPreference {
  readonly priority: number;
  readonly weight: number;
  readonly transient: boolean;
  readonly broken: boolean;
}

/** When to establish a context (RFC 5533 §4, §13). */
export interface EstablishOptions {
  /** After so many packets of a flow … */
  readonly afterPackets: number;
  /** … or after a flow has lived so long (ms), whichever comes first. */
  readonly afterMs: number;
  /** At once for peers in these prefixes. */
  readonly always: readonly Prefix[];
  /** Never for peers in these prefixes. */
  readonly never: readonly Prefix[];
}

/** Decides whether a peer's locators may be used (RFC 5533 §4.4, §7.2). HBA and CGA are such verifiers. */
export interface LocatorVerifier {
  readonly name: string;
  /** Whether this host also announces locators that it cannot prove. A peer that demands proof ignores such messages. */
  readonly announcesUnproven: boolean;
  /**
   * Which locators of the list in `options` are bound to `ulid`. Returns one boolean for each locator in list order,
   * or the reason why the whole message must be ignored and which locator's method is at fault (Error 2); -1 when the
   * PDS does not belong to the ULID, which is ignored silently (RFC 5533 §7.13).
   */
  verify(
    ulid: Address,
    options: LocatorOptions,
    storedPds: Uint8Array | undefined,
  ): { readonly verified: readonly boolean[] } | { readonly refused: string; readonly locatorIndex: number };
}

/** Bounds on everything that grows. */
export interface EngineLimits {
  readonly contexts: number;
  readonly contextsPerPeer: number;
  /** Locators taken from a peer's list. */
  readonly locatorsPerPeer: number;
}

/** How to build an engine. */
export interface EngineOptions {
  readonly profile: Profile;
  readonly policy: Policy;
  readonly locators: readonly LocalLocator[];
  readonly verifier: LocatorVerifier;
  readonly establish: EstablishOptions;
  readonly limits?: Partial<EngineLimits>;
  /** Uniform in [0, 1): jitter and choices. */
  readonly random: () => number;
  /** Unpredictable octets: tags, nonces, secrets. */
  readonly randomBytes: (length: number) => Uint8Array;
  /** How this host proves its locators to peers. Without it they stay on its ULID, unless unproven ones are announced. */
  readonly identity?: LocatorProver;
  /** Idle time after which a context is discarded, ms (RFC 5533 §9 suggests at least 5 minutes). */
  readonly idleTeardownMs?: number;
  /** Probes of this host and their answers in any 100 ms, all contexts together. Default 350. */
  readonly probesPer100ms?: number;
  /** Exchanges network coordinates whatever the policy. Default: only with a policy that wants them. */
  readonly coordinates?: boolean;
  /** Ends a context when its local ULID is no longer an address of this host (RFC 5533 §1.5). Default: no. */
  readonly endWithUlid?: boolean;
  /** What Next Header stands for Shim6 in packets that Errors quote. Default 140. */
  readonly protocol?: number;
}

/** A flow between two ULIDs that has no context, as the datapath counted it since it was first seen. */
export interface FlowObservation {
  readonly local: Address;
  readonly peer: Address;
  readonly packets: number;
  readonly bytes: number;
  /** Monotonic ms. */
  readonly firstSeen: number;
  readonly lastSeen: number;
}

/** Payload activity of a context since it was added. Times are monotonic ms, 0 when it never happened. */
export interface Activity {
  lastSent: number;
  lastReceived: number;
  /** When the first payload was sent after the last one was received; 0 when the last word was the peer's. */
  firstUnanswered: number;
  /** When the first payload was received after the last one was sent; 0 when the last word was ours. */
  firstUnreplied: number;
  sentPackets: number;
  sentBytes: number;
  receivedPackets: number;
  receivedBytes: number;
}

/** What an ICMPv6 error said about a packet with a Shim6 header of ours. */
export interface IcmpError {
  readonly kind: "unreachable" | "time-exceeded" | "no-shim6" | "packet-too-big";
  /** Addresses of the packet in error: ours and the peer's. */
  readonly local: Address;
  readonly peer: Address;
  /** The peer's tag when the quote holds a payload header, Update, Keepalive or Probe; our own in I1, I2, I2bis. */
  readonly tag: ContextTag | undefined;
  /** For packet-too-big: the MTU. */
  readonly mtu?: number;
}

/** How payload of a context is to be carried now. */
export interface PathInstruction {
  readonly pair: LocatorPair;
  /** Keep copies of what is sent: the path is in doubt (hold), until a later instruction with `hold: false`. */
  readonly hold: boolean;
  /** Send the held copies that may have been lost, on `pair`. Only with `hold: false`. */
  readonly release: boolean;
  /**
   * Send a copy of each packet on this pair as well, those first that are held and may have been lost: until it is known
   * whether `pair` works, the flow goes on. Only with `hold: true`.
   */
  readonly copyTo?: LocatorPair;
  /** `pair` is another one because the one before has failed, and what was sent there at last is lost. */
  readonly lost?: boolean;
}

/** What the engine wants done. */
export type Effect =
  /** Send a control message (octets from the Shim6 header on) in an IPv6 packet of its own. */
  | {
    readonly type: "send";
    readonly source: Address;
    readonly destination: Address;
    readonly message: Uint8Array;
    readonly kind: typeof MessageType[keyof typeof MessageType];
  }
  /** Start accounting and translation for a context. Comes before any `path` of that context. */
  | {
    readonly type: "context-added";
    readonly id: number;
    readonly ulid: LocatorPair;
    readonly localTag: ContextTag;
    readonly peerTag: ContextTag;
    /** Not 0 for a forked context (RFC 5533 §4.2): it receives, but gets no `path`; its ULID pair is another's as well. */
    readonly fii: number;
  }
  /** The peer has a new tag (recovery). */
  | {
    readonly type: "context-retagged";
    readonly id: number;
    readonly localTag: ContextTag;
    readonly peerTag: ContextTag;
  }
  | { readonly type: "context-removed"; readonly id: number }
  | ({ readonly type: "path"; readonly id: number } & PathInstruction)
  | { readonly type: "event"; readonly event: EngineEvent };

/** Something worth a line in the event log. `at` is monotonic ms. */
export type EngineEvent =
  & { readonly at: number; readonly context?: number; readonly ulid?: LocatorPair }
  & (
    | {
      readonly kind: "state";
      readonly from: ContextState | "IDLE";
      readonly to: ContextState | "IDLE";
      readonly reason: string;
    }
    | {
      readonly kind: "reap";
      readonly from: ReapState;
      readonly to: ReapState;
      readonly cause: FailureCause | "answered";
    }
    | { readonly kind: "suspect"; readonly silentMs: number; readonly usualMs: number }
    | {
      readonly kind: "probe-sent";
      readonly pair: LocatorPair;
      readonly nonce: number;
      readonly state: ReapState;
      readonly reason: string;
    }
    | { readonly kind: "probe-answered"; readonly pair: LocatorPair; readonly nonce: number; readonly rttMs: number }
    | { readonly kind: "probe-received"; readonly pair: LocatorPair; readonly state: ReapState }
    | {
      readonly kind: "switch";
      readonly from: LocatorPair;
      readonly to: LocatorPair;
      readonly cause: FailureCause | "better-path";
    }
    /** Operational again. Durations in ms; detection counts from the first unanswered payload. */
    | {
      readonly kind: "recovered";
      readonly cause: FailureCause;
      readonly detectionMs: number;
      readonly explorationMs: number;
      readonly pair: LocatorPair;
      readonly probes: number;
    }
    /** A pair wanted by the operator did not answer. */
    | { readonly kind: "switch-failed"; readonly pair: LocatorPair; readonly reason: string }
    | { readonly kind: "locators"; readonly reason: string; readonly locators: readonly Address[] }
    | { readonly kind: "unverified"; readonly reason: string }
    | { readonly kind: "peer-without-shim6"; readonly reason: string }
    | { readonly kind: "error-received"; readonly code: number; readonly pointer: number }
  );

/** The last failure of a context, for `status`. */
export interface LastFailure {
  readonly cause: FailureCause;
  readonly detectionMs: number;
  readonly explorationMs: number;
  readonly recoveryMs: number;
}

/** A context as the console shows it. */
export interface ContextView {
  readonly id: number;
  readonly ulid: LocatorPair;
  readonly fii: number;
  readonly state: ContextState;
  readonly reap: ReapState;
  readonly current: LocatorPair;
  readonly localLocators: readonly Address[];
  readonly peerLocators: readonly {
    readonly address: Address;
    readonly verified: boolean;
    /** What the peer prefers; absent when it has not said. */
    readonly preference?: LocatorPreference;
  }[];
  /** When the current pair was chosen, monotonic ms. */
  readonly since: number;
  /** NaN when never measured. */
  readonly rttMs: number;
  readonly switches: number;
  readonly lastFailure?: LastFailure;
  readonly activity: Readonly<Activity>;
  readonly probesSent: number;
  readonly keepalivesSent: number;
}
