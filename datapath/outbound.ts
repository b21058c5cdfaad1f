/**
 * The way out: from a packet between ULIDs to packets between locators, cut to what the path carries, in one batch of
 * system calls. See `tun_worker.ts` for where this stands in a packet's way.
 */

import { Errno, GsoType, PollEvent, type SendBatch, waitFor } from "deno-tun";
import { IPV6_HEADER_LENGTH, IPV6_MIN_MTU, Ipv6Offset, NextHeader } from "../wire/ipv6.ts";
import { nextHeaderOffset, PAYLOAD_HEADER_LENGTH, payloadInsertOffset } from "../wire/payload.ts";
import { ContextFlag, ContextWord } from "./context_table.ts";
import { FRAGMENT_HEADER_LENGTH, Fragmenter } from "./fragment.ts";
import { type PacketMemory, swap16 } from "./packet_memory.ts";
import { Protocol, Segmenter } from "./segment.ts";
import { Counter } from "./tun_shared.ts";

/** Room for the headers of one packet that leaves. */
const HEADER_SLOT = 320;
/** How long a full send buffer may hold the loop up. */
const SEND_BUFFER_PATIENCE_MS = 20;
const TCP_FLAGS = 13, TCP_DATA_OFFSET = 12, TCP_SYN_RST_URG = 0x26;
const LARGEST_DATAGRAM = 65535 + IPV6_HEADER_LENGTH;

/** What the way out reports to the loop. */
export interface OutboundEvents {
  /** The packet in [`start`, `end`) does not fit; its sender should send at most `mtu` octets. */
  tooBig(start: number, end: number, mtu: number): void;
  /** A packet of the context with this record could not be sent. */
  sendFailed(record: number, errno: number): void;
}

/** Translates, segments, fragments and sends. */
export class Outbound {
  readonly #memory: PacketMemory;
  readonly #batch: SendBatch;
  readonly #segmenter: Segmenter;
  readonly #fragmenter: Fragmenter;
  readonly #counters: Float64Array;
  readonly #events: OutboundEvents;
  /** Where the headers of each packet of the batch are built, and the record of its context. */
  readonly #headers: number;
  readonly #records: Int32Array;
  /** A whole datagram, when a segment of UDP must be fragmented. */
  readonly #datagram: number;
  readonly #protocol: number;

  /** `identification`: unpredictable 32 bits for Fragment headers. `protocol`: next header of Shim6. */
  constructor(
    memory: PacketMemory,
    batch: SendBatch,
    counters: Float64Array,
    events: OutboundEvents,
    identification: number,
    protocol: number,
  ) {
    this.#memory = memory;
    this.#batch = batch;
    this.#segmenter = new Segmenter(memory);
    this.#fragmenter = new Fragmenter(memory, identification);
    this.#counters = counters;
    this.#events = events;
    this.#headers = memory.reserve(batch.capacity * HEADER_SLOT, 64);
    this.#records = new Int32Array(batch.capacity);
    this.#datagram = memory.reserve(LARGEST_DATAGRAM, 64);
    this.#protocol = protocol;
  }

  /**
   * Takes the packet in [`start`, `end`) for the context with `record`; it must stay in place until
   * {@linkcode flush}. `gsoType` and `gsoSize` are those of its vnet header, `transport` is where its checksum starts.
   * Returns how many packets it became.
   */
  send(record: number, start: number, end: number, gsoType: number, gsoSize: number, transport: number): number {
    const words = this.#memory.words;
    if ((words[record + ContextWord.SENDER] | 0) < 0) {
      this.#counters[Counter["dropped-no-sender"]]++;
      return 0;
    }
    const insert = this.#insertOffset(start, end);
    if (insert < 0 || insert - start > HEADER_SLOT - 2 * PAYLOAD_HEADER_LENGTH) return this.#malformed();
    const overhead = (words[record + ContextWord.FLAGS] & ContextFlag.TRANSLATE) !== 0 ? PAYLOAD_HEADER_LENGTH : 0;
    const room = words[record + ContextWord.MTU] - overhead;
    const kind = gsoType & ~GsoType.ECN;
    if (kind === GsoType.TCPV6) return this.#sendTcp(record, start, end, insert, transport, gsoSize, room);
    if (kind === GsoType.UDP_L4) return this.#sendUdp(record, start, end, insert, transport, gsoSize, room);
    if (kind !== GsoType.NONE) return this.#malformed();
    return this.#sendOne(record, start, end, insert, room);
  }

  /** Where the Shim6 header goes. */
  #insertOffset(start: number, end: number): number {
    const bytes = this.#memory.bytes;
    switch (bytes[start + Ipv6Offset.NextHeader]) {
      case Protocol.TCP:
      case Protocol.UDP:
      case Protocol.ICMPV6:
        return start + IPV6_HEADER_LENGTH;
      default:
        return payloadInsertOffset(bytes, start, end);
    }
  }

  #malformed(): number {
    this.#counters[Counter["dropped-malformed"]]++;
    return 0;
  }

  #sendOne(record: number, start: number, end: number, insert: number, room: number): number {
    if (end - start <= room) {
      const header = this.#header();
      const at = this.#putHeaders(record, start, insert, header, end - insert);
      this.#push(record, header, at - header, insert, end - insert);
      return 1;
    }
    const bytes = this.#memory.bytes;
    if (
      insert + 20 <= end && insert === start + IPV6_HEADER_LENGTH &&
      bytes[start + Ipv6Offset.NextHeader] === Protocol.TCP
    ) {
      // Smaller segments say the same, and need no fragments, which many a network drops.
      const headers = IPV6_HEADER_LENGTH + (bytes[insert + TCP_DATA_OFFSET] >> 4) * 4;
      if ((bytes[insert + TCP_FLAGS] & TCP_SYN_RST_URG) === 0 && start + headers < end) {
        return this.#sendTcp(record, start, end, insert, insert, room - headers, room);
      }
    }
    if (room >= IPV6_MIN_MTU || end - start > IPV6_MIN_MTU) {
      this.#counters[Counter["dropped-too-big"]]++;
      this.#events.tooBig(start, end, Math.max(room, IPV6_MIN_MTU));
      return 0;
    }
    return this.#sendFragments(record, start, end, insert, room);
  }

  #sendFragments(record: number, start: number, end: number, insert: number, room: number): number {
    const { bytes } = this.#memory;
    const fragmenter = this.#fragmenter;
    const nextHeader = bytes[nextHeaderOffset(bytes, start, insert)];
    if (!fragmenter.begin(insert, end, nextHeader, room - (insert - start))) return this.#malformed();
    for (let i = 0; i < fragmenter.count; i++) {
      const header = this.#header();
      const length = fragmenter.dataLength(i);
      const at = this.#putHeaders(record, start, insert, header, FRAGMENT_HEADER_LENGTH + length);
      this.#setLastNextHeader(header, at, NextHeader.Fragment);
      fragmenter.writeHeader(i, at);
      this.#push(record, header, at + FRAGMENT_HEADER_LENGTH - header, fragmenter.dataOffset(i), length);
    }
    this.#counters[Counter.fragmented]++;
    return fragmenter.count;
  }

  /** Sets the Next Header field of the last of the headers in [`header`, `at`). */
  #setLastNextHeader(header: number, at: number, nextHeader: number): void {
    const { bytes } = this.#memory;
    // Behind a Shim6 header its own field; it has a fixed length, whereas a chain must be walked.
    if (bytes[header + Ipv6Offset.NextHeader] === this.#protocol) bytes[at - PAYLOAD_HEADER_LENGTH] = nextHeader;
    else bytes[nextHeaderOffset(bytes, header, at)] = nextHeader;
  }

  #sendTcp(
    record: number,
    start: number,
    end: number,
    insert: number,
    transport: number,
    size: number,
    room: number,
  ): number {
    const segmenter = this.#segmenter;
    if ((transport & 3) !== 0 || transport < insert) return this.#malformed();
    // A smaller path than the kernel knew: smaller segments than it asked for.
    const headers = transport - start + (this.#memory.bytes[transport + TCP_DATA_OFFSET] >> 4) * 4;
    if (!segmenter.begin(start, end, transport, Protocol.TCP, Math.min(size, room - headers))) return this.#malformed();
    return this.#sendSegments(record, start, insert, transport);
  }

  #sendUdp(
    record: number,
    start: number,
    end: number,
    insert: number,
    transport: number,
    size: number,
    room: number,
  ): number {
    const segmenter = this.#segmenter;
    if ((transport & 3) !== 0 || transport < insert) return this.#malformed();
    if (!segmenter.begin(start, end, transport, Protocol.UDP, size)) return this.#malformed();
    const largest = segmenter.headerLength + segmenter.payloadLength(0);
    if (largest <= room) return this.#sendSegments(record, start, insert, transport);
    // Datagrams keep their size: each one goes its own way as if it had come alone.
    const { bytes } = this.#memory, datagram = this.#datagram;
    let sent = 0;
    for (let i = 0; i < segmenter.count; i++) {
      this.flush();
      const payload = segmenter.payloadOffset(i), length = segmenter.payloadLength(i);
      bytes.copyWithin(datagram, start, start + segmenter.headerLength);
      bytes.copyWithin(datagram + segmenter.headerLength, payload, payload + length);
      this.#setPayloadLength(datagram, segmenter.headerLength + length - IPV6_HEADER_LENGTH);
      segmenter.finish(i, datagram + transport - start);
      const finish = datagram + segmenter.headerLength + length;
      sent += this.#sendOne(record, datagram, finish, datagram + insert - start, room);
    }
    this.flush();
    return sent;
  }

  #sendSegments(record: number, start: number, insert: number, transport: number): number {
    const segmenter = this.#segmenter, words = this.#memory.words;
    const behind = segmenter.headerLength - (insert - start);
    if (segmenter.headerLength > HEADER_SLOT - PAYLOAD_HEADER_LENGTH) return this.#malformed();
    for (let i = 0; i < segmenter.count; i++) {
      const header = this.#header();
      const length = segmenter.payloadLength(i);
      const at = this.#putHeaders(record, start, insert, header, behind + length);
      for (let to = at >> 2, from = insert >> 2, last = (at + behind) >> 2; to < last;) words[to++] = words[from++];
      segmenter.finish(i, at + transport - insert);
      this.#push(record, header, at + behind - header, segmenter.payloadOffset(i), length);
    }
    return segmenter.count;
  }

  /** Where the headers of the next packet are to be built. */
  #header(): number {
    if (this.#batch.count === this.#batch.capacity) this.flush();
    return this.#headers + this.#batch.count * HEADER_SLOT;
  }

  #setPayloadLength(header: number, length: number): void {
    this.#memory.halves[(header + Ipv6Offset.PayloadLength) >> 1] = swap16(length);
  }

  /**
   * Writes the headers up to the Shim6 header, and this one where packets are translated, for a packet whose remainder
   * has `behind` octets. Returns where they end.
   */
  #putHeaders(record: number, start: number, insert: number, header: number, behind: number): number {
    const { bytes, words } = this.#memory;
    let from = start >> 2, to = header >> 2;
    const last = insert >> 2;
    while (from < last) words[to++] = words[from++];
    const inner = insert - start - IPV6_HEADER_LENGTH + behind;
    if ((words[record + ContextWord.FLAGS] & ContextFlag.TRANSLATE) === 0) {
      this.#setPayloadLength(header, inner);
      return to << 2;
    }
    this.#setPayloadLength(header, inner + PAYLOAD_HEADER_LENGTH);
    const addresses = (header + Ipv6Offset.Source) >> 2;
    for (let i = 0; i < 4; i++) {
      words[addresses + i] = words[record + ContextWord.LOCATOR_LOCAL + i];
      words[addresses + 4 + i] = words[record + ContextWord.LOCATOR_PEER + i];
    }
    const field = insert - start === IPV6_HEADER_LENGTH
      ? header + Ipv6Offset.NextHeader
      : nextHeaderOffset(bytes, header, header + insert - start);
    words[to] = words[record + ContextWord.PAYLOAD_HEADER] | bytes[field];
    words[to + 1] = words[record + ContextWord.PAYLOAD_HEADER + 1];
    bytes[field] = this.#protocol;
    return (to + 2) << 2;
  }

  #push(record: number, header: number, headerLength: number, payload: number, payloadLength: number): void {
    const words = this.#memory.words;
    this.#records[this.#batch.count] = record;
    const to = (record + ContextWord.SOCKADDR) << 2;
    this.#batch.push(words[record + ContextWord.SENDER], to, header, headerLength, payload, payloadLength);
  }

  /** Sends what has been collected. */
  flush(): void {
    const batch = this.#batch;
    let first = 0, patience = SEND_BUFFER_PATIENCE_MS;
    while (first < batch.count) {
      const sent = batch.send(first);
      if (sent > 0) {
        first += sent;
        continue;
      }
      if (sent === -Errno.EINTR) continue;
      if (sent === -Errno.EAGAIN && patience > 0) {
        // Waiting here makes the TUN's queue fill up, and so slows down the sender.
        patience -= waitFor(batch.fd(first), PollEvent.OUT, patience) === 0 ? patience : 1;
        continue;
      }
      if (sent === -Errno.EAGAIN) this.#counters[Counter["dropped-send-buffer-full"]]++;
      else {
        this.#counters[Counter["dropped-send-failed"]]++;
        this.#events.sendFailed(this.#records[first], -sent);
      }
      first++;
    }
    batch.clear();
  }
}
