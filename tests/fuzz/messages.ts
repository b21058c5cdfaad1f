/** Seeded messages: every type, every option, small enough to be sent. Faster than the arbitraries of property tests. */

import type { Address } from "../../wire/address.ts";
import { formatAddress } from "../../wire/address.ts";
import { type LocatorOptions, type Message, MessageType, ReapState, type Report } from "../../wire/message.ts";
import type { SeededRandom } from "../../sim/random.ts";

/** What is put into messages where they have room for it; the rest is random. */
export interface Ingredients {
  readonly tags: readonly number[];
  readonly nonces: readonly number[];
  readonly addresses: readonly Address[];
  readonly pds: readonly Uint8Array[];
}

/** Nothing is known of the context: all random. */
export const NOTHING: Ingredients = { tags: [], nonces: [], addresses: [], pds: [] };

const TYPES = Object.values(MessageType);
const STATES = Object.values(ReapState);

/** Makes messages out of what is known and what is random. */
export class MessageMaker {
  readonly #random: SeededRandom;

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  /** A message of any type, or of the one that is asked for. */
  make(know: Ingredients, type = this.#pick(TYPES)): Message {
    const random = this.#random;
    const tag = this.#known(know.tags) ?? random.uint32() * 2 ** 15 + random.below(2 ** 15);
    const nonce = this.#known(know.nonces) ?? random.uint32();
    const unknown = this.#maybe(1 / 8, () => [{ type: 0x100 + random.below(0x7e00), contents: this.#octets(24) }]);
    const unknownOptions = unknown && { unknownOptions: unknown };
    const context = {
      initiatorTag: tag,
      initiatorNonce: nonce,
      ulidPair: this.#maybe(1 / 3, () => ({ sender: this.#address(know), receiver: this.#address(know) })),
      fii: this.#maybe(1 / 4, () => random.below(4)),
    };
    const proof = { responderNonce: random.uint32(), validator: random.bytes(20) };
    switch (type) {
      case MessageType.I1:
        return { type, ...context, ...unknownOptions };
      case MessageType.R1:
        return { type, initiatorNonce: nonce, ...proof, ...unknownOptions };
      case MessageType.I2:
        return { type, ...context, ...proof, ...this.#locatorOptions(know), ...unknownOptions };
      case MessageType.R2:
        return { type, responderTag: tag, initiatorNonce: nonce, ...this.#locatorOptions(know), ...unknownOptions };
      case MessageType.R1bis:
        return { type, packetTag: tag, ...proof, ...unknownOptions };
      case MessageType.I2bis: {
        const packetTag = this.#known(know.tags) ?? random.uint32();
        return { type, ...context, packetTag, ...proof, ...this.#locatorOptions(know), ...unknownOptions };
      }
      case MessageType.UpdateRequest:
        return { type, receiverTag: tag, requestNonce: nonce, ...this.#locatorOptions(know), ...unknownOptions };
      case MessageType.UpdateAcknowledgement:
        return { type, receiverTag: tag, requestNonce: nonce, ...unknownOptions };
      case MessageType.Keepalive:
        return { type, receiverTag: tag, ...unknownOptions };
      case MessageType.Probe: {
        const sent = this.#list(1 + random.below(4), () => this.#report(know));
        const received = this.#list(random.below(5), () => this.#report(know));
        return { type, receiverTag: tag, state: this.#pick(STATES), sent, received, ...unknownOptions };
      }
      case MessageType.Error:
        return {
          type,
          code: random.below(8),
          pointer: random.below(0x600),
          packetInError: random.bytes(8 * random.below(20)),
        };
      default:
        throw new RangeError(`no messages of type ${type} are made`);
    }
  }

  #locatorOptions(know: Ingredients): LocatorOptions {
    const random = this.#random;
    const count = random.below(5), generation = random.uint32();
    const methods = random.below(4) === 0 ? [1, 2, 3] : [1]; // one wrong method, and the whole list is ignored
    return {
      locators: this.#maybe(1 / 2, () => ({
        generation,
        locators: this.#list(count, () => ({ address: this.#address(know), method: this.#pick(methods) })),
      })),
      preferences: this.#maybe(1 / 3, () => {
        const elementLength = 1 + random.below(4);
        return {
          generation: random.below(4) === 0 ? random.uint32() : generation,
          elementLength,
          elements: this.#list(random.below(4) === 0 ? random.below(6) : count, () => [...random.bytes(elementLength)]),
        };
      }),
      pds: this.#maybe(1 / 3, () => this.#known(know.pds) ?? this.#octets(200)),
      signature: this.#maybe(1 / 8, () => this.#octets(128)),
      keepaliveTimeout: this.#maybe(1 / 4, () => random.below(0x10000)),
    };
  }

  #report(know: Ingredients): Report {
    const random = this.#random;
    return {
      source: this.#address(know),
      destination: this.#address(know),
      nonce: this.#known(know.nonces) ?? random.uint32(),
      data: random.uint32(),
    };
  }

  #address(know: Ingredients): Address {
    return this.#known(know.addresses) ?? formatAddress(this.#random.bytes(16));
  }

  /** Mostly something known, when there is anything. */
  #known<T>(values: readonly T[]): T | undefined {
    return values.length === 0 || this.#random.below(8) === 0 ? undefined : this.#pick(values);
  }

  #pick<T>(values: readonly T[]): T {
    return values[this.#random.below(values.length)];
  }

  #maybe<T>(share: number, make: () => T): T | undefined {
    return this.#random.next() < share ? make() : undefined;
  }

  #list<T>(length: number, make: () => T): T[] {
    return Array.from({ length }, make);
  }

  #octets(longest: number): Uint8Array {
    return this.#random.bytes(this.#random.below(longest + 1));
  }
}
