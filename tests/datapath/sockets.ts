/** Plain sockets of two hosts in one process: what unmodified programs would use, without waiting for anything. */

import { check, closeFd, Errno, monotonicNow, stableBytes } from "deno-tun";
import { parseAddress } from "../../wire/address.ts";
import { libc, threadErrno } from "../../ffi/libc.ts";
import type { Host } from "./two_hosts.ts";

const AF_INET6 = 10;
const SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_RAW = 3, NONBLOCK_CLOEXEC = 0x80800;
const TRY_FOR_MS = 2000;

function sockaddr(address: string, port: number): Uint8Array<ArrayBuffer> {
  const octets = stableBytes(28);
  new DataView(octets.buffer).setUint16(0, AF_INET6, true);
  new DataView(octets.buffer).setUint16(2, port);
  octets.set(parseAddress(address), 8);
  return octets;
}

function openSocket(host: Host, type: number, protocol: number, address: string, port: number): number {
  return host.in(() => {
    const fd = check(libc().socket(AF_INET6, type | NONBLOCK_CLOEXEC, protocol), threadErrno[0], "socket");
    check(libc().bind(fd, sockaddr(address, port), 28), threadErrno[0], `bind ${address} ${port}`);
    return fd;
  });
}

/** Repeats `attempt` until it holds. Throws after two seconds, or so many ms. */
export function until(what: string, attempt: () => boolean, patience = TRY_FOR_MS): void {
  const end = monotonicNow() + patience;
  while (!attempt()) {
    if (monotonicNow() > end) throw new Error(`in vain: ${what}`);
    libc().poll(stableBytes(8), 0, 1);
  }
}

/** A bound UDP socket, or a raw one when `protocol` is given (`port` 0 then). */
export class Datagrams {
  readonly #fd: number;
  readonly #buffer = stableBytes(65_536);
  constructor(host: Host, readonly address: string, readonly port: number, protocol?: number) {
    this.#fd = openSocket(host, protocol === undefined ? SOCK_DGRAM : SOCK_RAW, protocol ?? 0, address, port);
  }
  /** Sends `count` datagrams of `length` octets. `firstOctet` is the type, when they are ICMPv6. */
  send(to: { readonly address: string; readonly port: number }, length: number, count = 1, firstOctet = 0): void {
    this.#buffer[0] = firstOctet;
    const target = sockaddr(to.address, to.port);
    for (let i = 0; i < count; i++) {
      check(libc().sendto(this.#fd, this.#buffer, length, 0, target, 28), threadErrno[0], `send to ${to.address}`);
    }
  }
  /** Takes `count` datagrams, waiting for them. */
  receive(count: number): void {
    until(`${count} datagrams at ${this.address} ${this.port}`, () => {
      while (count > 0 && libc().recv(this.#fd, this.#buffer, this.#buffer.length, 0) >= 0) count--;
      return count === 0;
    });
  }
  [Symbol.dispose](): void {
    closeFd(this.#fd);
  }
}

/** Carries `octets` over a new TCP connection from `from` to `to`, both ways opened and closed in order. */
export function transferTcp(
  from: { readonly host: Host; readonly address: string },
  to: { readonly host: Host; readonly address: string },
  port: number,
  octets: number,
): void {
  const listener = openSocket(to.host, SOCK_STREAM, 0, to.address, port);
  const sender = openSocket(from.host, SOCK_STREAM, 0, from.address, 0);
  let receiver = -1;
  try {
    check(libc().listen(listener, 1), threadErrno[0], "listen");
    const connected = libc().connect(sender, sockaddr(to.address, port), 28), code = threadErrno[0];
    if (code !== Errno.EINPROGRESS) check(connected, code, "connect");
    until("a connection", () => (receiver = libc().accept4(listener, stableBytes(28), stableBytes(4), 0x80800)) >= 0);
    const buffer = stableBytes(65_536);
    let unsent = octets, missing = octets;
    until(`${octets} octets over TCP`, () => {
      for (;;) {
        const sent = unsent > 0 ? libc().write(sender, buffer, Math.min(unsent, buffer.length)) : 0;
        if (sent > 0) unsent -= sent;
        const received = libc().read(receiver, buffer, buffer.length);
        if (received > 0) missing -= received;
        if (sent <= 0 && received <= 0) return missing === 0;
      }
    });
  } finally {
    for (const fd of [listener, sender, receiver]) if (fd >= 0) closeFd(fd);
  }
}
