/** Assigns addresses to interfaces, and waits for what duplicate address detection (RFC 4862 §5.4) finds. */

import type { Netlink } from "deno-tun";
import type { Address } from "../wire/address.ts";

/** Where an address is to be. */
export interface Placement {
  /** Without its prefix, which is always of 64 bits. */
  readonly address: Address;
  /** Interface index. */
  readonly index: number;
}

/** How it went. */
export type InstallResult =
  | { readonly ok: true; readonly tentative: readonly Address[] }
  /** Somebody on the link has this address. All are removed again. */
  | { readonly ok: false; readonly collision: Address };

const PREFIX_LENGTH = 64;
const POLL_INTERVAL_MS = 20;
/** Detection takes one to two seconds by default; without a carrier it never ends. */
const DETECTION_TIMEOUT_MS = 4_000;

/**
 * Assigns all addresses, each with its on-link prefix of 64 bits, or none. Those in `tentative` are assigned, but
 * their detection did not end in time. Throws `NetlinkError`.
 */
export async function installAddresses(
  netlink: Netlink,
  placements: readonly Placement[],
  timeoutMs: number = DETECTION_TIMEOUT_MS,
): Promise<InstallResult> {
  const remove = () => placements.forEach(({ index, address }) => netlink.deleteAddress(index, address, PREFIX_LENGTH));
  try {
    for (const { index, address } of placements) netlink.addAddress(index, address, PREFIX_LENGTH);
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const assigned = netlink.addresses();
      const mine = placements.flatMap(({ index, address }) =>
        assigned.filter((entry) => entry.index === index && entry.address === address)
      );
      const failed = mine.find((entry) => entry.dadFailed);
      // Where the kernel is told to, it removes a duplicate by itself.
      const gone = placements.find(({ address }) => !mine.some((entry) => entry.address === address));
      const collision = failed?.address ?? gone?.address;
      if (collision !== undefined) {
        remove();
        return { ok: false, collision };
      }
      const tentative = mine.filter((entry) => entry.tentative).map((entry) => entry.address);
      if (tentative.length === 0 || performance.now() >= deadline) return { ok: true, tentative };
      await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
    }
  } catch (error) {
    remove();
    throw error;
  }
}
