import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { shim6Checksum } from "../../wire/checksum.ts";
import {
  emitMessage,
  MAX_MESSAGE_LENGTH,
  messageLength,
  parseControlMessage,
  parseControlPacket,
  readQuotedHeader,
  readQuotedPacket,
} from "../../wire/codec.ts";
import { type ParseResult } from "../../wire/message.ts";
import { put16 } from "../../wire/octets.ts";
import { anyMessage, octets } from "./arbitraries.ts";
import { packetOf, vectors } from "./vectors.ts";

const A = "2001:db8:a::1", B = "2001:db8:b::1";

/** What is accepted can be emitted, and then means the same. */
function judge(result: ParseResult): void {
  if (!result.ok) {
    if ("error" in result) assert(result.error.pointer >= 42 && result.error.pointer < 0x10000);
    return;
  }
  const { source, destination, message } = result.packet;
  if (messageLength(message) > MAX_MESSAGE_LENGTH) return;
  assertEquals(parseControlMessage(emitMessage(message), source, destination), result);
}

/** Sets the length of the Shim6 header at `at` to what the packet has room for, if so wanted, and its checksum. */
function seal(packet: Uint8Array, at: number, fixLength: boolean): void {
  if (packet.length < at + 8) return;
  if (fixLength) packet[at + 1] = Math.min(255, Math.floor((packet.length - at) / 8) - 1);
  const end = Math.min(packet.length, at + (packet[at + 1] + 1) * 8);
  put16(packet, at + 4, shim6Checksum(packet, at, end));
}

Deno.test("random octets are a message or a reason, as packet, message and quote", () => {
  fc.assert(
    fc.property(octets(0, 300), (bytes) => {
      judge(parseControlPacket(bytes));
      judge(parseControlMessage(bytes, A, B));
      readQuotedPacket(bytes);
      readQuotedHeader(bytes);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("random octets behind a good header of each type are a message or a reason", () => {
  const type = fc.oneof(fc.constantFrom(1, 2, 3, 4, 5, 6, 64, 65, 66, 67, 68), fc.nat(127));
  fc.assert(
    fc.property(type, octets(8, 300), (type, bytes) => {
      bytes[2] = type;
      bytes[3] &= 0xfe;
      seal(bytes, 0, true);
      judge(parseControlMessage(bytes, A, B));
    }),
    { numRuns: 2000 },
  );
});

const edit = fc.record({ at: fc.nat(0xffff), value: fc.nat(255), cut: fc.boolean() });

Deno.test("example packets with octets changed, cut and resealed are a message or a reason", () => {
  const example = fc.constantFrom(...vectors);
  fc.assert(
    fc.property(example, fc.array(edit, { maxLength: 6 }), fc.boolean(), fc.boolean(), (v, edits, good, whole) => {
      let packet = packetOf(v);
      for (const { at, value, cut } of edits) {
        if (cut && edits.length > 4) packet = packet.slice(0, at % (packet.length + 1));
        else if (packet.length > 0) packet[at % packet.length] = value;
      }
      if (good) seal(packet, v.ipv6.shim6Offset, whole);
      judge(parseControlPacket(packet));
      judge(parseControlMessage(packet.subarray(Math.min(packet.length, v.ipv6.shim6Offset)), A, B));
      readQuotedPacket(packet);
    }),
    { numRuns: 4000 },
  );
});

Deno.test("emitted messages with single octets changed and resealed are a message or a reason", () => {
  fc.assert(
    fc.property(anyMessage, edit, (message, { at, value }) => {
      const bytes = emitMessage(message);
      bytes[at % bytes.length] = value;
      seal(bytes, 0, false);
      judge(parseControlMessage(bytes, A, B));
    }),
    { numRuns: 1000 },
  );
});
