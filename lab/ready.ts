/** Waiting until the kernel has finished what it does behind one's back after an interface came up. */

import { monotonicNow, type Netlink } from "deno-tun";

const RT_TABLE_LOCAL = 255;
const TIMEOUT_MS = 5000;
/** Never changes: what is waited for here is not its business. */
const clock = new Int32Array(new SharedArrayBuffer(4));

/** The kernel did not get an interface ready in time. */
export class NotReady extends Error {
  /** `NotReady` */
  override name = "NotReady";
}

/**
 * Blocks this thread until `condition` holds, asking each millisecond. Throws {@linkcode NotReady} after `timeoutMs`;
 * `what` says what was missing.
 */
export function waitUntil(condition: () => boolean, what: string, timeoutMs = TIMEOUT_MS): void {
  const deadline = monotonicNow() + timeoutMs;
  while (!condition()) {
    if (monotonicNow() > deadline) throw new NotReady(`not ready after ${timeoutMs} ms: ${what}`);
    Atomics.wait(clock, 0, 0, 1);
  }
}

/**
 * Blocks until the interface has a carrier and the kernel accepts packets for each of its addresses: both come from a
 * kernel thread, some time after the call that brought the interface up or assigned the address. Throws
 * {@linkcode NotReady}.
 */
export function waitUntilReady(netlink: Netlink, name: string): void {
  waitUntil(() => {
    const link = netlink.link(name);
    if (!link?.running) return false;
    const routes = netlink.routes({ table: RT_TABLE_LOCAL, dev: link.index });
    const accepted = new Set(routes.map((route) => route.destination.address));
    return netlink.addresses(link.index).every((entry) => entry.tentative || accepted.has(entry.address));
  }, `interface ${name}`);
}
