/** Sending ICMPv6 messages (RFC 4443); the kernel adds the checksum. */

import { type Address, parseAddress } from "../wire/address.ts";
import { check } from "./errno.ts";
import { closeFd } from "./fd.ts";
import { libc, threadErrno } from "./libc.ts";
import { putSockaddrIn6, SOCKADDR_IN6_LENGTH } from "./raw6.ts";
import { cString, stableBytes } from "./memory.ts";

const AF_INET6 = 10;
const SOCK_RAW_CLOEXEC = 0x80003;
const IPPROTO_ICMPV6 = 58;
const SOL_SOCKET = 1;
const SO_BINDTODEVICE = 25;
const SOL_IPV6 = 41;
const IPV6_UNICAST_HOPS = 16, IPV6_MULTICAST_HOPS = 18;
/** What receivers of Neighbor Discovery insist on (RFC 4861 §6.1.2). */
const HOP_LIMIT = 255;

/**
 * Sends a message, from its type on with a zero checksum, by one interface of the calling thread's network namespace.
 * The kernel chooses the source address. Throws SystemError, EPERM without CAP_NET_RAW.
 */
export function sendIcmp6(interfaceName: string, destination: Address, message: Uint8Array): void {
  const fd = check(libc().socket(AF_INET6, SOCK_RAW_CLOEXEC, IPPROTO_ICMPV6), threadErrno[0], "socket IPv6 raw ICMPv6");
  try {
    const name = cString(interfaceName);
    check(
      libc().setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, name.length - 1),
      threadErrno[0],
      `SO_BINDTODEVICE ${interfaceName}`,
    );
    const hops = stableBytes(4);
    new DataView(hops.buffer).setInt32(0, HOP_LIMIT, true);
    check(libc().setsockopt(fd, SOL_IPV6, IPV6_UNICAST_HOPS, hops, 4), threadErrno[0], "IPV6_UNICAST_HOPS");
    check(libc().setsockopt(fd, SOL_IPV6, IPV6_MULTICAST_HOPS, hops, 4), threadErrno[0], "IPV6_MULTICAST_HOPS");
    const to = stableBytes(SOCKADDR_IN6_LENGTH);
    putSockaddrIn6(to, 0);
    to.set(parseAddress(destination), 8);
    const octets = stableBytes(message.length);
    octets.set(message);
    check(libc().sendto(fd, octets, octets.length, 0, to, to.length), threadErrno[0], `send ICMPv6 to ${destination}`);
  } finally {
    closeFd(fd);
  }
}
