/**
 * The datapath that works everywhere: packets that must be translated or held are steered into a TUN device, and a
 * Worker handles them (`tun_worker.ts`). This is the main thread's half: it owns the device, the sockets and the
 * steering, tells the Worker by a ring in shared memory what to do, and never touches a packet.
 *
 * The order of changes keeps packets from falling between two chairs: the Worker is told before a pair is steered and
 * before the steering ends, and it carries out what it was told before it handles a packet that came later.
 */

import {
  closeFd,
  createEventFd,
  drainEventFd,
  Errno,
  errnoName,
  monotonicNow,
  Netlink,
  openPayloadSocket,
  openSender,
  openTun,
  type Sender,
  signalEventFd,
  SystemError,
} from "deno-tun";
import { type LocatorPair, pairKey, samePair } from "../policies/policy.ts";
import type { Activity, FlowObservation, LocalLocator, PathInstruction } from "../shim6/api.ts";
import { type Address, ADDRESS_LENGTH, formatAddress, writeAddress } from "../wire/address.ts";
import { IPV6_MIN_MTU } from "../wire/ipv6.ts";
import { type ContextTag, SHIM6_PROTOCOL } from "../wire/message.ts";
import { getTag } from "../wire/octets.ts";
import { PAYLOAD_HEADER_LENGTH, writePayloadHeader } from "../wire/payload.ts";
import { type Accounting, MAX_CONTEXTS, mergeActivity, noActivity, openAccounting } from "./accounting.ts";
import { EbpfAccounting } from "./accounting_ebpf.ts";
import type { Datapath, DatapathContext, DatapathCounters, DatapathNotice } from "./datapath.ts";
import { KernelTranslation } from "./kernel_translation.ts";
import { Numbers } from "./numbers.ts";
import { SharedRing } from "./shared_ring.ts";
import { Steering } from "./steering.ts";
import { TcpNudge } from "./tcp_nudge.ts";
import {
  ACTIVITY_FIELDS,
  ActivityField,
  Command,
  COMMAND_BYTES,
  COMMAND_CAPACITY,
  CommandField,
  COUNTERS,
  Notice,
  NOTICE_BYTES,
  NOTICE_CAPACITY,
  NoticeField,
  PathFlag,
  type TunWorkerInit,
  WorkerState,
} from "./tun_shared.ts";

/** A learned path MTU is forgotten after so long, to find out whether the path has become wider (RFC 8201 §4). */
const PATH_MTU_LIFETIME_MS = 10 * 60_000;
const LARGEST_MTU = 65535;
/** For a locator whose interface is not known. */
const ETHERNET_MTU = 1500;
const WORKER_START_MS = 10_000, WORKER_ANSWER_MS = 2_000;
const DEFAULT_HOLD_BYTES = 16 << 20, DEFAULT_HOLD_SHARE = 256 << 10, DEFAULT_HOLD_MS = 10_000;

/** How to open the datapath. */
export interface TunDatapathOptions {
  /** The module that calls `tunWorkerMain` when it runs as a Worker of the name `datapath`. */
  readonly moduleUrl: string;
  /** A socket to use; an own one when absent. */
  readonly netlink?: Netlink;
  /** Name of the device; `shim0` when absent. */
  readonly deviceName?: string;
  /** Ports whose flows are not reported. */
  readonly excludedPorts: readonly number[];
  /** This way of accounting or none. */
  readonly accounting?: "ebpf" | "tap";
  /**
   * Who translates: the packet loop for all (when absent), the kernel before it for settled paths (backend `bpf`), or
   * the kernel where it can (`auto`).
   */
  readonly translation?: "loop" | "kernel" | "auto";
  /** Octets held back in all; 16 MiB when absent. */
  readonly holdBytes?: number;
  /** Octets held back for one context; 256 KiB when absent. */
  readonly holdShare?: number;
  /** The age in ms at which the copy of a datagram is no longer worth sending. */
  readonly holdMs?: number;
  /** Next header of Shim6; 140 when absent. */
  readonly protocol?: number;
}

/** The Worker does not do its part. */
export class DatapathError extends Error {
  /** Always this. */
  override name = "DatapathError";
}

/** No context has the number, or none is in the slot. */
const NONE = -1;

/**
 * Backend `tun`, or `bpf` when the kernel translates as well. Its methods must be called with the thread in the network
 * namespace in which it was created.
 */
export class TunDatapath implements Datapath {
  /** Which backend it is. */
  readonly name: "tun" | "bpf";
  /** Which way of accounting is in use. */
  readonly accountingName: "ebpf" | "tap";
  /** Why the better way of accounting is not; undefined when it is. */
  readonly accountingReason: string | undefined;
  /** Why the kernel does not translate, as `auto` would have it; undefined when it does or need not. */
  readonly translationReason: string | undefined;
  /** Readable when {@linkcode nextNotice} has something. */
  readonly noticeFd: number;
  readonly #netlink: Netlink;
  readonly #ownsNetlink: boolean;
  readonly #deviceIndex: number;
  #deviceMtu = ETHERNET_MTU - PAYLOAD_HEADER_LENGTH;
  readonly #steering: Steering;
  readonly #accounting: Accounting;
  readonly #kernel: KernelTranslation | undefined;
  /** None where the kernel does not run programs of ours. */
  readonly #nudge: TcpNudge | undefined;
  /** Slots whose path has failed, and what was sent there last is lost. */
  readonly #lost = new Set<number>();
  /** Slots back on their ULID pair: steered until TCP has been told, as only what is steered can have another MTU. */
  readonly #keptSteered = new Set<number>();
  #nudgesFailed = 0;
  readonly #worker: Worker;
  readonly #fds: number[];
  readonly #commandFd: number;
  readonly #commands = new SharedRing(COMMAND_CAPACITY, COMMAND_BYTES);
  readonly #commandView = new DataView(this.#commands.memory);
  readonly #commandBytes = new Uint8Array(this.#commands.memory);
  readonly #notices = new SharedRing(NOTICE_CAPACITY, NOTICE_BYTES);
  readonly #noticeView = new DataView(this.#notices.memory);
  readonly #activity = new Float64Array(new SharedArrayBuffer(MAX_CONTEXTS * ACTIVITY_FIELDS * 8));
  readonly #counters = new Float64Array(new SharedArrayBuffer(COUNTERS.length * 8));
  readonly #state = new Int32Array(new SharedArrayBuffer(4));
  readonly #translated = noActivity();
  /** Used in turn, so that the numbers of a context that ended are not taken for those of the next one. */
  readonly #slots = new Numbers(MAX_CONTEXTS);
  /** By the context's number, for there may be ten thousand contexts, and what is known of each slot lies in the arrays below. */
  #slotOf = new Int16Array(64).fill(NONE);
  readonly #idOf = new Int32Array(MAX_CONTEXTS).fill(NONE);
  /** The ULIDs, the local one first. */
  readonly #ulids = new Uint8Array(MAX_CONTEXTS * 2 * ADDRESS_LENGTH);
  /** MTU of the steering route; 0 while the pair is not steered. */
  readonly #steeredMtu = new Uint16Array(MAX_CONTEXTS);
  /** As last reported, see {@linkcode readActivity}. */
  readonly #firstUnanswered = new Float64Array(MAX_CONTEXTS);
  readonly #firstUnreplied = new Float64Array(MAX_CONTEXTS);
  /** Changes when there was payload, see {@linkcode hasNews}. */
  readonly #marks = new Float64Array(MAX_CONTEXTS);
  /** By slot. Most contexts never leave their ULID pair, and have none. */
  readonly #paths = new Map<number, PathInstruction>();
  readonly #senders = new Map<Address, Sender>();
  /** MTU of each locator's interface. */
  #linkMtu = new Map<Address, number>();
  #locators: readonly LocalLocator[] = [];
  readonly #pathMtu = new Map<string, { readonly mtu: number; readonly until: number }>();
  #closed = false;

  /**
   * Creates the device and starts the Worker. What a killed agent left behind is removed first.
   * Throws SystemError (EPERM without CAP_NET_ADMIN and CAP_NET_RAW, ENOENT without /dev/net/tun) or DatapathError.
   */
  constructor(options: TunDatapathOptions) {
    const undo: (() => void)[] = [];
    const made = <T>(value: T, remove: (value: T) => void): T => {
      undo.push(() => remove(value));
      return value;
    };
    try {
      // First, so that it loads while this thread does everything else.
      this.#worker = made(
        new Worker(options.moduleUrl, { type: "module", name: "datapath" }),
        (worker) => worker.terminate(),
      );
      this.#ownsNetlink = options.netlink === undefined;
      this.#netlink = options.netlink ?? made(new Netlink(), (netlink) => netlink.close());
      const { deviceName = "shim0", protocol = SHIM6_PROTOCOL } = options;
      Steering.removeLeftovers(this.#netlink, deviceName);
      this.#accounting = made(
        openAccounting({ excludedPorts: options.excludedPorts, force: options.accounting, protocol }),
        (accounting) => accounting.close(),
      );
      this.accountingName = this.#accounting.name;
      this.accountingReason = this.#accounting.reason || undefined;
      const loopOnly = (options.translation ?? "loop") === "loop";
      const tun = made(openTun(loopOnly ? deviceName : `${deviceName}t`), ({ fd }) => closeFd(fd));
      this.#deviceIndex = tun.index;
      if (this.#accounting instanceof EbpfAccounting) {
        try {
          this.#nudge = made(new TcpNudge(tun.fd, (slot) => this.#steeredMtu[slot]), (nudge) => nudge.close());
        } catch (error) {
          if (!(error instanceof SystemError)) throw error; // TCP's own timer does it, only later
        }
      }
      if (!loopOnly) {
        try {
          this.#kernel = made(this.#openKernel(deviceName, protocol), (kernel) => kernel.close());
        } catch (error) {
          if (options.translation === "kernel" || !(error instanceof SystemError || error instanceof DatapathError)) {
            throw error;
          }
          this.translationReason = error.message;
          this.#netlink.setLink(tun.index, { name: deviceName });
        }
      }
      this.name = this.#kernel === undefined ? "tun" : "bpf";
      this.#netlink.setLink(tun.index, { mtu: this.#deviceMtu, ownAddresses: false });
      this.#netlink.setLink(tun.index, { up: true });
      const steered = this.#kernel?.deviceIndex ?? tun.index;
      this.#steering = made(new Steering(this.#netlink, steered), (steering) => steering.close());
      const payloadFd = made(openPayloadSocket(protocol), closeFd);
      this.#commandFd = made(createEventFd(), closeFd);
      this.noticeFd = made(createEventFd(), closeFd);
      this.#fds = [tun.fd, payloadFd, this.#commandFd, this.noticeFd];
      const init: TunWorkerInit = {
        tunFd: tun.fd,
        payloadFd,
        commandFd: this.#commandFd,
        noticeFd: this.noticeFd,
        commands: this.#commands.memory,
        notices: this.#notices.memory,
        activity: this.#activity.buffer,
        counters: this.#counters.buffer,
        state: this.#state.buffer,
        contexts: MAX_CONTEXTS,
        holdBytes: options.holdBytes ?? DEFAULT_HOLD_BYTES,
        holdShare: options.holdShare ?? DEFAULT_HOLD_SHARE,
        holdDatagramMs: options.holdMs ?? DEFAULT_HOLD_MS,
        seed: crypto.getRandomValues(new Uint32Array(1))[0],
        protocol,
      };
      this.#worker.postMessage(init);
      Atomics.wait(this.#state, 0, WorkerState.STARTING, WORKER_START_MS);
      this.#checkWorker();
    } catch (error) {
      for (const step of undo.reverse()) step();
      throw error;
    }
  }

  #openKernel(deviceName: string, protocol: number): KernelTranslation {
    if (!(this.#accounting instanceof EbpfAccounting)) throw new DatapathError(this.#accounting.reason);
    const kernel = new KernelTranslation(this.#netlink, deviceName, this.#deviceIndex, this.#accounting, protocol);
    kernel.setDeviceMtu(this.#deviceMtu);
    return kernel;
  }

  #checkWorker(): void {
    const state = Atomics.load(this.#state, 0);
    if (state !== WorkerState.RUNNING) {
      throw new DatapathError(`the packet loop ${state === WorkerState.STARTING ? "does not start" : "has ended"}`);
    }
  }

  /** Writes a command, with `fill` for all but its kind, and wakes the Worker. Waits while the ring is full. */
  #command(kind: number, fill: (view: DataView, at: number) => void): void {
    let at = this.#commands.writeOffset();
    if (at < 0) {
      signalEventFd(this.#commandFd);
      if (!this.#commands.waitForReader(this.#commands.capacity - 1, WORKER_ANSWER_MS)) {
        throw new DatapathError("the packet loop does not answer");
      }
      at = this.#commands.writeOffset();
    }
    this.#commandView.setInt32(at + CommandField.KIND, kind, true);
    fill(this.#commandView, at);
    this.#commands.commit();
    signalEventFd(this.#commandFd);
  }

  #putAddress(at: number, address: Address): void {
    writeAddress(address, this.#commandBytes, at);
  }

  /** Writes the octets that a tag has in a payload header, P bit included. */
  #putTag(at: number, tag: ContextTag): void {
    const header = new Uint8Array(PAYLOAD_HEADER_LENGTH);
    writePayloadHeader(header, 0, 0, tag);
    this.#commandBytes.set(header.subarray(2), at);
  }

  /** The addresses payload may be sent from. Throws SystemError when a sender cannot be opened. */
  setLocators(locators: readonly LocalLocator[]): void {
    this.#locators = locators;
    const replaced = new Set<Sender>();
    const wanted = new Map(locators.map((locator) => [locator.address, locator]));
    for (const [address, sender] of this.#senders) {
      if (wanted.get(address)?.interfaceName === sender.interfaceName) continue;
      this.#senders.delete(address);
      replaced.add(sender);
    }
    this.#readLinkMtus();
    this.#setDeviceMtu();
    for (const { address, interfaceName } of locators) {
      if (this.#senders.has(address)) continue;
      let sender: Sender;
      try {
        sender = openSender(address, interfaceName);
      } catch (error) {
        // The interface went away meanwhile; the next change of locators tells.
        if (error instanceof SystemError && error.errno === Errno.ENODEV) continue;
        throw error;
      }
      this.#senders.set(address, sender);
      this.#command(Command.ADD_SENDER, (view, at) => {
        view.setInt32(at + CommandField.SENDER, sender.fd, true);
        view.setInt32(at + CommandField.MTU, this.#linkMtu.get(address) ?? ETHERNET_MTU, true);
        this.#putAddress(at + CommandField.LOCATOR_LOCAL, address);
      });
    }
    for (const [slot, path] of this.#paths) this.#applyPath(slot, path, false);
    // Only now, when no path names them any more; the Worker closes them.
    for (const { fd } of replaced) {
      this.#command(Command.REMOVE_SENDER, (view, at) => view.setInt32(at + CommandField.SENDER, fd, true));
    }
    const interfaces = [...new Set(locators.map((locator) => locator.interfaceIndex))];
    this.#accounting.setInterfaces(interfaces);
    this.#kernel?.setInterfaces(interfaces);
  }

  #readLinkMtus(): void {
    const byIndex = new Map(this.#netlink.links().map((link) => [link.index, Math.min(link.mtu, LARGEST_MTU)]));
    this.#linkMtu = new Map(
      this.#locators.map(({ address, interfaceIndex }) => [address, byIndex.get(interfaceIndex) ?? ETHERNET_MTU]),
    );
  }

  /** The device takes what the widest path carries; the routes say what each path carries. */
  #setDeviceMtu(): void {
    const mtu = Math.max(IPV6_MIN_MTU, ...this.#linkMtu.values()) - PAYLOAD_HEADER_LENGTH;
    if (mtu === this.#deviceMtu || mtu < IPV6_MIN_MTU) return;
    this.#netlink.setLink(this.#deviceIndex, { mtu });
    this.#kernel?.setDeviceMtu(mtu);
    this.#deviceMtu = mtu;
  }

  #mtuOf(pair: LocatorPair): number {
    const link = this.#linkMtu.get(pair.local) ?? ETHERNET_MTU;
    return Math.max(IPV6_MIN_MTU, Math.min(link, this.#pathMtu.get(pairKey(pair))?.mtu ?? LARGEST_MTU));
  }

  #slot(id: number): number {
    return id < this.#slotOf.length ? this.#slotOf[id] : NONE;
  }

  /** The ULIDs, the local one first. */
  #ulidOctets(slot: number): Uint8Array {
    return this.#ulids.subarray(slot * 2 * ADDRESS_LENGTH, (slot + 1) * 2 * ADDRESS_LENGTH);
  }

  #ulid(slot: number): LocatorPair {
    const octets = this.#ulidOctets(slot);
    return { local: formatAddress(octets), peer: formatAddress(octets, ADDRESS_LENGTH) };
  }

  /** Accounts for a context, and translates what arrives for it. Throws RangeError when there are too many. */
  addContext(context: DatapathContext): void {
    const { id, ulid, fii } = context;
    if (this.#slot(id) !== NONE) return;
    const slot = this.#slots.take();
    if (slot < 0) throw new RangeError(`more than ${MAX_CONTEXTS} contexts`);
    try {
      // Both know a context by its ULID pair, which is not a forked one's own: the packet loop alone serves it.
      if (fii === 0) {
        this.#accounting.add(id, ulid);
        this.#kernel?.add(context);
      }
    } catch (error) {
      this.#slots.give(slot);
      throw error;
    }
    this.#command(Command.ADD, (view, at) => {
      view.setInt32(at + CommandField.SLOT, slot, true);
      view.setInt32(at + CommandField.FLAGS, fii === 0 ? 0 : 1, true);
      this.#putAddress(at + CommandField.ULID_LOCAL, ulid.local);
      this.#putAddress(at + CommandField.ULID_PEER, ulid.peer);
      this.#putTag(at + CommandField.LOCAL_TAG, context.localTag);
      this.#putTag(at + CommandField.PEER_TAG, context.peerTag);
    });
    if (id >= this.#slotOf.length) {
      const larger = new Int16Array(Math.max(2 * this.#slotOf.length, id + 1)).fill(NONE);
      larger.set(this.#slotOf);
      this.#slotOf = larger;
    }
    this.#slotOf[id] = slot;
    this.#idOf[slot] = id;
    writeAddress(ulid.local, this.#ulids, slot * 2 * ADDRESS_LENGTH);
    writeAddress(ulid.peer, this.#ulids, slot * 2 * ADDRESS_LENGTH + ADDRESS_LENGTH);
    this.#steering.addUlid(ulid.local);
  }

  /** Gives a context other tags. */
  retag(id: number, localTag: ContextTag, peerTag: ContextTag): void {
    const slot = this.#slot(id);
    if (slot === NONE) return;
    this.#command(Command.RETAG, (view, at) => {
      view.setInt32(at + CommandField.SLOT, slot, true);
      this.#putTag(at + CommandField.LOCAL_TAG, localTag);
      this.#putTag(at + CommandField.PEER_TAG, peerTag);
    });
    this.#kernel?.retag(id, localTag, peerTag);
  }

  /** Ends a context; unknown ones are ignored. */
  removeContext(id: number): void {
    const slot = this.#slot(id);
    if (slot === NONE) return;
    this.#slotOf[id] = this.#idOf[slot] = NONE;
    this.#paths.delete(slot);
    this.#lost.delete(slot);
    this.#keptSteered.delete(slot);
    const ulid = this.#ulid(slot);
    if (this.#steeredMtu[slot] !== 0) this.#steering.unsteer(ulid);
    // Here and not when the slot is used again: memory that was never written costs nothing.
    for (const figures of [this.#steeredMtu, this.#firstUnanswered, this.#firstUnreplied, this.#marks]) {
      figures[slot] = 0;
    }
    this.#command(Command.REMOVE, (view, at) => view.setInt32(at + CommandField.SLOT, slot, true));
    this.#slots.give(slot);
    this.#kernel?.remove(id);
    this.#accounting.remove(id);
    this.#steering.removeUlid(ulid.local);
  }

  /** How payload of a context is carried from now on. */
  setPath(id: number, path: PathInstruction): void {
    const slot = this.#slot(id);
    if (slot === NONE) return;
    if (path.lost && this.#nudge !== undefined) this.#lost.add(slot);
    this.#applyPath(slot, path, true);
    this.#paths.set(slot, path);
  }

  /**
   * Makes TCP repeat at once what was lost with the paths that have failed. Returns when it wants to be called again, see
   * {@linkcode Datapath.repeatLost}.
   */
  repeatLost(now: number): number {
    const nudge = this.#nudge;
    if (nudge === undefined) return Infinity;
    try {
      if (this.#lost.size > 0) this.#nudgeLost(nudge, now);
      return nudge.watch(now);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.#nudgesFailed++;
      return Infinity;
    } finally {
      for (const slot of this.#keptSteered) {
        if (nudge.watches(slot)) continue;
        this.#keptSteered.delete(slot);
        const { pair, hold } = this.#paths.get(slot)!, ulid = this.#ulid(slot);
        if (!hold && samePair(pair, ulid)) this.#steer(slot, ulid, 0);
      }
    }
  }

  #nudgeLost(nudge: TcpNudge, now: number): void {
    const pairs = [...this.#lost].filter((slot) => this.#steeredMtu[slot] !== 0)
      .map((slot) => ({ slot, addresses: this.#ulidOctets(slot) }));
    this.#lost.clear();
    this.#steering.makeStale();
    if (pairs.length > 0) nudge.nudge(pairs, now);
  }

  /** `isNew`: the engine wants it now; else only senders have changed, and held copies stay where they are. */
  #applyPath(slot: number, path: PathInstruction, isNew: boolean): void {
    const { pair, hold, copyTo } = path;
    const ulid = this.#ulid(slot), id = this.#idOf[slot];
    const translate = !samePair(pair, ulid), release = path.release && isNew;
    let heard = isNew ? 0 : Infinity;
    if (isNew && (release || copyTo !== undefined) && this.#accounting.read(id, this.#translated)) {
      heard = this.#translated.lastReceived;
    }
    this.#commandWay(Command.PATH, slot, pair, {
      flags: (translate ? PathFlag.TRANSLATE : 0) | (hold ? PathFlag.HOLD : 0) | (release ? PathFlag.RELEASE : 0),
      heard,
    });
    if (copyTo !== undefined && this.#senders.has(copyTo.local)) {
      this.#commandWay(Command.COPY, slot, copyTo, { flags: samePair(copyTo, ulid) ? 0 : PathFlag.TRANSLATE, heard });
    }
    const mtu = this.#mtuOf(pair);
    this.#setKernelPath(id, path, translate, mtu);
    if (translate || hold) this.#steer(slot, ulid, mtu);
    else if (this.#lost.has(slot)) this.#keptSteered.add(slot);
    else if (!this.#keptSteered.has(slot)) this.#steer(slot, ulid, 0);
  }

  #commandWay(
    kind: number,
    slot: number,
    { local, peer }: LocatorPair,
    { flags, heard }: { readonly flags: number; readonly heard: number },
  ): void {
    this.#command(kind, (view, at) => {
      view.setInt32(at + CommandField.SLOT, slot, true);
      view.setInt32(at + CommandField.SENDER, this.#senders.get(local)?.fd ?? -1, true);
      view.setInt32(at + CommandField.MTU, this.#mtuOf({ local, peer }), true);
      view.setInt32(at + CommandField.FLAGS, flags, true);
      this.#putAddress(at + CommandField.LOCATOR_LOCAL, local);
      this.#putAddress(at + CommandField.LOCATOR_PEER, peer);
      view.setFloat64(at + CommandField.LAST_HEARD, heard, true);
    });
  }

  /** The kernel translates what is neither held nor in need of an error that only the loop can report. */
  #setKernelPath(id: number, { pair, hold }: PathInstruction, translate: boolean, mtu: number): void {
    if (this.#kernel === undefined) return;
    const locator = this.#locators.find(({ address, usable }) => usable && address === pair.local);
    const settled = locator !== undefined && !hold && translate;
    const interfaceIndex = locator?.interfaceIndex ?? 0;
    this.#kernel.setPath(id, settled ? { pair, interfaceIndex, mtu } : undefined);
  }

  /** Steers a context's ULID pair for a path of this MTU; 0 gives it back to the kernel. */
  #steer(slot: number, ulid: LocatorPair, mtu: number): void {
    const steered = mtu === 0 ? 0 : Math.max(IPV6_MIN_MTU, mtu - PAYLOAD_HEADER_LENGTH);
    if (steered === this.#steeredMtu[slot]) return;
    if (steered === 0) this.#steering.unsteer(ulid);
    else this.#steering.steer(ulid, steered);
    this.#steeredMtu[slot] = steered;
  }

  /** Whether a context sent or received anything, by whatever way, since it was last asked for. */
  hasNews(id: number): boolean {
    const slot = this.#slot(id);
    if (slot === NONE) return false;
    const at = slot * ACTIVITY_FIELDS;
    const translated = this.#activity[at + ActivityField.SENT_PACKETS] +
      this.#activity[at + ActivityField.RECEIVED_PACKETS];
    const mark = this.#accounting.mark(id) + translated;
    if (mark === this.#marks[slot]) return false;
    this.#marks[slot] = mark;
    return true;
  }

  /** The contexts of which {@linkcode hasNews} would say so, and asks for them. */
  *withNews(): IterableIterator<number> {
    for (let slot = 0; slot < this.#slots.limit; slot++) {
      const id = this.#idOf[slot];
      if (id !== NONE && this.hasNews(id)) yield id;
    }
  }

  /** What a context sent and received, by whatever way. Returns false when there is no such context. */
  readActivity(id: number, into: Activity): boolean {
    const slot = this.#slot(id);
    if (slot === NONE) return false;
    if (!this.#accounting.read(id, into)) Object.assign(into, noActivity());
    const values = this.#activity, at = slot * ACTIVITY_FIELDS, translated = this.#translated;
    translated.lastSent = values[at + ActivityField.LAST_SENT];
    translated.lastReceived = values[at + ActivityField.LAST_RECEIVED];
    translated.firstUnanswered = values[at + ActivityField.FIRST_UNANSWERED];
    translated.firstUnreplied = values[at + ActivityField.FIRST_UNREPLIED];
    translated.sentPackets = values[at + ActivityField.SENT_PACKETS];
    translated.sentBytes = values[at + ActivityField.SENT_BYTES];
    translated.receivedPackets = values[at + ActivityField.RECEIVED_PACKETS];
    translated.receivedBytes = values[at + ActivityField.RECEIVED_BYTES];
    mergeActivity(into, translated);
    // When packets leave by one way and answers come by the other, neither way knows since when an answer is awaited,
    // and the merge can only name the last packet. What it named first stays true until an answer comes.
    const unanswered = this.#firstUnanswered[slot], unreplied = this.#firstUnreplied[slot];
    if (unanswered > into.lastReceived && unanswered < into.firstUnanswered) into.firstUnanswered = unanswered;
    if (unreplied > into.lastSent && unreplied < into.firstUnreplied) into.firstUnreplied = unreplied;
    this.#firstUnanswered[slot] = into.firstUnanswered;
    this.#firstUnreplied[slot] = into.firstUnreplied;
    return true;
  }

  /** Flows without context that sent payload since the last call. */
  readFlows(): FlowObservation[] {
    return this.#accounting.flows();
  }

  /** Throws DatapathError, and lets the leases lapse, when the packet loop has ended. */
  renewLeases(): void {
    this.#checkWorker();
    this.#steering.renew();
    const now = monotonicNow();
    for (const [key, { until }] of this.#pathMtu) {
      if (until > now) continue;
      this.#pathMtu.delete(key);
      this.#refreshMtu(key);
    }
  }

  /** What the packet loop noticed, oldest first; undefined when there is nothing. */
  nextNotice(): DatapathNotice | undefined {
    let at = this.#notices.readOffset();
    if (at < 0) {
      drainEventFd(this.noticeFd);
      at = this.#notices.readOffset();
      if (at < 0) return undefined;
    }
    const octets = new Uint8Array(this.#notices.memory).slice(at, at + NOTICE_BYTES);
    const kind = this.#noticeView.getInt32(at + NoticeField.KIND, true);
    const errno = this.#noticeView.getInt32(at + NoticeField.ERRNO, true);
    this.#notices.release();
    const local = formatAddress(octets, NoticeField.LOCAL), peer = formatAddress(octets, NoticeField.PEER);
    const pair = { local, peer };
    switch (kind) {
      case Notice.UNKNOWN_TAG:
        return { type: "unknown-tag", tag: getTag(octets, NoticeField.TAG), source: peer, destination: local };
      case Notice.DEVICE_MTU:
        this.#readLinkMtus();
        this.#refreshMtu(pairKey(pair));
        return { type: "packet-too-big", pair, mtu: this.#mtuOf(pair) };
      case Notice.RESUMED:
        return { type: "resumed" };
      default:
        return { type: "send-failed", pair, code: errnoName(errno) };
    }
  }

  /** Takes note of the MTU of a path, if it is smaller than what is known. */
  setPathMtu(pair: LocatorPair, mtu: number): void {
    const usable = Math.max(mtu, IPV6_MIN_MTU); // a path must carry as much; less is not to be believed (RFC 8201 §4)
    if (usable >= this.#mtuOf(pair)) return;
    this.#pathMtu.set(pairKey(pair), { mtu: usable, until: monotonicNow() + PATH_MTU_LIFETIME_MS });
    this.#refreshMtu(pairKey(pair));
  }

  /** Tells the Worker and the steering routes the MTU of a pair. */
  #refreshMtu(key: string): void {
    for (const [slot, path] of this.#paths) {
      if (pairKey(path.pair) !== key) continue;
      const mtu = this.#mtuOf(path.pair);
      this.#command(Command.MTU, (view, at) => {
        view.setInt32(at + CommandField.SLOT, slot, true);
        view.setInt32(at + CommandField.MTU, mtu, true);
      });
      const id = this.#idOf[slot], ulid = this.#ulid(slot);
      this.#setKernelPath(id, path, !samePair(path.pair, ulid), mtu);
      if (this.#steeredMtu[slot] !== 0) this.#steer(slot, ulid, mtu);
    }
  }

  /** Counts since the start, by what happened. */
  counters(): DatapathCounters {
    const counters: DatapathCounters = Object.fromEntries(COUNTERS.map((name, i) => [name, this.#counters[i]]));
    counters["nudged-connections"] = this.#nudge?.nudged ?? 0;
    if (this.#nudgesFailed > 0) counters["nudges-failed"] = this.#nudgesFailed;
    const kernel = this.#kernel?.translated();
    if (kernel !== undefined) {
      counters["translated-out"] += kernel.out;
      counters["translated-in"] += kernel.in;
    }
    return counters;
  }

  /** Stops the packet loop and removes every trace in the kernel. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#steering.close();
    this.#nudge?.close();
    this.#kernel?.close();
    this.#accounting.close();
    if (Atomics.load(this.#state, 0) === WorkerState.RUNNING) {
      this.#command(Command.STOP, () => {});
      Atomics.wait(this.#state, 0, WorkerState.RUNNING, WORKER_ANSWER_MS);
    }
    this.#worker.terminate();
    for (const sender of this.#senders.values()) sender.close();
    for (const fd of this.#fds) closeFd(fd);
    if (this.#ownsNetlink) this.#netlink.close();
  }
}
