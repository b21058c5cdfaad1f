import { assertEquals } from "@std/assert";
import { controlPacket, emitMessage, parseControlMessage, parseControlPacket } from "../../wire/codec.ts";
import type { DropReason } from "../../wire/message.ts";
import { messageOf, packetOf, type Vector, vectors } from "./vectors.ts";

/** The reasons for which the codec drops the invalid example packets. */
const DROPPED: Record<string, DropReason> = {
  "bad-checksum-I1": "bad-checksum",
  "length-past-packet-I1": "header-past-packet",
  "multicast-destination-I1": "bad-address",
  "unspecified-source-I1": "bad-address",
  "too-short-I1": "too-short",
  "too-short-I2": "too-short",
  "option-past-message-I1": "option-past-message",
  "probe-reports-past-message": "reports-past-message",
  "probe-illegal-state-3": "bad-probe-state",
  "probe-psent-0": "no-sent-report",
  "S-bit-set": "hip",
};

/** The Errors that the codec asks for. */
const ANSWERED: Record<string, { code: number; pointer: number }> = {
  "I1-unknown-critical-option": { code: 1, pointer: 56 },
  "Unknown-type-90": { code: 0, pointer: 42 },
};

function expected(v: Vector): ReturnType<typeof parseControlPacket> {
  const { source, destination } = v.ipv6;
  if (v.decoded.P === 1) return { ok: false, drop: "payload-header" };
  if (!v.valid) return { ok: false, drop: DROPPED[v.name] };
  if (v.name in ANSWERED) return { ok: false, error: ANSWERED[v.name], source, destination };
  return { ok: true, packet: { source, destination, message: messageOf(v) } };
}

for (const v of vectors) {
  Deno.test(`the example packet ${v.name} is read as its fields say`, () => {
    assertEquals(parseControlPacket(packetOf(v)), expected(v));
    assertEquals(
      parseControlMessage(packetOf(v).subarray(v.ipv6.shim6Offset), v.ipv6.source, v.ipv6.destination),
      expected(v),
    );
  });
}

for (const v of vectors.filter((v) => v.valid && v.decoded.P === 0 && !(v.name in ANSWERED))) {
  Deno.test(`the example packet ${v.name} is emitted octet by octet`, () => {
    const packet = controlPacket(v.ipv6.source, v.ipv6.destination, emitMessage(messageOf(v)));
    assertEquals(packet.toHex(), v.hex);
  });
}
