import { assert, assertEquals, assertFalse } from "@std/assert";
import { r1bisValidator, type R1Subject, r1Validator, Responder, SECRET_LENGTH } from "../../shim6/validator.ts";
import { SeededRandom } from "../../sim/random.ts";
import vectors from "../fixtures/vectors.json" with { type: "json" };

const { hostA, hostB, contextTagA, contextTagB, responderSecretS } = vectors.parameters;
const SECRET = Uint8Array.fromHex(responderSecretS);
const SUBJECT: R1Subject = {
  initiatorTag: Number(contextTagA),
  initiatorUlid: hostA[0],
  responderUlid: hostB[0],
  source: hostA[0],
  destination: hostB[0],
  fii: 0,
};

function validatorOf(name: string): { nonce: number; validator: string } {
  const { decoded } = vectors.vectors.find((vector) => vector.name === name)! as {
    decoded: { responderNonce: string; options: { validator: string }[] };
  };
  return { nonce: Number(decoded.responderNonce), validator: decoded.options[0].validator };
}

Deno.test("the validator of the example R1 is computed as it was", () => {
  const { nonce, validator } = validatorOf("R1");
  assertEquals(r1Validator(SECRET, nonce, SUBJECT).toHex(), validator);
});

Deno.test("the validator of the example R1bis is computed as it was", () => {
  const { nonce, validator } = validatorOf("R1bis");
  const subject = { packetTag: Number(contextTagB), source: hostA[1], destination: hostB[0] };
  assertEquals(r1bisValidator(SECRET, nonce, subject).toHex(), validator);
});

Deno.test("every validator is accepted for at least 30 s and never after 60 s, over many changes of the secret", () => {
  const random = new SeededRandom(3);
  const responder = new Responder(random.bytes, 0);
  for (let issuedAt = 0; issuedAt < 1_000_000; issuedAt += 7_300) {
    const { responderNonce, validator } = responder.issueR1(SUBJECT, issuedAt);
    for (const [age, good] of [[0, true], [30_000, true], [60_001, false]] as const) {
      // A second responder of the same age, because time only goes forward for one of them.
      const later = new Responder(new SeededRandom(3).bytes, 0);
      for (let at = 0; at <= issuedAt; at += 7_300) later.issueR1(SUBJECT, at);
      assertEquals(later.acceptsI2(SUBJECT, responderNonce, validator, issuedAt + age), good, `${issuedAt} + ${age}`);
    }
    if (issuedAt > 700_000) break;
  }
});

Deno.test("an R1 validator is refused for another context, pair or kind", () => {
  const responder = new Responder(new SeededRandom(3).bytes, 0);
  const { responderNonce, validator } = responder.issueR1(SUBJECT, 0);
  assert(responder.acceptsI2(SUBJECT, responderNonce, validator, 0));
  const others: Partial<R1Subject>[] = [
    { initiatorTag: 1 },
    { initiatorUlid: hostA[1] },
    { responderUlid: hostB[1] },
    { source: hostA[1] },
    { destination: hostB[1] },
    { fii: 1 },
  ];
  for (const other of others) {
    assertFalse(responder.acceptsI2({ ...SUBJECT, ...other }, responderNonce, validator, 0));
  }
  const { source, destination, initiatorTag: packetTag } = SUBJECT;
  assertFalse(responder.acceptsI2bis({ packetTag, source, destination }, responderNonce, validator, 0));
  assertFalse(responder.acceptsI2(SUBJECT, responderNonce, validator.subarray(1), 0));
});

Deno.test("a restarted host accepts nothing that it issued in its former life", () => {
  const random = new SeededRandom(3);
  const { responderNonce, validator } = new Responder(random.bytes, 0).issueR1(SUBJECT, 0);
  assertFalse(new Responder(random.bytes, 0).acceptsI2(SUBJECT, responderNonce, validator, 0));
});

Deno.test("after a long sleep old validators are gone and new ones work", () => {
  const responder = new Responder(new SeededRandom(3).bytes, 0);
  const old = responder.issueR1(SUBJECT, 0);
  const later = 86_400_000;
  assertFalse(responder.acceptsI2(SUBJECT, old.responderNonce, old.validator, later));
  const fresh = responder.issueR1(SUBJECT, later);
  assert(responder.acceptsI2(SUBJECT, fresh.responderNonce, fresh.validator, later + 30_000));
  assertEquals(SECRET_LENGTH, 32);
});
