/**
 * The Coordinates option: where the sender's locators are in the network, for peers that order probes by predicted delay.
 * Private to this program: no RFC defines it, its type is of the experimental range (RFC 5533 §17), and it is never
 * critical, so that a host which does not know it passes over it (§5.15). The codec does the same; whoever is interested
 * finds it among the unknown options of a message.
 *
 * Contents: the generation of the sender's locator list (32 bits; 0: it has sent none, and the ULID is meant), then for each
 * locator in the order of that list x, y, height and error as IEEE 754 single precision, network byte order.
 */

import type { UnknownOption, WithUnknown } from "./message.ts";
import { get32, put32 } from "./octets.ts";
import { optionLength } from "./options.ts";

/** The type of the option. */
export const COORDINATES_OPTION = 0x5643;

const GENERATION_LENGTH = 4;
const COORDINATE_LENGTH = 16;

/** One coordinate as it travels. Nothing is known of its numbers: they may even be NaN. */
export interface WireCoordinate {
  readonly x: number;
  readonly y: number;
  readonly height: number;
  readonly error: number;
}

/** What the option says. */
export interface CoordinatesOption {
  /** Of the locator list that the coordinates refer to, 32 bits. */
  readonly generation: number;
  readonly coordinates: readonly WireCoordinate[];
}

/** Octets of the option with so many coordinates, header included; no padding is needed. */
export function coordinatesOptionLength(count: number): number {
  return optionLength(GENERATION_LENGTH + count * COORDINATE_LENGTH);
}

/** Encodes the option. */
export function coordinatesOption({ generation, coordinates }: CoordinatesOption): UnknownOption {
  const contents = new Uint8Array(GENERATION_LENGTH + coordinates.length * COORDINATE_LENGTH);
  const view = new DataView(contents.buffer);
  put32(contents, 0, generation);
  coordinates.forEach(({ x, y, height, error }, i) => {
    const at = GENERATION_LENGTH + i * COORDINATE_LENGTH;
    view.setFloat32(at, x);
    view.setFloat32(at + 4, y);
    view.setFloat32(at + 8, height);
    view.setFloat32(at + 12, error);
  });
  return { type: COORDINATES_OPTION, contents };
}

/** What a message says of coordinates: undefined when nothing, `"malformed"` when it cannot be read. */
export function readCoordinatesOption({ unknownOptions }: WithUnknown): CoordinatesOption | "malformed" | undefined {
  const option = unknownOptions?.find(({ type }) => type === COORDINATES_OPTION);
  if (option === undefined) return undefined;
  const { contents } = option;
  const length = contents.length - GENERATION_LENGTH;
  if (length <= 0 || length % COORDINATE_LENGTH !== 0) return "malformed";
  const view = new DataView(contents.buffer, contents.byteOffset, contents.byteLength);
  const coordinates: WireCoordinate[] = [];
  for (let at = GENERATION_LENGTH; at < contents.length; at += COORDINATE_LENGTH) {
    coordinates.push({
      x: view.getFloat32(at),
      y: view.getFloat32(at + 4),
      height: view.getFloat32(at + 8),
      error: view.getFloat32(at + 12),
    });
  }
  return { generation: get32(contents, 0), coordinates };
}
