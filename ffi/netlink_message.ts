/**
 * Netlink messages as octets: a builder for requests and a bounded reader for replies (RFC 3549, linux/netlink.h).
 * No system calls here. Netlink speaks host byte order; every machine Deno runs on is little-endian.
 */

import { stableBytes } from "./memory.ts";

/** `struct nlmsghdr`. */
export const NLMSG_HEADER = 16;
/** `struct nlattr`. */
const ATTRIBUTE_HEADER = 4;
/** NLA_TYPE_MASK: without the flags "nested" and "network byte order". */
const TYPE_MASK = 0x3fff;
const NESTED = 0x8000;

/** Rounds up to the alignment of messages and attributes. */
function align(length: number): number {
  return (length + 3) & ~3;
}

/** A request that does not fit its buffer: a programming error, no request of ours comes near it. */
export class NetlinkRequestTooLong extends RangeError {
  /** `NetlinkRequestTooLong` */
  override name = "NetlinkRequestTooLong";
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Writes one or more messages into one buffer, to be sent with one system call. */
export class MessageBuilder {
  readonly #octets: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  #start = 0;
  #length = 0;

  /** `capacity` in octets. */
  constructor(capacity = 8192) {
    this.#octets = stableBytes(capacity);
    this.#view = new DataView(this.#octets.buffer);
  }

  /** The buffer; the first {@linkcode length} octets are valid. */
  get octets(): Uint8Array<ArrayBuffer> {
    return this.#octets;
  }

  /** Octets written so far. */
  get length(): number {
    return this.#length;
  }

  /** Forgets all messages. */
  clear(): void {
    this.#start = this.#length = 0;
  }

  /** Starts a message of the given type. */
  begin(type: number, flags: number, sequence: number): this {
    this.#start = this.#length;
    this.#reserve(NLMSG_HEADER);
    this.#view.setUint32(this.#start, NLMSG_HEADER, true);
    this.#view.setUint16(this.#start + 4, type, true);
    this.#view.setUint16(this.#start + 6, flags, true);
    this.#view.setUint32(this.#start + 8, sequence, true);
    return this;
  }

  /** Appends one octet of the fixed part. */
  u8(...values: number[]): this {
    for (const value of values) this.#octets[this.#reserve(1)] = value;
    this.#settle();
    return this;
  }

  /** Appends 32-bit words of the fixed part. */
  u32(...values: number[]): this {
    for (const value of values) this.#view.setUint32(this.#reserve(4), value, true);
    this.#settle();
    return this;
  }

  /** Appends an attribute with the given octets. */
  attribute(type: number, value: Uint8Array): this {
    const at = this.#reserve(ATTRIBUTE_HEADER + align(value.length));
    this.#view.setUint16(at, ATTRIBUTE_HEADER + value.length, true);
    this.#view.setUint16(at + 2, type, true);
    this.#octets.set(value, at + ATTRIBUTE_HEADER);
    this.#settle();
    return this;
  }

  /** Appends an attribute with a 32-bit number. */
  attributeU32(type: number, value: number): this {
    const at = this.#reserve(ATTRIBUTE_HEADER + 4);
    this.#view.setUint16(at, ATTRIBUTE_HEADER + 4, true);
    this.#view.setUint16(at + 2, type, true);
    this.#view.setUint32(at + ATTRIBUTE_HEADER, value, true);
    this.#settle();
    return this;
  }

  /** Appends an attribute with one octet. */
  attributeU8(type: number, value: number): this {
    return this.attribute(type, Uint8Array.of(value));
  }

  /** Appends an attribute with a NUL-terminated string. */
  attributeText(type: number, value: string): this {
    return this.attribute(type, encoder.encode(value + "\0"));
  }

  /** Appends an attribute that contains what `fill` appends. */
  nest(type: number, fill: () => void): this {
    const at = this.#reserve(ATTRIBUTE_HEADER);
    this.#view.setUint16(at + 2, type | NESTED, true);
    fill();
    this.#view.setUint16(at, this.#length - at, true);
    this.#settle();
    return this;
  }

  /** Zeroed room at the end; returns where it starts. The buffer is used again and again, so zeroing is needed. */
  #reserve(octets: number): number {
    const at = this.#length;
    if (at + octets > this.#octets.length) {
      throw new NetlinkRequestTooLong(`netlink request longer than ${this.#octets.length} octets`);
    }
    this.#octets.fill(0, at, at + octets);
    this.#length = at + octets;
    return at;
  }

  #settle(): void {
    this.#view.setUint32(this.#start, this.#length - this.#start, true);
  }
}

/** One message of a received buffer. The body is a view into that buffer. */
export interface NetlinkMessage {
  /** `nlmsg_type` */
  readonly type: number;
  /** `nlmsg_flags` */
  readonly flags: number;
  /** `nlmsg_seq`: that of the request it answers. */
  readonly sequence: number;
  /** What follows the header. */
  readonly body: Uint8Array;
}

/**
 * The messages in the first `length` octets of `octets`. Ends at the first one whose length field contradicts the
 * buffer; nothing outside is read.
 */
export function* readMessages(octets: Uint8Array, length = octets.length): Generator<NetlinkMessage> {
  const end = Math.min(length, octets.length);
  const view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
  let at = 0;
  while (end - at >= NLMSG_HEADER) {
    const size = view.getUint32(at, true);
    if (size < NLMSG_HEADER || size > end - at) return;
    yield {
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      body: octets.subarray(at + NLMSG_HEADER, at + size),
    };
    at += align(size);
  }
}

/**
 * The attributes of a message, by type; a type that occurs twice keeps the last one, as in the kernel. A value of the
 * wrong size reads as absent.
 */
export class Attributes {
  readonly #values = new Map<number, Uint8Array>();

  /**
   * Reads the attributes in `octets` from `offset` on. Ends at the first one whose length field contradicts the buffer;
   * nothing outside is read.
   */
  constructor(octets: Uint8Array, offset = 0) {
    const view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
    let at = offset;
    while (octets.length - at >= ATTRIBUTE_HEADER) {
      const size = view.getUint16(at, true);
      if (size < ATTRIBUTE_HEADER || size > octets.length - at) return;
      this.#values.set(view.getUint16(at + 2, true) & TYPE_MASK, octets.subarray(at + ATTRIBUTE_HEADER, at + size));
      at += align(size);
    }
  }

  /** How many types are present. */
  get size(): number {
    return this.#values.size;
  }

  /** The types that are present. */
  types(): IterableIterator<number> {
    return this.#values.keys();
  }

  /** The value's octets, a view into the message. */
  octets(type: number): Uint8Array | undefined {
    return this.#values.get(type);
  }

  /** The value's octets when there are exactly `length` of them. */
  exactly(type: number, length: number): Uint8Array | undefined {
    const value = this.#values.get(type);
    return value?.length === length ? value : undefined;
  }

  /** A 32-bit number. */
  u32(type: number): number | undefined {
    const value = this.exactly(type, 4);
    return value === undefined ? undefined : readU32(value, 0);
  }

  /** A string without its final NUL. */
  text(type: number): string | undefined {
    const value = this.#values.get(type);
    if (value === undefined) return undefined;
    const nul = value.indexOf(0);
    return decoder.decode(nul < 0 ? value : value.subarray(0, nul));
  }

  /** The attributes inside an attribute; empty when it is absent. */
  nested(type: number): Attributes {
    return new Attributes(this.#values.get(type) ?? NOTHING);
  }
}

const NOTHING = new Uint8Array(0);

/** The 32-bit number at `offset`, which lies inside `octets`. */
export function readU32(octets: Uint8Array, offset: number): number {
  return (octets[offset] | octets[offset + 1] << 8 | octets[offset + 2] << 16 | octets[offset + 3] << 24) >>> 0;
}
