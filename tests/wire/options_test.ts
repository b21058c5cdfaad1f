import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { shim6Checksum } from "../../wire/checksum.ts";
import { emitMessage, parseControlMessage, UnencodableMessage } from "../../wire/codec.ts";
import { type DropReason, type LocatorPreferences, MessageType, type ParseResult } from "../../wire/message.ts";
import { get16, put16 } from "../../wire/octets.ts";
import { findOption, optionLength, optionSet, OptionType, parseOptions } from "../../wire/options.ts";
import { octets } from "./arbitraries.ts";
import { fromHex, messageOf, packetOf, vector, vectors } from "./vectors.ts";

const A = "2001:db8:a::1", B = "2001:db8:b::1";
const ALL = optionSet(...Object.values(OptionType));

/** An option in octets, padded. */
function option(type: number, contents: Uint8Array | string, critical = false): Uint8Array<ArrayBuffer> {
  const body = typeof contents === "string" ? fromHex(contents) : contents;
  const bytes = new Uint8Array(optionLength(body.length));
  put16(bytes, 0, type << 1 | (critical ? 1 : 0));
  put16(bytes, 2, body.length);
  bytes.set(body, 4);
  return bytes;
}

function concat(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Parses an example message with more options at its end. */
function withOptions(name: string, ...options: Uint8Array[]): ParseResult {
  const octets = concat(packetOf(vector(name)).subarray(40), ...options);
  octets[1] = octets.length / 8 - 1;
  put16(octets, 4, shim6Checksum(octets, 0, octets.length));
  return parseControlMessage(octets, A, B);
}

function errorAt(pointer: number): ParseResult {
  return { ok: false, error: { code: 1, pointer }, source: A, destination: B };
}

/** One example message of each type that has options, and how long it is. */
const BASES = vectors.filter((v) =>
  ["I1", "R1", "I2-minimal", "R2-minimal", "R1bis", "UpdateAcknowledgement", "Keepalive", "Probe-InboundOk", "I2bis"]
    .includes(v.name)
).map((v) => ({ name: v.name, length: packetOf(v).length - 40, type: v.decoded.type! }));

/** For each type, the options that its definition lists (RFC 5533 §5.4 to §5.11, RFC 5534 §5). */
const LISTED: Record<number, number[]> = {
  [MessageType.I1]: [6, 7],
  [MessageType.R1]: [1],
  [MessageType.I2]: [1, 2, 3, 4, 5, 6, 7, 10],
  [MessageType.R2]: [2, 3, 4, 5, 10],
  [MessageType.R1bis]: [1],
  [MessageType.I2bis]: [1, 2, 3, 4, 5, 6, 7, 10],
  [MessageType.UpdateRequest]: [2, 3, 4, 5, 10],
  [MessageType.UpdateAcknowledgement]: [],
  [MessageType.Keepalive]: [],
  [MessageType.Probe]: [],
};

/** Well-formed contents for each known option. */
const CONTENTS: Record<number, string> = {
  1: "0102",
  2: "0000000100" + "00".repeat(7),
  3: "0000000101",
  4: "0a",
  5: "0b",
  6: "00".repeat(36),
  7: "00000001",
  10: "00000005",
};

Deno.test("an option takes its header, its contents and padding up to 8 octets", () => {
  for (let length = 0; length <= 64; length++) {
    assertStrictEquals(optionLength(length), 11 + length - (length + 3) % 8); // RFC 5533 §5.15
  }
});

Deno.test("an unknown option without the C bit is kept and passed over", () => {
  for (const { name } of BASES) {
    const result = withOptions(name, option(16383, "01020304"), option(0, ""), option(11, "aa".repeat(9)));
    const unknownOptions = [
      { type: 16383, contents: fromHex("01020304") },
      { type: 0, contents: fromHex("") },
      { type: 11, contents: fromHex("aa".repeat(9)) },
    ];
    const message = { ...messageOf(vector(name)), unknownOptions };
    assertEquals(result, { ok: true, packet: { source: A, destination: B, message } });
  }
});

Deno.test("an unknown option with the C bit yields Error 1 that points to its type", () => {
  for (const { name, length } of BASES) {
    for (const type of [0, 8, 9, 11, 31, 32, 33, 42, 16383, 32767]) {
      assertEquals(withOptions(name, option(type, "01", true)), errorAt(40 + length), `${name}, type ${type}`);
      assertEquals(withOptions(name, option(16384, "01"), option(type, "", true)), errorAt(48 + length));
    }
  }
});

Deno.test("a known option in a message that does not list it is passed over, and yields Error 1 with the C bit", () => {
  for (const { name, length, type } of BASES) {
    for (const known of Object.values(OptionType)) {
      if (LISTED[type].includes(known)) continue;
      const message = messageOf(vector(name));
      const passed: ParseResult = { ok: true, packet: { source: A, destination: B, message } };
      assertEquals(withOptions(name, option(known, CONTENTS[known])), passed, `${name}, option ${known}`);
      // Nothing is read in it, so its length is of no interest.
      assertEquals(withOptions(name, option(known, "")), passed);
      assertEquals(withOptions(name, option(known, CONTENTS[known], true)), errorAt(40 + length));
    }
  }
});

Deno.test("a listed option is understood with the C bit as well", () => {
  for (const known of Object.values(OptionType)) {
    const plain = option(known, CONTENTS[known]), critical = option(known, CONTENTS[known], true);
    assertEquals(parseOptions(critical, 0, critical.length, ALL), parseOptions(plain, 0, plain.length, ALL));
  }
});

Deno.test("a listed option that comes twice drops the message", () => {
  for (const known of Object.values(OptionType)) {
    const twice = concat(option(known, CONTENTS[known]), option(20000, "01"), option(known, CONTENTS[known]));
    assertStrictEquals(parseOptions(twice, 0, twice.length, ALL), "repeated-option");
  }
});

Deno.test("options may come in any order", () => {
  const entries = Object.entries(CONTENTS).map(([type, contents]) => option(Number(type), contents));
  const expected = parseOptions(concat(...entries), 0, concat(...entries).length, ALL);
  fc.assert(fc.property(fc.shuffledSubarray(entries, { minLength: entries.length }), (shuffled) => {
    const bytes = concat(...shuffled);
    assertEquals(parseOptions(bytes, 0, bytes.length, ALL), expected);
  }));
});

Deno.test("an option that runs past the message drops it", () => {
  for (const [type, length] of [[6, 36], [1, 5], [16383, 65535], [0, 5]]) {
    const bytes = new Uint8Array(8);
    put16(bytes, 0, type << 1);
    put16(bytes, 2, length);
    const result: ParseResult = { ok: false, drop: "option-past-message" };
    assertEquals(withOptions("I1", bytes), result);
    assertEquals(withOptions("Keepalive", option(12, "00"), bytes), result);
  }
  assertStrictEquals(parseOptions(fromHex("7ffe00"), 0, 3, ALL), "option-past-message");
});

Deno.test("an option of a length that it cannot have drops the message", () => {
  const list = (count: number, length: number) => {
    const contents = new Uint8Array(length);
    contents[4] = count;
    return option(2, contents);
  };
  const preferences = (elementLength: number, length: number) => {
    const contents = new Uint8Array(length);
    contents[4] = elementLength;
    return option(3, contents);
  };
  const bad: Uint8Array[] = [
    ...[0, 3, 5, 8].map((length) => option(7, new Uint8Array(length))),
    ...[0, 3, 5, 8].map((length) => option(10, new Uint8Array(length))),
    ...[0, 32, 35, 37, 44].map((length) => option(6, new Uint8Array(length))),
    ...[[3, 59], [3, 61], [3, 44], [0, 5], [1, 22], [255, 60]].map(([count, length]) => list(count, length)),
    option(2, new Uint8Array(4)),
    ...[[0, 5], [0, 8], [2, 8], [3, 9]].map(([elementLength, length]) => preferences(elementLength, length)),
    option(3, new Uint8Array(4)),
  ];
  const reason: DropReason = "bad-option-length";
  for (const bytes of bad) assertStrictEquals(parseOptions(bytes, 0, bytes.length, ALL), reason, bytes.toHex());
});

Deno.test("a locator list of any size has the length of RFC 5533 §5.15.2, and its locators on 8-octet boundaries", () => {
  for (const [count, length] of [[0, 12], [1, 28], [2, 44], [3, 60], [4, 76], [7, 124], [8, 148]]) {
    const locators = Array.from({ length: count }, (_, i) => ({ address: "2001:db8::" + (i + 1), method: 1 }));
    const message = emitMessage({
      type: MessageType.R2,
      responderTag: 1,
      initiatorNonce: 2,
      locators: { generation: 3, locators },
    });
    assertStrictEquals(get16(message, 18), length);
    assertStrictEquals(message.length, 16 + 4 + length);
    for (let i = 0; i < count; i++) {
      assertEquals(message.subarray(message.length - 16 * (count - i)).subarray(0, 4).toHex(), "20010db8");
    }
  }
});

Deno.test("a preference element of another length than announced cannot be emitted", () => {
  const preferences: LocatorPreferences = { generation: 1, elementLength: 2, elements: [[1, 2], [1]] };
  assertThrows(
    () => emitMessage({ type: MessageType.UpdateRequest, receiverTag: 1, requestNonce: 2, preferences }),
    UnencodableMessage,
  );
});

Deno.test("an option is found by its type", () => {
  const bytes = concat(option(1, "aabbcc"), option(16383, ""), option(3, CONTENTS[3]));
  assertStrictEquals(findOption(bytes, 0, bytes.length, 1), 0);
  assertStrictEquals(findOption(bytes, 0, bytes.length, 16383), 8);
  assertStrictEquals(findOption(bytes, 0, bytes.length, 3), 16);
  assertStrictEquals(findOption(bytes, 0, bytes.length, 2), -1);
});

Deno.test("any octets are options or a reason why not", () => {
  fc.assert(fc.property(octets(0, 120), (bytes) => {
    const result = parseOptions(bytes, 0, bytes.length, ALL);
    if (typeof result === "object" && "criticalOption" in result) {
      assertStrictEquals(bytes[result.criticalOption + 1] & 1, 1);
    }
  }));
});
