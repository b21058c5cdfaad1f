/** Which Linux capabilities this process has in effect. */

import { check } from "./errno.ts";
import { libc } from "./libc.ts";
import { stableBytes } from "./memory.ts";

/** Bit numbers of the capabilities the agent uses (linux/capability.h). */
export const Capability = { CAP_NET_ADMIN: 12, CAP_NET_RAW: 13, CAP_PERFMON: 38, CAP_BPF: 39 } as const;
/** A name in {@linkcode Capability}. */
export type CapabilityName = keyof typeof Capability;

const VERSION_3 = 0x20080522;

/** The capabilities of {@linkcode Capability} that are in effect. Throws {@linkcode SystemError}. */
export function effectiveCapabilities(): Set<CapabilityName> {
  const header = stableBytes(8), data = stableBytes(24);
  new DataView(header.buffer).setUint32(0, VERSION_3, true);
  const number = Deno.build.arch === "aarch64" ? 90n : 125n;
  check(Number(libc().syscall_capget(number, header, data)), "capget");
  const words = new DataView(data.buffer);
  // Two records of {effective, permitted, inheritable}: capabilities 0..31 and 32..63.
  const effective = (bit: number) => (words.getUint32(bit < 32 ? 0 : 12, true) >>> (bit & 31) & 1) === 1;
  return new Set((Object.keys(Capability) as CapabilityName[]).filter((name) => effective(Capability[name])));
}
