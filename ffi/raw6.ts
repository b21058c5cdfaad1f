/**
 * Raw IPv6 sockets for Shim6, which is protocol 140 unless told otherwise.
 *
 * The kernel knows nothing of the protocol. It gives every raw socket of that protocol a copy of each packet, so a
 * socket filter on each lets only control messages or only payload through; and while such a socket is open the kernel
 * does not answer with Parameter Problem. What leaves is written with the whole IPv6 header, so that hop limit, traffic
 * class and flow label are the sender's own choice.
 */

import { type Address, formatAddress, parseAddress } from "../wire/address.ts";
import { attachClassicFilter, type ClassicInstruction, ClassicOpcode } from "./classic_filter.ts";
import { check, Errno } from "./errno.ts";
import { closeFd } from "./fd.ts";
import { libc, threadErrno } from "./libc.ts";
import { addressOf, cString, putAddress, stableBytes } from "./memory.ts";

const AF_INET6 = 10;
const SOCK_RAW_NONBLOCK_CLOEXEC = 0x80803;
const IPPROTO_ICMPV6 = 58;
const IPPROTO_SHIM6 = 140;
const IPPROTO_RAW = 255;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7, SO_RCVBUF = 8, SO_BINDTODEVICE = 25;
const SO_SNDBUFFORCE = 32, SO_RCVBUFFORCE = 33;
const SOL_IPV6 = 41;
const IPV6_FLOWINFO = 11, IPV6_MTU_DISCOVER = 23, IPV6_RECVERR = 25, IPV6_RECVPKTINFO = 49, IPV6_PKTINFO = 50;
const IPV6_RECVHOPLIMIT = 51, IPV6_FREEBIND = 78;
/** Send whatever fits the device, never fragment, never believe a cached path MTU. */
const IPV6_PMTUDISC_PROBE = 3;
const MSG_DONTWAIT = 0x40, MSG_ERRQUEUE = 0x2000, MSG_TRUNC = 0x20;

/** Octets of struct sockaddr_in6: family, port, flow information, address at 8, scope at 24. */
export const SOCKADDR_IN6_LENGTH = 28;
const SOCKADDR_IN6_ADDRESS = 8;

/** Writes an empty sockaddr_in6 at `offset`; the 16 octets of the address go to `offset + 8`. */
export function putSockaddrIn6(bytes: Uint8Array, offset: number): void {
  bytes.fill(0, offset, offset + SOCKADDR_IN6_LENGTH);
  bytes[offset] = AF_INET6;
}

function setInt(fd: number, level: number, option: number, value: number, call: string): void {
  const octets = stableBytes(4);
  new DataView(octets.buffer).setInt32(0, value, true);
  check(libc().setsockopt(fd, level, option, octets, 4), threadErrno[0], call);
}

/** Sets a buffer's size beyond the system's limit where CAP_NET_ADMIN of the first user namespace allows it. */
function setBuffer(fd: number, forced: number, ordinary: number, bytes: number): void {
  const octets = stableBytes(4);
  new DataView(octets.buffer).setInt32(0, bytes, true);
  if (libc().setsockopt(fd, SOL_SOCKET, forced, octets, 4) < 0) {
    check(libc().setsockopt(fd, SOL_SOCKET, ordinary, octets, 4), threadErrno[0], "SO_SNDBUF, SO_RCVBUF");
  }
}

const { LOAD_OCTET, JUMP_IF_EQUAL, JUMP_IF_SET, RETURN } = ClassicOpcode;
const ACCEPT = 0xffffffff, DROP = 0;
const LENGTH_OCTET = 1, P_OCTET = 2, P_BIT = 0x80;

/** Passes the packets whose P bit (RFC 5533 §5.1) is `p`. The filter sees a packet from the Shim6 header on. */
function filterByPBit(fd: number, p: 0 | 1): void {
  attachClassicFilter(fd, [
    [LOAD_OCTET, 0, 0, P_OCTET],
    [JUMP_IF_SET, 0, 1, P_BIT],
    [RETURN, 0, 0, p === 1 ? ACCEPT : DROP],
    [RETURN, 0, 0, p === 1 ? DROP : ACCEPT],
  ]);
}

/** Type octets of I1, I2 and I2bis. */
const I1 = 1, I2 = 3, I2BIS = 6;

const PASSES_OPENINGS: readonly ClassicInstruction[] = [
  [LOAD_OCTET, 0, 0, P_OCTET],
  [JUMP_IF_EQUAL, 3, 0, I1],
  [JUMP_IF_EQUAL, 2, 0, I2],
  [JUMP_IF_EQUAL, 1, 0, I2BIS],
  [RETURN, 0, 0, DROP],
  [RETURN, 0, 0, ACCEPT],
];

const PASSES_OTHER_CONTROL: readonly ClassicInstruction[] = [
  [LOAD_OCTET, 0, 0, P_OCTET],
  [JUMP_IF_SET, 4, 0, P_BIT],
  [JUMP_IF_EQUAL, 3, 0, I1],
  [JUMP_IF_EQUAL, 2, 0, I2],
  [JUMP_IF_EQUAL, 1, 0, I2BIS],
  [RETURN, 0, 0, ACCEPT],
  [RETURN, 0, 0, DROP],
];

/** A new socket that `configure` sets up; closed again when that throws. */
function openRaw(protocol: number, configure: (fd: number) => void): number {
  const fd = check(
    libc().socket(AF_INET6, SOCK_RAW_NONBLOCK_CLOEXEC, protocol),
    threadErrno[0],
    `socket IPv6 raw ${protocol}`,
  );
  try {
    configure(fd);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return fd;
}

/**
 * Opens the socket that receives control messages and, on its error queue, ICMPv6 errors about any packet with a Shim6
 * header that this host sent. `without-openings` leaves I1, I2 and I2bis to {@linkcode openOpeningsSocket}. Read it with
 * {@linkcode ControlReceiver}. Throws SystemError, EPERM without CAP_NET_RAW.
 */
export function openControlSocket(protocol = IPPROTO_SHIM6, part: "all" | "without-openings" = "all"): number {
  return openRaw(protocol, (fd) => {
    if (part === "all") filterByPBit(fd, 0);
    else attachClassicFilter(fd, PASSES_OTHER_CONTROL);
    setInt(fd, SOL_IPV6, IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO");
    setInt(fd, SOL_IPV6, IPV6_RECVERR, 1, "IPV6_RECVERR");
    setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, 1 << 20);
  });
}

/**
 * Opens a socket for I1, I2 and I2bis alone, which anybody can send: a flood of them then fills a queue of its own, which
 * is short, and pushes out nothing of what belongs to contexts. Read it with {@linkcode ControlReceiver}. Throws
 * SystemError, EPERM without CAP_NET_RAW.
 */
export function openOpeningsSocket(protocol = IPPROTO_SHIM6): number {
  return openRaw(protocol, (fd) => {
    attachClassicFilter(fd, PASSES_OPENINGS);
    setInt(fd, SOL_IPV6, IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO");
    setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, 1 << 18);
  });
}

/**
 * Opens the socket that receives payload with a Shim6 header, with what is needed to restore the IPv6 header. Read it
 * with {@linkcode PayloadReceiver}. Throws SystemError, EPERM without CAP_NET_RAW.
 */
export function openPayloadSocket(protocol = IPPROTO_SHIM6): number {
  return openRaw(protocol, (fd) => {
    filterByPBit(fd, 1);
    setInt(fd, SOL_IPV6, IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO");
    setInt(fd, SOL_IPV6, IPV6_RECVHOPLIMIT, 1, "IPV6_RECVHOPLIMIT");
    setInt(fd, SOL_IPV6, IPV6_FLOWINFO, 1, "IPV6_FLOWINFO");
    setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, 8 << 20);
  });
}

const ICMP6_ECHO_REPLY = 129;

/**
 * Opens a socket that receives ICMPv6 Echo Replies (RFC 4443 §4.2), everybody's. Read it with
 * {@linkcode ControlReceiver}, which gives each from its type octet on. Throws SystemError, EPERM without CAP_NET_RAW.
 */
export function openEchoReplySocket(): number {
  return openRaw(IPPROTO_ICMPV6, (fd) => {
    attachClassicFilter(fd, [
      [LOAD_OCTET, 0, 0, 0],
      [JUMP_IF_EQUAL, 0, 1, ICMP6_ECHO_REPLY],
      [RETURN, 0, 0, ACCEPT],
      [RETURN, 0, 0, DROP],
    ]);
    setInt(fd, SOL_IPV6, IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO");
  });
}

/** Octets of struct mmsghdr: name 0, its length 8, iovecs 16, their number 24, control 32, its length 40, flags 48, received octets 56. */
const MMSGHDR_LENGTH = 64;
const MMSGHDR_WORDS = MMSGHDR_LENGTH / 4;
const NAME = 0, NAME_LENGTH = 2, IOV = 4, IOV_COUNT = 6, CONTROL = 8, CONTROL_LENGTH = 10, FLAGS = 12, RECEIVED = 14;
/** struct iovec: base, length. */
const IOVEC_LENGTH = 16;
const IOVEC_WORDS = IOVEC_LENGTH / 4;
/** struct cmsghdr: length (with this header) 0, level 8, type 12, data 16; the next one begins at a multiple of 8. */
const CMSG_DATA = 16;

/** A control message as it came in. */
export interface ControlMessage {
  /** Whoever sent it, as the packet says. */
  readonly source: Address;
  /** The address of this host it came to. */
  readonly destination: Address;
  /** From the Shim6 header on. Overwritten by the next call to `next`. */
  readonly octets: Uint8Array;
  /** Where it came in. */
  readonly interfaceIndex: number;
}

/** An ICMPv6 error about a packet with a Shim6 header that this host sent. A hint, never a proof: anyone can send it. */
export interface Shim6IcmpError {
  /**
   * Types 1 (and 4, where it points into the Shim6 header), 3, 4 with code 1 (unrecognized Next Header), and 2 (RFC 4443
   * §3). Of type 1 not code 4.
   */
  readonly kind: "unreachable" | "time-exceeded" | "no-shim6" | "packet-too-big";
  /** Source of the packet in error. */
  readonly local: Address;
  /** Destination of the packet in error. */
  readonly peer: Address;
  /** The peer's tag when the quote holds a payload header, Update, Keepalive or Probe; our own in I1, I2, I2bis. */
  readonly tag: number | undefined;
  /** For packet-too-big: the MTU. */
  readonly mtu?: number;
}

const CONTROL_BATCH = 32;
const CONTROL_SLOTS = CONTROL_BATCH + 1;
const ERROR_SLOT = CONTROL_BATCH;
/** Control messages end at 1280 octets (RFC 5533 §5.1); what is longer is cut and then fails its length check. */
const CONTROL_SLOT = 2048;
const CONTROL_AREA = 256;
const NAME_AREA = 32;
/** Type octets of messages that carry a tag in octets 6 to 11: I1, I2, I2bis, Update Request and Acknowledgement, Keepalive, Probe. */
const TYPES_WITH_TAG: ReadonlySet<number> = new Set([1, 3, 6, 64, 65, 66, 67]);
const SO_EE_ORIGIN_ICMP6 = 3;
const ICMP6_UNREACHABLE = 1, ICMP6_TOO_BIG = 2, ICMP6_TIME_EXCEEDED = 3, ICMP6_PARAMETER_PROBLEM = 4;
const PORT_UNREACHABLE = 4, UNRECOGNIZED_NEXT_HEADER = 1;
const IPV6_HEADER_LENGTH = 40;

/** Reads the control socket, several messages a system call. */
export class ControlReceiver {
  readonly #fd: number;
  // One slot more than a batch: the last one is for the error queue.
  readonly #octets = stableBytes(CONTROL_SLOTS * CONTROL_SLOT);
  readonly #names = stableBytes(CONTROL_SLOTS * NAME_AREA);
  readonly #controls = stableBytes(CONTROL_SLOTS * CONTROL_AREA);
  readonly #controlView = new DataView(this.#controls.buffer);
  readonly #iovecs = new Uint32Array(stableBytes(CONTROL_SLOTS * IOVEC_LENGTH).buffer);
  readonly #headers = new Uint32Array(stableBytes(CONTROL_SLOTS * MMSGHDR_LENGTH).buffer);
  #count = 0;
  #position = 0;

  /** `fd` is what {@linkcode openControlSocket} returned; it is not closed here. */
  constructor(fd: number) {
    this.#fd = fd;
    const octets = addressOf(this.#octets), names = addressOf(this.#names), controls = addressOf(this.#controls);
    const iovecs = addressOf(this.#iovecs);
    for (let i = 0; i < CONTROL_SLOTS; i++) {
      putAddress(this.#iovecs, i * IOVEC_WORDS, octets + i * CONTROL_SLOT);
      this.#iovecs[i * IOVEC_WORDS + 2] = CONTROL_SLOT;
      const header = i * MMSGHDR_WORDS;
      putAddress(this.#headers, header + NAME, names + i * NAME_AREA);
      putAddress(this.#headers, header + IOV, iovecs + i * IOVEC_LENGTH);
      this.#headers[header + IOV_COUNT] = 1;
      putAddress(this.#headers, header + CONTROL, controls + i * CONTROL_AREA);
    }
  }

  /** Fills `slots` slots from `first` on. Returns how many were filled. */
  #receive(first: number, slots: number, flags: number): number {
    const headers = new Uint8Array(this.#headers.buffer, first * MMSGHDR_LENGTH, slots * MMSGHDR_LENGTH);
    for (let attempt = 0; attempt < 3; attempt++) {
      for (let i = first; i < first + slots; i++) {
        this.#headers[i * MMSGHDR_WORDS + NAME_LENGTH] = SOCKADDR_IN6_LENGTH;
        this.#headers[i * MMSGHDR_WORDS + CONTROL_LENGTH] = CONTROL_AREA;
      }
      const received = libc().recvmmsg(this.#fd, headers, slots, flags | MSG_DONTWAIT, null);
      const code = threadErrno[0];
      if (received >= 0) return received;
      // With IPV6_RECVERR an ICMPv6 error also fails the next call, once; its details wait on the error queue.
      if (code === Errno.EAGAIN) return 0;
    }
    return 0;
  }

  /** The next control message, or undefined when none has come in. */
  next(): ControlMessage | undefined {
    while (true) {
      if (this.#position === this.#count) {
        this.#count = this.#receive(0, CONTROL_BATCH, 0);
        this.#position = 0;
        if (this.#count === 0) return undefined;
      }
      const i = this.#position++;
      const info = this.#findControl(i, SOL_IPV6, IPV6_PKTINFO);
      if (info < 0 || (this.#headers[i * MMSGHDR_WORDS + FLAGS] & MSG_TRUNC) !== 0) continue;
      const start = i * CONTROL_SLOT;
      return {
        source: formatAddress(this.#names, i * NAME_AREA + SOCKADDR_IN6_ADDRESS),
        destination: formatAddress(this.#controls, info),
        octets: this.#octets.subarray(start, start + this.#headers[i * MMSGHDR_WORDS + RECEIVED]),
        interfaceIndex: this.#controlView.getUint32(info + 16, true),
      };
    }
  }

  /** The next ICMPv6 error of a kind that matters, or undefined when there is none. */
  nextError(): Shim6IcmpError | undefined {
    while (this.#receive(ERROR_SLOT, 1, MSG_ERRQUEUE) > 0) {
      const error = this.#findControl(ERROR_SLOT, SOL_IPV6, IPV6_RECVERR);
      const info = this.#findControl(ERROR_SLOT, SOL_IPV6, IPV6_PKTINFO);
      if (error < 0 || info < 0 || this.#controls[error + 4] !== SO_EE_ORIGIN_ICMP6) continue;
      const type = this.#controls[error + 5], code = this.#controls[error + 6];
      const word = this.#controlView.getUint32(error + 8, true);
      // A port that is unreachable says that the peer was reached (RFC 5533 §8).
      const kind = type === ICMP6_UNREACHABLE
        ? code === PORT_UNREACHABLE ? undefined : "unreachable"
        : type === ICMP6_TOO_BIG
        ? "packet-too-big"
        : type === ICMP6_TIME_EXCEEDED
        ? "time-exceeded"
        : type === ICMP6_PARAMETER_PROBLEM && code === UNRECOGNIZED_NEXT_HEADER
        ? "no-shim6"
        : type === ICMP6_PARAMETER_PROBLEM && this.#isInShim6Header(word)
        ? "unreachable" // somebody on the path lets no such header pass
        : undefined;
      if (kind === undefined) continue;
      const mtu = kind === "packet-too-big" ? { mtu: word } : {};
      return {
        kind,
        // The error came to the address that the packet in error had as its source.
        local: formatAddress(this.#controls, info),
        peer: formatAddress(this.#names, ERROR_SLOT * NAME_AREA + SOCKADDR_IN6_ADDRESS),
        tag: this.#quotedTag(this.#headers[ERROR_SLOT * MMSGHDR_WORDS + RECEIVED]),
        ...mtu,
      };
    }
    return undefined;
  }

  /** Whether an offset in a packet in error, whose IPv6 header is bare, lies in its Shim6 header. */
  #isInShim6Header(pointer: number): boolean {
    const length = 8 * (this.#octets[ERROR_SLOT * CONTROL_SLOT + LENGTH_OCTET] + 1);
    return pointer >= IPV6_HEADER_LENGTH && pointer < IPV6_HEADER_LENGTH + length;
  }

  /** The tag in the quoted packet, which begins at its Shim6 header. */
  #quotedTag(length: number): number | undefined {
    const start = ERROR_SLOT * CONTROL_SLOT;
    const type = this.#octets[start + P_OCTET];
    const at = (type & P_BIT) !== 0 ? 2 : TYPES_WITH_TAG.has(type) ? 6 : -1;
    if (at < 0 || length < at + 6) return undefined;
    let tag = this.#octets[start + at] & 0x7f;
    for (let i = 1; i < 6; i++) tag = tag * 256 + this.#octets[start + at + i];
    return tag;
  }

  /** Where the data of a control message begins in the control area of message `i`; -1 when it is not there. */
  #findControl(i: number, level: number, type: number): number {
    const end = i * CONTROL_AREA + this.#headers[i * MMSGHDR_WORDS + CONTROL_LENGTH];
    for (let at = i * CONTROL_AREA; at + CMSG_DATA <= end;) {
      const length = this.#controlView.getUint32(at, true);
      if (length < CMSG_DATA) return -1;
      if (this.#controlView.getUint32(at + 8, true) === level && this.#controlView.getUint32(at + 12, true) === type) {
        return at + CMSG_DATA;
      }
      at += (length + 7) & ~7;
    }
    return -1;
  }
}

/** Sends whole IPv6 packets from one local locator through one interface. */
export class Sender {
  /** The raw socket. */
  readonly fd: number;
  /** What it is bound to. */
  readonly locator: Address;
  /** Undefined when it is not bound to an interface. */
  readonly interfaceName: string | undefined;
  readonly #to = stableBytes(SOCKADDR_IN6_LENGTH);

  /** To be made by {@linkcode openSender}. */
  constructor(fd: number, locator: Address, interfaceName: string | undefined) {
    this.fd = fd;
    this.locator = locator;
    this.interfaceName = interfaceName;
    putSockaddrIn6(this.#to, 0);
  }

  /**
   * Sends a packet, from its IPv6 header on, to the destination in that header. Returns 0, or the errno: EMSGSIZE
   * (longer than the device's MTU), ENETUNREACH, EAGAIN (buffer full), EPERM (a firewall), ENODEV …
   */
  send(packet: Uint8Array): number {
    for (let i = 0; i < 16; i++) this.#to[SOCKADDR_IN6_ADDRESS + i] = packet[24 + i];
    const sent = libc().sendto(
      this.fd,
      packet as Uint8Array<ArrayBuffer>,
      packet.length,
      MSG_DONTWAIT,
      this.#to,
      SOCKADDR_IN6_LENGTH,
    );
    return sent < 0 ? threadErrno[0] : 0;
  }

  /** Closes the socket. */
  close(): void {
    closeFd(this.fd);
  }
}

/**
 * Opens a sender. It is bound to the locator, so that source-specific routes apply (a packet must leave by the provider
 * of its source), and to the interface, so that the agent's own steering routes do not; without an interface they do.
 * Throws SystemError: EPERM without CAP_NET_RAW, ENODEV without the interface.
 */
export function openSender(locator: Address, interfaceName: string | undefined): Sender {
  const fd = openRaw(IPPROTO_RAW, (fd) => {
    attachClassicFilter(fd, [[RETURN, 0, 0, DROP]]); // a raw socket also receives; this one never reads
    setInt(fd, SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE, "IPV6_MTU_DISCOVER");
    // The locator may come back while the agent holds on to it, e.g. after the link went down and up.
    setInt(fd, SOL_IPV6, IPV6_FREEBIND, 1, "IPV6_FREEBIND");
    setBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, 8 << 20);
    if (interfaceName !== undefined) {
      const device = cString(interfaceName);
      const call = `SO_BINDTODEVICE ${interfaceName}`;
      check(libc().setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, device.length), threadErrno[0], call);
    }
    const address = stableBytes(SOCKADDR_IN6_LENGTH);
    putSockaddrIn6(address, 0);
    address.set(parseAddress(locator), SOCKADDR_IN6_ADDRESS);
    check(libc().bind(fd, address, SOCKADDR_IN6_LENGTH), threadErrno[0], `bind ${locator}`);
  });
  return new Sender(fd, locator, interfaceName);
}
