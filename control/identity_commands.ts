/** `shim6-agent hba` and `shim6-agent cga`: make identities and verify addresses. */

import { parseArgs } from "@std/cli";
import { Netlink, NetlinkError } from "deno-tun";
import { CommandError, UsageError } from "../agent/errors.ts";
import {
  afterCollision,
  cgaNew,
  checkIdentityTarget,
  hbaNew,
  type Identity,
  identityFault,
  type IdentityKind,
  readIdentityFile,
  replaceIdentityFile,
  writeIdentityFile,
} from "../agent/identity.ts";
import { installAddresses } from "../agent/install_addresses.ts";
import type { SearchProgress } from "../agent/modifier_search.ts";
import { secOf } from "../shim6/cga.ts";
import type { HbaFault } from "../shim6/hba.ts";
import { type Address, canonicalAddress, InvalidAddress, parsePrefix } from "../wire/address.ts";

type Family = "hba" | "cga";

const DEFAULT_SEC = 1;

const USAGE = {
  hba: {
    new: "shim6-agent hba new --prefix P… [--sec N] --out FILE [--install IFACE…] [--key] [--json]",
    verify: "shim6-agent hba verify FILE | ADDR --parameters FILE [--json]",
  },
  cga: {
    new: "shim6-agent cga new --prefix P… [--sec N] --out FILE [--install IFACE…] [--json]",
    verify: "shim6-agent cga verify FILE | ADDR --parameters FILE [--json]",
  },
} as const;

const SUMMARY = {
  hba: "hash-based addresses (RFC 5535): one for each prefix, bound to each other by a hash over all prefixes",
  cga: "cryptographically generated addresses (RFC 3972): bound to a key, which signs this host's locators",
} as const;

/** Why a verification failed, for people. */
const FAULTS: Readonly<Record<HbaFault, string>> = {
  "too-short": "the parameters are too short",
  "bad-public-key": "the parameters hold no public key",
  "bad-extension": "the parameters end inside an extension",
  "collision-count": "the collision count is not 0, 1 or 2",
  "prefix": "the parameters are for another prefix",
  "hash1": "the interface identifier is not the hash of the parameters",
  "unknown-sec": "its Sec is not 0, 1 or 2",
  "hash2": "the second hash has too few zero bits for its Sec",
  "no-multi-prefix": "the parameters describe no set of addresses",
  "bad-multi-prefix": "the list of prefixes in the parameters is damaged",
  "prefix-not-in-set": "its prefix is not in the set",
};

function help(family: Family): string {
  return `usage: ${USAGE[family].new}
       ${USAGE[family].verify}

${SUMMARY[family]}

new      makes an identity, writes it to FILE (mode 0600) for run --identity FILE, prints its addresses
  --prefix P        a prefix of 64 bits (repeatable, in the order of the addresses)
  --sec N           strength: 0, 1 (default) or 2, which may take an hour
  --out FILE        a new file; one that exists is not overwritten
  --install IFACE   assign the addresses to this interface; given once for each prefix, each to its own
${family === "hba" ? "  --key             with a key, so that the host can add locators that are not of the set\n" : ""}
verify   checks the addresses in FILE, or one address by the parameters in a file`;
}

/**
 * Runs `hba …` or `cga …`; `args` starts with that word. `workerModule` is a module that takes part in a search when it
 * is started as a Worker (see `SearchOptions`). Returns the exit code; throws {@linkcode UsageError} and
 * {@linkcode CommandError}.
 */
export async function identityCommand(args: string[], workerModule?: string): Promise<number> {
  const family: Family = args[0] === "cga" ? "cga" : "hba";
  const usage = `usage: ${USAGE[family].new}\n       ${USAGE[family].verify}`;
  const flags = parseArgs(args.slice(1), {
    string: ["prefix", "sec", "out", "install", "parameters", "_"],
    collect: ["prefix", "install"],
    boolean: ["key", "json", "help"],
    unknown: (flag: string) => {
      if (flag.startsWith("-")) throw new UsageError(`unknown option ${flag}; ${usage}`);
    },
  });
  const [action, ...operands] = flags._.map(String);
  if (flags.help) {
    console.log(help(family));
    return 0;
  }
  for (const [name, value] of Object.entries(flags)) {
    if ([value].flat().includes("")) throw new UsageError(`--${name} needs a value; ${usage}`);
  }
  if (action === "new" && operands.length === 0 && flags.parameters === undefined) {
    if (flags.key && family === "cga") throw new UsageError("--key: a CGA always has a key");
    return await makeIdentity(family, flags, workerModule);
  }
  if (action === "verify" && operands.length === 1 && flags.prefix.length + flags.install.length === 0) {
    return verifyAddresses(family, operands[0], flags.parameters, flags.json);
  }
  throw new UsageError(usage);
}

interface NewFlags {
  readonly prefix: readonly string[];
  readonly sec?: string;
  readonly out?: string;
  readonly install: readonly string[];
  readonly key: boolean;
  readonly json: boolean;
}

async function makeIdentity(family: Family, flags: NewFlags, workerModule: string | undefined): Promise<number> {
  const { out, install } = flags;
  if (out === undefined) throw new UsageError(`--out is missing; usage: ${USAGE[family].new}`);
  if (install.length > 1 && install.length !== flags.prefix.length) {
    throw new UsageError("--install is given once for all prefixes, or once for each");
  }
  const prefixes = flags.prefix.map((text) => accepted("--prefix", () => parsePrefix(text)));
  if (!/^[0-2]$/.test(flags.sec ?? `${DEFAULT_SEC}`)) {
    throw new UsageError(`--sec: expected 0, 1 or 2, got "${flags.sec}"`);
  }
  const sec = Number(flags.sec ?? DEFAULT_SEC);
  const progress = new ProgressLine();
  using netlink = install.length === 0 ? undefined : new Installer(install);
  checkIdentityTarget(out);
  const options = { prefixes, sec, workerModule, onProgress: progress.show };
  let identity = await (family === "hba" ? hbaNew({ ...options, cga: flags.key }) : cgaNew(options));
  progress.end();
  writeIdentityFile(out, identity);
  if (netlink !== undefined) {
    identity = await netlink.install(identity, (next) => replaceIdentityFile(out, next));
  }
  const { kind, addresses } = identity;
  console.log(flags.json ? JSON.stringify({ kind, sec, addresses, file: out }, null, 2) : addresses.join("\n"));
  return 0;
}

/** Puts addresses on interfaces, and changes them as long as others have them already. */
class Installer implements Disposable {
  readonly #netlink = new Netlink();
  readonly #indexes: number[];
  readonly #names: readonly string[];

  constructor(names: readonly string[]) {
    this.#names = names;
    try {
      this.#indexes = names.map((name) => {
        const link = this.#netlink.link(name);
        if (link === undefined) throw new UsageError(`--install: there is no interface ${name}`);
        return link.index;
      });
    } catch (error) {
      this.#netlink.close();
      throw error;
    }
  }

  /** The identity as it was installed; `replace` is called with each one that takes the place of the former. */
  async install(identity: Identity, replace: (next: Identity) => void): Promise<Identity> {
    for (;;) {
      const placements = identity.addresses.map((address, i) => ({
        address,
        index: this.#indexes.length === 1 ? this.#indexes[0] : this.#indexes[i],
      }));
      const result = await this.#attempt(placements);
      if (result.ok) {
        for (const address of result.tentative) {
          console.error(`${address} is tentative still: no carrier on ${this.#names.join(", ")}?`);
        }
        return identity;
      }
      console.error(`${result.collision} is taken by another host on the link`);
      const next = afterCollision(identity);
      if (next === undefined) {
        throw new CommandError(
          "three collisions in a row: somebody on the link claims every address; none is installed",
        );
      }
      replace(next);
      identity = next;
    }
  }

  async #attempt(placements: Parameters<typeof installAddresses>[1]): ReturnType<typeof installAddresses> {
    try {
      return await installAddresses(this.#netlink, placements);
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error;
      throw new CommandError(`the identity is written, but its addresses are not installed: ${error.message}`);
    }
  }

  [Symbol.dispose](): void {
    this.#netlink.close();
  }
}

function verifyAddresses(family: Family, operand: string, parametersFile: string | undefined, json: boolean): number {
  if (parametersFile === undefined && isAddress(operand)) {
    throw new UsageError(`--parameters FILE is needed to verify ${operand}`);
  }
  const identity = readIdentityFile(parametersFile ?? operand);
  const addresses = parametersFile === undefined
    ? identity.addresses
    : [accepted("verify", () => canonicalAddress(operand))];
  const kind: IdentityKind = family === "cga" ? "CGA" : "HBA";
  const verdicts = addresses.map((address) => verdict(kind, identity, address));
  if (json) console.log(JSON.stringify(verdicts, null, 2));
  else {
    for (const { address, sec, fault } of verdicts) {
      console.log(`${address} ${fault === undefined ? `verifies (${kind}, Sec ${sec})` : `fails: ${FAULTS[fault]}`}`);
    }
  }
  return verdicts.every(({ verified }) => verified) ? 0 : 1;
}

function verdict(kind: IdentityKind, { pds }: Identity, address: Address) {
  const fault = identityFault({ kind, pds }, address);
  return { address, verified: fault === undefined, sec: secOf(address), fault };
}

function isAddress(text: string): boolean {
  try {
    canonicalAddress(text);
    return true;
  } catch {
    return false;
  }
}

function accepted<T>(what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof InvalidAddress) throw new UsageError(`${what}: ${error.message}`);
    throw error;
  }
}

/** Tells on stderr how long a search will take, once there is something to tell; goes on telling on a terminal. */
class ProgressLine {
  #shown = false;

  show = ({ tried, expected, elapsedMs }: SearchProgress): void => {
    // The first seconds say nothing of the rate: code is compiled and Workers start.
    if (elapsedMs < 3_000 || this.#shown && !Deno.stderr.isTerminal()) return;
    const rate = tried / elapsedMs;
    const text = `${(rate / 1_000).toFixed(2)} million hashes a second: ${duration(expected / rate)} on average, ` +
      `${duration(elapsedMs)} gone`;
    if (Deno.stderr.isTerminal()) Deno.stderr.writeSync(new TextEncoder().encode(`\r\x1b[K${text}`));
    else console.error(text);
    this.#shown = true;
  };

  end(): void {
    if (this.#shown && Deno.stderr.isTerminal()) console.error();
  }
}

function duration(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3_600).toFixed(1)} h`;
}
