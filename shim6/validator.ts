/**
 * The stateless responder (RFC 5533 §7.10.1, §7.17.1): what R1 and R1bis carry can be recognised when it comes back in
 * an I2 or I2bis, so that no state is kept for an address that has not shown that it receives.
 */

import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { type Address, ADDRESS_LENGTH, writeAddress } from "../wire/address.ts";
import type { ContextTag } from "../wire/message.ts";
import { get32, put32, putTag } from "../wire/octets.ts";
import { VALIDATOR_MIN_LIFETIME } from "./constants.ts";

/** Octets of the secret. */
export const SECRET_LENGTH = 32;
/** Octets of a validator: HMAC-SHA-256, cut. */
export const VALIDATOR_LENGTH = 20;
/** Steps of the nonce for which one secret serves (RFC 5533 §16.2: "change S periodically"). */
const STEPS_PER_SECRET = 10;

/** What ties an R1 to the I1 and later to the I2. */
export interface R1Subject {
  readonly initiatorTag: ContextTag;
  readonly initiatorUlid: Address;
  readonly responderUlid: Address;
  /** Addresses of the I1's packet; the I2 has to come on the same pair. */
  readonly source: Address;
  readonly destination: Address;
  readonly fii: number;
}

/** What ties an R1bis to the packet of an unknown context and later to the I2bis. */
export interface R1bisSubject {
  readonly packetTag: ContextTag;
  /** Addresses of the packet that had the unknown tag. */
  readonly source: Address;
  readonly destination: Address;
}

// Labels keep the kinds apart: what an R1 carried is no use in an I2bis.
const R1_LABEL = 0x5231, R1BIS_LABEL = 0x4231, SEED_LABEL = 0x5453;

/** The validator of an R1. The Initiator Nonce is left out, since the I2 may carry another one (RFC 5533 §7.11). */
export function r1Validator(secret: Uint8Array, responderNonce: number, subject: R1Subject): Uint8Array {
  const input = new Uint8Array(2 + 4 + 6 + 4 * ADDRESS_LENGTH + 4);
  writeStart(input, R1_LABEL, responderNonce, subject.initiatorTag);
  writeAddress(subject.initiatorUlid, input, 12);
  writeAddress(subject.responderUlid, input, 28);
  writeAddress(subject.source, input, 44);
  writeAddress(subject.destination, input, 60);
  put32(input, 76, subject.fii);
  return authenticate(secret, input);
}

/** The validator of an R1bis. */
export function r1bisValidator(secret: Uint8Array, responderNonce: number, subject: R1bisSubject): Uint8Array {
  const input = new Uint8Array(2 + 4 + 6 + 2 * ADDRESS_LENGTH);
  writeStart(input, R1BIS_LABEL, responderNonce, subject.packetTag);
  writeAddress(subject.source, input, 12);
  writeAddress(subject.destination, input, 28);
  return authenticate(secret, input);
}

/** HMACs that have taken in their secret already, which is half of the work. */
const keyed = new WeakMap<Uint8Array, ReturnType<typeof hmac.create>>();

/** HMAC-SHA-256, cut. Nothing else makes a flood of I2s so expensive. */
function authenticate(secret: Uint8Array, input: Uint8Array): Uint8Array {
  let start = keyed.get(secret);
  if (start === undefined) {
    start = hmac.create(sha256, secret);
    keyed.set(secret, start);
  }
  return start.clone().update(input).digest().subarray(0, VALIDATOR_LENGTH);
}

function writeStart(input: Uint8Array, label: number, responderNonce: number, tag: ContextTag): void {
  input[0] = label >> 8;
  input[1] = label & 0xff;
  put32(input, 2, responderNonce);
  putTag(input, 6, tag);
}

/** Makes and checks validators. The Responder Nonce is a counter, so that its age can be told. */
export class Responder {
  readonly #randomBytes: (length: number) => Uint8Array;
  readonly #start: number;
  // A random start keeps a restarted host from accepting what it issued before.
  readonly #firstNonce: number;
  #step = 0;
  #secret: Uint8Array;
  /** The secret of the steps before this one's block; still needed for nonces that are not too old. */
  #previousSecret: Uint8Array | undefined;

  constructor(randomBytes: (length: number) => Uint8Array, now: number) {
    this.#randomBytes = randomBytes;
    this.#start = now;
    const [a, b, c, d] = randomBytes(4);
    this.#firstNonce = (a << 24 | b << 16 | c << 8 | d) >>> 0;
    this.#secret = randomBytes(SECRET_LENGTH);
  }

  /** 32 bits that nobody else knows, for hash tables; always the same ones before anything is issued. */
  seed(): number {
    return get32(hmac(sha256, this.#secret, Uint8Array.of(SEED_LABEL >> 8, SEED_LABEL & 0xff)), 0);
  }

  /** Responder Nonce and validator for an R1. */
  issueR1(subject: R1Subject, now: number): { responderNonce: number; validator: Uint8Array } {
    this.#advance(now);
    const responderNonce = this.#nonceOf(this.#step);
    return { responderNonce, validator: r1Validator(this.#secret, responderNonce, subject) };
  }

  /** Responder Nonce and validator for an R1bis. */
  issueR1bis(subject: R1bisSubject, now: number): { responderNonce: number; validator: Uint8Array } {
    this.#advance(now);
    const responderNonce = this.#nonceOf(this.#step);
    return { responderNonce, validator: r1bisValidator(this.#secret, responderNonce, subject) };
  }

  /** Whether an I2 brings back what an R1 of ours carried, less than a minute ago. */
  acceptsI2(subject: R1Subject, responderNonce: number, validator: Uint8Array, now: number): boolean {
    const secret = this.#secretFor(responderNonce, validator, now);
    return secret !== undefined && sameOctets(r1Validator(secret, responderNonce, subject), validator);
  }

  /** Whether an I2bis brings back what an R1bis of ours carried, less than a minute ago. */
  acceptsI2bis(subject: R1bisSubject, responderNonce: number, validator: Uint8Array, now: number): boolean {
    const secret = this.#secretFor(responderNonce, validator, now);
    return secret !== undefined && sameOctets(r1bisValidator(secret, responderNonce, subject), validator);
  }

  /** Whether a Responder Nonce is young enough to be looked at any further. */
  isRecent(responderNonce: number, now: number): boolean {
    this.#advance(now);
    const age = (this.#nonceOf(this.#step) - responderNonce) >>> 0;
    return age <= 1 && age <= this.#step;
  }

  /** Cheap checks before any hashing. The nonces of this step and of the one before are good for 30 to 60 s. */
  #secretFor(responderNonce: number, validator: Uint8Array, now: number): Uint8Array | undefined {
    if (validator.length !== VALIDATOR_LENGTH || !this.isRecent(responderNonce, now)) return undefined;
    const age = (this.#nonceOf(this.#step) - responderNonce) >>> 0;
    return blockOf(this.#step - age) === blockOf(this.#step) ? this.#secret : this.#previousSecret;
  }

  #advance(now: number): void {
    const step = Math.floor((now - this.#start) / VALIDATOR_MIN_LIFETIME);
    if (step <= this.#step) return;
    if (blockOf(step) !== blockOf(this.#step)) {
      this.#previousSecret = this.#secret;
      this.#secret = this.#randomBytes(SECRET_LENGTH);
    }
    this.#step = step;
  }

  #nonceOf(step: number): number {
    return (this.#firstNonce + step) >>> 0;
  }
}

function blockOf(step: number): number {
  return Math.floor(step / STEPS_PER_SECRET);
}

/** Compares in a time that does not depend on where the octets differ. */
function sameOctets(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i] ^ b[i];
  return difference === 0;
}
