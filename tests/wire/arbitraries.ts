/** Arbitrary messages for property tests: every field over its whole range, and small enough to be sent. */

import fc from "fast-check";
import { type Address, formatAddress } from "../../wire/address.ts";
import { MAX_REPORTS, type Message, MessageType } from "../../wire/message.ts";
import { OptionType } from "../../wire/options.ts";

/** So many octets, by default up to 64. */
export function octets(minLength = 0, maxLength = 64): fc.Arbitrary<Uint8Array<ArrayBuffer>> {
  return fc.uint8Array({ minLength, maxLength }).map((array) => new Uint8Array(array));
}

/** Any address in canonical form; runs of zeros are frequent. */
export const address: fc.Arbitrary<Address> = fc
  .array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 })
  .map((groups) => formatAddress(Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]))));

/** An address that may stand in an IPv6 header. */
export const unicast: fc.Arbitrary<Address> = address.filter((a) => a !== "::" && !a.startsWith("ff"));

const uint16 = fc.nat(0xffff);
const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });

/** Any context tag. */
export const tag = fc.oneof(
  fc.constantFrom(0, 2 ** 47 - 1, 2 ** 32, 2 ** 32 - 1),
  fc.integer({ min: 0, max: 2 ** 47 - 1 }),
);

const known: readonly number[] = Object.values(OptionType);
const unknownOption = fc.record({
  type: fc.nat(0x7fff).filter((type) => !known.includes(type)),
  contents: octets(0, 40),
});

const locatorList = fc.record({
  generation: uint32,
  locators: fc.array(fc.record({ address, method: fc.nat(0xff) }), { maxLength: 9 }),
});

const preferences = fc.integer({ min: 1, max: 5 }).chain((elementLength) =>
  fc.record({
    generation: uint32,
    elementLength: fc.constant(elementLength),
    elements: fc.array(fc.array(fc.nat(0xff), { minLength: elementLength, maxLength: elementLength }), {
      maxLength: 9,
    }),
  })
);

const unknownOptions = fc.array(unknownOption, { minLength: 1, maxLength: 2 });
const contextOptions = { ulidPair: fc.record({ sender: address, receiver: address }), fii: uint32 };
const locatorOptions = {
  locators: locatorList,
  preferences,
  pds: octets(0, 200),
  signature: octets(0, 128),
  keepaliveTimeout: uint16,
};

const report = fc.record({ source: address, destination: address, nonce: uint32, data: uint32 });

/** For each message type by name, its arbitrary messages. Options may be there or not, each for itself. */
export const messages: { readonly [Name in keyof typeof MessageType]: fc.Arbitrary<Message> } = {
  I1: fc.record(
    {
      type: fc.constant(MessageType.I1),
      initiatorTag: tag,
      initiatorNonce: uint32,
      ...contextOptions,
      unknownOptions,
    },
    { requiredKeys: ["type", "initiatorTag", "initiatorNonce"] },
  ),
  R1: fc.record(
    {
      type: fc.constant(MessageType.R1),
      initiatorNonce: uint32,
      responderNonce: uint32,
      validator: octets(),
      unknownOptions,
    },
    { requiredKeys: ["type", "initiatorNonce", "responderNonce", "validator"] },
  ),
  I2: fc.record(
    {
      type: fc.constant(MessageType.I2),
      initiatorTag: tag,
      initiatorNonce: uint32,
      responderNonce: uint32,
      validator: octets(),
      ...contextOptions,
      ...locatorOptions,
      unknownOptions,
    },
    { requiredKeys: ["type", "initiatorTag", "initiatorNonce", "responderNonce", "validator"] },
  ),
  R2: fc.record(
    {
      type: fc.constant(MessageType.R2),
      responderTag: tag,
      initiatorNonce: uint32,
      ...locatorOptions,
      unknownOptions,
    },
    { requiredKeys: ["type", "responderTag", "initiatorNonce"] },
  ),
  R1bis: fc.record(
    {
      type: fc.constant(MessageType.R1bis),
      packetTag: tag,
      responderNonce: uint32,
      validator: octets(),
      unknownOptions,
    },
    { requiredKeys: ["type", "packetTag", "responderNonce", "validator"] },
  ),
  I2bis: fc.record(
    {
      type: fc.constant(MessageType.I2bis),
      initiatorTag: tag,
      initiatorNonce: uint32,
      responderNonce: uint32,
      packetTag: tag,
      validator: octets(),
      ...contextOptions,
      ...locatorOptions,
      unknownOptions,
    },
    { requiredKeys: ["type", "initiatorTag", "initiatorNonce", "responderNonce", "packetTag", "validator"] },
  ),
  UpdateRequest: fc.record(
    {
      type: fc.constant(MessageType.UpdateRequest),
      receiverTag: tag,
      requestNonce: uint32,
      ...locatorOptions,
      unknownOptions,
    },
    { requiredKeys: ["type", "receiverTag", "requestNonce"] },
  ),
  UpdateAcknowledgement: fc.record(
    {
      type: fc.constant(MessageType.UpdateAcknowledgement),
      receiverTag: tag,
      requestNonce: uint32,
      unknownOptions,
    },
    { requiredKeys: ["type", "receiverTag", "requestNonce"] },
  ),
  Keepalive: fc.record(
    { type: fc.constant(MessageType.Keepalive), receiverTag: tag, unknownOptions },
    { requiredKeys: ["type", "receiverTag"] },
  ),
  // Fewer reports when there are unknown options, so that the sum stays below what may be sent.
  Probe: fc.tuple(fc.option(unknownOptions, { nil: undefined }), fc.constantFrom(0, 1, 2)).chain((
    [unknown, state],
  ) =>
    fc.record({
      type: fc.constant(MessageType.Probe),
      receiverTag: tag,
      state: fc.constant(state as 0 | 1 | 2),
      sent: fc.array(report, { minLength: 1, maxLength: MAX_REPORTS - (unknown ? 3 : 0) }),
      received: fc.array(report, { maxLength: MAX_REPORTS }),
      ...(unknown ? { unknownOptions: fc.constant(unknown) } : {}),
    })
  ),
  Error: fc.record({
    type: fc.constant(MessageType.Error),
    code: fc.nat(127),
    pointer: uint16,
    packetInError: octets(1, 154).chain((start) =>
      fc.constant(new Uint8Array(start.length * 8).map((_, i) => start[i % start.length]))
    ),
  }),
};

/** Any message. */
export const anyMessage: fc.Arbitrary<Message> = fc.oneof(...Object.values(messages));
