/** Hosts that lie about their coordinates, and about nothing else: they answer probes as everyone does. */

import type { Coordinate } from "../../policies/coordinates.ts";
import type { Address } from "../../wire/address.ts";
import { emitMessage, parseControlMessage } from "../../wire/codec.ts";
import { coordinatesOption, readCoordinatesOption } from "../../wire/coordinates_option.ts";
import { MessageType } from "../../wire/message.ts";
import type { SeededRandom } from "../random.ts";
import type { VirtualHost } from "../virtual_network.ts";

/**
 * `none`: they tell the truth. `random`: another place in each message. `far`: always the same place, half a second away.
 * `collude`: whatever makes the other host go to one place that all liars have agreed upon, told so that it looks right.
 */
export const LIES = ["none", "random", "far", "collude"] as const;

/** How far the places of liars are, ms. */
const FAR_MS = 500;
/** Where colluding liars want all others to be, and how hard they pull, ms. */
const TARGET = { x: 300, y: 300 }, PULL_MS = 100;
/** Round-trip time that a liar assumes before it has measured, ms. */
const ASSUMED_RTT_MS = 50;

/** Makes the host lie in each message that carries coordinates. */
export function makeLiar(host: VirtualHost, lie: typeof LIES[number], random: SeededRandom): void {
  if (lie === "none") return;
  const angle = 2 * Math.PI * random.next();
  const far: Coordinate = { x: FAR_MS * Math.cos(angle), y: FAR_MS * Math.sin(angle), height: 1, error: 0 };
  const wander = (): Coordinate => ({
    x: FAR_MS * (2 * random.next() - 1),
    y: FAR_MS * (2 * random.next() - 1),
    height: 1 + FAR_MS * random.next() / 5,
    error: 0,
  });
  const pull = (source: Address, destination: Address): Coordinate => {
    const { book } = host.engine!;
    const victim = book.coordinates!.peer(destination) ?? far;
    const dx = TARGET.x - victim.x, dy = TARGET.y - victim.y, length = Math.max(1, Math.hypot(dx, dy));
    const measured = book.get({ local: source, peer: destination })?.rttMs ?? NaN;
    const reach = (Number.isNaN(measured) ? ASSUMED_RTT_MS : measured) + PULL_MS;
    return { x: victim.x + reach * dx / length, y: victim.y + reach * dy / length, height: 0.01, error: 0 };
  };
  host.tamper = (octets, source, destination) => {
    const result = parseControlMessage(octets, source, destination);
    if (!result.ok || result.packet.message.type === MessageType.Error) return octets;
    const { message } = result.packet;
    const option = readCoordinatesOption(message);
    if (option === undefined || option === "malformed") return octets;
    const coordinates = option.coordinates.map(() =>
      lie === "random" ? wander() : lie === "far" ? far : pull(source, destination)
    );
    return emitMessage({ ...message, unknownOptions: [coordinatesOption({ ...option, coordinates })] });
  };
}
