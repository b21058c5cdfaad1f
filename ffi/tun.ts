/** TUN devices: the kernel hands over whole IP packets and takes them back (Documentation/networking/tuntap.rst). */

import { closeFd } from "./fd.ts";
import { check, Errno, SystemError } from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { cString, stableBytes } from "./memory.ts";

const O_RDWR_NONBLOCK_CLOEXEC = 0x80802;
const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const IFF_TUN = 1, IFF_NO_PI = 0x1000, IFF_VNET_HDR = 0x4000;
const IFNAMSIZ = 16;

/** What the reader of a TUN device can take over from the kernel (TUN_F_* of linux/if_tun.h). */
export const TunOffload = { CSUM: 1, TSO4: 2, TSO6: 4, TSO_ECN: 8, USO4: 0x20, USO6: 0x40 } as const;

/** Tried in this order, as older kernels refuse what they do not know (USO came with 6.2). */
const OFFLOADS = [
  TunOffload.CSUM | TunOffload.TSO4 | TunOffload.TSO6 | TunOffload.TSO_ECN | TunOffload.USO4 | TunOffload.USO6,
  TunOffload.CSUM | TunOffload.TSO4 | TunOffload.TSO6 | TunOffload.TSO_ECN,
  TunOffload.CSUM,
  0,
];

/** The header before each packet, in both directions (struct virtio_net_hdr): offsets, all fields little-endian. */
export const VnetHeader = {
  FLAGS: 0,
  GSO_TYPE: 1,
  HEADER_LENGTH: 2,
  GSO_SIZE: 4,
  CSUM_START: 6,
  CSUM_OFFSET: 8,
} as const;
/** Octets of the header. */
export const VNET_HEADER_LENGTH = 10;
/** The transport checksum holds the sum of the pseudo-header only; the rest is still to be added. */
export const VNET_NEEDS_CSUM = 1;
/** The transport checksum has been verified. */
export const VNET_DATA_VALID = 2;
/** Values of the GSO_TYPE field; ECN is a flag beside TCP: the first segment carries CWR. */
export const GsoType = { NONE: 0, TCPV4: 1, TCPV6: 4, UDP_L4: 5, ECN: 0x80 } as const;

/** An open TUN device. It lives until its descriptor is closed, and takes addresses and routes on it along. */
export interface Tun {
  /** Non-blocking; the device ends with it. */
  readonly fd: number;
  /** Interface name. */
  readonly name: string;
  /** Interface index. */
  readonly index: number;
  /** The granted {@linkcode TunOffload} bits. */
  readonly offloads: number;
}

/**
 * Creates the TUN device `name`, non-blocking, each packet with a {@linkcode VnetHeader} before it, with as many
 * offloads as the kernel grants. Throws SystemError: EPERM without CAP_NET_ADMIN, EBUSY when the name is taken, ENOENT
 * without the tun module.
 */
export function openTun(name: string): Tun {
  if (name.length === 0 || name.length >= IFNAMSIZ) throw new SystemError(`TUNSETIFF ${name}`, Errno.EINVAL);
  const fd = check(libc().open(cString("/dev/net/tun"), O_RDWR_NONBLOCK_CLOEXEC), threadErrno[0], "open /dev/net/tun");
  try {
    const request = stableBytes(40);
    request.set(cString(name));
    new DataView(request.buffer).setUint16(IFNAMSIZ, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, true);
    check(libc().ioctl(fd, TUNSETIFF, request), threadErrno[0], `TUNSETIFF ${name}`);
    const offloads = OFFLOADS.find((wanted) => libc().ioctl_value(fd, TUNSETOFFLOAD, wanted) === 0);
    if (offloads === undefined) throw new SystemError(`TUNSETOFFLOAD ${name}`, Errno.EINVAL);
    const index = libc().if_nametoindex(cString(name));
    return { fd, name, index, offloads };
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** Writes one packet, its {@linkcode VnetHeader} before it. Returns 0 or the errno, as EIO when the device is down. */
export function writeTunPacket(fd: number, packet: Uint8Array): number {
  return libc().write(fd, packet as Uint8Array<ArrayBuffer>, packet.length) < 0 ? threadErrno[0] : 0;
}

/** Changes what the kernel leaves to the reader of a device: {@linkcode TunOffload} bits. Throws SystemError. */
export function setTunOffloads(fd: number, offloads: number): void {
  check(libc().ioctl_value(fd, TUNSETOFFLOAD, offloads), threadErrno[0], "TUNSETOFFLOAD");
}
