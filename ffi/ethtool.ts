/** Settings of a network device that only the old ethtool interface (SIOCETHTOOL) reaches. */

import { check } from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { addressOf, cString, putAddress, stableBytes } from "./memory.ts";

const AF_INET6 = 10, SOCK_DGRAM_CLOEXEC = 0x80002;
const SIOCETHTOOL = 0x8946;
const IFREQ_LENGTH = 40, IFREQ_DATA = 16;
const ETHTOOL_STXCSUM = 0x17;

/**
 * Whether the device may be given packets without checksum. If not, it gets no super-packets of TCP and UDP either: the
 * kernel cuts them and completes each checksum before. Throws `SystemError`.
 */
export function setTransmitChecksumOffload(interfaceName: string, enabled: boolean): void {
  const value = stableBytes(8);
  new Uint32Array(value.buffer).set([ETHTOOL_STXCSUM, enabled ? 1 : 0]);
  const request = stableBytes(IFREQ_LENGTH);
  request.set(cString(interfaceName).subarray(0, IFREQ_DATA - 1));
  putAddress(new Uint32Array(request.buffer), IFREQ_DATA / 4, addressOf(value));
  const fd = check(libc().socket(AF_INET6, SOCK_DGRAM_CLOEXEC, 0), threadErrno[0], "socket");
  try {
    check(libc().ioctl(fd, SIOCETHTOOL, request), threadErrno[0], `ETHTOOL_STXCSUM ${interfaceName}`);
  } finally {
    libc().close(fd);
  }
}
