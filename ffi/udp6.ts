/** One end of a UDP flow over IPv6, in whatever network namespace it is opened. */

import { type Address, parseAddress } from "../wire/address.ts";
import { attachClassicFilter, ClassicOpcode } from "./classic_filter.ts";
import { check } from "./errno.ts";
import { closeFd } from "./fd.ts";
import { libc, threadErrno } from "./libc.ts";
import { stableBytes } from "./memory.ts";

const AF_INET6 = 10;
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 0x80802;
const SOCKADDR_IN6_LENGTH = 28;
const DROP = 0;

/** A connected socket that sends datagrams; what comes in is taken from the network and dropped. */
export class UdpSource {
  readonly #fd: number;
  readonly #datagram: Uint8Array<ArrayBuffer>;

  private constructor(fd: number, length: number) {
    this.#fd = fd;
    this.#datagram = stableBytes(length);
  }

  /**
   * Opens a flow of datagrams of `length` octets; both ends use the same port. Throws SystemError: EADDRNOTAVAIL for an
   * address that is not this host's, EADDRINUSE.
   */
  static open(local: Address, peer: Address, port: number, length: number): UdpSource {
    const fd = check(libc().socket(AF_INET6, SOCK_DGRAM_NONBLOCK_CLOEXEC, 0), threadErrno[0], "socket IPv6 UDP");
    try {
      attachClassicFilter(fd, [[ClassicOpcode.RETURN, 0, 0, DROP]]);
      const name = socketAddress(local, port), peerName = socketAddress(peer, port);
      check(libc().bind(fd, name, SOCKADDR_IN6_LENGTH), threadErrno[0], `bind ${local}`);
      check(libc().connect(fd, peerName, SOCKADDR_IN6_LENGTH), threadErrno[0], `connect ${peer}`);
      return new UdpSource(fd, length);
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  /** Sends one datagram. Returns 0, or the errno: an ICMPv6 error about an earlier one is told here too. */
  send(): number {
    const sent = libc().sendto(this.#fd, this.#datagram, this.#datagram.length, 0, null, 0);
    return sent < 0 ? threadErrno[0] : 0;
  }

  /** Closes the socket. */
  close(): void {
    closeFd(this.#fd);
  }
}

/** struct sockaddr_in6: family, port in network order, flow information, address, scope. */
function socketAddress(address: Address, port: number): Uint8Array<ArrayBuffer> {
  const bytes = stableBytes(SOCKADDR_IN6_LENGTH);
  bytes.set([AF_INET6, 0, port >> 8, port & 255]);
  bytes.set(parseAddress(address), 8);
  return bytes;
}
