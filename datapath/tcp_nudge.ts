/**
 * Makes the kernel's TCP repeat at once what was lost with a path.
 *
 * While a path is healthy its packets never enter the agent, so when it dies without a sign, a window of them is lost of
 * which there are no copies. TCP finds out by its retransmission timer, 200 ms or more after the last acknowledgement,
 * though the agent has another path within tens of milliseconds. But the new path carries less, by the Shim6 header, and
 * TCP is told so as by any router: with an ICMPv6 Packet Too Big (RFC 8201) for the first octet that is not acknowledged.
 * It then takes all segments that are larger for lost, repeats them in the smaller size, as its congestion window allows,
 * and does not wait. What fits is not repeated, for such packets can have got through.
 */

import {
  Errno,
  MAX_PAIRS,
  SystemError,
  type TcpConnection,
  TcpDiag,
  type TcpState,
  VNET_HEADER_LENGTH,
  writeTunPacket,
} from "deno-tun";
import { ADDRESS_LENGTH } from "../wire/address.ts";
import { pseudoHeaderSum, upperLayerChecksum } from "../wire/checksum.ts";
import { IPV6_HEADER_LENGTH, IPV6_MIN_MTU, Ipv6Offset, writeIpv6Header } from "../wire/ipv6.ts";
import { put16, put32 } from "../wire/octets.ts";
import { Protocol } from "./segment.ts";
import { type Outstanding, TcpSequence } from "./tcp_sequence.ts";

const TYPE_TOO_BIG = 2, HOP_LIMIT = 64;
const ICMPV6_HEADER = 8, CHECKSUM = 2, MTU = 4;
const TCP_HEADER = 20, TCP_SEQUENCE = 4, TCP_DATA_OFFSET = 12, TCP_FLAGS = 13, TCP_FLAG_ACK = 0x10;
const TIMESTAMPS_OPTION = 12;
/** Octets of a Packet Too Big that quotes the headers of a TCP segment. */
const LENGTH = IPV6_HEADER_LENGTH + ICMPV6_HEADER + IPV6_HEADER_LENGTH + TCP_HEADER;
/** More connections are not told in one go: each takes some 0.1 ms, and TCP's own timer does it for the others. */
const MAX_CONNECTIONS = 256;
/** A connection that was acknowledged something so recently, in ms, or within its round-trip time, has not lost its path. */
const LEAST_SILENCE = 10;
/** A connection whose answer is late is looked at so often in a round trip, but not sooner than after so many ms. */
const LOOKS_PER_ROUND_TRIP = 32, LEAST_WATCH_INTERVAL = 2;
/** How long an answer is awaited: this many round trips and ms. By then TCP has found out by itself. */
const WATCHED_ROUND_TRIPS = 3, WATCH_LONGER = 50;
/** Each look takes some 0.05 ms. */
const MAX_WATCHED = 32;

/** An address pair whose connections are to repeat what they sent. */
export interface NudgedPair {
  /** Names the pair. */
  readonly slot: number;
  /** Local address, then the peer's, 32 octets. */
  readonly addresses: Uint8Array;
}

/** A connection of a pair whose path has failed. */
interface Watched {
  readonly slot: number;
  readonly connection: TcpConnection;
  /** When it is looked at next, and for the last time. */
  at: number;
  until: number;
  /** What it had outstanding when it was told; undefined as long as it may still be answered. */
  told: Outstanding | undefined;
}

/**
 * Writes an ICMPv6 Packet Too Big (RFC 4443 §3.2) at the beginning of `into`, as a router at the peer's address would
 * send it about a segment of `connection` with this sequence number and `size` octets as an IPv6 packet. Returns its
 * length.
 */
export function writeTooBig(
  into: Uint8Array,
  { addresses, localPort, peerPort }: TcpConnection,
  sequence: number,
  size: number,
  mtu: number,
): number {
  const local = addresses.subarray(0, ADDRESS_LENGTH), peer = addresses.subarray(ADDRESS_LENGTH);
  const icmp = IPV6_HEADER_LENGTH, quoted = icmp + ICMPV6_HEADER, tcp = quoted + IPV6_HEADER_LENGTH;
  into.fill(0, 0, LENGTH);
  writeIpv6Header(into, 0, {
    source: peer,
    destination: local,
    payloadLength: LENGTH - IPV6_HEADER_LENGTH,
    nextHeader: Protocol.ICMPV6,
    hopLimit: HOP_LIMIT,
  });
  writeIpv6Header(into, quoted, {
    source: local,
    destination: peer,
    payloadLength: size - IPV6_HEADER_LENGTH,
    nextHeader: Protocol.TCP,
    hopLimit: HOP_LIMIT,
  });
  put16(into, tcp, localPort);
  put16(into, tcp + 2, peerPort);
  put32(into, tcp + TCP_SEQUENCE, sequence);
  into[tcp + TCP_DATA_OFFSET] = TCP_HEADER / 4 << 4;
  into[tcp + TCP_FLAGS] = TCP_FLAG_ACK;
  into[icmp] = TYPE_TOO_BIG;
  put32(into, icmp + MTU, mtu);
  const pseudo = pseudoHeaderSum(into, Ipv6Offset.Source, LENGTH - IPV6_HEADER_LENGTH, Protocol.ICMPV6);
  put16(into, icmp + CHECKSUM, upperLayerChecksum(into, icmp, LENGTH, icmp + CHECKSUM, pseudo));
  return LENGTH;
}

/** Octets of the largest segment that TCP sends now, as an IPv6 packet. */
function segmentSize({ mss, timestamps }: TcpState): number {
  return IPV6_HEADER_LENGTH + TCP_HEADER + (timestamps ? TIMESTAMPS_OPTION : 0) + mss;
}

/**
 * The MTU to tell a connection of, when the path carries packets of `mtu` octets; undefined when it cannot be made to send
 * smaller segments. TCP listens only to less than it knows of, so on a path of the same MTU it has to be one octet less.
 */
export function mtuToTell(state: TcpState, mtu: number): number | undefined {
  const told = Math.min(mtu, segmentSize(state) - 1);
  return told < IPV6_MIN_MTU ? undefined : told;
}

/** Tells TCP connections that their path has become narrower. To be used in the network namespace of the device. */
export class TcpNudge {
  /** Connections that were told, each time counted. */
  nudged = 0;
  readonly #tunFd: number;
  readonly #mtuOf: (slot: number) => number;
  readonly #diag: TcpDiag;
  readonly #sequence: TcpSequence;
  readonly #packet = new Uint8Array(VNET_HEADER_LENGTH + LENGTH);
  #watched: Watched[] = [];

  /**
   * What is told comes in by this TUN device. `mtuOf` says what the packets of a pair may have, in octets, 0 when it is
   * none of the device's. Throws `SystemError` where the kernel does not allow what is needed.
   */
  constructor(tunFd: number, mtuOf: (slot: number) => number) {
    this.#tunFd = tunFd;
    this.#mtuOf = mtuOf;
    this.#sequence = new TcpSequence();
    try {
      this.#diag = new TcpDiag();
    } catch (error) {
      this.#sequence.close();
      throw error;
    }
  }

  /**
   * Makes the connections of these address pairs repeat what they have no acknowledgement for; it leaves before this
   * returns, by the route of the pair. To be called when their path has changed because the one before failed. Throws
   * `SystemError`.
   */
  nudge(pairs: readonly NudgedPair[], now: number): void {
    const slots = new Map(pairs.map(({ slot, addresses }) => [addresses.join(), slot]));
    const found: { readonly connection: TcpConnection; readonly slot: number }[] = [];
    this.#diag.connections((connection) => {
      const slot = found.length < MAX_CONNECTIONS ? slots.get(connection.addresses.join()) : undefined;
      if (slot !== undefined) found.push({ connection, slot });
    }, pairs.length <= MAX_PAIRS ? pairs.map(({ addresses }) => addresses) : undefined);
    this.#watched = this.#watched.filter(({ slot }) => !pairs.some((pair) => pair.slot === slot));
    for (const { connection, slot } of found) {
      const watched: Watched = { slot, connection, at: now, until: 0, told: undefined };
      if (this.#look(watched, now) && this.#watched.length < MAX_WATCHED) this.#watched.push(watched);
    }
  }

  /**
   * Looks after connections of which more is to be known. To be called when the time has come that this returns: monotonic
   * ms, Infinity when there is nothing to do. Throws `SystemError`.
   */
  watch(now: number): number {
    if (this.#watched.length === 0) return Infinity;
    this.#watched = this.#watched.filter((each) => each.at > now || this.#look(each, now));
    return this.#watched.reduce((least, { at }) => Math.min(least, at), Infinity);
  }

  /** Whether more is to be known of connections of a pair. */
  watches(slot: number): boolean {
    return this.#watched.some((watched) => watched.slot === slot);
  }

  /** Returns whether the connection has to be looked at again. */
  #look(watched: Watched, now: number): boolean {
    const { connection, slot, told } = watched;
    const state = this.#diag.state(connection);
    if (state === undefined || state.unacknowledged === 0 || this.#mtuOf(slot) === 0) return false;
    if (watched.until === 0) watched.until = now + WATCHED_ROUND_TRIPS * state.rttMs + WATCH_LONGER;
    if (told !== undefined) return this.#lookAfter(watched, told, state, now);
    const silence = Math.max(LEAST_SILENCE, state.rttMs);
    if (state.sinceAckMs < silence) {
      watched.at = now + silence - state.sinceAckMs;
      return watched.at < watched.until;
    }
    const outstanding = this.#sequence.outstanding(connection);
    if (outstanding === undefined) return false;
    this.#tell(connection, state, outstanding, slot);
    watched.told = outstanding;
    watched.at = now + state.rttMs;
    return state.inLoss;
  }

  /**
   * A connection whose retransmission timer had gone off has repeated one segment only, and often one that the peer has had:
   * then the answer makes TCP believe that nothing was lost (F-RTO, RFC 5682), and it sends new data first. What it had
   * sent when the path changed, and has not repeated by that answer, is lost, so it is told once more.
   */
  #lookAfter(watched: Watched, told: Outstanding, state: TcpState, now: number): boolean {
    const outstanding = this.#sequence.outstanding(watched.connection);
    if (outstanding === undefined) return false;
    if (outstanding.first === told.first) {
      watched.at = now + Math.max(LEAST_WATCH_INTERVAL, state.rttMs / LOOKS_PER_ROUND_TRIP);
      return watched.at < watched.until;
    }
    const isLost = (told.next - outstanding.first | 0) > 0;
    if (isLost && state.retransmitted === 0) this.#tell(watched.connection, state, outstanding, watched.slot);
    return false;
  }

  #tell(connection: TcpConnection, state: TcpState, { first }: Outstanding, slot: number): void {
    const mtu = this.#mtuOf(slot), told = mtu === 0 ? undefined : mtuToTell(state, mtu);
    if (told === undefined) return;
    writeTooBig(this.#packet.subarray(VNET_HEADER_LENGTH), connection, first, segmentSize(state), told);
    const errno = writeTunPacket(this.#tunFd, this.#packet);
    if (errno !== 0 && errno !== Errno.EAGAIN) throw new SystemError("write TUN device", errno);
    this.nudged++;
  }

  /** Frees what it has in the kernel; the device is not its own. */
  close(): void {
    this.#diag.close();
    this.#sequence.close();
  }
}
