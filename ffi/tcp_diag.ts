/**
 * sock_diag(7): the TCP connections of one network namespace, and what the kernel knows of each (linux/inet_diag.h).
 * Anybody may ask; nothing is changed.
 */

import { ADDRESS_LENGTH } from "../wire/address.ts";
import { get16 } from "../wire/octets.ts";
import { check, Errno, SystemError } from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { stableBytes } from "./memory.ts";
import { Attributes, MessageBuilder, type NetlinkMessage, readMessages, readU32 } from "./netlink_message.ts";

// socket(2), linux/netlink.h
const AF_INET6 = 10, AF_NETLINK = 16, SOCK_RAW = 3, SOCK_CLOEXEC = 0x80000, NETLINK_SOCK_DIAG = 4;
const SOL_SOCKET = 1, SO_RCVTIMEO = 20, MSG_TRUNC = 0x20;
const NLMSG_ERROR = 2, NLMSG_DONE = 3, NLM_F_REQUEST = 1, NLM_F_DUMP = 0x300;
/** The answer is there already when the request has been sent; should a kernel disagree, the caller must not hang. */
const ANSWER_TIMEOUT_S = 1;
const RECEIVE_BUFFER = 65536;

// linux/sock_diag.h, linux/inet_diag.h
const SOCK_DIAG_BY_FAMILY = 20, IPPROTO_TCP = 6;
const INET_DIAG_REQ_BYTECODE = 1, INET_DIAG_INFO = 2;
const BC_JUMP = 1, BC_SOURCE_CONDITION = 7, BC_DESTINATION_CONDITION = 8;
const BC_OPERATION = 4, BC_CONDITION = 8, ANY_PORT = 0xffff_ffff;
/** `INET_DIAG_NOCOOKIE`, both halves. */
const NO_COOKIE = 0xffff_ffff;
/** `struct inet_diag_msg`: offsets and length. */
const Diag = { FAMILY: 0, LOCAL_PORT: 4, PEER_PORT: 6, LOCAL: 8, PEER: 24, WRITE_QUEUE: 60, LENGTH: 72 } as const;

/** States in which sent data may be unacknowledged: `1 << TCP_ESTABLISHED | …` (net/tcp_states.h). */
const SENDING_STATES = 1 << 1 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 11;

/** `struct tcp_info` (linux/tcp.h): offsets. */
const Info = {
  CA_STATE: 1,
  OPTIONS: 5,
  SEND_MSS: 16,
  UNACKED: 24,
  RETRANSMITTED: 36,
  LAST_ACK_RECEIVED: 56,
  RTT: 68,
} as const;
const INFO_NEEDED = 72;
const OPTION_TIMESTAMPS = 1;
/** `TCP_CA_Loss`. */
const STATE_LOSS = 4;

/** The kernel compares each socket with so many address pairs at most; more cost more than to read all sockets. */
export const MAX_PAIRS = 16;

/** A TCP connection over IPv6. */
export interface TcpConnection {
  /** Local address, then the peer's, 32 octets. */
  readonly addresses: Uint8Array;
  /** Local port. */
  readonly localPort: number;
  /** The peer's port. */
  readonly peerPort: number;
}

/** What TCP knows of a connection. */
export interface TcpState {
  /** Segments that were sent and not acknowledged. */
  readonly unacknowledged: number;
  /** Of these, how many are under way once more. */
  readonly retransmitted: number;
  /** Whether the retransmission timer has gone off, or the path has become narrower, and what was lost is being repeated. */
  readonly inLoss: boolean;
  /** Octets of payload in the largest segment that it sends now. */
  readonly mss: number;
  /** Whether each segment has the Timestamps option (RFC 7323). */
  readonly timestamps: boolean;
  /** Smoothed round-trip time in ms. */
  readonly rttMs: number;
  /** Since the last acknowledgement, in ms, to the kernel's tick. */
  readonly sinceAckMs: number;
}

/**
 * Writes the request for all connections that may wait for an acknowledgement; with `pairs` (each a local address, then
 * the peer's), the kernel leaves out those of other address pairs.
 */
export function writeDumpRequest(request: MessageBuilder, sequence: number, pairs: readonly Uint8Array[] = []): void {
  request.begin(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, sequence)
    .u8(AF_INET6, IPPROTO_TCP, 0, 0).u32(SENDING_STATES);
  for (let word = 0; word < 12; word++) request.u32(0);
  if (pairs.length > 0) request.attribute(INET_DIAG_REQ_BYTECODE, pairFilter(pairs));
}

/**
 * A program that the kernel runs on each socket: two conditions and a jump to the end for each pair. A jump to the end takes
 * the socket, one 4 octets further refuses it.
 */
function pairFilter(pairs: readonly Uint8Array[]): Uint8Array {
  const condition = BC_OPERATION + BC_CONDITION + ADDRESS_LENGTH, step = 2 * condition + BC_OPERATION;
  const program = new Uint8Array(pairs.length * step), view = new DataView(program.buffer);
  const operation = (at: number, code: number, yes: number, no: number) => {
    program[at] = code;
    program[at + 1] = yes;
    view.setUint16(at + 2, no, true);
  };
  for (const [i, pair] of pairs.entries()) {
    const start = i * step, next = i === pairs.length - 1 ? program.length + BC_OPERATION : start + step;
    // The peer's address first: it is the one that tells most sockets apart.
    const conditions = [
      [BC_DESTINATION_CONDITION, pair.subarray(ADDRESS_LENGTH)],
      [BC_SOURCE_CONDITION, pair.subarray(0, ADDRESS_LENGTH)],
    ] as const;
    let at = start;
    for (const [code, address] of conditions) {
      operation(at, code, condition, next - at);
      program[at + BC_OPERATION] = AF_INET6;
      program[at + BC_OPERATION + 1] = 8 * ADDRESS_LENGTH;
      view.setUint32(at + BC_OPERATION + 4, ANY_PORT, true);
      program.set(address, at + BC_OPERATION + BC_CONDITION);
      at += condition;
    }
    operation(at, BC_JUMP, BC_OPERATION, program.length - at);
  }
  return program;
}

/** Writes the request for the state of one connection. */
export function writeStateRequest(request: MessageBuilder, sequence: number, connection: TcpConnection): void {
  const { addresses, localPort, peerPort } = connection;
  request.begin(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, sequence)
    .u8(AF_INET6, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0).u32(SENDING_STATES)
    .u8(localPort >> 8, localPort & 0xff, peerPort >> 8, peerPort & 0xff)
    .u8(...addresses).u32(0, NO_COOKIE, NO_COOKIE);
}

/** The connection that a `struct inet_diag_msg` tells of, if it has sent data that is not acknowledged, or waits to send. */
export function parseConnection(body: Uint8Array): TcpConnection | undefined {
  if (body.length < Diag.LENGTH || body[Diag.FAMILY] !== AF_INET6 || readU32(body, Diag.WRITE_QUEUE) === 0) {
    return undefined;
  }
  return {
    addresses: body.slice(Diag.LOCAL, Diag.LOCAL + 2 * ADDRESS_LENGTH),
    localPort: get16(body, Diag.LOCAL_PORT),
    peerPort: get16(body, Diag.PEER_PORT),
  };
}

/** The state in a `struct inet_diag_msg`; undefined when it has none, as of a kernel older than its fields. */
export function parseState(body: Uint8Array): TcpState | undefined {
  const info = body.length < Diag.LENGTH ? undefined : new Attributes(body, Diag.LENGTH).octets(INET_DIAG_INFO);
  if (info === undefined || info.length < INFO_NEEDED) return undefined;
  return {
    unacknowledged: readU32(info, Info.UNACKED),
    retransmitted: readU32(info, Info.RETRANSMITTED),
    inLoss: info[Info.CA_STATE] === STATE_LOSS,
    mss: readU32(info, Info.SEND_MSS),
    timestamps: (info[Info.OPTIONS] & OPTION_TIMESTAMPS) !== 0,
    rttMs: readU32(info, Info.RTT) / 1_000,
    sinceAckMs: readU32(info, Info.LAST_ACK_RECEIVED),
  };
}

/** Questions about the connections of one network namespace. */
export class TcpDiag {
  readonly #fd: number;
  readonly #request = new MessageBuilder(2048);
  readonly #reply = stableBytes(RECEIVE_BUFFER);
  #sequence = 0;

  /** Opens a socket in the calling thread's network namespace. Throws {@linkcode SystemError}. */
  constructor() {
    this.#fd = check(
      libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG),
      threadErrno[0],
      "socket NETLINK_SOCK_DIAG",
    );
    const timeout = stableBytes(16); // struct timeval
    timeout[0] = ANSWER_TIMEOUT_S;
    libc().setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length);
  }

  /**
   * Calls `found` with each connection that has something to send, or has sent something that is not acknowledged; with
   * `pairs` (each a local address, then the peer's) only with those of these address pairs: the kernel goes over all sockets in
   * any case, but tells of none in vain. At most {@linkcode MAX_PAIRS}. Throws {@linkcode SystemError}.
   */
  connections(found: (connection: TcpConnection) => void, pairs?: readonly Uint8Array[]): void {
    writeDumpRequest(this.#next(), this.#sequence, pairs);
    this.#ask("list TCP connections", ({ body }) => {
      const connection = parseConnection(body);
      if (connection !== undefined) found(connection);
      return false;
    });
  }

  /** The state of a connection; undefined when it has ended. Throws {@linkcode SystemError}. */
  state(connection: TcpConnection): TcpState | undefined {
    writeStateRequest(this.#next(), this.#sequence, connection);
    let state: TcpState | undefined;
    this.#ask("look up TCP connection", ({ body }) => {
      state = parseState(body);
      return true;
    });
    return state;
  }

  #next(): MessageBuilder {
    this.#sequence = (this.#sequence + 1) >>> 0;
    this.#request.clear();
    return this.#request;
  }

  /** Sends the request and calls `take` with the answers, until it returns true or there are no more. */
  #ask(call: string, take: (message: NetlinkMessage) => boolean): void {
    check(libc().sendto(this.#fd, this.#request.octets, this.#request.length, 0, null, 0), threadErrno[0], call);
    for (;;) {
      const length = libc().recv(this.#fd, this.#reply, this.#reply.length, MSG_TRUNC), code = threadErrno[0];
      if (length < 0 && code === Errno.EINTR) continue;
      check(length, code, call);
      if (length > this.#reply.length) throw new SystemError(call, Errno.EMSGSIZE);
      for (const message of readMessages(this.#reply, length)) {
        if (message.sequence !== this.#sequence) continue; // what a failed request left behind
        if (message.type === SOCK_DIAG_BY_FAMILY) {
          if (take(message)) return;
          continue;
        }
        const code = message.body.length < 4 ? 0 : -(readU32(message.body, 0) | 0);
        if (message.type === NLMSG_ERROR && code !== 0 && code !== Errno.ENOENT) throw new SystemError(call, code);
        if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) return;
      }
    }
  }

  /** Closes the socket. */
  close(): void {
    libc().close(this.#fd);
  }
}
