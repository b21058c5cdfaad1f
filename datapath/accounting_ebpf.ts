/**
 * Accounting by eBPF. The programs of `accounting_programs.ts` run at the real interfaces and write into an array that
 * is mapped into this process, so that reading a context's activity is a handful of plain loads.
 */

import { BPF_F_MMAPABLE, BpfMap, BpfMapType, BpfProgram, monotonicNow, type TcxDirection, TcxLink } from "deno-tun";
import { formatAddress, parseAddress } from "../wire/address.ts";
import { type LocatorPair, pairKey } from "../policies/policy.ts";
import type { Activity, FlowObservation } from "../shim6/api.ts";
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

/** The slot of an address pair. */
interface PairSlot {
  readonly slot: number;
  readonly key: string;
  readonly octets: Uint8Array;
  /** Contexts that share the pair. */
  contexts: number;
}

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
  readonly #byId = new Map<number, PairSlot>();
  readonly #byPair = new Map<string, PairSlot>();
  /** Slots given back, the longest free first: a program that still holds one is done long before its next use. */
  readonly #free: number[] = [];
  #unused = 0;
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
    return this.#byId.get(id)?.slot;
  }

  setInterfaces(indexes: readonly number[]): void {
    this.#attachments.set(indexes);
  }

  add(id: number, ulid: LocatorPair): void {
    this.remove(id);
    const key = pairKey(ulid);
    let pair = this.#byPair.get(key);
    if (pair === undefined) {
      const octets = new Uint8Array(PAIR_LENGTH);
      octets.set(parseAddress(ulid.local));
      octets.set(parseAddress(ulid.peer), PAIR_LENGTH / 2);
      pair = { slot: this.#takeSlot(), key, octets, contexts: 0 };
      this.#contexts.update(octets, new Uint8Array(new Uint32Array([pair.slot]).buffer));
      this.#flows.delete(octets);
      this.#byPair.set(key, pair);
    }
    pair.contexts++;
    this.#byId.set(id, pair);
  }

  #takeSlot(): number {
    if (this.#unused === MAX_CONTEXTS && this.#free.length === 0) {
      throw new RangeError(`more than ${MAX_CONTEXTS} address pairs to account`);
    }
    const slot = this.#unused < MAX_CONTEXTS ? this.#unused++ : this.#free.shift()!;
    this.#words.fill(0, slot * SLOT_WORDS, (slot + 1) * SLOT_WORDS);
    return slot;
  }

  remove(id: number): void {
    const pair = this.#byId.get(id);
    if (pair === undefined) return;
    this.#byId.delete(id);
    if (--pair.contexts > 0) return;
    this.#contexts.delete(pair.octets);
    this.#byPair.delete(pair.key);
    this.#free.push(pair.slot);
  }

  read(id: number, into: Activity): boolean {
    const pair = this.#byId.get(id);
    if (pair === undefined) return false;
    const words = this.#words, base = pair.slot * SLOT_WORDS;
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
    this.#byId.clear();
    this.#byPair.clear();
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
