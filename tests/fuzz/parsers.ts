/**
 * Every parser that reads what a stranger wrote: whatever it gets, it returns a value or a reason, and what it accepts
 * can be written again and then means the same.
 */

import { verifyBinding } from "../../shim6/hba.ts";
import { emitPds, parsePds } from "../../shim6/pds.ts";
import { parseRsaKey } from "../../shim6/rsa.ts";
import { SeededRandom } from "../../sim/random.ts";
import { canonicalAddress, formatAddress, InvalidAddress, parseAddress, parsePrefix } from "../../wire/address.ts";
import {
  emitMessage,
  MAX_MESSAGE_LENGTH,
  messageLength,
  optionErrorPointer,
  parseControlMessage,
  parseControlPacket,
  readQuotedHeader,
  readQuotedPacket,
} from "../../wire/codec.ts";
import { findShim6Header, ipv6PacketEnd } from "../../wire/ipv6.ts";
import { ErrorCode, MessageType, type ParseResult } from "../../wire/message.ts";
import {
  insertPayloadHeader,
  isPayloadHeader,
  PAYLOAD_HEADER_LENGTH,
  payloadTag,
  removePayloadHeader,
} from "../../wire/payload.ts";
import vectorFile from "../fixtures/vectors.json" with { type: "json" };
import { cga, hba, keys } from "../shim6/cga_vectors.ts";
import { MessageMaker, NOTHING } from "./messages.ts";
import { mutate, seal } from "./octets.ts";

/** How often each outcome was seen, e.g. `message: Probe accepted`. */
export type Tally = Map<string, number>;

/** Adds one to an outcome. */
export function count(tally: Tally, outcome: string): void {
  tally.set(outcome, (tally.get(outcome) ?? 0) + 1);
}

/** A parser with its judge: throws when what the octets did to it is a fault. Returns the outcome. */
export type Target = (octets: Uint8Array<ArrayBuffer>) => string;

const A = "2001:db8:a::1", B = "2001:db8:b::1";
const TAG = 0x5b0e1f2a3b4c;
const TYPE_NAMES = new Map<number, string>(Object.entries(MessageType).map(([name, type]) => [type, name]));

/** Fails when a fact about the program does not hold. */
function hold(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}

/** Whether two values without cycles are the same, octet by octet. */
export function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) {
    return Number.isNaN(a) && Number.isNaN(b);
  }
  if (a instanceof Uint8Array && b instanceof Uint8Array) return a.length === b.length && a.every((x, i) => x === b[i]);
  const keysOf = (value: object) =>
    Object.keys(value).filter((key) => (value as Record<string, unknown>)[key] !== undefined);
  const names = keysOf(a);
  return names.length === keysOf(b).length &&
    names.every((name) => same((a as Record<string, unknown>)[name], (b as Record<string, unknown>)[name]));
}

function judge(result: ParseResult): string {
  if (!result.ok) {
    if ("drop" in result) return result.drop;
    const { code, pointer } = result.error;
    hold(pointer >= 42 && pointer < 0x10000, `the Pointer ${pointer} lies outside`);
    return code === ErrorCode.UnknownMessageType ? "unknown-type" : "critical-option";
  }
  const { source, destination, message } = result.packet;
  if (messageLength(message) <= MAX_MESSAGE_LENGTH) {
    const again = parseControlMessage(emitMessage(message), source, destination);
    hold(same(again, result), `parsed ${JSON.stringify(result)}, and after writing ${JSON.stringify(again)}`);
  }
  return `${TYPE_NAMES.get(message.type)} accepted`;
}

/** The parsers by name. */
export const TARGETS: Readonly<Record<string, Target>> = {
  packet(octets) {
    readQuotedPacket(octets);
    return judge(parseControlPacket(octets));
  },
  message(octets) {
    readQuotedHeader(octets);
    const result = parseControlMessage(octets, A, B);
    if (result.ok) {
      const { message } = result.packet;
      const codes = [
        ...("locators" in message && message.locators?.locators.length ? [ErrorCode.VerificationFailed] : []),
        ...("preferences" in message && message.preferences !== undefined
          ? [ErrorCode.GenerationOutOfSync, ErrorCode.WrongPreferenceCount]
          : []),
      ];
      for (const code of codes) {
        const pointer = optionErrorPointer(octets, code);
        hold(pointer > 40 && pointer < 40 + octets.length, `the Pointer ${pointer} lies outside`);
      }
    }
    return judge(result);
  },
  payload(octets) {
    const end = ipv6PacketEnd(octets, 0);
    if (typeof end === "string") return end;
    const at = findShim6Header(octets, 0, end);
    if (typeof at === "string") {
      const room = new Uint8Array(PAYLOAD_HEADER_LENGTH + octets.length);
      room.set(octets, PAYLOAD_HEADER_LENGTH);
      const start = insertPayloadHeader(room, PAYLOAD_HEADER_LENGTH, PAYLOAD_HEADER_LENGTH + end, TAG);
      if (start < 0) return "no room";
      hold(start === 0, "the header has 8 octets");
      const put = findShim6Header(room, 0, PAYLOAD_HEADER_LENGTH + end);
      if (typeof put === "string") return `inserted, ${put}`; // behind headers that end the packet
      hold(isPayloadHeader(room, put) && payloadTag(room, put) === TAG, "the header is where it was put");
      removePayloadHeader(room, 0, put);
      hold(same(room.subarray(PAYLOAD_HEADER_LENGTH), octets), "taking it out again gives the packet");
      return "inserted and removed";
    }
    if (!isPayloadHeader(octets, at)) return "control";
    payloadTag(octets, at);
    removePayloadHeader(octets, 0, at);
    return "removed";
  },
  pds(octets) {
    const pds = parsePds(octets);
    verifyBinding(B, octets);
    if (typeof pds === "string") return pds;
    hold(same(emitPds(pds), octets), "a structure that was parsed is written as it was");
    return parseRsaKey(pds.publicKey) === undefined ? "no key" : "with a key";
  },
  key(octets) {
    const key = parseRsaKey(octets);
    if (key === undefined) return "no key";
    hold(key.bits >= 1024 && key.bits <= 4096 && key.exponent >= 3, "a key within bounds");
    return "key";
  },
  address(octets) {
    const text = new TextDecoder("latin1").decode(octets);
    for (const parse of [canonicalAddress, parsePrefix]) {
      try {
        parse(text);
      } catch (error) {
        if (!(error instanceof InvalidAddress)) throw error;
      }
    }
    try {
      const address = canonicalAddress(text);
      hold(formatAddress(parseAddress(address)) === address, "a canonical address stays as it is");
      return "address";
    } catch (error) {
      if (!(error instanceof InvalidAddress)) throw error;
      return "no address";
    }
  },
};

const packets = vectorFile.vectors.map((vector) => ({
  octets: Uint8Array.fromHex(vector.hex),
  at: vector.ipv6.shim6Offset,
}));
const structures = [...cga, ...hba.flatMap(({ members }) => members)].map(({ pds }) => Uint8Array.fromHex(pds));
const publicKeys = Object.values(keys).map(({ spkiDer }) => Uint8Array.fromHex(spkiDer));
const texts = ["2001:db8::1", "::ffff:192.0.2.1", "fe80::1/64", "2001:db8:a:b:c:d:e:f", "::", "1::/0"]
  .map((text) => new TextEncoder().encode(text));

/** Octets for one of the parsers: something valid, damaged. */
export function damaged(random: SeededRandom): { target: string; octets: Uint8Array<ArrayBuffer> } {
  const kind = random.below(20);
  const from = (list: readonly Uint8Array[]) => list[random.below(list.length)];
  if (kind < 6) {
    const { octets, at } = packets[random.below(packets.length)];
    const packet = mutate(octets, random);
    if (random.below(8) > 0) seal(packet, at, random.below(2) === 0);
    return { target: kind < 4 ? "packet" : "payload", octets: packet };
  }
  if (kind < 17) {
    const message = mutate(emitMessage(new MessageMaker(random).make(NOTHING)), random, 2048);
    if (random.below(8) > 0) seal(message, 0, random.below(2) === 0);
    return { target: "message", octets: message };
  }
  if (kind === 17) return { target: "pds", octets: mutate(from(structures), random) };
  if (kind === 18) return { target: "key", octets: mutate(from(publicKeys), random) };
  return { target: "address", octets: mutate(from(texts), random, 64) };
}

/** What a parser did wrong, and with what. */
export interface ParserFault {
  readonly target: string;
  readonly octets: Uint8Array<ArrayBuffer>;
  readonly error: string;
}

/** The fault of a parser with these octets, if there is one. A copy goes in: some write in place. */
export function faultOf(target: string, octets: Uint8Array, tally?: Tally): string | undefined {
  try {
    const outcome = TARGETS[target](new Uint8Array(octets));
    if (tally !== undefined) count(tally, `${target}: ${outcome}`);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.stack ?? error.message : String(error);
  }
}

/** Feeds `messages` damaged messages to the parsers, or fewer when `isOver`. Returns the first fault. */
export function fuzzParsers(
  seed: number,
  messages: number,
  tally: Tally,
  isOver: () => boolean = () => false,
): { readonly played: number; readonly fault?: ParserFault } {
  const random = new SeededRandom(seed);
  for (let played = 0; played < messages; played++) {
    if (played % 1_024 === 0 && isOver()) return { played };
    const { target, octets } = damaged(random);
    const error = faultOf(target, octets, tally);
    if (error !== undefined) return { played: played + 1, fault: { target, octets, error } };
  }
  return { played: messages };
}
