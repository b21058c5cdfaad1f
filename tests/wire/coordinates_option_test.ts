import { assert, assertEquals } from "@std/assert";
import { emitMessage, MAX_MESSAGE_LENGTH, messageLength, parseControlMessage } from "../../wire/codec.ts";
import {
  COORDINATES_OPTION,
  coordinatesOption,
  coordinatesOptionLength,
  readCoordinatesOption,
} from "../../wire/coordinates_option.ts";
import { type Keepalive, type Message, MessageType, type Probe, ReapState } from "../../wire/message.ts";
import { messageOf, vectors } from "./vectors.ts";

const A = "2001:db8:a::1", B = "2001:db8:b::1";
const COORDINATES = [{ x: 1.5, y: -2.25, height: 0.5, error: 0.125 }, { x: 0, y: 64, height: 3, error: 1 }];
const keepalive: Keepalive = { type: MessageType.Keepalive, receiverTag: 0x123456789abc };

const isKnown = (type: number | undefined) => Object.values(MessageType).some((known) => known === type);

Deno.test("coordinates come back as they were sent, in 16 octets each", () => {
  const option = coordinatesOption({ generation: 0xdeadbeef, coordinates: COORDINATES });
  assertEquals(readCoordinatesOption({ unknownOptions: [option] }), {
    generation: 0xdeadbeef,
    coordinates: COORDINATES,
  });
  assertEquals(coordinatesOptionLength(2), 8 + 2 * 16);
  assertEquals(messageLength({ ...keepalive, unknownOptions: [option] }), messageLength(keepalive) + 40);
});

Deno.test("the type is of the experimental range and not critical", () => {
  assert(COORDINATES_OPTION >= 16_384 && COORDINATES_OPTION <= 32_767); // RFC 5533 §17
  const octets = emitMessage({ ...keepalive, unknownOptions: [coordinatesOption({ generation: 1, coordinates: [] })] });
  assertEquals([octets[16] << 7 | octets[17] >> 1, octets[17] & 1], [COORDINATES_OPTION, 0]);
});

Deno.test("a plain peer passes over the option in every message: the rest is read as without it", () => {
  const added = coordinatesOption({ generation: 7, coordinates: COORDINATES });
  for (const example of vectors.filter(({ valid, decoded }) => valid && decoded.P === 0 && isKnown(decoded.type))) {
    const { name } = example, message = messageOf(example);
    if (message.type === MessageType.Error || messageLength(message) + 40 > MAX_MESSAGE_LENGTH) continue;
    const result = parseControlMessage(emitMessage({ ...message, unknownOptions: [added] } as Message), A, B);
    assert(result.ok, name);
    const { unknownOptions, ...rest } = result.packet.message as Probe;
    assertEquals(unknownOptions?.at(-1), added);
    const { unknownOptions: _, ...plain } = message as Probe;
    assertEquals(rest, plain as typeof rest, name);
  }
});

Deno.test("numbers that are none arrive as such, and contents of a wrong length are malformed", () => {
  const strange = [{ x: NaN, y: -Infinity, height: -1, error: 3e38 }];
  const read = readCoordinatesOption({ unknownOptions: [coordinatesOption({ generation: 0, coordinates: strange })] });
  assert(read !== undefined && read !== "malformed");
  const [{ x, y, height, error }] = read.coordinates;
  assertEquals([x, y, height, error > 2e38], [NaN, -Infinity, -1, true]);
  for (const length of [0, 3, 4, 5, 19, 21, 35, 37]) {
    const unknownOptions = [{ type: COORDINATES_OPTION, contents: new Uint8Array(length) }];
    assertEquals(readCoordinatesOption({ unknownOptions }), "malformed", `${length} octets`);
  }
  assertEquals(readCoordinatesOption({ unknownOptions: [{ type: 16_384, contents: new Uint8Array(20) }] }), undefined);
  assertEquals(readCoordinatesOption({}), undefined);
});

Deno.test("the option stands behind the reports of a probe, however many there are", () => {
  const report = { source: A, destination: B, nonce: 1, data: 0 };
  for (const [sent, received] of [[1, 0], [3, 2], [15, 14]]) {
    const probe: Probe = {
      type: MessageType.Probe,
      receiverTag: 5,
      state: ReapState.InboundOk,
      sent: Array(sent).fill(report),
      received: Array(received).fill(report),
      unknownOptions: [coordinatesOption({ generation: 7, coordinates: COORDINATES.slice(0, 1) })],
    };
    assertEquals(parseControlMessage(emitMessage(probe), A, B), {
      ok: true,
      packet: { source: A, destination: B, message: probe },
    });
  }
});
