/** Options of Shim6 control messages: TLVs padded to 8 octets (RFC 5533 §5.15, RFC 5534 §5.3). */

import { ADDRESS_LENGTH, formatAddress, writeAddress } from "./address.ts";
import type {
  DropReason,
  LocatorList,
  LocatorOptions,
  LocatorPreferences,
  UlidPair,
  UnknownOption,
} from "./message.ts";
import { get16, get32, put16, put32 } from "./octets.ts";

/** Option types (RFC 5533 §5.15, RFC 5534 §5.3). */
export const OptionType = {
  ResponderValidator: 1,
  LocatorList: 2,
  LocatorPreferences: 3,
  CgaParameterDataStructure: 4,
  CgaSignature: 5,
  UlidPair: 6,
  ForkedInstanceIdentifier: 7,
  KeepaliveTimeout: 10,
} as const;

/** All options that this version knows; a message has those of them that are defined for its type. */
export interface Options extends LocatorOptions {
  /** Responder Validator, opaque (RFC 5533 §5.15.1). */
  readonly validator?: Uint8Array;
  /** RFC 5533 §5.15.6. */
  readonly ulidPair?: UlidPair;
  /** Forked Instance Identifier, 32 bits (RFC 5533 §5.15.7). */
  readonly fii?: number;
  /** Left out when there are none. */
  readonly unknownOptions?: readonly UnknownOption[];
}

/** Thrown when a message cannot be put on the wire: a bug of the caller, never the fault of a packet. */
export class UnencodableMessage extends Error {
  /** Tells it from other errors in a log. */
  override name = "UnencodableMessage";
}

/** A set of option types up to 31, one bit each. */
export type OptionSet = number;

/** The set of the given option types. */
export function optionSet(...types: number[]): OptionSet {
  return types.reduce((set, type) => set | 1 << type, 0);
}

/** An unknown option with the C bit: the message must not be processed (RFC 5533 §5.15). */
export interface CriticalOption {
  /** Where the option's Type field stands in the octets that were parsed. */
  readonly criticalOption: number;
}

/** Options, or what forbids to process the message. */
export type OptionsResult = Options | DropReason | CriticalOption;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

const KNOWN = optionSet(...Object.values(OptionType));
const TLV_HEADER_LENGTH = 4;
const LIST_FIXED_LENGTH = 5;
const ULID_PAIR_LENGTH = 4 + 2 * ADDRESS_LENGTH;
const NO_OPTIONS: Options = {};

function contains(set: OptionSet, type: number): boolean {
  return type < 32 && (set >> type & 1) === 1;
}

/** Octets of an option with so many octets of contents: with its header and its padding (RFC 5533 §5.15). */
export function optionLength(contentsLength: number): number {
  return TLV_HEADER_LENGTH + contentsLength + 7 & ~7;
}

/**
 * Parses the options in [`start`, `end`) of a message for which the types in `defined` are defined. Other known options
 * are passed over unless they are critical (RFC 5533 §12.3). The result holds copies, nothing of `octets`.
 */
export function parseOptions(octets: Uint8Array, start: number, end: number, defined: OptionSet): OptionsResult {
  if (start === end) return NO_OPTIONS;
  const options: Mutable<Options> = {};
  const unknown: UnknownOption[] = [];
  let seen: OptionSet = 0;
  for (let at = start; at < end;) {
    if (at + TLV_HEADER_LENGTH > end) return "option-past-message";
    const type = octets[at] << 7 | octets[at + 1] >> 1;
    const critical = (octets[at + 1] & 1) === 1;
    const contents = at + TLV_HEADER_LENGTH, length = get16(octets, at + 2);
    if (contents + length > end) return "option-past-message";
    if (contains(defined, type)) {
      if (contains(seen, type)) return "repeated-option";
      seen |= 1 << type;
      if (!parseOption(options, type, octets, contents, length)) return "bad-option-length";
    } else if (critical) {
      return { criticalOption: at };
    } else if (!contains(KNOWN, type)) {
      unknown.push({ type, contents: octets.slice(contents, contents + length) });
    }
    at += optionLength(length);
  }
  if (unknown.length > 0) options.unknownOptions = unknown;
  return options;
}

/** Puts one option into `options`; false when its length is not one that the option can have. */
function parseOption(
  options: Mutable<Options>,
  type: number,
  octets: Uint8Array,
  at: number,
  length: number,
): boolean {
  switch (type) {
    case OptionType.ResponderValidator:
      options.validator = octets.slice(at, at + length);
      return true;
    case OptionType.LocatorList:
      return (options.locators = parseLocatorList(octets, at, length)) !== undefined;
    case OptionType.LocatorPreferences:
      return (options.preferences = parsePreferences(octets, at, length)) !== undefined;
    case OptionType.CgaParameterDataStructure:
      options.pds = octets.slice(at, at + length);
      return true;
    case OptionType.CgaSignature:
      options.signature = octets.slice(at, at + length);
      return true;
    case OptionType.UlidPair:
      options.ulidPair = {
        sender: formatAddress(octets, at + 4),
        receiver: formatAddress(octets, at + 4 + ADDRESS_LENGTH),
      };
      return length === ULID_PAIR_LENGTH;
    case OptionType.ForkedInstanceIdentifier:
      options.fii = get32(octets, at);
      return length === 4;
    case OptionType.KeepaliveTimeout:
      options.keepaliveTimeout = get16(octets, at + 2);
      return length === 4;
    default:
      throw new RangeError(`option ${type} has no parser`);
  }
}

/** Octets before the first locator: the padding puts the locators on an 8-octet boundary (RFC 5533 §5.15.2). */
function locatorListHead(count: number): number {
  return LIST_FIXED_LENGTH + count + (15 - count % 8) % 8;
}

function parseLocatorList(octets: Uint8Array, at: number, length: number): LocatorList | undefined {
  if (length < LIST_FIXED_LENGTH) return undefined;
  const count = octets[at + 4];
  const head = locatorListHead(count);
  if (length !== head + count * ADDRESS_LENGTH) return undefined;
  const locators = [];
  for (let i = 0; i < count; i++) {
    locators.push({
      address: formatAddress(octets, at + head + i * ADDRESS_LENGTH),
      method: octets[at + LIST_FIXED_LENGTH + i],
    });
  }
  return { generation: get32(octets, at), locators };
}

function parsePreferences(octets: Uint8Array, at: number, length: number): LocatorPreferences | undefined {
  if (length < LIST_FIXED_LENGTH) return undefined;
  const elementLength = octets[at + 4];
  if (elementLength === 0 || (length - LIST_FIXED_LENGTH) % elementLength !== 0) return undefined;
  const elements = [];
  for (let i = LIST_FIXED_LENGTH; i < length; i += elementLength) {
    elements.push([...octets.subarray(at + i, at + i + elementLength)]);
  }
  return { generation: get32(octets, at), elementLength, elements };
}

/** Octets that {@linkcode writeOptions} will write. */
export function optionsLength(options: Options): number {
  let total = 0;
  if (options.validator !== undefined) total += optionLength(options.validator.length);
  if (options.ulidPair !== undefined) total += optionLength(ULID_PAIR_LENGTH);
  if (options.fii !== undefined) total += optionLength(4);
  if (options.locators !== undefined) total += optionLength(locatorListLength(options.locators));
  if (options.preferences !== undefined) total += optionLength(preferencesLength(options.preferences));
  if (options.pds !== undefined) total += optionLength(options.pds.length);
  if (options.signature !== undefined) total += optionLength(options.signature.length);
  if (options.keepaliveTimeout !== undefined) total += optionLength(4);
  for (const option of options.unknownOptions ?? []) total += optionLength(option.contents.length);
  return total;
}

/**
 * Writes the options at `at` into zeroed octets and returns where they end. The order is fixed, so that equal messages
 * have equal octets; preferences follow the list they refer to. None is critical (RFC 5533 §5.15.1 to §5.15.7).
 */
export function writeOptions(options: Options, into: Uint8Array, at: number): number {
  if (options.validator !== undefined) {
    at = writeOpaque(into, at, OptionType.ResponderValidator, options.validator);
  }
  if (options.ulidPair !== undefined) {
    const contents = writeTlv(into, at, OptionType.UlidPair, ULID_PAIR_LENGTH);
    writeAddress(options.ulidPair.sender, into, contents + 4);
    writeAddress(options.ulidPair.receiver, into, contents + 4 + ADDRESS_LENGTH);
    at += optionLength(ULID_PAIR_LENGTH);
  }
  if (options.fii !== undefined) {
    put32(into, writeTlv(into, at, OptionType.ForkedInstanceIdentifier, 4), options.fii);
    at += optionLength(4);
  }
  if (options.locators !== undefined) at = writeLocatorList(into, at, options.locators);
  if (options.preferences !== undefined) at = writePreferences(into, at, options.preferences);
  if (options.pds !== undefined) at = writeOpaque(into, at, OptionType.CgaParameterDataStructure, options.pds);
  if (options.signature !== undefined) at = writeOpaque(into, at, OptionType.CgaSignature, options.signature);
  if (options.keepaliveTimeout !== undefined) {
    put16(into, writeTlv(into, at, OptionType.KeepaliveTimeout, 4) + 2, options.keepaliveTimeout);
    at += optionLength(4);
  }
  for (const option of options.unknownOptions ?? []) at = writeOpaque(into, at, option.type, option.contents);
  return at;
}

/** Writes the head of an option and returns where its contents stand. */
function writeTlv(into: Uint8Array, at: number, type: number, length: number): number {
  put16(into, at, type << 1);
  put16(into, at + 2, length);
  return at + TLV_HEADER_LENGTH;
}

function writeOpaque(into: Uint8Array, at: number, type: number, contents: Uint8Array): number {
  into.set(contents, writeTlv(into, at, type, contents.length));
  return at + optionLength(contents.length);
}

function locatorListLength(list: LocatorList): number {
  return locatorListHead(list.locators.length) + list.locators.length * ADDRESS_LENGTH;
}

function writeLocatorList(into: Uint8Array, at: number, list: LocatorList): number {
  const length = locatorListLength(list), count = list.locators.length;
  const contents = writeTlv(into, at, OptionType.LocatorList, length);
  put32(into, contents, list.generation);
  into[contents + 4] = count;
  list.locators.forEach((locator, i) => {
    into[contents + LIST_FIXED_LENGTH + i] = locator.method;
    writeAddress(locator.address, into, contents + locatorListHead(count) + i * ADDRESS_LENGTH);
  });
  return at + optionLength(length);
}

function preferencesLength(preferences: LocatorPreferences): number {
  return LIST_FIXED_LENGTH + preferences.elements.length * preferences.elementLength;
}

function writePreferences(into: Uint8Array, at: number, preferences: LocatorPreferences): number {
  const length = preferencesLength(preferences);
  const contents = writeTlv(into, at, OptionType.LocatorPreferences, length);
  put32(into, contents, preferences.generation);
  into[contents + 4] = preferences.elementLength;
  preferences.elements.forEach((element, i) => {
    if (element.length !== preferences.elementLength) {
      throw new UnencodableMessage(
        `preference element ${i} has ${element.length} octets, not ${preferences.elementLength}`,
      );
    }
    into.set(element, contents + LIST_FIXED_LENGTH + i * preferences.elementLength);
  });
  return at + optionLength(length);
}

/** Where the first option of a type stands in [`start`, `end`) of a message that was parsed without fault, or -1. */
export function findOption(octets: Uint8Array, start: number, end: number, type: number): number {
  for (let at = start; at < end; at += optionLength(get16(octets, at + 2))) {
    if ((octets[at] << 7 | octets[at + 1] >> 1) === type) return at;
  }
  return -1;
}
