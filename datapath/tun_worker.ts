/**
 * The packet loop. It runs in a Worker that does nothing else and blocks in poll(2), so that a packet waits for nobody.
 *
 * A packet's way out, while its ULID pair is steered:
 *  1. The kernel routes it into the TUN device; the loop reads it there, often as a super-packet of up to 64 KiB whose
 *     checksum is not complete (`TunReader`).
 *  2. Commands of the main thread that came before the packet are carried out: who steers a pair tells the loop first.
 *  3. Its context is found by the ULID pair (`ContextTable`). Without one it leaves unchanged by its source's sender.
 *  4. The checksum is completed, since nobody behind a Shim6 header would do it.
 *  5. While the path is in doubt a copy is kept (`HoldStore`). A later command releases the copies on a new path.
 *  6. It is cut into segments, or into fragments, or reported as too big, as the path's MTU demands; each packet gets
 *     the locators and a payload header of its own, unless the path is the ULID pair (`Outbound`).
 *  7. The batch leaves by the sender of the local locator, several packets a system call (`SendBatch`).
 *
 * A packet's way in:
 *  1. The payload socket has it from the Shim6 header on (`PayloadReceiver`), several packets a system call.
 *  2. Its context is found by the tag alone (RFC 5533 §12.2). Without one the main thread is told.
 *  3. The IPv6 header is restored in place before the payload: ULIDs, and traffic class, flow label and hop limit as
 *     they came in.
 *  4. Segments of a TCP flow, and datagrams of a UDP flow, are joined (`Coalescer`).
 *  5. It is written to the TUN device, and the kernel delivers it.
 */

import {
  closeFd,
  drainEventFd,
  Errno,
  GsoType,
  keepCapabilities,
  LARGEST_PACKET,
  monotonicNow,
  PayloadReceiver,
  PollEvent,
  PollSet,
  SendBatch,
  signalEventFd,
  SystemError,
  TunReader,
  TunWriter,
  VNET_HEADER_LENGTH,
  VNET_NEEDS_CSUM,
  VnetHeader,
} from "deno-tun";
import { IPV6_HEADER_LENGTH, Ipv6Offset } from "../wire/ipv6.ts";
import { PAYLOAD_HEADER_LENGTH } from "../wire/payload.ts";
import { Coalescer, type PacketSink } from "./coalesce.ts";
import { ContextFlag, ContextTable, ContextWord } from "./context_table.ts";
import { HoldStore, NONE } from "./hold.ts";
import { Outbound, type OutboundEvents } from "./outbound.ts";
import { PacketMemory } from "./packet_memory.ts";
import { ReleaseFilter } from "./release.ts";
import { completeChecksum } from "./segment.ts";
import { SharedRing } from "./shared_ring.ts";
import { TooBigWriter } from "./too_big.ts";
import {
  ACTIVITY_FIELDS,
  ActivityField,
  Command,
  COMMAND_BYTES,
  COMMAND_CAPACITY,
  CommandField,
  Counter,
  Notice,
  NOTICE_BYTES,
  NOTICE_CAPACITY,
  NoticeField,
  PathFlag,
  type TunWorkerInit,
  WorkerState,
} from "./tun_shared.ts";

/** Packets that leave before the other direction has its turn, which takes some 0.5 ms. */
const PACKETS_PER_TURN = 256;
/** Packets, or super-packets, from the TUN device in one batch. */
const READ_SLOTS = 32;
const RECEIVE_SLOTS = 64;
const SEND_CAPACITY = 256;
/** A batch goes out when it has so many packets, so that the first one does not wait for a whole burst. */
const SEND_THRESHOLD = 64;
const HOLD_ENTRIES = 16384;
const MEMORY_BESIDE_HOLD = 16 << 20;
const RECORD_OCTETS = 128;
const SEND_FAILED_INTERVAL_MS = 1000;
/** A context on hold that sends after so long a pause is told of. */
const PAUSE_MS = 100;
/** Local locators whose packets may leave without a context. */
const MAX_SENDERS = 64;
const AF_INET6 = 10;
/** What is kept with a copy: the vnet header, and before it what keeps the packet aligned. */
const HOLD_LEAD = 16;

/** The loop and all its state. */
class PacketLoop implements OutboundEvents, PacketSink {
  readonly #init: TunWorkerInit;
  readonly #memory: PacketMemory;
  readonly #commands: SharedRing;
  readonly #commandView: DataView;
  readonly #commandBytes: Uint8Array;
  readonly #notices: SharedRing;
  readonly #noticeView: DataView;
  readonly #noticeBytes: Uint8Array;
  readonly #activity: Float64Array;
  readonly #counters: Float64Array;
  readonly #table: ContextTable;
  readonly #hold: HoldStore;
  readonly #reader: TunReader;
  readonly #receiver: PayloadReceiver;
  readonly #writer: TunWriter;
  readonly #batch: SendBatch;
  readonly #outbound: Outbound;
  readonly #coalescer: Coalescer;
  readonly #tooBig: TooBigWriter;
  /** Records of no context that packets without context leave by, by the descriptor of the sender. */
  readonly #senders = new Map<number, number>();
  readonly #freeRecords: number[] = [];
  readonly #lastFailure: Float64Array;
  #now = 0;
  #noticed = false;
  #stopped = false;

  constructor(init: TunWorkerInit) {
    this.#init = init;
    const memory = this.#memory = new PacketMemory(
      MEMORY_BESIDE_HOLD + 2 * init.contexts * RECORD_OCTETS + init.holdBytes,
    );
    this.#commands = new SharedRing(COMMAND_CAPACITY, COMMAND_BYTES, init.commands);
    this.#commandView = new DataView(init.commands);
    this.#commandBytes = new Uint8Array(init.commands);
    this.#notices = new SharedRing(NOTICE_CAPACITY, NOTICE_BYTES, init.notices);
    this.#noticeView = new DataView(init.notices);
    this.#noticeBytes = new Uint8Array(init.notices);
    this.#activity = new Float64Array(init.activity);
    this.#counters = new Float64Array(init.counters);
    this.#table = new ContextTable(memory, init.contexts, init.seed);
    this.#hold = new HoldStore(memory, init.contexts, init.holdBytes, HOLD_ENTRIES, init.holdShare);
    this.#reader = new TunReader(init.tunFd, memory, READ_SLOTS);
    this.#receiver = new PayloadReceiver(init.payloadFd, memory, RECEIVE_SLOTS, LARGEST_PACKET);
    this.#writer = new TunWriter(init.tunFd, memory, RECEIVE_SLOTS + 1);
    this.#batch = new SendBatch(memory, SEND_CAPACITY);
    this.#outbound = new Outbound(memory, this.#batch, this.#counters, this, init.seed, init.protocol);
    this.#coalescer = new Coalescer(memory, this);
    this.#tooBig = new TooBigWriter(memory, this);
    this.#lastFailure = new Float64Array(init.contexts);
    for (let i = 0; i < MAX_SENDERS; i++) this.#freeRecords.push(memory.reserve(RECORD_OCTETS, RECORD_OCTETS) >> 2);
  }

  /** Runs until it is told to stop. Throws when the TUN device is gone. */
  run(): void {
    const { tunFd, payloadFd, commandFd, noticeFd } = this.#init;
    const set = new PollSet();
    for (const fd of [tunFd, payloadFd, commandFd]) set.set(fd, PollEvent.IN);
    while (!this.#stopped) {
      set.wait(-1);
      if (set.ready(commandFd) !== 0) drainEventFd(commandFd);
      this.#now = monotonicNow();
      this.#obey();
      if (set.ready(tunFd) !== 0) this.#readTun();
      if (set.ready(payloadFd) !== 0) this.#receive();
      if (this.#noticed) {
        this.#noticed = false;
        signalEventFd(noticeFd);
      }
    }
  }

  #readTun(): void {
    const reader = this.#reader, batch = this.#batch;
    let slot = 0, budget = PACKETS_PER_TURN;
    while (budget > 0) {
      const length = reader.read(slot);
      if (length === 0) break;
      if (length < 0) throw new SystemError("read TUN device", -length);
      this.#obey();
      const start = reader.start(slot);
      this.#leave(start, start + length);
      if (++slot === reader.slots || batch.count >= SEND_THRESHOLD) {
        budget -= Math.max(slot, batch.count);
        this.#outbound.flush();
        slot = 0;
      }
    }
    this.#outbound.flush();
  }

  /** Sends the packet in [`start`, `end`), whose vnet header stands before it. */
  #leave(start: number, end: number): void {
    const { bytes, view } = this.#memory;
    if (end - start < IPV6_HEADER_LENGTH || bytes[start] >> 4 !== 6) {
      this.#counters[Counter["dropped-not-ipv6"]]++;
      return;
    }
    const vnet = start - VNET_HEADER_LENGTH;
    const gsoType = bytes[vnet + VnetHeader.GSO_TYPE];
    if (gsoType === GsoType.NONE && (bytes[vnet] & VNET_NEEDS_CSUM) !== 0) {
      const transport = start + view.getUint16(vnet + VnetHeader.CSUM_START, true);
      if (!completeChecksum(this.#memory, transport, view.getUint16(vnet + VnetHeader.CSUM_OFFSET, true), end)) {
        this.#counters[Counter["dropped-malformed"]]++;
        return;
      }
      bytes[vnet] = 0;
    }
    const record = this.#table.findByUlid((start + Ipv6Offset.Source) >> 2);
    if (record < 0) {
      this.#leaveWithoutContext(start, end);
      return;
    }
    const flags = this.#memory.words[record + ContextWord.FLAGS];
    if ((flags & ContextFlag.HOLD) !== 0) this.#keepCopy(this.#table.slot(record), start, end);
    this.#sendOn(record, start, end);
    if ((flags & ContextFlag.COPY) !== 0) this.#sendCopy(this.#table.slot(record), start, end);
  }

  #keepCopy(slot: number, start: number, end: number): void {
    this.#hold.add(slot, start - HOLD_LEAD, end - start + HOLD_LEAD, this.#now);
    const lastSent = this.#activity[slot * ACTIVITY_FIELDS + ActivityField.LAST_SENT];
    if (this.#now - lastSent >= PAUSE_MS && this.#beginNotice(Notice.RESUMED) >= 0) this.#notices.commit();
  }

  /** Sends a packet on the context's second way. Nothing is accounted: it has been sent before. */
  #sendCopy(slot: number, start: number, end: number): void {
    this.#counters[Counter.copied] += this.#emit(this.#table.second(slot), start, end);
  }

  /** Sends a packet of a context and accounts for it. Returns how many packets it became. */
  #sendOn(record: number, start: number, end: number): number {
    const sent = this.#emit(record, start, end);
    const activity = this.#activity, at = this.#table.slot(record) * ACTIVITY_FIELDS;
    activity[at + ActivityField.LAST_SENT] = this.#now;
    if (activity[at + ActivityField.FIRST_UNANSWERED] === 0) activity[at + ActivityField.FIRST_UNANSWERED] = this.#now;
    activity[at + ActivityField.FIRST_UNREPLIED] = 0;
    // What leaves unchanged is counted on the interface, as the kernel's own packets are.
    if ((this.#memory.words[record + ContextWord.FLAGS] & ContextFlag.TRANSLATE) !== 0) {
      activity[at + ActivityField.SENT_PACKETS] += sent;
      activity[at + ActivityField.SENT_BYTES] += end - start;
      this.#counters[Counter["translated-out"]] += sent;
    } else this.#counters[Counter["sent-unchanged"]] += sent;
    return sent;
  }

  #emit(record: number, start: number, end: number): number {
    const { bytes, view } = this.#memory;
    const vnet = start - VNET_HEADER_LENGTH;
    return this.#outbound.send(
      record,
      start,
      end,
      bytes[vnet + VnetHeader.GSO_TYPE],
      view.getUint16(vnet + VnetHeader.GSO_SIZE, true),
      start + view.getUint16(vnet + VnetHeader.CSUM_START, true),
    );
  }

  /** A packet that was on its way when its context ended, or one that the device itself made, as neighbour discovery. */
  #leaveWithoutContext(start: number, end: number): void {
    const { bytes, words } = this.#memory;
    const source = (start + Ipv6Offset.Source) >> 2, destination = (start + Ipv6Offset.Destination) >> 2;
    const linkLocal = bytes[start + Ipv6Offset.Source] === 0xfe && bytes[start + Ipv6Offset.Source + 1] >> 6 === 2;
    if (bytes[start + Ipv6Offset.Destination] === 0xff || linkLocal) {
      this.#counters[Counter["dropped-not-unicast"]]++;
      return;
    }
    for (const record of this.#senders.values()) {
      let same = true;
      for (let i = 0; i < 4; i++) same &&= words[record + ContextWord.LOCATOR_LOCAL + i] === words[source + i];
      if (!same) continue;
      // The record is shared by all destinations: what is collected has to leave before and after.
      this.#outbound.flush();
      for (let i = 0; i < 4; i++) words[record + ContextWord.LOCATOR_PEER + i] = words[destination + i];
      this.#counters[Counter["sent-unchanged"]] += this.#emit(record, start, end);
      this.#outbound.flush();
      return;
    }
    this.#counters[Counter["dropped-no-sender"]]++;
  }

  #receive(): void {
    const count = this.#receiver.receive();
    for (let i = 0; i < count; i++) this.#arrive(i);
    this.#coalescer.flush();
  }

  /** Restores packet `i` of the batch and hands it on. */
  #arrive(i: number): void {
    const { bytes, halves, words } = this.#memory, receiver = this.#receiver;
    const shim = receiver.offset(i), length = receiver.length(i);
    // Octets 0 to 3: next header, length, P bit and the upper end of the tag.
    const word = words[shim >> 2];
    if (length < PAYLOAD_HEADER_LENGTH || (word & 0x0080ff00) !== 0x00800000) {
      this.#counters[Counter["dropped-malformed-in"]]++;
      return;
    }
    const record = this.#table.findByTag(shim >> 2);
    if (record < 0) {
      this.#noticeUnknownTag(i, shim);
      return;
    }
    const nextHeader = word & 0xff;
    if (nextHeader === this.#init.protocol) {
      // Restored it would look like a message from the peer's ULID, which it need not be.
      this.#counters[Counter["dropped-nested"]]++;
      return;
    }
    const start = shim + PAYLOAD_HEADER_LENGTH - IPV6_HEADER_LENGTH, header = start >> 2;
    words[header] = receiver.flowInfo(i) | 0x60;
    const payload = length - PAYLOAD_HEADER_LENGTH;
    halves[(start + Ipv6Offset.PayloadLength) >> 1] = payload << 8 & 0xff00 | payload >> 8;
    bytes[start + Ipv6Offset.NextHeader] = nextHeader;
    bytes[start + Ipv6Offset.HopLimit] = receiver.hopLimit(i);
    for (let k = 0; k < 4; k++) {
      words[header + 2 + k] = words[record + ContextWord.ULID_PEER + k];
      words[header + 6 + k] = words[record + ContextWord.ULID_LOCAL + k];
    }
    const activity = this.#activity, at = this.#table.slot(record) * ACTIVITY_FIELDS;
    activity[at + ActivityField.LAST_RECEIVED] = this.#now;
    activity[at + ActivityField.FIRST_UNANSWERED] = 0;
    if (activity[at + ActivityField.FIRST_UNREPLIED] === 0) activity[at + ActivityField.FIRST_UNREPLIED] = this.#now;
    activity[at + ActivityField.RECEIVED_PACKETS]++;
    activity[at + ActivityField.RECEIVED_BYTES] += IPV6_HEADER_LENGTH + payload;
    this.#counters[Counter["translated-in"]]++;
    this.#coalescer.add(record, start, shim + length);
  }

  append(offset: number, length: number): void {
    this.#writer.append(offset, length);
  }

  write(): boolean {
    const taken = this.#writer.write() === 0;
    // EINVAL: the peer sent what no kernel takes. EIO: somebody set the device down.
    if (!taken) this.#counters[Counter["dropped-device"]]++;
    return taken;
  }

  tooBig(start: number, end: number, mtu: number): void {
    if (this.#tooBig.answer(start, end, mtu)) this.#counters[Counter["too-big-reported"]]++;
  }

  sendFailed(record: number, errno: number): void {
    const slot = this.#table.slot(record);
    if (slot < 0 || slot >= this.#table.capacity) return; // a packet without context
    if (this.#now - this.#lastFailure[slot] < SEND_FAILED_INTERVAL_MS) return;
    this.#lastFailure[slot] = this.#now;
    const at = this.#beginNotice(errno === Errno.EMSGSIZE ? Notice.DEVICE_MTU : Notice.SEND_FAILED);
    if (at < 0) return;
    this.#noticeView.setInt32(at + NoticeField.ERRNO, errno, true);
    const { bytes } = this.#memory;
    const local = (record + ContextWord.LOCATOR_LOCAL) * 4, peer = (record + ContextWord.LOCATOR_PEER) * 4;
    for (let i = 0; i < 16; i++) {
      this.#noticeBytes[at + NoticeField.LOCAL + i] = bytes[local + i];
      this.#noticeBytes[at + NoticeField.PEER + i] = bytes[peer + i];
    }
    this.#notices.commit();
  }

  #noticeUnknownTag(i: number, shim: number): void {
    this.#counters[Counter["dropped-unknown-tag"]]++;
    const destination = this.#receiver.destination(i), source = this.#receiver.source(i);
    const at = destination < 0 ? -1 : this.#beginNotice(Notice.UNKNOWN_TAG);
    if (at < 0) return;
    const { bytes } = this.#memory;
    for (let k = 0; k < 16; k++) {
      this.#noticeBytes[at + NoticeField.LOCAL + k] = bytes[destination + k];
      this.#noticeBytes[at + NoticeField.PEER + k] = bytes[source + k];
    }
    for (let k = 0; k < 6; k++) this.#noticeBytes[at + NoticeField.TAG + k] = bytes[shim + 2 + k];
    this.#notices.commit();
  }

  /** Where a notice is to be written; -1 when the main thread has not taken enough of the others yet. */
  #beginNotice(kind: number): number {
    const at = this.#notices.writeOffset();
    if (at < 0) this.#counters[Counter["notices-lost"]]++;
    else {
      this.#noticeView.setInt32(at + NoticeField.KIND, kind, true);
      this.#noticed = true;
    }
    return at;
  }

  /** Carries out what the main thread has asked for. */
  #obey(): void {
    for (let at = this.#commands.readOffset(); at >= 0; at = this.#commands.readOffset()) {
      this.#obeyOne(at);
      this.#commands.release();
    }
  }

  #obeyOne(at: number): void {
    const view = this.#commandView;
    const slot = view.getInt32(at + CommandField.SLOT, true), fd = view.getInt32(at + CommandField.SENDER, true);
    const mtu = view.getInt32(at + CommandField.MTU, true);
    const record = this.#table.record(slot), { words } = this.#memory;
    switch (view.getInt32(at + CommandField.KIND, true)) {
      case Command.ADD:
        this.#table.add(
          slot,
          this.#field(at, CommandField.ULID_LOCAL, 16),
          this.#field(at, CommandField.ULID_PEER, 16),
          this.#field(at, CommandField.LOCAL_TAG, 6),
          this.#field(at, CommandField.PEER_TAG, 6),
          this.#commandView.getInt32(at + CommandField.FLAGS, true) === 1,
        );
        break;
      case Command.RETAG:
        this.#table.retag(
          slot,
          this.#field(at, CommandField.LOCAL_TAG, 6),
          this.#field(at, CommandField.PEER_TAG, 6),
        );
        break;
      case Command.REMOVE:
        this.#outbound.flush();
        this.#hold.clear(slot);
        this.#table.remove(slot);
        this.#activity.fill(0, slot * ACTIVITY_FIELDS, (slot + 1) * ACTIVITY_FIELDS);
        break;
      case Command.PATH:
        this.#outbound.flush(); // what is collected points to the record that changes now
        this.#setPath(record, at, fd, mtu);
        break;
      case Command.COPY:
        this.#outbound.flush();
        this.#setCopy(slot, at, fd, mtu);
        break;
      case Command.MTU:
        words[record + ContextWord.MTU] = mtu;
        break;
      case Command.ADD_SENDER:
        this.#addSender(at, fd, mtu);
        break;
      case Command.REMOVE_SENDER:
        this.#outbound.flush();
        this.#removeSender(fd);
        break;
      case Command.STOP:
        this.#stopped = true;
        break;
    }
  }

  #addSender(at: number, fd: number, mtu: number): void {
    const record = this.#freeRecords.pop();
    if (record === undefined) return; // contexts name their senders themselves
    const { bytes, words } = this.#memory;
    bytes.set(this.#field(at, CommandField.LOCATOR_LOCAL, 16), (record + ContextWord.LOCATOR_LOCAL) * 4);
    words[record + ContextWord.SOCKADDR] = AF_INET6;
    words[record + ContextWord.SENDER] = fd;
    words[record + ContextWord.MTU] = mtu;
    this.#senders.set(fd, record);
  }

  #removeSender(fd: number): void {
    const record = this.#senders.get(fd);
    if (record !== undefined) this.#freeRecords.push(record);
    this.#senders.delete(fd);
    closeFd(fd);
  }

  #field(at: number, field: number, length: number): Uint8Array {
    return this.#commandBytes.subarray(at + field, at + field + length);
  }

  /** Writes a way into a record; returns the command's flags. */
  #setWay(record: number, at: number, fd: number, mtu: number): number {
    const { bytes, words } = this.#memory;
    const flags = this.#commandView.getInt32(at + CommandField.FLAGS, true);
    bytes.set(this.#field(at, CommandField.LOCATOR_LOCAL, 16), (record + ContextWord.LOCATOR_LOCAL) * 4);
    bytes.set(this.#field(at, CommandField.LOCATOR_PEER, 16), (record + ContextWord.LOCATOR_PEER) * 4);
    words[record + ContextWord.SENDER] = fd;
    words[record + ContextWord.MTU] = mtu;
    words[record + ContextWord.FLAGS] = ContextFlag.USED |
      ((flags & PathFlag.TRANSLATE) !== 0 ? ContextFlag.TRANSLATE : 0) |
      ((flags & PathFlag.HOLD) !== 0 ? ContextFlag.HOLD : 0);
    return flags;
  }

  /** From now on copies leave on a second way, too; what is held and may be lost goes first. */
  #setCopy(slot: number, at: number, fd: number, mtu: number): void {
    this.#setWay(this.#table.prepareSecond(slot), at, fd, mtu);
    this.#memory.words[this.#table.record(slot) + ContextWord.FLAGS] |= ContextFlag.COPY;
    this.#sendLostCopies(slot, this.#commandView.getFloat64(at + CommandField.LAST_HEARD, true), true);
  }

  #setPath(record: number, at: number, fd: number, mtu: number): void {
    const slot = this.#table.slot(record);
    const flags = this.#setWay(record, at, fd, mtu);
    if ((flags & PathFlag.HOLD) !== 0) return;
    if ((flags & PathFlag.RELEASE) !== 0) {
      this.#sendLostCopies(slot, this.#commandView.getFloat64(at + CommandField.LAST_HEARD, true), false);
    }
    this.#hold.clear(slot);
  }

  /**
   * Sends the held copies that may have been lost, those sent after anything was heard of the peer: on the second way, or
   * on the first one, as packets of their own.
   */
  #sendLostCopies(slot: number, lastHeard: number, isSecond: boolean): void {
    const record = this.#table.record(slot);
    const heard = Math.max(lastHeard, this.#activity[slot * ACTIVITY_FIELDS + ActivityField.LAST_RECEIVED]);
    const filter = new ReleaseFilter(
      this.#memory,
      this.#hold,
      slot,
      HOLD_LEAD,
      heard,
      this.#now,
      this.#init.holdDatagramMs,
    );
    for (let copy = this.#hold.first(slot); copy !== NONE; copy = this.#hold.next(copy)) {
      if (!filter.passes(copy)) continue;
      const start = this.#hold.offset(copy) + HOLD_LEAD, end = start + this.#hold.length(copy) - HOLD_LEAD;
      if (isSecond) this.#sendCopy(slot, start, end);
      else this.#counters[Counter.released] += this.#sendOn(record, start, end);
    }
    this.#counters[Counter["held-stale"]] += filter.stale;
    this.#outbound.flush();
  }
}

/**
 * Runs the packet loop in this thread until the main thread stops it. To be called in a Worker that was sent `init`; the
 * main thread learns of the end from the state word.
 */
export function runTunWorker(init: TunWorkerInit): void {
  const state = new Int32Array(init.state);
  try {
    const loop = new PacketLoop(init);
    Atomics.store(state, 0, WorkerState.RUNNING);
    Atomics.notify(state, 0);
    loop.run();
    Atomics.store(state, 0, WorkerState.STOPPED);
  } catch (error) {
    Atomics.store(state, 0, WorkerState.FAILED);
    throw error;
  } finally {
    Atomics.notify(state, 0);
    signalEventFd(init.noticeFd);
  }
}

/** What the Worker does: gives up all capabilities, since it works on what was opened for it, then runs the loop. */
export function tunWorkerMain(): void {
  keepCapabilities([]);
  self.addEventListener("message", (event) => {
    runTunWorker((event as MessageEvent<TunWorkerInit>).data);
    self.close();
  }, { once: true });
}
