/** Plain IPv6 sockets in any network namespace, for tests that look at what the kernel does with a real packet. */

import { check, closeFd, errnoName, stableBytes, withNetns } from "deno-tun";
import { libc, threadErrno } from "../../ffi/libc.ts";
import { parseAddress } from "../../wire/address.ts";

const AF_INET6 = 10;
const SOCK_NONBLOCK_CLOEXEC = 0x80800;
const TYPES = { tcp: 1, udp: 2 };
const MSG_NOSIGNAL = 0x4000;
const POLLIN = 1;

function socketAddress(address: string, port: number): Uint8Array<ArrayBuffer> {
  const bytes = stableBytes(28);
  bytes.set([AF_INET6, 0, port >> 8, port & 255]);
  bytes.set(parseAddress(address), 8);
  return bytes;
}

/** A TCP or UDP socket. Waiting blocks the thread, so it is always for milliseconds only. */
export class TestSocket implements Disposable {
  readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** Opens a socket in the namespace, bound to the address. */
  static open(netns: number, type: keyof typeof TYPES, address: string, port = 0): TestSocket {
    return withNetns(netns, () => {
      const socket = new TestSocket(
        check(libc().socket(AF_INET6, TYPES[type] | SOCK_NONBLOCK_CLOEXEC, 0), threadErrno[0], "socket"),
      );
      const name = socketAddress(address, port);
      check(libc().bind(socket.fd, name, name.length), threadErrno[0], `bind ${address}`);
      return socket;
    });
  }

  /** Connects; a TCP socket is connected when the peer has accepted. */
  connect(address: string, port: number): this {
    const name = socketAddress(address, port);
    const result = libc().connect(this.fd, name, name.length), code = threadErrno[0];
    if (errnoName(code) !== "EINPROGRESS") check(result, code, `connect ${address}`);
    return this;
  }

  listen(): this {
    check(libc().listen(this.fd, 1), threadErrno[0], "listen");
    return this;
  }

  accept(timeoutMs = 1000): TestSocket {
    this.#wait(timeoutMs);
    return new TestSocket(check(libc().accept4(this.fd, null, null, SOCK_NONBLOCK_CLOEXEC), threadErrno[0], "accept"));
  }

  /** Sends octets of the given number, zero each. Returns the errno's name when that failed, else "". */
  send(length: number): string {
    const sent = libc().sendto(this.fd, stableBytes(length), length, MSG_NOSIGNAL, null, 0);
    return sent < 0 ? errnoName(threadErrno[0]) : "";
  }

  /** Sends octets to an address. Returns the errno's name when that failed, else "". */
  sendTo(octets: Uint8Array<ArrayBuffer>, address: string, port: number): string {
    const to = socketAddress(address, port);
    const sent = libc().sendto(this.fd, octets, octets.length, MSG_NOSIGNAL, to, to.length);
    return sent < 0 ? errnoName(threadErrno[0]) : "";
  }

  /** The octets that came within the time; undefined when none did. */
  receive(timeoutMs: number): Uint8Array | undefined {
    const buffer = stableBytes(65536);
    this.#wait(timeoutMs);
    const length = libc().recv(this.fd, buffer, buffer.length, 0);
    return length < 0 ? undefined : buffer.subarray(0, length);
  }

  /** Sets an integer option. */
  option(level: number, name: number, value: number): this {
    const bytes = stableBytes(4);
    new DataView(bytes.buffer).setInt32(0, value, true);
    check(libc().setsockopt(this.fd, level, name, bytes, 4), threadErrno[0], `setsockopt ${level} ${name}`);
    return this;
  }

  #wait(timeoutMs: number): void {
    const entry = new Int32Array(stableBytes(8).buffer, 0, 2);
    entry[0] = this.fd;
    entry[1] = POLLIN;
    libc().poll(new Uint8Array(entry.buffer, 0, 8), 1, timeoutMs);
  }

  [Symbol.dispose](): void {
    closeFd(this.fd);
  }
}
