/**
 * deno-tun: Linux networking from TypeScript through the C library. Everything here needs `--allow-ffi`; nothing is
 * opened before it is used.
 *
 * @module
 */

export { check, Errno, errnoName, SystemError } from "./errno.ts";
export { addressOf, cString, giveBackFreePages, putAddress, stableBytes } from "./memory.ts";
export * from "./netlink.ts";
export * from "./netns.ts";
export * from "./clock.ts";
export * from "./fd.ts";
export * from "./raw6.ts";
export * from "./raw6_batch.ts";
export * from "./udp6.ts";
export * from "./tun.ts";
export * from "./tun_io.ts";
export * from "./capabilities.ts";
export * from "./classic_filter.ts";
export * from "./bpf.ts";
export * from "./tcp_diag.ts";
export * from "./nftables.ts";
export * from "./packet.ts";
export * from "./frame_buffer.ts";
export * from "./icmp6.ts";
export * from "./priority.ts";
export * from "./ethtool.ts";
export * from "./exec.ts";
export * from "./permissions.ts";
