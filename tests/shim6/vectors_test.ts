/** The example packets that ask for a reaction of the engine. Our host is B of the examples. */

import { assertEquals } from "@std/assert";
import { RandomPolicy } from "../../policies/random.ts";
import { RFC5534 } from "../../reap/profile.ts";
import { Engine } from "../../shim6/engine.ts";
import { insecureVerifier } from "../../shim6/verifier.ts";
import type { Effect } from "../../shim6/api.ts";
import { SeededRandom } from "../../sim/random.ts";
import { canonicalAddress } from "../../wire/address.ts";
import { controlPacket, parseControlMessage } from "../../wire/codec.ts";
import { MessageType } from "../../wire/message.ts";
import file from "../fixtures/vectors.json" with { type: "json" };
import { fromHex, packetOf, type Vector, vector, vectors } from "../wire/vectors.ts";
import { locator } from "./bench.ts";

const { hostB, contextTagA, responderSecretS } = file.parameters;

/** Gives the octets that a host of the examples had drawn, as far as they matter, then others. */
class Draws {
  readonly #script: Uint8Array[];
  readonly #random = new SeededRandom(1);

  constructor(...script: string[]) {
    this.#script = script.map(fromHex);
  }

  readonly bytes = (length: number): Uint8Array => {
    const index = this.#script.findIndex((octets) => octets.length === length);
    return index < 0 ? this.#random.bytes(length) : this.#script.splice(index, 1)[0];
  };
}

function engineOf(addresses: readonly string[], ...script: string[]): Engine {
  return new Engine({
    profile: RFC5534,
    policy: new RandomPolicy(),
    locators: addresses.map((address) => locator(canonicalAddress(address))),
    verifier: insecureVerifier(),
    establish: { afterPackets: 50, afterMs: 60_000, always: [], never: [] },
    random: () => 0.5,
    randomBytes: new Draws(...script).bytes,
  }, 0);
}

function hostOfExamples(...script: string[]): Engine {
  return engineOf(hostB, ...script);
}

function receive(engine: Engine, v: Vector): Extract<Effect, { type: "send" }>[] {
  const packet = packetOf(v);
  const { source, destination, shim6Offset } = v.ipv6;
  engine.handleControlMessage(packet.subarray(shim6Offset), canonicalAddress(source), canonicalAddress(destination), 0);
  return drain(engine);
}

function drain(engine: Engine): Extract<Effect, { type: "send" }>[] {
  const sent = [];
  for (let effect = engine.nextEffect(); effect !== undefined; effect = engine.nextEffect()) {
    if (effect.type === "send") sent.push(effect);
  }
  return sent;
}

/** The whole packet in hex, with the hop limit of the examples. */
function hexOf({ source, destination, message }: Extract<Effect, { type: "send" }>): string {
  return controlPacket(source, destination, message).toHex();
}

// Responder Nonce 0x2711 and secret S are what the examples were made with.
const EXAMPLE_RESPONDER = ["00002711", responderSecretS];

Deno.test("the example I1 is answered with the example R1, to the octet", () => {
  const [answer] = receive(hostOfExamples(...EXAMPLE_RESPONDER), vector("I1"));
  assertEquals(hexOf(answer), vector("R1").hex);
});

Deno.test("the example I2 messages establish a context at the host that sent the example R1", () => {
  for (const name of ["I2-minimal", "I2-loclist-hba", "I2-keepalive-timeout"]) {
    const engine = hostOfExamples(...EXAMPLE_RESPONDER);
    const [answer] = receive(engine, vector(name));
    assertEquals(answer.kind, MessageType.R2, name);
    const [context] = engine.contexts();
    assertEquals(context.state, "ESTABLISHED");
    assertEquals(context.peerLocators.length, name === "I2-minimal" ? 1 : 3);
  }
});

Deno.test("the example I2 with an unknown verification method gets the example Error, to the octet", () => {
  const engine = hostOfExamples(...EXAMPLE_RESPONDER);
  const [answer] = receive(engine, vector("I2-unsupported-verification-method"));
  assertEquals(hexOf(answer), vector("Error-verification-method").hex);
  assertEquals(engine.size, 0);
});

Deno.test("the example with an unknown critical option gets the example Error, to the octet", () => {
  const [answer] = receive(hostOfExamples(), vector("I1-unknown-critical-option"));
  assertEquals(hexOf(answer), vector("Error-critical-option").hex);
});

Deno.test("the example of an unknown type gets the example Error, to the octet, and no R1bis", () => {
  const answers = receive(hostOfExamples(), vector("Unknown-type-90"));
  assertEquals(answers.map(hexOf), [vector("Error-unknown-type").hex]);
});

Deno.test("the example with an unknown option that is not critical is answered with an R1", () => {
  const [answer] = receive(hostOfExamples(), vector("I1-unknown-noncritical-option"));
  assertEquals(answer.kind, MessageType.R1);
});

Deno.test("the example preferences of another generation, or too few of them, get the Errors they ask for", () => {
  const expected = [
    ["UpdateRequest-generation-mismatch", 3, 60],
    ["UpdateRequest-preference-count-mismatch", 4, 58],
  ] as const;
  for (const [name, code, pointer] of expected) {
    // The tag of B in the examples is the first of six octets that B draws.
    const engine = hostOfExamples(
      ...EXAMPLE_RESPONDER,
      Number(file.parameters.contextTagB).toString(16).padStart(12, "0"),
    );
    receive(engine, vector("I2-loclist-hba"));
    const [answer] = receive(engine, vector(name));
    const result = parseControlMessage(answer.message, answer.source, answer.destination);
    assertEquals(
      result.ok && result.packet.message.type === MessageType.Error && {
        code: result.packet.message.code,
        pointer: result.packet.message.pointer,
      },
      { code, pointer },
      name,
    );
    if (code === 3) assertEquals(hexOf(answer), vector("Error-generation").hex);
  }
});

Deno.test("an example packet that is to be dropped changes nothing and is answered by nothing", () => {
  const drops = vectors.filter((v) => !v.valid && v.expect?.includes("drop"));
  assertEquals(drops.length > 5, true);
  for (const v of drops) {
    const engine = hostOfExamples();
    assertEquals(receive(engine, v), [], v.name);
    assertEquals(engine.size, 0);
    assertEquals(Object.keys(engine.counters.dropped).length, 1, v.name);
  }
});

Deno.test("host A of the examples sends the example I1, to the octet, and takes the example R1", () => {
  const tag = Number(contextTagA).toString(16).padStart(12, "0");
  // First of its Responder Nonces, generation, Initiator Nonce; the tag.
  const engine = engineOf(file.parameters.hostA, "00000000", "3d9f1c02", "1a2b3c4d", tag);
  engine.establish(canonicalAddress(file.parameters.hostA[0]), canonicalAddress(hostB[0]), 0);
  const [i1] = drain(engine);
  assertEquals(hexOf(i1), vector("I1").hex);
  const [answer] = receive(engine, vector("R1"));
  assertEquals(answer.kind, MessageType.I2);
});
