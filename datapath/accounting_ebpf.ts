/**
 * Accounting by eBPF. The programs of `accounting_programs.ts` run at the real interfaces and write into an array that
 * is mapped into this process, so that reading a context's activity is a handful of plain loads.
 */

import { BPF_F_MMAPABLE, BpfMap, BpfMapType, BpfProgram, monotonicNow, type TcxDirection, TcxLink } from "deno-tun";
import { formatAddress } from "../wire/address.ts";
import type { LocatorPair } from "../policies/policy.ts";
import type { Activity, FlowObservation } from "../shim6/api.ts";
import { AccountedPairs } from "./accounted_pairs.ts";
import { type Accounting, MAX_CONTEXTS, MAX_FLOWS, settle } from "./accounting.ts";
import { TcxAttachments } from "./tcx_attachments.ts";
import { accountingProgram, Flow, FLOW_LENGTH, PAIR_LENGTH, Slot, SLOT_LENGTH } from "./accounting_programs.ts";

/** The loopback interface: there in every network namespace, always under this index. */
const LOOPBACK_INDEX = 1;

/** Words of 32 bits in a slot. */
const SLOT_WORDS = SLOT_LENGTH / 4;

/**
 * A flow that another processor writes while all are read may be missed; reading back this far (ms) finds it at the
 * next call.
 */
const FLOW_OVERLAP = 1;

/** Accounting inside the kernel, Linux 6.6 and later. */
export class EbpfAccounting implements Accounting {
  /** `ebpf` */
  readonly name = "ebpf";
  /** Empty: there is nothing better. */
  readonly reason = "";

  readonly #closers: (() => void)[] = [];
  readonly #contexts: BpfMap;
  readonly #slots: BpfMap;
  readonly #flows: BpfMap;
  readonly #attachments: TcxAttachments;
  /** The slots, mapped. */
  #words: Uint32Array;
  /**
   * The number of a pair is that of its slot. It is not used again before all others have been: a program that still
   * holds the slot is done long before.
   */
  readonly #pairs = new AccountedPairs(MAX_CONTEXTS);
  #flowsReadAt = 0;

  /** `protocol`: next header of Shim6. Throws `SystemError` where the kernel does not allow or know what is needed. */
  constructor(excludedPorts: readonly number[], protocol: number) {
    try {
      this.#contexts = this.#map(BpfMapType.HASH, PAIR_LENGTH, 4, MAX_CONTEXTS, 0, "shim6_contexts");
      this.#slots = this.#map(BpfMapType.ARRAY, 4, SLOT_LENGTH, MAX_CONTEXTS, BPF_F_MMAPABLE, "shim6_slots");
      this.#flows = this.#map(BpfMapType.LRU_HASH, PAIR_LENGTH, FLOW_LENGTH, MAX_FLOWS, 0, "shim6_flows");
      this.#words = new Uint32Array(this.#slots.map());
      const maps = { contexts: this.#contexts.fd, slots: this.#slots.fd, flows: this.#flows.fd };
      const load = (direction: TcxDirection) => {
        const code = accountingProgram(direction, maps, excludedPorts, protocol);
        const program = new BpfProgram(`shim6_${direction}`, code);
        this.#closers.push(() => program.close());
        return { program, direction };
      };
      const programs = [load("ingress"), load("egress")];
      this.#attachments = new TcxAttachments("first", () => programs);
      // Tells a kernel without tcx here and now, not when the first interface appears.
      new TcxLink(programs[0].program, LOOPBACK_INDEX, "ingress", "first").close();
    } catch (error) {
      for (const close of this.#closers) close();
      throw error;
    }
  }

  #map(type: number, keySize: number, valueSize: number, maxEntries: number, flags: number, name: string): BpfMap {
    const map = new BpfMap({ type, keySize, valueSize, maxEntries, flags, name });
    this.#closers.push(() => map.close());
    return map;
  }

  /** The array of slots, for programs that count what they translate. */
  get slots(): BpfMap {
    return this.#slots;
  }

  /** The number of a context's slot; undefined when there is no such context. */
  slotOf(id: number): number | undefined {
    const slot = this.#pairs.of(id);
    return slot < 0 ? undefined : slot;
  }

  setInterfaces(indexes: readonly number[]): void {
    this.#attachments.set(indexes);
  }

  add(id: number, ulid: LocatorPair): void {
    this.remove(id);
    const slot = this.#pairs.add(id, ulid);
    if (this.#pairs.users(slot) > 1) return;
    this.#words.fill(0, slot * SLOT_WORDS, (slot + 1) * SLOT_WORDS);
    const octets = this.#pairs.octets(slot);
    this.#contexts.update(octets, new Uint8Array(new Uint32Array([slot]).buffer));
    this.#flows.delete(octets);
  }

  remove(id: number): void {
    const slot = this.#pairs.of(id);
    if (slot < 0) return;
    if (this.#pairs.users(slot) === 1) this.#contexts.delete(this.#pairs.octets(slot));
    this.#pairs.remove(id);
  }

  mark(id: number): number {
    const slot = this.#pairs.of(id);
    if (slot < 0) return 0;
    const base = slot * SLOT_WORDS;
    return this.#words[base + Slot.sentPackets / 4] + this.#words[base + Slot.receivedPackets / 4];
  }

  read(id: number, into: Activity): boolean {
    const slot = this.#pairs.of(id);
    if (slot < 0) return false;
    const words = this.#words, base = slot * SLOT_WORDS;
    into.lastSent = milliseconds(words, base + Slot.lastSent / 4);
    into.lastReceived = milliseconds(words, base + Slot.lastReceived / 4);
    into.firstUnanswered = milliseconds(words, base + Slot.firstUnanswered / 4);
    into.firstUnreplied = milliseconds(words, base + Slot.firstUnreplied / 4);
    into.sentPackets = integer(words, base + Slot.sentPackets / 4);
    into.sentBytes = integer(words, base + Slot.sentBytes / 4);
    into.receivedPackets = integer(words, base + Slot.receivedPackets / 4);
    into.receivedBytes = integer(words, base + Slot.receivedBytes / 4);
    settle(into);
    return true;
  }

  flows(): FlowObservation[] {
    const since = this.#flowsReadAt - FLOW_OVERLAP;
    this.#flowsReadAt = monotonicNow();
    const { count, keys, values } = this.#flows.entries();
    const words = new Uint32Array(values.buffer);
    const flows: FlowObservation[] = [];
    for (let i = 0; i < count; i++) {
      const base = i * FLOW_LENGTH / 4;
      const lastSeen = milliseconds(words, base + Flow.lastSeen / 4);
      if (lastSeen < since) continue;
      flows.push({
        local: formatAddress(keys, i * PAIR_LENGTH),
        peer: formatAddress(keys, i * PAIR_LENGTH + PAIR_LENGTH / 2),
        packets: integer(words, base + Flow.packets / 4),
        bytes: integer(words, base + Flow.bytes / 4),
        firstSeen: milliseconds(words, base + Flow.firstSeen / 4),
        lastSeen,
      });
    }
    return flows;
  }

  close(): void {
    this.#attachments.close();
    this.#pairs.clear();
    this.#words = new Uint32Array(0);
    for (const close of this.#closers.splice(0)) close();
  }
}

/**
 * A 64-bit integer that the kernel may be writing. The upper half is read before and after the lower one: if it
 * changed, the two do not belong together. Atomic loads, since the compiler would merge two plain ones.
 */
function integer(words: Uint32Array, index: number): number {
  for (;;) {
    const high = Atomics.load(words, index + 1);
    const low = words[index];
    if (Atomics.load(words, index + 1) === high) return high * 4294967296 + low;
  }
}

/** A time in ns as ms. */
function milliseconds(words: Uint32Array, index: number): number {
  return integer(words, index) / 1e6;
}
