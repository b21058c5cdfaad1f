/**
 * Accounting of payload on the kernel's own path: when was it last sent and received, how much, and is an answer
 * outstanding. Nothing of it touches the packets.
 *
 * Two backends: `ebpf` counts inside the kernel and is read by plain loads; `tap` gets the headers of packets from a
 * packet socket, for kernels before 6.6 and where bpf(2) is refused, as in a user namespace.
 */

import { SystemError } from "deno-tun";
import type { LocatorPair } from "../policies/policy.ts";
import type { Activity, FlowObservation } from "../shim6/api.ts";
import { SHIM6_PROTOCOL } from "../wire/message.ts";
import { EbpfAccounting } from "./accounting_ebpf.ts";
import { TapAccounting } from "./tap.ts";

/** Contexts that can be accounted at a time. */
export const MAX_CONTEXTS = 16_384;

/** Flows without context under observation at a time; when there are more, those idle longest are forgotten. */
export const MAX_FLOWS = 8192;

/** Watches payload between address pairs on the real interfaces. All methods are synchronous. */
export interface Accounting {
  /** The backend. */
  readonly name: "ebpf" | "tap";

  /** Why the better backend is not in use; empty when it is. */
  readonly reason: string;

  /**
   * The interfaces to watch from now on. Idempotent, and to be called again when an interface comes back: one that
   * vanished is no error.
   */
  setInterfaces(indexes: readonly number[]): void;

  /**
   * Counts payload between the ULIDs for context `id`, a small number, from now on. Contexts with the same ULIDs share their figures.
   * Throws `RangeError` when there are {@linkcode MAX_CONTEXTS} address pairs already.
   */
  add(id: number, ulid: LocatorPair): void;

  /** Stops counting for a context; unknown ones are ignored. */
  remove(id: number): void;

  /**
   * A number that has changed when the context has sent or received something; 0 when there is no such context. Costs
   * much less than to read.
   */
  mark(id: number): number;

  /**
   * Fills `into` with what the context sent and received by the kernel's own path: octets are those of whole IPv6
   * packets, super-packets of segmentation offload count as many packets as they are on the wire, once with their
   * header. Returns false when there is no such context.
   */
  read(id: number, into: Activity): boolean;

  /**
   * Address pairs without context that sent payload since the last call. ICMPv6, Shim6 and the excluded ports do not
   * make a flow. On a router `tap` also reports what it forwards: `local` need not be an address of this host.
   */
  flows(): FlowObservation[];

  /** Detaches from the kernel and frees everything. */
  close(): void;
}

/** How to account. */
export interface AccountingOptions {
  /** TCP and UDP ports, at either end, whose flows are not reported; DNS (53, 853) as a rule. */
  readonly excludedPorts: readonly number[];
  /** This backend or none. */
  readonly force?: "ebpf" | "tap";
  /**
   * Next header of Shim6; 140 when absent. Control messages are no payload, and translated payload is counted elsewhere.
   */
  readonly protocol?: number;
}

/**
 * Opens eBPF accounting, or the tap where the kernel does not allow that; then `reason` says why. Throws
 * {@linkcode SystemError} when the last choice fails too.
 */
export function openAccounting(options: AccountingOptions): Accounting {
  const { excludedPorts, force, protocol = SHIM6_PROTOCOL } = options;
  if (force === "tap") return new TapAccounting(excludedPorts, "asked for", protocol);
  try {
    return new EbpfAccounting(excludedPorts, protocol);
  } catch (error) {
    if (force === "ebpf" || !(error instanceof SystemError)) throw error;
    return new TapAccounting(excludedPorts, `eBPF is refused: ${error.message}`, protocol);
  }
}

/** An activity in which nothing has happened. */
export function noActivity(): Activity {
  return {
    lastSent: 0,
    lastReceived: 0,
    firstUnanswered: 0,
    firstUnreplied: 0,
    sentPackets: 0,
    sentBytes: 0,
    receivedPackets: 0,
    receivedBytes: 0,
  };
}

/**
 * Makes the four times agree. An answer is outstanding exactly when the last word was ours; what was sent before the
 * peer's last word does not wait for one. Where the first packet after it is not known (yet), the last one stands in.
 */
export function settle(activity: Activity): void {
  const { lastSent, lastReceived } = activity;
  if (lastSent <= lastReceived) activity.firstUnanswered = 0;
  else if (activity.firstUnanswered <= lastReceived) activity.firstUnanswered = lastSent;
  if (lastReceived <= lastSent) activity.firstUnreplied = 0;
  else if (activity.firstUnreplied <= lastSent) activity.firstUnreplied = lastReceived;
}

/**
 * Adds to `into` the activity of the same context on another path, e.g. what was translated. When packets leave by one
 * path and are answered by the other, neither knows which one was the first: then it is the last, as in
 * {@linkcode settle}, and the caller should keep to what was named before.
 */
export function mergeActivity(into: Activity, other: Readonly<Activity>): void {
  into.lastSent = Math.max(into.lastSent, other.lastSent);
  into.lastReceived = Math.max(into.lastReceived, other.lastReceived);
  into.firstUnanswered = earlierAfter(into.lastReceived, into.firstUnanswered, other.firstUnanswered);
  into.firstUnreplied = earlierAfter(into.lastSent, into.firstUnreplied, other.firstUnreplied);
  into.sentPackets += other.sentPackets;
  into.sentBytes += other.sentBytes;
  into.receivedPackets += other.receivedPackets;
  into.receivedBytes += other.receivedBytes;
  settle(into);
}

/** The earlier of the two times that lie after `after`; 0 when neither does. */
function earlierAfter(after: number, a: number, b: number): number {
  if (a <= after) return b <= after ? 0 : b;
  return b <= after ? a : Math.min(a, b);
}
