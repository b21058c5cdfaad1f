/**
 * The datapath moves packets and knows nothing of protocols. It accounts (when was payload last sent and received),
 * translates (ULID pair ↔ locator pair + tag), and holds and releases. Backends implement this interface and pass the
 * same conformance tests.
 */

import type { Address } from "../wire/address.ts";
import type { ContextTag } from "../wire/message.ts";
import type { LocatorPair } from "../policies/policy.ts";
import type { Activity, FlowObservation, LocalLocator, PathInstruction } from "../shim6/api.ts";

/** A context as the datapath sees it. */
export interface DatapathContext {
  /** Unique among living contexts, and small: tables are indexed by it. */
  readonly id: number;
  readonly ulid: LocatorPair;
  /** Found in packets that arrive. */
  readonly localTag: ContextTag;
  /** Put into packets that leave. */
  readonly peerTag: ContextTag;
  /**
   * Not 0 for a forked context (RFC 5533 §4.2). What arrives with its tag is delivered. What leaves between its ULIDs, or
   * arrives without a tag, belongs to the context that is not forked, so it gets no path.
   */
  readonly fii: number;
}

/** Something the datapath noticed that the engine must know. */
export type DatapathNotice =
  /** A payload header with a tag that no context has (RFC 5533 §12.2): answer with R1bis. */
  | { readonly type: "unknown-tag"; readonly tag: ContextTag; readonly source: Address; readonly destination: Address }
  /** A packet did not fit the path of the pair; `mtu` is what the kernel or a router said. */
  | { readonly type: "packet-too-big"; readonly pair: LocatorPair; readonly mtu: number }
  /** Payload could not be sent on the pair: its errno's name. At most one notice per pair and second. */
  | { readonly type: "send-failed"; readonly pair: LocatorPair; readonly code: string }
  /** A context on hold sends again after a pause: its activity is worth a look at once. */
  | { readonly type: "resumed" };

/** Counters of the whole datapath, by reason. */
export type DatapathCounters = Record<string, number>;

/** A backend. All methods are synchronous, cheap, and called on the main thread only. */
export interface Datapath {
  readonly name: "tun" | "bpf";

  /** The addresses payload may be sent from, with their interfaces. Called at start and on each change. */
  setLocators(locators: readonly LocalLocator[]): void;

  addContext(context: DatapathContext): void;
  /** New tags after a recovery. */
  retag(id: number, localTag: ContextTag, peerTag: ContextTag): void;
  removeContext(id: number): void;

  /**
   * How payload of the context is carried from now on. On the ULID pair without hold the kernel's own path is used and
   * nothing is steered; otherwise the ULID pair is steered into the device.
   */
  setPath(id: number, path: PathInstruction): void;

  /**
   * Makes TCP repeat at once what was lost with the paths that have failed ({@linkcode PathInstruction}'s `lost`). To be called
   * when the paths of all contexts that failed together have been set, and at the time that it returns: monotonic ms,
   * Infinity when there is nothing more to do.
   */
  repeatLost(now: number): number;

  /** Whether a context sent or received anything since it was last asked for. */
  hasNews(id: number): boolean;

  /** The contexts of which {@linkcode hasNews} would say so, and asks for them. */
  withNews(): Iterable<number>;

  /** Fills `into` with the context's activity. Returns false when there is no such context. */
  readActivity(id: number, into: Activity): boolean;

  /** Flows without context that sent payload since the last call. */
  readFlows(): FlowObservation[];

  /** Renews the leases of the steering routes; to be called at least once a second. */
  renewLeases(): void;

  /** File descriptor that becomes readable when {@linkcode nextNotice} has something. */
  readonly noticeFd: number;
  nextNotice(): DatapathNotice | undefined;

  /** The path MTU of a pair changed (an ICMPv6 Packet Too Big that the control socket saw). */
  setPathMtu(pair: LocatorPair, mtu: number): void;

  counters(): DatapathCounters;

  /** Removes every trace in the kernel. */
  close(): void;
}
