/** One context: what RFC 5533 §6.1 wants to be kept for a ULID pair, and questions about it. */

import type { Address } from "../wire/address.ts";
import { type ContextTag, ReapState, type Report } from "../wire/message.ts";
import { type LocatorPair, type PairPreference, samePair } from "../policies/policy.ts";
import type { PathBook } from "../policies/path_book.ts";
import type { PairSource, ReapMachine } from "../reap/machine.ts";
import type { Suspicion } from "../reap/suspicion.ts";
import type { ActivityTable } from "./activity_table.ts";
import type { ContextState, ContextView, LastFailure, LocalLocator } from "./api.ts";
import { PAIRS_MAX } from "./constants.ts";
import { type LocalLocators, priorityOf, weightOf } from "./local_locators.ts";
import type { PeerLocators } from "./peer_locators.ts";

/** The exchange by which a context becomes ESTABLISHED: I1, I2 or I2bis is out. */
export interface Exchange {
  /** Initiator Nonce; the same in the I1 and the I2, so that the answer to either is recognised. */
  readonly nonce: number;
  /** Where the messages go, and whence the answer must come (RFC 5533 §7.16). */
  readonly pair: LocatorPair;
  /** What was announced last. */
  announced: LocalLocators | undefined;
  /** From the R1 or R1bis. */
  responderNonce: number;
  validator: Uint8Array | undefined;
  /** The tag that the R1bis complained about; undefined in an exchange that began with an I1. */
  readonly packetTag: ContextTag | undefined;
  retries: number;
  nominalMs: number;
  deadline: number;
  /** How often the I2 was given up for a new I1. */
  rounds: number;
  /** When something of the peer last made us answer or repeat out of turn. */
  promptedAt: number;
}

/** An Update Request that is not acknowledged yet (RFC 5533 §10.1). */
export interface OutstandingUpdate {
  readonly nonce: number;
  readonly announced: LocalLocators;
  readonly withList: boolean;
  nominalMs: number;
  /** Infinity while it waits for a working path. */
  deadline: number;
}

/** A probe on which a switch hangs that no failure asks for. */
export interface Trial {
  readonly pair: LocatorPair;
  /** Whose wish it is: the operator's, or that of the preferences. */
  readonly cause: "operator" | "better-path";
  readonly nonces: number[];
  deadline: number;
}

/** A probe that asks whether a pair works. */
export interface Question {
  readonly report: Report;
  /** When it left, monotonic ms. */
  readonly at: number;
}

/**
 * Questions to a peer that is silent for longer than usual, or that asks itself: does the current pair work, does an
 * alternate? A peer that runs this implementation answers each on its own way back, so that four things can be told apart.
 */
export interface Check {
  /** When the first question left, monotonic ms. */
  readonly at: number;
  /** Since when the peer is silent; `at` when it is not. */
  readonly since: number;
  /** The questions on the current pair, oldest first. */
  readonly asked: Question[];
  readonly alternate: { readonly pair: LocatorPair; readonly asked: Question[] } | undefined;
  /**
   * Where it begins. Nothing is urgent in a sparse flow, so that a single question is enough: on the alternate, if that is
   * known to work, where it gets through in any case and is answered on the peer's own path.
   */
  readonly first: "both" | "alternate" | "current";
  /**
   * The question on the current pair that the first one on the alternate names before it is sent: a single packet that
   * waits for an answer is no reason for more questions, but the peer has to send copies of that answer.
   */
  readonly announced: Report | undefined;
  /** The peer's first question on its current pair, while only the peer is in doubt: nothing is asked unless it stays so. */
  awaited: Report | undefined;
  /** The peer has got a question on the current pair: what we send arrives. */
  currentReported: boolean;
  /** The peer has got the question on the alternate. */
  alternateReported: boolean;
  /** It has got the last question there as well, which left together with the last one on the current pair. */
  lastReported: boolean;
  /** More time was given for that. */
  extended: boolean;
  /** Something came in answer on the way that the peer uses. */
  heard: boolean;
  /** So did payload. */
  payloadCame: boolean;
  /** The peer's last answer on the alternate: to report it tells the peer that it is heard there. */
  answer: Report | undefined;
  /** When the next question is due, or the conclusion. */
  deadline: number;
}

/** What exists only while the path of a context is in doubt. */
export interface Doubt {
  /** Pairs on which the peer's tag was sent to in this exploration: an R1bis may come back on any of them. */
  readonly probed: LocatorPair[];
  /** Whether it was more than a suspicion, so that packets may have been lost. */
  explored: boolean;
  /** Whether it is over: the current pair stays. */
  refuted: boolean;
  /** A pair that works as far as is known: copies of what is sent leave on it as well. */
  copyTo: LocatorPair | undefined;
  /** What the datapath was told of it. */
  toldCopyTo: LocatorPair | undefined;
}

/** What a context needs from its host. */
export interface ContextHost {
  readonly local: LocalLocators;
}

/**
 * A context in any state but IDLE, in which there is none. While it is ESTABLISHED and nothing goes on, it is put away as
 * text (`resting.ts`): what is added here as plain data is kept, and anything else keeps it from resting.
 */
export class Context implements PairSource {
  /** It is among those that {@linkcode ContextTable.rest} will look at. */
  mayRest = false;
  state: ContextState | "IDLE" = "IDLE";
  /** Known in ESTABLISHED and I2BIS-SENT, and in I2-SENT after an I2 of the peer. */
  peerTag: ContextTag | undefined = undefined;
  peer: PeerLocators | undefined = undefined;
  /** What the peer knows of our locators; undefined: the ULID only. */
  announced: LocalLocators | undefined = undefined;
  /** REAP. Exists in ESTABLISHED and I2BIS-SENT, but not while nothing is going on: `Failover` makes it when needed. */
  machine: ReapMachine | undefined = undefined;
  exchange: Exchange | undefined = undefined;
  update: OutstandingUpdate | undefined = undefined;
  trial: Trial | undefined = undefined;
  doubt: Doubt | undefined = undefined;
  check: Check | undefined = undefined;
  /** When the silence of the peer becomes suspect, monotonic ms; Infinity while it is not silent. */
  suspectAt: number = Infinity;
  /** How long this peer usually takes to answer; undefined until it has answered. */
  suspicion: Suspicion | undefined = undefined;
  /** Keepalive Timeout that the peer announced, in seconds; 0 when it did not. */
  keepaliveTimeout = 0;
  /** The pair on which payload leaves. */
  current: LocatorPair;
  /** The pair on whose reverse the peer's last probe in Operational came: where it sends. */
  incoming: LocatorPair | undefined = undefined;
  /** When `current` was chosen, in whole ms: a small integer costs no heap object, and there are many contexts. */
  since: number;
  /** What the datapath was told: the pair, and whether to hold copies. */
  toldPair: LocatorPair;
  toldHold = false;
  /** A negative cache entry ends then; an ESTABLISHED context whose peer lost its agent is left alone until then. */
  quietUntil = 0;
  /** The probes of this context have to wait until then, in whole ms: the host sends enough of them. */
  probesFrom = 0;
  /** The last answer to an ICMPv6 hint. */
  hintedAt = 0;
  /** When the peer was last asked, in whole ms. */
  checkedAt = 0;
  /** Checks in a row after which the peer did not hear of a failure of its own path, or did not act. */
  deafChecks = 0;
  switches = 0;
  probesSent = 0;
  keepalivesSent = 0;
  lastFailure: LastFailure | undefined = undefined;

  constructor(
    readonly host: ContextHost,
    readonly id: number,
    readonly ulid: LocatorPair,
    readonly fii: number,
    readonly localTag: ContextTag,
    now: number,
  ) {
    this.current = ulid;
    this.toldPair = ulid;
    this.since = Math.floor(now);
  }

  /** Only in these states may payload be rewritten (RFC 5533 §11). */
  get isEstablished(): boolean {
    return this.state === "ESTABLISHED" || this.state === "I2BIS-SENT";
  }

  /** Whether this is a negative cache entry. */
  get isNegative(): boolean {
    return this.state === "E-FAILED" || this.state === "NO-SUPPORT";
  }

  /** Whether the path in use is not known to work. */
  get inDoubt(): boolean {
    return this.machine !== undefined && this.machine.state !== ReapState.Operational;
  }

  /** Whether an address is one that the peer may use for us. The ULID is, even when the host lost it. */
  isLocal(address: Address): boolean {
    return address === this.ulid.local || this.host.local.has(address);
  }

  /** Whether control messages may come from the address (RFC 5533 §12.4). */
  isPeer(address: Address): boolean {
    return this.peer === undefined ? address === this.ulid.peer : this.peer.has(address);
  }

  /** Whether a packet with the peer's tag was lately sent on the pair, so that an R1bis may come back on it. */
  sentOn(pair: LocatorPair): boolean {
    return samePair(pair, this.current) || (this.doubt?.probed.some((probed) => samePair(probed, pair)) ?? false);
  }

  /**
   * Candidate pairs, best first (RFC 5534 §4.3): from usable locators of ours that the peer knows to verified ones of the
   * peer. Never empty: with nothing that can be used the ULIDs remain, since their path may come back.
   */
  pairs(): readonly LocatorPair[] {
    const { peer, announced } = this;
    const { local } = this.host;
    const usable = local.all.filter((locator) => locator.usable);
    const known = usable.filter(({ address }) => address === this.ulid.local || announced?.announces(address));
    // From a locator that the peer does not know yet a probe is answered by R1bis, and the I2bis introduces it.
    const sources = known.length > 0 ? known : usable.filter(({ address }) => local.announces(address));
    const ranked: { pair: LocatorPair; rank: number }[] = [];
    for (const locator of peer === undefined ? [] : sources) {
      for (let i = 0; i < peer!.addresses.length; i++) {
        const address = peer!.addresses[i];
        if (!peer!.verifiedAt(i) || peer!.addresses.indexOf(address) !== i) continue;
        ranked.push({ pair: this.intern(locator.address, address), rank: rankOf(locator, peer!, i) });
      }
    }
    if (ranked.length === 0) return [this.ulid];
    return ranked.sort((a, b) => a.rank - b.rank).slice(0, PAIRS_MAX).map(({ pair }) => pair);
  }

  /** How much the two hosts want the pair. */
  preference({ local, peer }: LocatorPair): PairPreference {
    const own = this.host.local.get(local), index = this.peer?.addresses.indexOf(peer) ?? -1;
    if (own === undefined || index < 0) return { rank: UNKNOWN_RANK, weight: 1, broken: false };
    return {
      rank: rankOf(own, this.peer!, index),
      weight: Math.max(weightOf(own), SMALL_WEIGHT) * Math.max(this.peer!.weight(index), SMALL_WEIGHT),
      broken: this.peer!.isBroken(index),
    };
  }

  /** Whether payload may be sent on the pair now. */
  isCandidate(pair: LocatorPair): boolean {
    return this.pairs().some((candidate) => samePair(candidate, pair));
  }

  /** Known pairs are one object, so that most contexts hold only their ULID pair. */
  intern(local: Address, peer: Address): LocatorPair {
    if (local === this.ulid.local && peer === this.ulid.peer) return this.ulid;
    if (local === this.current.local && peer === this.current.peer) return this.current;
    if (local === this.incoming?.local && peer === this.incoming.peer) return this.incoming;
    return { local, peer };
  }

  /** What the console shows. */
  view(activity: ActivityTable, book: PathBook): ContextView {
    return {
      id: this.id,
      ulid: this.ulid,
      fii: this.fii,
      state: this.state as ContextState,
      reap: this.machine?.state ?? ReapState.Operational,
      current: this.current,
      localLocators: this.host.local.all.map((locator) => locator.address),
      peerLocators: this.peer?.addresses.map((_, i) => this.peer!.view(i)) ?? [],
      since: this.since,
      rttMs: book.get(this.current)?.rttMs ?? NaN,
      switches: this.switches,
      lastFailure: this.lastFailure,
      activity: activity.get(this.id),
      probesSent: this.probesSent,
      keepalivesSent: this.keepalivesSent,
    };
  }
}

/** Of a pair whose locators are not known any more: after all others. */
const UNKNOWN_RANK = 10_000;
/** A weight of 0 leaves a small chance beside greater ones (RFC 2782). */
const SMALL_WEIGHT = 0.01;

/** Lower is better: priorities, among equals those that are there to stay; last what is broken or of another scope. */
function rankOf(own: LocalLocator, peer: PeerLocators, index: number): number {
  const transient = Number(own.transient ?? false) + Number(peer.isTransient(index));
  return priorityOf(own) + peer.priority(index) + transient / 4 + (peer.isBroken(index) ? 1_000 : 0) +
    (isUniqueLocal(own.address) === isUniqueLocal(peer.addresses[index]) ? 0 : 2_000);
}

/** `fc00::/7` (RFC 4193). */
function isUniqueLocal(address: Address): boolean {
  return /^f[cd][0-9a-f]{2}:/.test(address);
}
