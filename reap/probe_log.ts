/** The probes that went out and came in lately: what reports are made of and matched against (RFC 5534 §5.2). */

import { MAX_REPORTS, type Report } from "../wire/message.ts";
import { type LocatorPair, samePair } from "../policies/policy.ts";

/** A probe of ours. */
export interface SentProbe {
  /** What it says of itself. */
  readonly report: Report;
  /** The pair on which it left. */
  readonly pair: LocatorPair;
  /** When, monotonic ms. */
  readonly at: number;
  /** Whether the peer answers it at once: it does not answer one that says Operational (RFC 5534 §6.9). */
  readonly asks: boolean;
  /** Whether the peer has reported it. */
  reported: boolean;
}

/**
 * Probes of ours that are remembered, and nonces of the peer's that were overtaken. More than fit into one message: a
 * report may come back late, and a burst is larger than {@linkcode MAX_REPORTS}.
 */
const MEMORY = 32;

/** Bounded: the oldest entries make room. */
export class ProbeLog {
  #sent: SentProbe[] = [];
  #received: Report[] = [];
  readonly #overtaken: number[] = [];

  /** Notes a probe that is about to leave on `pair`. */
  addSent(report: Report, pair: LocatorPair, at: number, asks: boolean): void {
    this.#sent.push({ report, pair, at, asks, reported: false });
    if (this.#sent.length > MEMORY) this.#sent.shift();
  }

  /** Notes a probe that came in: its own report, and those on the probes that the peer had sent before it. */
  addReceived(report: Report, earlier: readonly Report[]): void {
    this.#received.push(report);
    if (this.#received.length > MAX_REPORTS) this.#received.shift();
    for (const probe of earlier) {
      if (this.hasReceived(probe) || this.#overtaken.includes(probe.nonce)) continue;
      this.#overtaken.push(probe.nonce);
      if (this.#overtaken.length > MEMORY) this.#overtaken.shift();
    }
  }

  /** Whether a probe of ours left on the pair. */
  hasSent(pair: LocatorPair): boolean {
    return this.#sent.some((probe) => samePair(probe.pair, pair));
  }

  /** Forgets probes of either host between locators that form none of `pairs`. */
  keepOnly(pairs: readonly LocatorPair[]): void {
    this.#sent = this.#sent.filter((probe) => pairs.some((pair) => samePair(pair, probe.pair)));
    this.#received = this.#received.filter(({ source, destination }) =>
      pairs.some((pair) => pair.local === destination && pair.peer === source)
    );
  }

  /** Whether this very probe came in before. */
  hasReceived(report: Report): boolean {
    return this.#received.some((known) => sameProbe(known, report));
  }

  /** Whether a probe that the peer sent later came in earlier. */
  isOvertaken(report: Report): boolean {
    return this.#overtaken.includes(report.nonce);
  }

  /**
   * The probe of ours that a report of the peer is about. Nonce and addresses must both fit: this is the proof that the
   * path works, and that the peer is reachable at a new address (RFC 5533 §7.2).
   */
  match(report: Report): SentProbe | undefined {
    return this.#sent.find((probe) => sameProbe(probe.report, report));
  }

  /** Reports on our probes that the peer has not reported yet, newest first: the first is the probe that leaves now. */
  sentReports(): Report[] {
    const reports: Report[] = [];
    for (let i = this.#sent.length - 1; i >= 0 && reports.length < MAX_REPORTS; i--) {
      if (!this.#sent[i].reported) reports.push(this.#sent[i].report);
    }
    return reports;
  }

  /** Reports on the peer's probes in the order in which they came in: the first came over the fastest path of a burst. */
  receivedReports(): Report[] {
    return [...this.#received];
  }
}

function sameProbe(a: Report, b: Report): boolean {
  return a.nonce === b.nonce && a.source === b.source && a.destination === b.destination;
}
