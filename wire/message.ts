/** The values that Shim6 (RFC 5533 §5) and REAP (RFC 5534 §5) control messages carry, free of their encoding. */

import type { Address } from "./address.ts";

/** IP protocol number of Shim6 (RFC 5533 §17). */
export const SHIM6_PROTOCOL = 140;

/** A context tag, 47 bits (RFC 5533 §5): exact in a double. */
export type ContextTag = number;

/** Message type octets (RFC 5533 §5.3, §17). Types 64 and up name a context by its tag. */
export const MessageType = {
  I1: 1,
  R1: 2,
  I2: 3,
  R2: 4,
  R1bis: 5,
  I2bis: 6,
  UpdateRequest: 64,
  UpdateAcknowledgement: 65,
  Keepalive: 66,
  Probe: 67,
  Error: 68,
} as const;

/** How a locator is bound to the ULID (RFC 5533 §5.15.2; the other reading in §17 is an error in the RFC). */
export const VerificationMethod = { HBA: 1, CGA: 2 } as const;

/** Flags of a Locator Preferences element (RFC 5533 §5.15.3). */
export const PreferenceFlag = { BROKEN: 0x01, TRANSIENT: 0x02 } as const;

/** Locator List option (RFC 5533 §5.15.2): all locators of the sender, in the order that preferences refer to. */
export interface LocatorList {
  /** 32 bits, chosen anew for each list; preferences name the list by it. */
  readonly generation: number;
  /** The verification method binds each to the ULID, {@linkcode VerificationMethod}. */
  readonly locators: readonly { readonly address: Address; readonly method: number }[];
}

/** Locator Preferences option (RFC 5533 §5.15.3): one element for each locator of the list `generation`. */
export interface LocatorPreferences {
  /** Of the locator list that the elements refer to. */
  readonly generation: number;
  /** Octets per element on the wire, at least 1. */
  readonly elementLength: number;
  /** The octets of each element: flags, priority, weight, as far as present. */
  readonly elements: readonly (readonly number[])[];
}

/** ULID Pair option (RFC 5533 §5.15.6). */
export interface UlidPair {
  /** The message sender's ULID. */
  readonly sender: Address;
  /** The message receiver's ULID. */
  readonly receiver: Address;
}

/** An option that RFC 5533 and 5534 do not define and that is not critical: passed over, but kept for who knows it. */
export interface UnknownOption {
  /** 15 bits. */
  readonly type: number;
  /** Without header and padding. */
  readonly contents: Uint8Array;
}

/** Any message with options. */
export interface WithUnknown {
  /** Left out when there are none. */
  readonly unknownOptions?: readonly UnknownOption[];
}

/** The options that describe a sender's locators; in I2, R2, I2bis and Update Request. */
export interface LocatorOptions {
  /** Replaces any earlier list. */
  readonly locators?: LocatorList;
  /** Replaces any earlier preferences. */
  readonly preferences?: LocatorPreferences;
  /** CGA Parameter Data Structure, opaque here (RFC 3972 §3). */
  readonly pds?: Uint8Array;
  /** CGA Signature, opaque here (RFC 5533 §5.15.5). */
  readonly signature?: Uint8Array;
  /** Keepalive Timeout option in seconds (RFC 5534 §5.3). */
  readonly keepaliveTimeout?: number;
}

/** I1 (RFC 5533 §5.4). */
export interface I1 extends WithUnknown {
  /** Tells the messages apart. */
  readonly type: typeof MessageType.I1;
  /** What packets to the initiator shall carry. */
  readonly initiatorTag: ContextTag;
  /** 32 random bits. */
  readonly initiatorNonce: number;
  /** When the ULIDs are not the addresses of the packet. */
  readonly ulidPair?: UlidPair;
  /** Forked Instance Identifier, 32 bits; left out for the default context, 0. */
  readonly fii?: number;
}

/** R1 (RFC 5533 §5.5). */
export interface R1 extends WithUnknown {
  /** Tells the messages apart. */
  readonly type: typeof MessageType.R1;
  /** Copied from the I1. */
  readonly initiatorNonce: number;
  /** 32 bits, tells the responder how old its validator is. */
  readonly responderNonce: number;
  /** Opaque to all but the responder. */
  readonly validator: Uint8Array;
}

/** I2 (RFC 5533 §5.6). */
export interface I2 extends LocatorOptions, WithUnknown {
  /** Tells the messages apart. */
  readonly type: typeof MessageType.I2;
  /** What packets to the initiator shall carry. */
  readonly initiatorTag: ContextTag;
  /** 32 random bits; need not be that of the I1. */
  readonly initiatorNonce: number;
  /** Copied from the R1. */
  readonly responderNonce: number;
  /** Copied from the R1. */
  readonly validator: Uint8Array;
  /** When the ULIDs are not the addresses of the packet. */
  readonly ulidPair?: UlidPair;
  /** Forked Instance Identifier, 32 bits; left out for the default context, 0. */
  readonly fii?: number;
}

/** R2 (RFC 5533 §5.7). */
export interface R2 extends LocatorOptions, WithUnknown {
  /** Tells the messages apart. */
  readonly type: typeof MessageType.R2;
  /** What packets to the responder shall carry. */
  readonly responderTag: ContextTag;
  /** Copied from the message that is answered. */
  readonly initiatorNonce: number;
}

/** R1bis (RFC 5533 §5.8). */
export interface R1bis extends WithUnknown {
  /** Tells the messages apart. */
  readonly type: typeof MessageType.R1bis;
  /** The tag that the sender of this message does not know. */
  readonly packetTag: ContextTag;
  /** 32 bits, tells the responder how old its validator is. */
  readonly responderNonce: number;
  /** Opaque to all but the responder. */
  readonly validator: Uint8Array;
}

/** I2bis (RFC 5533 §5.9). */
export interface I2bis extends LocatorOptions, WithUnknown {
  /** Tells the messages apart. */
  readonly type: typeof MessageType.I2bis;
  /** What packets to the initiator shall carry. */
  readonly initiatorTag: ContextTag;
  /** 32 random bits. */
  readonly initiatorNonce: number;
  /** Copied from the R1bis. */
  readonly responderNonce: number;
  /** Copied from the R1bis. */
  readonly packetTag: ContextTag;
  /** Copied from the R1bis. */
  readonly validator: Uint8Array;
  /** When the ULIDs are not the addresses of the packet. */
  readonly ulidPair?: UlidPair;
  /** Forked Instance Identifier, 32 bits; left out for the default context, 0. */
  readonly fii?: number;
}

/** Update Request (RFC 5533 §5.10). */
export interface UpdateRequest extends LocatorOptions, WithUnknown {
  /** Tells the messages apart. */
  readonly type: typeof MessageType.UpdateRequest;
  /** The receiver's tag. */
  readonly receiverTag: ContextTag;
  /** 32 random bits, the same in retransmissions. */
  readonly requestNonce: number;
}

/** Update Acknowledgement (RFC 5533 §5.11). */
export interface UpdateAcknowledgement extends WithUnknown {
  /** Tells the messages apart. */
  readonly type: typeof MessageType.UpdateAcknowledgement;
  /** The receiver's tag. */
  readonly receiverTag: ContextTag;
  /** Copied from the request. */
  readonly requestNonce: number;
}

/** Keepalive (RFC 5534 §5.1). */
export interface Keepalive extends WithUnknown {
  /** Tells the messages apart. */
  readonly type: typeof MessageType.Keepalive;
  /** The receiver's tag. */
  readonly receiverTag: ContextTag;
}

/** REAP state as a Probe carries it (RFC 5534 §5.2). */
export const ReapState = { Operational: 0, Exploring: 1, InboundOk: 2 } as const;
/** One of {@linkcode ReapState}. */
export type ReapState = typeof ReapState[keyof typeof ReapState];

/** What a Probe says of a probe that was sent or received (RFC 5534 §5.2). */
export interface Report {
  /** Source address of the probe. */
  readonly source: Address;
  /** Destination address of the probe. */
  readonly destination: Address;
  /** 32 bits, hard to guess. */
  readonly nonce: number;
  /** 32 bits, returned unchanged. */
  readonly data: number;
}

/** The largest number of reports of each kind in one Probe (4-bit counters, RFC 5534 §5.2). */
export const MAX_REPORTS = 15;

/** Probe (RFC 5534 §5.2). `sent[0]` describes this very packet. */
export interface Probe extends WithUnknown {
  /** Tells the messages apart. */
  readonly type: typeof MessageType.Probe;
  /** The receiver's tag. */
  readonly receiverTag: ContextTag;
  /** The sender's state after sending (RFC 5534 §6.1). */
  readonly state: ReapState;
  /** 1 to 15 reports of probes that the sender of this one sent. */
  readonly sent: readonly Report[];
  /** 0 to 15 reports of probes that it received. */
  readonly received: readonly Report[];
}

/** Error codes (RFC 5533 §5.14, §17). */
export const ErrorCode = {
  UnknownMessageType: 0,
  CriticalOptionNotRecognized: 1,
  VerificationFailed: 2,
  GenerationOutOfSync: 3,
  WrongPreferenceCount: 4,
} as const;

/** Error (RFC 5533 §5.14). */
export interface ErrorMessage {
  /** Tells the messages apart. */
  readonly type: typeof MessageType.Error;
  /** 7 bits, {@linkcode ErrorCode}. */
  readonly code: number;
  /** Octet offset in the packet in error, counted from its IPv6 header. */
  readonly pointer: number;
  /** The packet in error from its IPv6 header on, cut so that the Error fits into 1280 octets. */
  readonly packetInError: Uint8Array;
}

/** Any control message. */
export type Message =
  | I1
  | R1
  | I2
  | R2
  | R1bis
  | I2bis
  | UpdateRequest
  | UpdateAcknowledgement
  | Keepalive
  | Probe
  | ErrorMessage;

/** A control message with the addresses of the packet that carried it. */
export interface ControlPacket {
  /** Source address of the IPv6 header. */
  readonly source: Address;
  /** Destination address of the IPv6 header. */
  readonly destination: Address;
  /** What the packet says. */
  readonly message: Message;
}

/** Why a packet was dropped; the key of a counter (RFC 5533 §12.3 and the minimum lengths of each message). */
export type DropReason =
  | "not-ipv6"
  | "not-shim6"
  | "truncated"
  | "hip" // S bit set
  | "header-past-packet"
  | "bad-checksum"
  | "bad-address" // multicast or unspecified
  | "payload-header" // P=1 where a control message was expected
  | "too-short"
  | "missing-validator"
  | "option-past-message"
  | "bad-option-length"
  | "repeated-option"
  | "reports-past-message"
  | "bad-probe-state"
  | "no-sent-report";

/** What {@linkcode parseControlPacket} (in `codec.ts`) makes of a packet. */
export type ParseResult =
  | { readonly ok: true; readonly packet: ControlPacket }
  /** Drop silently, count by reason. */
  | { readonly ok: false; readonly drop: DropReason }
  /** Drop and answer with an Error message (rate-limited): unknown type or unknown critical option. */
  | {
    readonly ok: false;
    readonly error: { readonly code: number; readonly pointer: number };
    readonly source: Address;
    readonly destination: Address;
  };
