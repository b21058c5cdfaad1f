/**
 * Flows without context that the tap sees: bounded, and in the order in which they were last seen, so that the idle
 * ones are forgotten first and a report visits only what has changed. The eBPF backend has the kernel's LRU hash for it.
 */

import { formatAddress } from "../wire/address.ts";
import type { FlowObservation } from "../shim6/api.ts";
import { PairTable } from "./pair_table.ts";

const NONE = -1;

/** Flows by address pair, the one seen last first. */
export class FlowTable {
  readonly #pairs: PairTable;
  readonly #firstSeen: Float64Array;
  readonly #lastSeen: Float64Array;
  readonly #packets: Float64Array;
  readonly #bytes: Float64Array;
  /** Seen since the last report: those are all in front of the others. */
  readonly #changed: Uint8Array;
  readonly #newer: Int32Array;
  readonly #older: Int32Array;
  #newest = NONE;
  #oldest = NONE;

  /** Room for `capacity` flows. `seed` is an unpredictable 32-bit number. */
  constructor(capacity: number, seed: number) {
    this.#pairs = new PairTable(capacity, seed);
    this.#firstSeen = new Float64Array(capacity);
    this.#lastSeen = new Float64Array(capacity);
    this.#packets = new Float64Array(capacity);
    this.#bytes = new Float64Array(capacity);
    this.#changed = new Uint8Array(capacity);
    this.#newer = new Int32Array(capacity);
    this.#older = new Int32Array(capacity);
  }

  /** Whether the flow between the addresses at `words[local]` and `words[peer]` is known. */
  has(words: Uint32Array, local: number, peer: number): boolean {
    return this.#pairs.find(words, local, peer) >= 0;
  }

  /** Counts what the flow sent at `time` (monotonic ms). A new flow takes the place of the one idle longest. */
  count(words: Uint32Array, local: number, peer: number, time: number, packets: number, bytes: number): void {
    let flow = this.#pairs.find(words, local, peer);
    if (flow >= 0) {
      this.#unlink(flow);
    } else {
      if (this.#pairs.full) this.#remove(this.#oldest);
      flow = this.#pairs.insert(words, local, peer);
      this.#firstSeen[flow] = time;
      this.#packets[flow] = this.#bytes[flow] = 0;
    }
    this.#lastSeen[flow] = time;
    this.#packets[flow] += packets;
    this.#bytes[flow] += bytes;
    this.#changed[flow] = 1;
    this.#older[flow] = this.#newest;
    this.#newer[flow] = NONE;
    if (this.#newest === NONE) this.#oldest = flow;
    else this.#newer[this.#newest] = flow;
    this.#newest = flow;
  }

  /** Forgets a flow, known or not. */
  forget(words: Uint32Array, local: number, peer: number): void {
    const flow = this.#pairs.find(words, local, peer);
    if (flow >= 0) this.#remove(flow);
  }

  /** The flows that sent something since the last report, the one seen last first. */
  report(): FlowObservation[] {
    const flows: FlowObservation[] = [];
    for (let flow = this.#newest; flow !== NONE && this.#changed[flow] === 1; flow = this.#older[flow]) {
      this.#changed[flow] = 0;
      const octets = this.#pairs.octets(flow);
      flows.push({
        local: formatAddress(octets),
        peer: formatAddress(octets, octets.length / 2),
        packets: this.#packets[flow],
        bytes: this.#bytes[flow],
        firstSeen: this.#firstSeen[flow],
        lastSeen: this.#lastSeen[flow],
      });
    }
    return flows;
  }

  #unlink(flow: number): void {
    const newer = this.#newer[flow], older = this.#older[flow];
    if (newer === NONE) this.#newest = older;
    else this.#older[newer] = older;
    if (older === NONE) this.#oldest = newer;
    else this.#newer[older] = newer;
  }

  #remove(flow: number): void {
    this.#unlink(flow);
    this.#pairs.remove(flow);
  }
}
