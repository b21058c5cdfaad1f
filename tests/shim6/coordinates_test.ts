/** Coordinates in control messages: who sends them, who believes them, and that a plain peer is served as ever. */

import { assert, assertEquals } from "@std/assert";
import { CoordPolicy } from "../../policies/coord.ts";
import { RandomPolicy } from "../../policies/random.ts";
import { RttPolicy } from "../../policies/rtt.ts";
import { RFC5534 } from "../../reap/profile.ts";
import type { EngineOptions } from "../../shim6/api.ts";
import { ulidOnlyVerifier } from "../../shim6/verifier.ts";
import { Traffic } from "../../sim/traffic.ts";
import { VirtualNetwork } from "../../sim/virtual_network.ts";
import { MAX_MESSAGE_LENGTH, parseControlMessage } from "../../wire/codec.ts";
import { COORDINATES_OPTION, coordinatesOption, readCoordinatesOption } from "../../wire/coordinates_option.ts";
import { type Keepalive, type Message, MessageType, ReapState, type WithUnknown } from "../../wire/message.ts";
import { B1, B2, B3, Bench, list, PEER_LIST, ULID } from "./bench.ts";

const PLACE = { x: 4, y: 8, height: 2, error: 0.5 };

function keepalive(receiverTag: number, generation: number, count: number, place = PLACE): Keepalive {
  const option = coordinatesOption({ generation, coordinates: Array(count).fill(place) });
  return { type: MessageType.Keepalive, receiverTag, unknownOptions: [option] };
}

/** An established context of a host that wants coordinates. */
function bench(options: Partial<EngineOptions> = {}) {
  const bench = new Bench({ policy: new CoordPolicy(), ...options });
  const tag = bench.toEstablished();
  return { bench, tag, coordinates: bench.engine.book.coordinates! };
}

/** Two hosts with two locators each and traffic between them. */
function hosts(a: Partial<EngineOptions>, b: Partial<EngineOptions>) {
  const network = new VirtualNetwork({ seed: 3, delayMs: 10 });
  const addresses = ["a", "b"].map((host) => [1, 2].map((i) => `2001:db8:${host}${i}::1`));
  const [hostA, hostB] = [a, b].map(({ policy = new RandomPolicy(), ...engine }, i) =>
    network.addHost(String(i), addresses[i], { profile: RFC5534, policy, engine })
  );
  const carriers = new Map<string, number[]>();
  network.filter = (packet) => {
    if (packet.kind !== "control") return true;
    const result = parseControlMessage(packet.octets, packet.source, packet.destination);
    assert(result.ok && packet.octets.length <= MAX_MESSAGE_LENGTH);
    const { message } = result.packet;
    if (readCoordinatesOption(message as WithUnknown) !== undefined) {
      const host = packet.source.startsWith("2001:db8:a") ? "a" : "b";
      carriers.set(host, [...carriers.get(host) ?? [], message.type]);
    }
    return true;
  };
  const ulid = { local: addresses[0][0], peer: addresses[1][0] };
  hostA.establish(ulid.local, ulid.peer);
  network.run(1_000);
  new Traffic(network, { from: hostA, to: hostB, ulid, intervalMs: 100, bothWays: true });
  return { network, hostA, hostB, carriers, addresses, ulid };
}

Deno.test("two hosts tell each other all their coordinates, from I2 and R2 on, and learn them by their probes", () => {
  const { network, hostA, hostB, carriers, addresses } = hosts(
    { policy: new CoordPolicy() },
    { policy: new CoordPolicy() },
  );
  assertEquals([carriers.get("a"), carriers.get("b")], [[MessageType.I2], [MessageType.R2]]);
  network.run(30_000);
  for (const [host, own, theirs] of [[hostA, 0, 1], [hostB, 1, 0]]) {
    const coordinates = (host as typeof hostA).engine!.book.coordinates!;
    for (const address of addresses[own as number]) assert(coordinates.own(address).error < 1, address);
    for (const address of addresses[theirs as number]) assert(coordinates.peer(address) !== undefined, address);
  }
  const accuracy = hostA.engine!.predictionAccuracy!;
  assert(accuracy.predictions > 0 && accuracy.refused === 0, JSON.stringify(accuracy));
});

Deno.test("without a policy that wants them no message carries coordinates, unless that is configured", () => {
  const { network, hostA, carriers } = hosts({ policy: new RttPolicy() }, {});
  network.run(30_000);
  assertEquals([carriers.size, hostA.engine!.predictionAccuracy], [0, undefined]);
  const configured = hosts({ policy: new RttPolicy(), coordinates: true }, {});
  configured.network.run(30_000);
  assert(configured.carriers.get("a")!.includes(MessageType.Probe));
});

Deno.test("a plain peer is served as ever: it gets over a failure with a host that sends coordinates, and sends none", () => {
  const { network, hostA, hostB, carriers, ulid } = hosts({ policy: new CoordPolicy() }, {});
  network.run(10_000);
  assertEquals(carriers.get("a")!.length > 2, true);
  assertEquals([carriers.get("b"), hostB.engine!.counters.dropped], [undefined, {}]);
  network.cut(ulid, true);
  network.run(60_000);
  for (const host of [hostA, hostB]) {
    const [context] = host.engine!.contexts();
    assertEquals(context.reap, ReapState.Operational);
    assert(network.path(context.current.local, context.current.peer).up);
  }
});

Deno.test("coordinates count for verified locators of the list that they name, and for no others", () => {
  const { bench: one, tag, coordinates } = bench();
  one.receive(keepalive(tag, PEER_LIST.generation + 1, 3));
  assertEquals(coordinates.peer(B1), undefined, "of another list");
  one.receive(keepalive(tag, PEER_LIST.generation, 5));
  assertEquals([B1, B2, B3].map((address) => coordinates.peer(address)), [PLACE, PLACE, PLACE]);

  const ulidOnly = bench({ verifier: ulidOnlyVerifier });
  ulidOnly.bench.receive(keepalive(ulidOnly.tag, PEER_LIST.generation, 3));
  assertEquals([B1, B2].map((address) => ulidOnly.coordinates.peer(address)), [PLACE, undefined]);
});

Deno.test("an Update Request tells the coordinates of the list that it brings", () => {
  const { bench: one, tag, coordinates } = bench();
  const B4 = "2001:db8:b4::1";
  const option = coordinatesOption({ generation: 9, coordinates: [PLACE, { ...PLACE, x: 5 }] });
  const update: Message = {
    type: MessageType.UpdateRequest,
    receiverTag: tag,
    requestNonce: 1,
    locators: list(9, B1, B4),
    unknownOptions: [option],
  };
  const [answer] = one.receive(update);
  assertEquals(answer.message.type, MessageType.UpdateAcknowledgement);
  assertEquals(coordinates.peer(B4)?.x, 5);
  assert(readCoordinatesOption(answer.message as WithUnknown) !== undefined);
});

Deno.test("nonsense is counted and changes nothing, and the message is processed all the same", () => {
  const { bench: one, tag, coordinates } = bench();
  one.receive(keepalive(tag, PEER_LIST.generation, 3));
  const nonsense = [{ x: NaN }, { y: Infinity }, { height: -1 }, { x: 1e30 }, { error: -1 }];
  for (const change of nonsense) one.receive(keepalive(tag, PEER_LIST.generation, 1, { ...PLACE, ...change }));
  const short = { type: COORDINATES_OPTION, contents: new Uint8Array(7) };
  one.receive({ type: MessageType.Keepalive, receiverTag: tag, unknownOptions: [short] });
  assertEquals(coordinates.peer(B1), PLACE);
  assertEquals(one.engine.predictionAccuracy!.refused, nonsense.length + 1);
  assertEquals(one.engine.counters.dropped, {});
});

Deno.test("an R2 carries coordinates only to a peer that sent some itself, so that it is not longer than what it answers", () => {
  const { network, carriers } = hosts({}, { policy: new CoordPolicy() });
  assertEquals(carriers.get("b") ?? [], []);
  network.run(10_000);
  assert(carriers.get("b")!.includes(MessageType.Probe), "the proven peer gets them with probes");
});

Deno.test("a message that has no room for coordinates goes without them", () => {
  const { bench: one, tag } = bench();
  one.engine.explore(1, one.now);
  const lengths: number[] = [], told: boolean[] = [];
  for (let nonce = 1; nonce <= 40; nonce++) {
    // The peer hears nothing of us, so both kinds of reports pile up.
    const sent = [{ source: B1, destination: ULID.local, nonce, data: 0 }];
    const state = ReapState.Exploring, receiverTag = tag;
    one.receive({ type: MessageType.Probe, receiverTag, state, sent, received: [] });
    one.run(100);
  }
  for (const { octets, message } of one.log.filter(({ message }) => message.type === MessageType.Probe)) {
    lengths.push(octets.length);
    told.push(readCoordinatesOption(message as WithUnknown) !== undefined);
  }
  assertEquals(lengths.at(-1), 16 + 30 * 40, "the largest probe there is");
  assertEquals([told[0], told.at(-1)], [true, false]);
  assert(lengths.every((length) => length <= MAX_MESSAGE_LENGTH));
  assertEquals(one.engine.counters.dropped, {});
});
