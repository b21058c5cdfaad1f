/** The identities of this host: sets of HBAs and CGAs, made, kept in files, and put to use. */

import type { KeyObject } from "node:crypto";
import { type Address, canonicalAddress, isLocatorScope, parseAddress, type Prefix } from "../wire/address.ts";
import { cgaAddress, MAX_SEC, secOf, verifyCga } from "../shim6/cga.ts";
import {
  EXTENDED_MODIFIER_LENGTH,
  extendedModifierKey,
  type HbaFault,
  isHba,
  multiPrefixExtension,
  verifyHba,
} from "../shim6/hba.ts";
import { LocalIdentity } from "../shim6/identity.ts";
import {
  COLLISION_COUNT_OFFSET,
  emitPds,
  keyAndExtensions,
  MAX_COLLISION_COUNT,
  parsePds,
  type PdsExtension,
  SUBNET_PREFIX_LENGTH,
  withPrefixOf,
} from "../shim6/pds.ts";
import { parseRsaKey } from "../shim6/rsa.ts";
import { UsageError } from "./errors.ts";
import { searchModifier, type SearchOptions } from "./modifier_search.ts";

// Not imported at the top: a bundle would load it at every start of the program, for 30 ms.
const { createPrivateKey, createPublicKey, sign } = await import("node:crypto");

/** What an identity can prove: a fixed set, whatever its key signs, or both (RFC 5535 §4). */
export type IdentityKind = "HBA" | "CGA" | "CGA/HBA";

/** Addresses with what proves that they belong together. */
export interface Identity {
  /** Follows from parameters and key. */
  readonly kind: IdentityKind;
  /** That of the addresses: 0, 1 or 2. */
  readonly sec: number;
  /** One for each prefix, in order. */
  readonly addresses: readonly Address[];
  /** CGA Parameters data structure of the first address. That of another has its prefix instead. */
  readonly pds: Uint8Array;
  /** PKCS #8, PEM. Not with kind HBA. */
  readonly privateKey?: string;
}

/** What is wrong with an identity file. */
export type IdentityFault =
  | "unreadable"
  | "too-open"
  | "not-an-identity"
  | "unknown-version"
  | "bad-parameters"
  | "bad-address"
  | "bad-key"
  | "unwritable";

/** An identity file cannot be used. */
export class IdentityError extends UsageError {
  /** Tells it from other errors in a log. */
  override name = "IdentityError";

  /** `message` is for the user and names the file. */
  constructor(readonly fault: IdentityFault, message: string) {
    super(message);
  }
}

/** What an identity is made from. */
export interface NewIdentityOptions extends SearchOptions {
  /** Of 64 bits each. */
  readonly prefixes: readonly Prefix[];
  /** 0, 1 or 2: each step makes a forgery, and the search, 65536 times harder (RFC 3972 §2). */
  readonly sec: number;
}

/** As many prefixes as an engine takes locators of a peer by default; list, PDS and signature then fit into a message. */
const MAX_PREFIXES = 16;
/** A structure of 16 prefixes with a key of 4096 bits takes some 2 kB as text. */
const MAX_FILE_LENGTH = 65_536;
const FILE_VERSION = 1;
/** The largest key whose PDS and signature leave room for a list of locators in a packet of 1280 octets. */
const KEY_BITS = 2048;
const KEY_ALGORITHM = {
  name: "RSASSA-PKCS1-v1_5",
  hash: "SHA-1",
  modulusLength: KEY_BITS,
  publicExponent: Uint8Array.of(1, 0, 1),
};

/** Makes a set of HBAs (RFC 5535 §6); with `cga` under a key that can sign further locators. */
export async function hbaNew(options: NewIdentityOptions & { readonly cga?: boolean }): Promise<Identity> {
  const prefixes = checkedPrefixes(options);
  const keys = options.cga ? await newKeys() : undefined;
  const publicKey = keys?.publicKey ??
    extendedModifierKey(crypto.getRandomValues(new Uint8Array(EXTENDED_MODIFIER_LENGTH)));
  return await generate(options, prefixes, publicKey, [multiPrefixExtension(prefixes, keys !== undefined)], keys);
}

/** Makes a CGA for each prefix under one key (RFC 3972 §4). The prefixes share the Modifier, as they do the key. */
export async function cgaNew(options: NewIdentityOptions): Promise<Identity> {
  const prefixes = checkedPrefixes(options);
  const keys = await newKeys();
  return await generate(options, prefixes, keys.publicKey, [], keys);
}

async function generate(
  options: NewIdentityOptions,
  prefixes: readonly Uint8Array[],
  publicKey: Uint8Array,
  extensions: readonly PdsExtension[],
  keys: { readonly privateKey: string } | undefined,
): Promise<Identity> {
  const { sec } = options;
  const modifier = await searchModifier(keyAndExtensions(publicKey, extensions), sec, options);
  const pds = emitPds({ modifier, subnetPrefix: prefixes[0], collisionCount: 0, publicKey, extensions });
  return {
    kind: extensions.length === 0 ? "CGA" : keys === undefined ? "HBA" : "CGA/HBA",
    sec,
    addresses: prefixes.map((prefix) => cgaAddress(withPrefixOf(pds, prefix), sec)),
    pds,
    privateKey: keys?.privateKey,
  };
}

/**
 * The same identity with other addresses, for when one of them is taken on its link (RFC 3972 §4 step 6, RFC 5535 §6).
 * Undefined after the third collision: then something is wrong with the link, or somebody attacks.
 */
export function afterCollision(identity: Identity): Identity | undefined {
  const pds = new Uint8Array(identity.pds);
  if (++pds[COLLISION_COUNT_OFFSET] > MAX_COLLISION_COUNT) return undefined;
  const addresses = identity.addresses.map((address) =>
    cgaAddress(withPrefixOf(pds, parseAddress(address)), identity.sec)
  );
  return { ...identity, addresses, pds };
}

/** The first 64 bits of each prefix. Throws {@linkcode UsageError} for a prefix or Sec that cannot be used. */
function checkedPrefixes({ prefixes, sec }: NewIdentityOptions): Uint8Array[] {
  if (!Number.isInteger(sec) || sec < 0 || sec > MAX_SEC) throw new UsageError(`Sec is 0, 1 or 2, not ${sec}`);
  if (prefixes.length === 0) throw new UsageError("no prefix given");
  if (prefixes.length > MAX_PREFIXES) throw new UsageError(`at most ${MAX_PREFIXES} prefixes, not ${prefixes.length}`);
  const seen = new Set<string>();
  return prefixes.map(({ address, length }) => {
    if (length !== 64) throw new UsageError(`${address}/${length}: a prefix of 64 bits is needed, as ${address}/64`);
    if (!isLocatorScope(address)) throw new UsageError(`${address}/${length}: no address of it can be a locator`);
    const octets = parseAddress(address);
    const prefix = octets.subarray(0, SUBNET_PREFIX_LENGTH);
    if (octets.subarray(SUBNET_PREFIX_LENGTH).some((octet) => octet !== 0)) {
      throw new UsageError(`${address}/${length}: this is an address, its prefix ends in ::/64`);
    }
    if (seen.has(prefix.toHex())) throw new UsageError(`${address}/${length}: given twice`);
    seen.add(prefix.toHex());
    return prefix;
  });
}

async function newKeys(): Promise<{ publicKey: Uint8Array; privateKey: string }> {
  const pair = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
  const publicKey = new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey));
  const pkcs8 = new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey));
  const lines = pkcs8.toBase64().match(/.{1,64}/g)!.join("\n");
  return { publicKey, privateKey: `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----\n` };
}

/** Why an address does not belong to an identity's parameters; undefined when it does. */
export function identityFault(identity: Pick<Identity, "kind" | "pds">, address: Address): HbaFault | undefined {
  return identity.kind === "CGA"
    ? verifyCga(address, withPrefixOf(identity.pds, parseAddress(address)))
    : verifyHba(address, identity.pds);
}

/**
 * The identity as the engine takes it. Signing is synchronous, because the engine needs the signature in the middle of a
 * message, and rare: once for each list of locators.
 */
export function localIdentity(identity: Identity): LocalIdentity {
  const { pds, addresses, privateKey } = identity;
  if (privateKey === undefined) return new LocalIdentity(pds, addresses);
  const key = createPrivateKey(privateKey);
  return new LocalIdentity(pds, addresses, (message) => new Uint8Array(sign("sha1", message, key)));
}

/** Makes sure that an identity file can be written, before a long search. Throws {@linkcode IdentityError}. */
export function checkIdentityTarget(path: string): void {
  createFile(path, "");
  Deno.removeSync(path);
}

/** Writes an identity to a new file that nobody else can read. Throws {@linkcode IdentityError}. */
export function writeIdentityFile(path: string, identity: Identity): void {
  createFile(path, identityText(identity));
}

/** Writes an identity in the place of the one in a file, in one step. Throws {@linkcode IdentityError}. */
export function replaceIdentityFile(path: string, identity: Identity): void {
  const temporary = `${path}.new`;
  createFile(temporary, identityText(identity));
  Deno.renameSync(temporary, path);
}

function identityText({ kind, sec, addresses, pds, privateKey }: Identity): string {
  const key = privateKey === undefined ? {} : { private_key: privateKey };
  const document = { shim6_identity: FILE_VERSION, kind, sec, addresses, parameters: pds.toHex(), ...key };
  return JSON.stringify(document, null, 2) + "\n";
}

function createFile(path: string, text: string): void {
  try {
    Deno.writeTextFileSync(path, text, { createNew: true, mode: 0o600 });
  } catch (error) {
    const reason = error instanceof Deno.errors.AlreadyExists
      ? "it exists, and is not overwritten because it may hold a key"
      : (error as Error).message;
    throw new IdentityError("unwritable", `cannot write ${path}: ${reason}`);
  }
}

/** Reads an identity file and checks that all of it belongs together. Throws {@linkcode IdentityError}. */
export function loadIdentityFile(path: string): Identity {
  const identity = readIdentityFile(path);
  for (const address of identity.addresses) {
    const fault = identityFault(identity, address);
    if (fault !== undefined) {
      throw new IdentityError("bad-address", `${path}: ${address} does not belong to the parameters (${fault})`);
    }
  }
  return identity;
}

/** As {@linkcode loadIdentityFile}, but the addresses are not verified. */
export function readIdentityFile(path: string): Identity {
  return parseIdentity(readPrivateFile(path), path);
}

/** Reads a file that nobody else can read. */
function readPrivateFile(path: string): string {
  try {
    using file = Deno.openSync(path);
    // Of the open file: the one that the path names may be another one by now.
    const { isFile, mode, size } = file.statSync();
    if (!isFile || size > MAX_FILE_LENGTH) throw new IdentityError("not-an-identity", `${path} is no identity file`);
    if (mode !== null && (mode & 0o077) !== 0) {
      const octal = (mode & 0o777).toString(8).padStart(4, "0");
      throw new IdentityError("too-open", `${path} may be read by others (mode ${octal}): chmod 600 ${path}`);
    }
    const octets = new Uint8Array(size);
    let length = 0;
    for (let read; length < size && (read = file.readSync(octets.subarray(length))) !== null;) length += read;
    return new TextDecoder().decode(octets.subarray(0, length));
  } catch (error) {
    if (error instanceof IdentityError) throw error;
    throw new IdentityError("unreadable", `cannot read ${path}: ${(error as Error).message}`);
  }
}

/** The identity in the text of a file; `path` is for the messages. Throws {@linkcode IdentityError}. */
export function parseIdentity(text: string, path: string): Identity {
  const wrong = (fault: IdentityFault, message: string) => new IdentityError(fault, `${path}: ${message}`);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw wrong("not-an-identity", "not JSON");
  }
  if (typeof document !== "object" || document === null || !("shim6_identity" in document)) {
    throw wrong("not-an-identity", "no identity file: shim6_identity is missing");
  }
  const { shim6_identity: version, addresses, parameters, private_key: privateKey } = document as Record<
    string,
    unknown
  >;
  if (version !== FILE_VERSION) {
    throw wrong("unknown-version", `version ${JSON.stringify(version)} is not known, only ${FILE_VERSION}`);
  }
  if (typeof parameters !== "string" || !/^([0-9a-f]{2})+$/i.test(parameters)) {
    throw wrong("bad-parameters", "parameters: hexadecimal octets expected");
  }
  const octets = Uint8Array.fromHex(parameters);
  const pds = parsePds(octets);
  if (typeof pds === "string") throw wrong("bad-parameters", `parameters: no CGA Parameters data structure (${pds})`);
  if (
    !Array.isArray(addresses) || addresses.length === 0 || addresses.length > MAX_PREFIXES ||
    !addresses.every((address) => typeof address === "string")
  ) throw wrong("bad-address", `addresses: a list of 1 to ${MAX_PREFIXES} addresses expected`);
  const canonical = addresses.map((address) => {
    try {
      return canonicalAddress(address);
    } catch (error) {
      throw wrong("bad-address", (error as Error).message);
    }
  });
  if (privateKey !== undefined) {
    if (typeof privateKey !== "string") throw wrong("bad-key", "private_key: PEM text expected");
    if (parseRsaKey(pds.publicKey) === undefined || !isPair(privateKey, pds.publicKey)) {
      throw wrong("bad-key", "private_key: not that of the parameters");
    }
  } else if (!isHba(pds)) throw wrong("bad-key", "private_key: missing, and without it a CGA can prove nothing");
  return {
    kind: !isHba(pds) ? "CGA" : privateKey === undefined ? "HBA" : "CGA/HBA",
    sec: secOf(canonical[0]),
    addresses: canonical,
    pds: octets,
    privateKey,
  };
}

/** Whether a private key in PEM belongs to a public one in DER. */
function isPair(privateKey: string, publicKey: Uint8Array): boolean {
  let key: KeyObject;
  try {
    key = createPrivateKey(privateKey);
  } catch {
    return false;
  }
  const der = createPublicKey(key).export({ type: "spki", format: "der" });
  return der.length === publicKey.length && publicKey.every((octet, i) => octet === der[i]);
}
