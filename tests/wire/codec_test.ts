import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { formatAddress, InvalidAddress } from "../../wire/address.ts";
import { shim6Checksum } from "../../wire/checksum.ts";
import {
  controlPacket,
  DEFAULT_HOP_LIMIT,
  emitMessage,
  errorPacketInError,
  MAX_MESSAGE_LENGTH,
  messageLength,
  optionErrorPointer,
  parseControlMessage,
  parseControlPacket,
  readQuotedHeader,
  readQuotedPacket,
  UnencodableMessage,
} from "../../wire/codec.ts";
import { ErrorCode, type Message, MessageType, type ParseResult, type Probe, type Report } from "../../wire/message.ts";
import { get16, put16 } from "../../wire/octets.ts";
import { messages, unicast } from "./arbitraries.ts";
import { fromHex, messageOf, packetOf, vector, vectors } from "./vectors.ts";

const A = "2001:db8:a::1", B = "2001:db8:b::1";
const control = vectors.filter((v) => v.decoded.checksumOk === true && v.decoded.P === 0);

/** Makes the checksum good again after octets of the Shim6 header were changed. */
function sealed(octets: Uint8Array): Uint8Array {
  put16(octets, 4, shim6Checksum(octets, 0, Math.min(octets.length, (octets[1] + 1) * 8)));
  return octets;
}

/** The Shim6 header of an example packet. */
function messageOctets(name: string): Uint8Array<ArrayBuffer> {
  const v = vector(name);
  return packetOf(v).slice(v.ipv6.shim6Offset);
}

function parse(octets: Uint8Array): ParseResult {
  return parseControlMessage(octets, A, B);
}

function accepted(message: Message): ParseResult {
  return { ok: true, packet: { source: A, destination: B, message } };
}

for (const [name, arbitrary] of Object.entries(messages)) {
  Deno.test(`any ${name} is read back as it was emitted`, () => {
    fc.assert(fc.property(arbitrary, unicast, unicast, (message, source, destination) => {
      const octets = emitMessage(message);
      assertStrictEquals(octets.length, messageLength(message));
      const expected: ParseResult = { ok: true, packet: { source, destination, message } };
      assertEquals(parseControlMessage(octets, source, destination), expected);
      assertEquals(parseControlPacket(controlPacket(source, destination, octets)), expected);
    }));
  });
}

Deno.test("a control packet has a bare IPv6 header with the given addresses, protocol and hop limit", () => {
  const octets = messageOctets("Keepalive");
  const packet = controlPacket(A, B, octets, 61, 7);
  assertEquals(packet.subarray(0, 8).toHex(), "6000000000103d07");
  assertEquals(parseControlPacket(packet), { ok: false, drop: "not-shim6" });
  assert(parseControlPacket(packet, 61).ok && readQuotedPacket(packet, 61) !== undefined);
  assertStrictEquals(formatAddress(packet, 8), A);
  assertStrictEquals(formatAddress(packet, 24), B);
  assertEquals(packet.subarray(40), octets);
  assertEquals([...controlPacket(A, B, octets).subarray(6, 8)], [140, DEFAULT_HOP_LIMIT]);
  assertThrows(() => controlPacket("localhost", B, octets), InvalidAddress);
});

Deno.test("a parsed message does not change when the receive buffer is used again", () => {
  for (
    const name of ["I2-loclist-hba-cga-signed", "I2bis", "Error-verification-method", "I1-unknown-noncritical-option"]
  ) {
    const octets = messageOctets(name);
    const result = parse(octets);
    octets.fill(0xee);
    assertEquals(result, accepted(messageOf(vector(name))));
  }
});

Deno.test("each flipped bit of a control message is found by the checksum, but for P, S and Hdr Ext Len", () => {
  for (const v of control) {
    const octets = packetOf(v).slice(v.ipv6.shim6Offset);
    for (let bit = 16; bit < octets.length * 8; bit++) {
      const flipped = octets.slice();
      flipped[bit >> 3] ^= 0x80 >> (bit & 7);
      const drop = bit === 16 ? "payload-header" : (flipped[3] & 1) !== 0 ? "hip" : "bad-checksum";
      assertEquals(parse(flipped), { ok: false, drop }, `${v.name} bit ${bit}`);
    }
  }
});

Deno.test("a flipped bit in Hdr Ext Len never makes a message that is accepted", () => {
  for (const v of control) {
    for (let bit = 0; bit < 8; bit++) {
      const octets = packetOf(v).slice(v.ipv6.shim6Offset);
      octets[1] ^= 0x80 >> bit;
      assert(!parse(octets).ok, `${v.name} bit ${bit}`);
    }
  }
});

Deno.test("a packet cut at any octet is dropped", () => {
  for (const v of vectors) {
    const packet = packetOf(v);
    for (let length = 0; length < packet.length; length++) {
      const cut = packet.slice(0, length);
      assertEquals(parseControlPacket(cut), { ok: false, drop: length === 0 ? "not-ipv6" : "truncated" });
      if (length < 40) continue;
      put16(cut, 4, length - 40); // now only the Shim6 header tells that something is missing
      const result = parseControlPacket(cut);
      assert(!result.ok && "drop" in result, `${v.name} at ${length}`);
      const fromHeader = parse(packet.slice(v.ipv6.shim6Offset, length));
      assert(!fromHeader.ok && "drop" in fromHeader, `${v.name} at ${length}`);
    }
  }
});

Deno.test("a message shortened to any length with a good checksum is judged by its own octets alone", () => {
  for (const v of control) {
    const octets = packetOf(v).slice(v.ipv6.shim6Offset);
    for (let length = 8; length <= octets.length; length += 8) {
      const short = octets.slice(0, length);
      short[1] = length / 8 - 1;
      sealed(short);
      const zeros = new Uint8Array(octets.length + 64), ones = new Uint8Array(octets.length + 64).fill(0xff);
      zeros.set(short);
      ones.set(short);
      assertEquals(parse(short), parse(zeros));
      assertEquals(parse(short), parse(ones));
    }
  }
});

Deno.test("octets behind the Shim6 header are no part of the message, whatever Next Header says", () => {
  const octets = messageOctets("Probe-InboundOk");
  octets[0] = 17;
  sealed(octets);
  const padded = new Uint8Array(octets.length + 24).fill(0x5a);
  padded.set(octets);
  assertEquals(parse(padded), accepted(messageOf(vector("Probe-InboundOk"))));
});

/** Reserved bits by example message: octet offset and mask. */
const RESERVED: Record<string, [number, number][]> = {
  "I1": [[6, 0x80]],
  "I1-ulid-pair-fii": [[6, 0x80], [20, 0xff], [21, 0xff], [22, 0xff], [23, 0xff]],
  "R1": [[6, 0xff], [7, 0xff]],
  "I2-minimal": [[6, 0x80], [20, 0xff], [21, 0xff], [22, 0xff], [23, 0xff]],
  "I2-keepalive-timeout": [[6, 0x80], [260, 0xff], [261, 0xff], [251, 0xff], [255, 0xff]],
  "R2-minimal": [[6, 0x80]],
  "R1bis": [[6, 0x80]],
  "I2bis": [[6, 0x80], [20, 0xff], [21, 0xff], [22, 0xff], [23, 0xff], [24, 0xff], [25, 0xff], [26, 0x80]],
  "UpdateRequest-preferences-len1": [[6, 0x80], [28, 0xff], [29, 0xff], [30, 0xff], [31, 0xff]],
  "UpdateAcknowledgement": [[6, 0x80]],
  "Keepalive": [[6, 0x80], [12, 0xff], [13, 0xff], [14, 0xff], [15, 0xff]],
  "Probe-InboundOk": [[6, 0x80], [13, 0x3f], [14, 0xff], [15, 0xff]],
};

Deno.test("reserved bits and padding are ignored", () => {
  for (const [name, bits] of Object.entries(RESERVED)) {
    const octets = messageOctets(name);
    octets[3] |= 0xfe;
    for (const [offset, mask] of bits) {
      assertStrictEquals(octets[offset] & mask, 0, `${name} octet ${offset}`);
      octets[offset] |= mask;
    }
    assertEquals(parse(sealed(octets)), accepted(messageOf(vector(name))), name);
  }
});

Deno.test("a message shorter than its fixed part is dropped as too short", () => {
  const minimum: [number, number][] = [
    [1, 16],
    [2, 16],
    [3, 24],
    [4, 16],
    [5, 16],
    [6, 32],
    [64, 16],
    [65, 16],
    [66, 16],
    [67, 16],
    [68, 16],
  ];
  for (const [type, least] of minimum) {
    for (let length = 8; length <= least; length += 8) {
      const octets = new Uint8Array(length);
      octets.set([59, length / 8 - 1, type]);
      const result = parse(sealed(octets));
      assertStrictEquals(!result.ok && "drop" in result && result.drop === "too-short", length < least, `type ${type}`);
    }
  }
});

Deno.test("each unknown type is answered with Error 0 that points to the type octet", () => {
  const known: number[] = Object.values(MessageType);
  for (let type = 0; type < 128; type++) {
    if (known.includes(type)) continue;
    const octets = sealed(new Uint8Array([59, 0, type, 0, 0, 0, 0, 0]));
    assertEquals(parse(octets), { ok: false, error: { code: 0, pointer: 42 }, source: A, destination: B });
  }
});

Deno.test("pointers count from the IPv6 header over the extension headers before Shim6", () => {
  const hopByHop = fromHex("8c00010400000000");
  for (const [name, code, pointer] of [["Unknown-type-90", 0, 50], ["I1-unknown-critical-option", 1, 64]] as const) {
    const octets = messageOctets(name);
    const packet = new Uint8Array(48 + octets.length);
    packet.set(controlPacket(A, B, octets).subarray(0, 40));
    packet[6] = 0;
    put16(packet, 4, 8 + octets.length);
    packet.set(hopByHop, 40);
    packet.set(octets, 48);
    assertEquals(parseControlPacket(packet), { ok: false, error: { code, pointer }, source: A, destination: B });
  }
});

Deno.test("an Error is never answered with an Error, whatever it quotes", () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 8, maxLength: 80 }), fc.nat(127), (quote, code) => {
    const packetInError = new Uint8Array(quote.subarray(0, quote.length & ~7));
    const message: Message = { type: MessageType.Error, code, pointer: 42, packetInError };
    assertEquals(parse(emitMessage(message)), accepted(message));
  }));
});

Deno.test("R1, I2, R1bis and I2bis without a validator are dropped", () => {
  for (const [type, length] of [[2, 16], [3, 24], [5, 16], [6, 32]]) {
    const octets = new Uint8Array(length);
    octets.set([59, length / 8 - 1, type]);
    assertEquals(parse(sealed(octets)), { ok: false, drop: "missing-validator" });
  }
});

Deno.test("addresses that are no unicast addresses drop a good message", () => {
  const octets = messageOctets("Keepalive");
  for (const [source, destination] of [["::", B], ["ff02::1", B], [A, "::"], [A, "ff0e::1"]]) {
    assertEquals(parseControlMessage(octets, source, destination), { ok: false, drop: "bad-address" });
    assertEquals(parseControlPacket(controlPacket(source, destination, octets)), { ok: false, drop: "bad-address" });
  }
});

Deno.test("a packet of another protocol is not Shim6", () => {
  const packet = controlPacket(A, B, messageOctets("Keepalive"));
  packet[6] = 17;
  assertEquals(parseControlPacket(packet), { ok: false, drop: "not-shim6" });
});

const report: Report = { source: A, destination: B, nonce: 1, data: 0 };
const probe: Probe = { type: MessageType.Probe, receiverTag: 1, state: 1, sent: [report], received: [] };

Deno.test("a probe with state 3 is dropped", () => {
  const octets = emitMessage(probe);
  octets[13] |= 0xc0;
  assertEquals(parse(sealed(octets)), { ok: false, drop: "bad-probe-state" });
});

Deno.test("a probe must hold as many reports as it announces", () => {
  const octets = emitMessage({ ...probe, sent: [report, report], received: [report] });
  for (let counts = 0; counts < 256; counts++) {
    const changed = octets.slice();
    changed[12] = counts;
    const result = parse(sealed(changed));
    const sent = counts & 15, all = sent + (counts >> 4);
    if (sent === 0) assertEquals(result, { ok: false, drop: "no-sent-report" });
    else if (all > 3) assertEquals(result, { ok: false, drop: "reports-past-message" });
    else if (all === 3) assert(result.ok);
  }
});

Deno.test("a probe cannot be emitted with no sent report or with more than 15 of a kind", () => {
  const many = (count: number) => Array.from({ length: count }, () => report);
  for (const [sent, received] of [[0, 0], [16, 0], [1, 16]]) {
    assertThrows(() => emitMessage({ ...probe, sent: many(sent), received: many(received) }), UnencodableMessage);
  }
  assertStrictEquals(emitMessage({ ...probe, sent: many(15), received: many(15) }).length, 1216);
});

Deno.test("a message that would not fit into 1280 octets is not emitted", () => {
  const update = (length: number): Message => ({
    type: MessageType.UpdateRequest,
    receiverTag: 1,
    requestNonce: 2,
    pds: new Uint8Array(length),
  });
  assertStrictEquals(emitMessage(update(MAX_MESSAGE_LENGTH - 20)).length, MAX_MESSAGE_LENGTH);
  assertThrows(() => emitMessage(update(MAX_MESSAGE_LENGTH - 19)), UnencodableMessage);
});

Deno.test("an address that is none cannot be emitted", () => {
  assertThrows(() => emitMessage({ ...probe, sent: [{ ...report, source: "a.example" }] }), InvalidAddress);
});

Deno.test("numbers are cut to the width of their fields", () => {
  const keepalive = emitMessage({ type: MessageType.Keepalive, receiverTag: 2 ** 47 + 5 });
  assertEquals(parse(keepalive), accepted({ type: MessageType.Keepalive, receiverTag: 5 }));
  const error = emitMessage({ type: MessageType.Error, code: 129, pointer: 65537, packetInError: new Uint8Array(8) });
  assertEquals(
    parse(error),
    accepted({ type: MessageType.Error, code: 1, pointer: 1, packetInError: new Uint8Array(8) }),
  );
});

Deno.test("an Error quotes at most 1232 octets of the packet in error, as a copy", () => {
  const invoking = new Uint8Array(1500).fill(7);
  const quote = errorPacketInError(invoking);
  invoking.fill(0);
  assertEquals(quote, new Uint8Array(1232).fill(7));
  const error = emitMessage({ type: MessageType.Error, code: 0, pointer: 42, packetInError: quote });
  assertStrictEquals(controlPacket(A, B, error).length, 1280);
  assertStrictEquals(errorPacketInError(new Uint8Array(56)).length, 56);
});

Deno.test("an Error about a packet of an odd length is filled up with zeros", () => {
  const error = emitMessage({ type: MessageType.Error, code: 0, pointer: 42, packetInError: fromHex("60ff") });
  assertEquals(error.subarray(8).toHex(), "60ff000000000000");
  const empty = emitMessage({ type: MessageType.Error, code: 0, pointer: 42, packetInError: new Uint8Array() });
  assertStrictEquals(empty.length, 16);
});

Deno.test("the Errors of the example packets come out of the packets they answer", () => {
  for (
    const [invoking, code, locator, answer] of [
      ["UpdateRequest-generation-mismatch", ErrorCode.GenerationOutOfSync, 0, "Error-generation"],
      ["I2-unsupported-verification-method", ErrorCode.VerificationFailed, 1, "Error-verification-method"],
    ] as const
  ) {
    const pointer = optionErrorPointer(messageOctets(invoking), code, locator);
    const packetInError = errorPacketInError(packetOf(vector(invoking)));
    const octets = emitMessage({ type: MessageType.Error, code, pointer, packetInError });
    assertEquals(octets.toHex(), messageOctets(answer).toHex());
  }
  for (
    const [invoking, answer] of [["Unknown-type-90", "Error-unknown-type"], [
      "I1-unknown-critical-option",
      "Error-critical-option",
    ]]
  ) {
    const result = parseControlPacket(packetOf(vector(invoking)));
    assert(!result.ok && "error" in result);
    const packetInError = errorPacketInError(packetOf(vector(invoking)));
    const octets = emitMessage({ type: MessageType.Error, ...result.error, packetInError });
    assertEquals(octets.toHex(), messageOctets(answer).toHex());
    assertStrictEquals(result.source, formatAddress(packetInError, 8));
  }
});

Deno.test("an Error about the number of preferences points to the option's length", () => {
  const octets = messageOctets("UpdateRequest-preference-count-mismatch");
  assertStrictEquals(optionErrorPointer(octets, ErrorCode.WrongPreferenceCount), 58);
  assertStrictEquals(get16(octets, 58 - 40), 7);
  assertStrictEquals(optionErrorPointer(octets, ErrorCode.VerificationFailed), 0); // it has no locator list
  assertStrictEquals(optionErrorPointer(octets, ErrorCode.UnknownMessageType), 0);
});

Deno.test("a quote tells addresses, type and tag of a packet as far as it reaches", () => {
  for (const v of vectors.filter((v) => v.valid)) {
    const packet = packetOf(v), start = v.ipv6.shim6Offset, d = v.decoded;
    const tagText = d.initiatorContextTag ?? d.responderContextTag ?? d.receiverContextTag ??
      (d.type === MessageType.R1bis ? d.packetContextTag : undefined);
    const tagEnd = start + (d.P === 1 ? 8 : 12);
    for (const length of [tagEnd, packet.length, 40, start + 7, start + 8, start + 11]) {
      const quote = readQuotedPacket(packet.subarray(0, length));
      if (length < start + 8 || packet.length < length) continue;
      const tag = length >= tagEnd && tagText !== undefined ? Number(tagText) : undefined;
      const expected = { type: d.P === 1 ? "payload" as const : d.type!, tag };
      assertEquals(quote, { source: v.ipv6.source, destination: v.ipv6.destination, ...expected }, v.name);
      assertEquals(readQuotedHeader(packet.subarray(start, length)), expected);
    }
    assertStrictEquals(readQuotedPacket(packet.subarray(0, start + 7)), undefined);
    assertStrictEquals(readQuotedPacket(packet.subarray(0, 39)), undefined);
    assertStrictEquals(readQuotedHeader(packet.subarray(start, start + 7)), undefined);
  }
});

Deno.test("a quote of another protocol or version is none", () => {
  const packet = packetOf(vector("Keepalive"));
  packet[6] = 58;
  assertStrictEquals(readQuotedPacket(packet), undefined);
  packet[0] = 0x45;
  assertStrictEquals(readQuotedPacket(packet), undefined);
});
