/**
 * Translation inside the kernel, before the packet loop. ULID pairs are steered into one end of a veth pair; the kernel
 * cuts super-packets and completes checksums there, since nobody could do it behind a Shim6 header. At the other end a
 * program puts the header in and sends the packet on; what it does not know or cannot do it hands to the loop's device.
 * Programs at the real interfaces take the header out. See `translation_programs.ts`.
 *
 * The programs know only contexts whose path is settled. While a path is in doubt all packets of the context go through
 * the loop, which keeps copies and releases them: holding inside the kernel would need user space anyway, and a failing
 * path is no place for speed.
 */

import {
  BPF_F_MMAPABLE,
  BPF_F_NO_PREALLOC,
  BpfMap,
  BpfMapType,
  BpfProgram,
  type Netlink,
  setTransmitChecksumOffload,
  TcxLink,
} from "deno-tun";
import type { LocatorPair } from "../policies/policy.ts";
import { parseAddress } from "../wire/address.ts";
import type { ContextTag } from "../wire/message.ts";
import { PAYLOAD_HEADER_LENGTH, writePayloadHeader } from "../wire/payload.ts";
import { MAX_CONTEXTS } from "./accounting.ts";
import type { EbpfAccounting } from "./accounting_ebpf.ts";
import { PAIR_LENGTH } from "./accounting_programs.ts";
import type { DatapathContext } from "./datapath.ts";
import { TcxAttachments } from "./tcx_attachments.ts";
import {
  TAG_KEY_LENGTH,
  Translated,
  TRANSLATED_LENGTH,
  translateInProgram,
  translateOutProgram,
  WAY_IN_LENGTH,
  WAY_OUT_LENGTH,
  WayIn,
  WayOut,
} from "./translation_programs.ts";

const ETHERNET_HEADER_LENGTH = 14;
const TAG_OFFSET = 2;

/** A settled path of a context. */
export interface KernelPath {
  /** What the packets' addresses become. */
  readonly pair: LocatorPair;
  /** Of the pair's local locator. */
  readonly interfaceIndex: number;
  /** Of the pair, in octets. */
  readonly mtu: number;
}

interface TranslatedContext {
  readonly ulid: Uint8Array;
  readonly slot: number;
  localTag: Uint8Array;
  /** The header that leaves, with a next header of 0. */
  payloadHeader: Uint8Array;
  path: KernelPath | undefined;
}

/** Translation by eBPF programs. Its methods are to be called in the network namespace in which it was created. */
export class KernelTranslation {
  /** Where to steer ULID pairs. */
  readonly deviceIndex: number;

  readonly #netlink: Netlink;
  readonly #accounting: EbpfAccounting;
  readonly #undo: (() => void)[] = [];
  readonly #ends: readonly [string, string];
  readonly #out: BpfMap;
  readonly #in: BpfMap;
  #translated: Uint32Array;
  readonly #attachments: TcxAttachments;
  readonly #contexts = new Map<number, TranslatedContext>();

  /**
   * Creates the veth pair `deviceName`, up and without addresses, and loads the programs. `loopIndex` is the device that
   * gets what the programs do not translate; `accounting` counts what they do; `protocol` is the next header of Shim6.
   * Throws SystemError where the kernel does not allow or know what is needed.
   */
  constructor(
    netlink: Netlink,
    deviceName: string,
    loopIndex: number,
    accounting: EbpfAccounting,
    protocol: number,
  ) {
    this.#netlink = netlink;
    this.#accounting = accounting;
    this.#ends = [deviceName, `${deviceName}x`];
    try {
      this.#out = this.#hash("shim6_out", PAIR_LENGTH, WAY_OUT_LENGTH);
      this.#in = this.#hash("shim6_in", TAG_KEY_LENGTH, WAY_IN_LENGTH);
      const translated = this.#made(
        new BpfMap({
          type: BpfMapType.ARRAY,
          keySize: 4,
          valueSize: TRANSLATED_LENGTH,
          maxEntries: 1,
          flags: BPF_F_MMAPABLE,
          name: "shim6_total",
        }),
      );
      this.#translated = new Uint32Array(translated.map());
      const maps = { out: this.#out.fd, in: this.#in.fd, slots: accounting.slots.fd, translated: translated.fd };
      const out = this.#made(new BpfProgram("shim6_out", translateOutProgram(maps, loopIndex, protocol)));
      const inEthernet = this.#made(
        new BpfProgram("shim6_in", translateInProgram(maps, ETHERNET_HEADER_LENGTH, protocol)),
      );
      const inBare = this.#made(new BpfProgram("shim6_in_l3", translateInProgram(maps, 0, protocol)));
      // Behind the accounting: it must not take what comes out here for native packets.
      this.#attachments = this.#made(
        new TcxAttachments("last", (index) => {
          const ethernet = netlink.link(index)?.address !== "";
          return [{ program: ethernet ? inEthernet : inBare, direction: "ingress" }];
        }),
      );

      netlink.createVeth(...this.#ends);
      this.#undo.push(() => netlink.deleteLink(deviceName));
      setTransmitChecksumOffload(deviceName, false);
      for (const end of this.#ends) netlink.setLink(end, { arp: false, ownAddresses: false });
      for (const end of this.#ends) netlink.setLink(end, { up: true });
      this.deviceIndex = netlink.link(deviceName)!.index;
      this.#made(new TcxLink(out, netlink.link(this.#ends[1])!.index, "ingress", "first"));
    } catch (error) {
      this.#undoAll();
      throw error;
    }
  }

  #made<T extends { close(): void }>(thing: T): T {
    this.#undo.push(() => thing.close());
    return thing;
  }

  #hash(name: string, keySize: number, valueSize: number): BpfMap {
    const options = { keySize, valueSize, maxEntries: MAX_CONTEXTS, flags: BPF_F_NO_PREALLOC, name };
    return this.#made(new BpfMap({ type: BpfMapType.HASH, ...options }));
  }

  #undoAll(): void {
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }

  /** The largest packet (octets) that the device takes. */
  setDeviceMtu(mtu: number): void {
    for (const end of this.#ends) this.#netlink.setLink(end, { mtu });
  }

  /** The interfaces on which translated packets arrive. */
  setInterfaces(indexes: readonly number[]): void {
    this.#attachments.set(indexes);
  }

  /** Takes the header out of packets for a context from now on. The accounting must know the context. */
  add(context: DatapathContext): void {
    const { id, ulid, localTag, peerTag } = context;
    const octets = new Uint8Array(PAIR_LENGTH);
    octets.set(parseAddress(ulid.local));
    octets.set(parseAddress(ulid.peer), PAIR_LENGTH / 2);
    const translated: TranslatedContext = {
      ulid: octets,
      slot: this.#accounting.slotOf(id)!,
      localTag: tagKey(localTag),
      payloadHeader: payloadHeader(peerTag),
      path: undefined,
    };
    this.#contexts.set(id, translated);
    this.#writeIn(translated);
  }

  /** Gives a context other tags. */
  retag(id: number, localTag: ContextTag, peerTag: ContextTag): void {
    const context = this.#contexts.get(id);
    if (context === undefined) return;
    this.#in.delete(context.localTag);
    context.localTag = tagKey(localTag);
    context.payloadHeader = payloadHeader(peerTag);
    this.#writeIn(context);
    this.#writeOut(context);
  }

  /** Forgets a context. */
  remove(id: number): void {
    const context = this.#contexts.get(id);
    if (context === undefined) return;
    this.#contexts.delete(id);
    this.#in.delete(context.localTag);
    this.#out.delete(context.ulid);
  }

  /** Translates what is steered for a context; undefined leaves it to the packet loop. */
  setPath(id: number, path: KernelPath | undefined): void {
    const context = this.#contexts.get(id);
    if (context === undefined) return;
    context.path = path;
    this.#writeOut(context);
  }

  #writeIn(context: TranslatedContext): void {
    const way = new Uint8Array(WAY_IN_LENGTH);
    way.set(context.ulid.subarray(PAIR_LENGTH / 2), WayIn.peerUlid);
    way.set(context.ulid.subarray(0, PAIR_LENGTH / 2), WayIn.localUlid);
    new DataView(way.buffer).setUint32(WayIn.slot, context.slot, true);
    this.#in.update(context.localTag, way);
  }

  #writeOut(context: TranslatedContext): void {
    const { path } = context;
    if (path === undefined) {
      this.#out.delete(context.ulid);
      return;
    }
    const way = new Uint8Array(WAY_OUT_LENGTH);
    way.set(parseAddress(path.pair.local), WayOut.localLocator);
    way.set(parseAddress(path.pair.peer), WayOut.peerLocator);
    way.set(context.payloadHeader, WayOut.payloadHeader);
    const view = new DataView(way.buffer);
    view.setUint32(WayOut.interfaceIndex, path.interfaceIndex, true);
    view.setUint32(WayOut.mtu, path.mtu, true);
    view.setUint32(WayOut.slot, context.slot, true);
    this.#out.update(context.ulid, way);
  }

  /** Packets translated so far. */
  translated(): { readonly out: number; readonly in: number } {
    const count = (offset: number) => this.#translated[offset / 4] + this.#translated[offset / 4 + 1] * 4294967296;
    return { out: count(Translated.out), in: count(Translated.in) };
  }

  /** Removes the device and the programs. */
  close(): void {
    this.#translated = this.#translated.slice(); // the mapping goes, the figures stay
    this.#undoAll();
  }
}

/** A payload header as octets, with a next header of 0. */
function payloadHeader(tag: ContextTag): Uint8Array {
  const header = new Uint8Array(PAYLOAD_HEADER_LENGTH);
  writePayloadHeader(header, 0, 0, tag);
  return header;
}

/** A tag as the program that looks for it reads it. */
function tagKey(tag: ContextTag): Uint8Array {
  const key = new Uint8Array(TAG_KEY_LENGTH);
  key.set(payloadHeader(tag).subarray(TAG_OFFSET));
  return key;
}
