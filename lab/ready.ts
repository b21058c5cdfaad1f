/** Waiting until the kernel has finished what it does behind one's back after an interface came up. */

import { monotonicNow, type Netlink } from "deno-tun";

const RT_TABLE_LOCAL = 255;
const PAUSE_MS = 1;

/** The kernel did not get an interface ready in time. */
export class NotReady extends Error {
  /** `NotReady` */
  override name = "NotReady";
}

/** Blocks this thread. */
export function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/**
 * Blocks until the interface has a carrier and the kernel accepts packets for each of its addresses: both come from a
 * kernel thread, some time after the call that brought the interface up or assigned the address. Throws
 * {@linkcode NotReady} after `timeoutMs`.
 */
export function waitUntilReady(netlink: Netlink, name: string, timeoutMs = 5000): void {
  const deadline = monotonicNow() + timeoutMs;
  while (true) {
    const link = netlink.link(name);
    if (link?.running) {
      const accepted = new Set(
        netlink.routes({ table: RT_TABLE_LOCAL, dev: link.index }).map((r) => r.destination.address),
      );
      if (netlink.addresses(link.index).every((a) => a.tentative || accepted.has(a.address))) return;
    }
    if (monotonicNow() > deadline) throw new NotReady(`${name} is not ready after ${timeoutMs} ms`);
    pause(PAUSE_MS);
  }
}
