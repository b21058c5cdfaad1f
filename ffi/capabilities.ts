/**
 * Linux capabilities (capabilities(7)): what this thread may do beside what everybody may, and how to give it up. Each
 * thread has its own; one that is started gets those of the thread that starts it.
 */

import { check } from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { stableBytes } from "./memory.ts";

/** Bit numbers of the capabilities the agent uses (linux/capability.h). */
export const Capability = {
  CAP_SETPCAP: 8,
  CAP_NET_ADMIN: 12,
  CAP_NET_RAW: 13,
  CAP_PERFMON: 38,
  CAP_BPF: 39,
} as const;
/** A name in {@linkcode Capability}. */
export type CapabilityName = keyof typeof Capability;

const VERSION_3 = 0x20080522;
const SYS_CAPGET = Deno.build.arch === "aarch64" ? 90 : 125, SYS_CAPSET = SYS_CAPGET + 1;
const PR_CAPBSET_READ = 23, PR_CAPBSET_DROP = 24, PR_SET_NO_NEW_PRIVS = 38, PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_CLEAR_ALL = 4;
/** Two records of {effective, permitted, inheritable}: capabilities 0 to 31, and 32 to 63. */
const EFFECTIVE = 0, PERMITTED = 1, INHERITABLE = 2, RECORD = 3;

/** The sets of this thread as words: {@linkcode RECORD} for each half. */
function readSets(): Uint32Array {
  const header = stableBytes(8), data = stableBytes(24);
  new DataView(header.buffer).setUint32(0, VERSION_3, true);
  check(Number(libc().syscall_capget(SYS_CAPGET, header, data)), threadErrno[0], "capget");
  return new Uint32Array(data.buffer, 0, 2 * RECORD);
}

function writeSets(sets: Uint32Array): void {
  const header = stableBytes(8), data = stableBytes(24);
  new DataView(header.buffer).setUint32(0, VERSION_3, true);
  new Uint32Array(data.buffer).set(sets);
  check(Number(libc().syscall_capset(SYS_CAPSET, header, data)), threadErrno[0], "capset");
}

function masks(names: Iterable<CapabilityName>): [number, number] {
  const halves: [number, number] = [0, 0];
  for (const name of names) halves[Capability[name] >> 5] |= 1 << (Capability[name] & 31);
  return halves;
}

/** The capabilities of {@linkcode Capability} that are in effect in this thread. Throws `SystemError`. */
export function effectiveCapabilities(): Set<CapabilityName> {
  const sets = readSets();
  const effective = (bit: number) => (sets[(bit >> 5) * RECORD + EFFECTIVE] >>> (bit & 31) & 1) === 1;
  return new Set((Object.keys(Capability) as CapabilityName[]).filter((name) => effective(Capability[name])));
}

/** Whether this thread has, or could get by executing a program as root, more than `names`. */
export function mayDoMoreThan(names: Iterable<CapabilityName>): boolean {
  const sets = readSets(), kept = masks(names);
  if ([0, 1].some((half) => (sets[half * RECORD + PERMITTED] & ~kept[half]) !== 0)) return true;
  return boundingSet().some((bit) => (kept[bit >> 5] >>> (bit & 31) & 1) === 0);
}

/**
 * Gives up all capabilities of this thread but `names`, for good, and all that programs would inherit. What it does not
 * have it does not get. Throws `SystemError`.
 */
export function keepCapabilities(names: Iterable<CapabilityName>): void {
  const sets = readSets(), kept = masks(names);
  for (const half of [0, 1]) {
    sets[half * RECORD + PERMITTED] &= kept[half];
    sets[half * RECORD + EFFECTIVE] &= kept[half];
    sets[half * RECORD + INHERITABLE] = 0;
  }
  writeSets(sets);
  check(libc().prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), threadErrno[0], "PR_CAP_AMBIENT_CLEAR_ALL");
}

/**
 * Calls `work` with no capabilities of this thread in effect but `names`; they come back afterwards. `work` must not be
 * asynchronous.
 */
export function withCapabilities<T>(names: Iterable<CapabilityName>, work: () => T): T {
  const before = readSets(), sets = before.slice(), kept = masks(names);
  for (const half of [0, 1]) sets[half * RECORD + EFFECTIVE] &= kept[half];
  writeSets(sets);
  try {
    return work();
  } finally {
    writeSets(before);
  }
}

/** The capabilities that a program which this thread executes may have at most, by their numbers. */
function boundingSet(): number[] {
  const bits: number[] = [];
  for (let bit = 0;; bit++) {
    const state = libc().prctl(PR_CAPBSET_READ, bit, 0, 0, 0);
    if (state < 0) return bits; // the kernel knows no more of them
    if (state === 1) bits.push(bit);
  }
}

/** Takes all but `names` from what programs that this thread executes may have. Needs CAP_SETPCAP, else SystemError. */
export function boundCapabilities(names: Iterable<CapabilityName>): void {
  const kept = masks(names);
  for (const bit of boundingSet()) {
    if ((kept[bit >> 5] >>> (bit & 31) & 1) === 1) continue;
    check(libc().prctl(PR_CAPBSET_DROP, bit, 0, 0, 0), threadErrno[0], `PR_CAPBSET_DROP ${bit}`);
  }
}

/** From now on no program that this thread executes gets rights from its file. Threads started later have it too. */
export function forbidNewPrivileges(): void {
  check(libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), threadErrno[0], "PR_SET_NO_NEW_PRIVS");
}
