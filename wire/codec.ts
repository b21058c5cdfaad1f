/**
 * Control messages of Shim6 (RFC 5533 §5) and REAP (RFC 5534 §5): octets to values and back. What cannot be parsed is
 * a value too, with the reason; nothing that arrives makes these functions throw.
 */

import { type Address, formatAddress, isMulticast, parseAddress, UNSPECIFIED, writeAddress } from "./address.ts";
import { shim6Checksum, shim6ChecksumGood } from "./checksum.ts";
import {
  findShim6Header,
  IPV6_HEADER_LENGTH,
  IPV6_MIN_MTU,
  Ipv6Offset,
  ipv6PacketEnd,
  NextHeader,
  writeIpv6Header,
} from "./ipv6.ts";
import {
  type ContextTag,
  type DropReason,
  ErrorCode,
  type ErrorMessage,
  MAX_REPORTS,
  type Message,
  MessageType,
  type ParseResult,
  ReapState,
  type Report,
  SHIM6_PROTOCOL,
} from "./message.ts";
import { get16, get32, getTag, put16, put32, putTag } from "./octets.ts";
import {
  type CriticalOption,
  findOption,
  type OptionSet,
  optionSet,
  optionsLength,
  OptionType,
  parseOptions,
  UnencodableMessage,
  writeOptions,
} from "./options.ts";

export { UnencodableMessage };

/** The largest control message, from the Shim6 header on: 1280 less a bare IPv6 header (RFC 5533 §5.1). */
export const MAX_MESSAGE_LENGTH = IPV6_MIN_MTU - IPV6_HEADER_LENGTH;

/** The most that an Error quotes of the packet in error (RFC 5533 §5.14). */
export const MAX_QUOTE_LENGTH = MAX_MESSAGE_LENGTH - 8;

/** Hop limit of control packets, the default of hosts (RFC 1700). */
export const DEFAULT_HOP_LIMIT = 64;

const REPORT_LENGTH = 40;
const PROBE_FIXED_LENGTH = 16;
const ERROR_FIXED_LENGTH = 8;

const LOCATOR_OPTIONS = optionSet(
  OptionType.LocatorList,
  OptionType.LocatorPreferences,
  OptionType.CgaParameterDataStructure,
  OptionType.CgaSignature,
  OptionType.KeepaliveTimeout,
);
const CONTEXT_OPTIONS = optionSet(OptionType.UlidPair, OptionType.ForkedInstanceIdentifier);
const VALIDATOR_OPTION = optionSet(OptionType.ResponderValidator);

/** What each message type has before its options, and which options are defined for it (RFC 5533 §5, RFC 5534 §5). */
const LAYOUTS: ReadonlyMap<number, { readonly fixedLength: number; readonly options: OptionSet }> = new Map([
  [MessageType.I1, { fixedLength: 16, options: CONTEXT_OPTIONS }],
  [MessageType.R1, { fixedLength: 16, options: VALIDATOR_OPTION }],
  [MessageType.I2, { fixedLength: 24, options: VALIDATOR_OPTION | CONTEXT_OPTIONS | LOCATOR_OPTIONS }],
  [MessageType.R2, { fixedLength: 16, options: LOCATOR_OPTIONS }],
  [MessageType.R1bis, { fixedLength: 16, options: VALIDATOR_OPTION }],
  [MessageType.I2bis, { fixedLength: 32, options: VALIDATOR_OPTION | CONTEXT_OPTIONS | LOCATOR_OPTIONS }],
  [MessageType.UpdateRequest, { fixedLength: 16, options: LOCATOR_OPTIONS }],
  [MessageType.UpdateAcknowledgement, { fixedLength: 16, options: 0 }],
  [MessageType.Keepalive, { fixedLength: 16, options: 0 }],
  [MessageType.Probe, { fixedLength: PROBE_FIXED_LENGTH, options: 0 }],
  // Eight octets are fixed, but Hdr Ext Len is at least 1: an Error quotes something (RFC 5533 §5.14).
  [MessageType.Error, { fixedLength: 16, options: 0 }],
]);

/** Parses a whole IPv6 packet; Shim6 is this protocol number. The result keeps no reference to `packet`. */
export function parseControlPacket(packet: Uint8Array, protocol = SHIM6_PROTOCOL): ParseResult {
  const end = ipv6PacketEnd(packet, 0);
  if (typeof end === "string") return drop(end);
  const start = findShim6Header(packet, 0, end, protocol);
  if (typeof start === "string") return drop(start);
  const source = formatAddress(packet, Ipv6Offset.Source);
  const destination = formatAddress(packet, Ipv6Offset.Destination);
  return parseAt(packet, start, end, start, source, destination);
}

/**
 * Parses what a raw socket delivers: octets from the Shim6 header on. Pointers of errors count from the IPv6 header all
 * the same, and take it to be bare. The result keeps no reference to `octets`.
 */
export function parseControlMessage(octets: Uint8Array, source: Address, destination: Address): ParseResult {
  return parseAt(octets, 0, octets.length, IPV6_HEADER_LENGTH, source, destination);
}

/** The checks of RFC 5533 §12.3, then the message. `headerOffset` is where the packet has its Shim6 header. */
function parseAt(
  octets: Uint8Array,
  start: number,
  limit: number,
  headerOffset: number,
  source: Address,
  destination: Address,
): ParseResult {
  if (start + 8 > limit) return drop("truncated");
  if ((octets[start + 2] & 0x80) !== 0) return drop("payload-header");
  const end = start + (octets[start + 1] + 1) * 8;
  if (end > limit) return drop("header-past-packet");
  if ((octets[start + 3] & 1) !== 0) return drop("hip");
  if (!shim6ChecksumGood(octets, start, end)) return drop("bad-checksum");
  if (!isUnicast(source) || !isUnicast(destination)) return drop("bad-address");
  const layout = LAYOUTS.get(octets[start + 2]);
  if (layout === undefined) {
    return { ok: false, error: { code: ErrorCode.UnknownMessageType, pointer: headerOffset + 2 }, source, destination };
  }
  if (end - start < layout.fixedLength) return drop("too-short");
  const message = parseMessage(octets, start, end, layout.fixedLength, layout.options);
  if (typeof message === "string") return drop(message);
  if ("criticalOption" in message) {
    const pointer = headerOffset + message.criticalOption - start;
    return { ok: false, error: { code: ErrorCode.CriticalOptionNotRecognized, pointer }, source, destination };
  }
  return { ok: true, packet: { source, destination, message } };
}

function parseMessage(
  octets: Uint8Array,
  start: number,
  end: number,
  fixedLength: number,
  defined: OptionSet,
): Message | DropReason | CriticalOption {
  const type = octets[start + 2];
  if (type === MessageType.Error) return parseError(octets, start, end);
  if (type === MessageType.Probe) return parseProbe(octets, start, end);
  const options = parseOptions(octets, start + fixedLength, end, defined);
  if (typeof options === "string" || "criticalOption" in options) return options;
  const { validator } = options;
  switch (type) {
    case MessageType.I1:
      return { type, initiatorTag: getTag(octets, start + 6), initiatorNonce: get32(octets, start + 12), ...options };
    case MessageType.R1:
      if (validator === undefined) return "missing-validator";
      return {
        type,
        initiatorNonce: get32(octets, start + 8),
        responderNonce: get32(octets, start + 12),
        ...options,
        validator,
      };
    case MessageType.I2:
      if (validator === undefined) return "missing-validator";
      return {
        type,
        initiatorTag: getTag(octets, start + 6),
        initiatorNonce: get32(octets, start + 12),
        responderNonce: get32(octets, start + 16),
        ...options,
        validator,
      };
    case MessageType.R2:
      return { type, responderTag: getTag(octets, start + 6), initiatorNonce: get32(octets, start + 12), ...options };
    case MessageType.R1bis:
      if (validator === undefined) return "missing-validator";
      return {
        type,
        packetTag: getTag(octets, start + 6),
        responderNonce: get32(octets, start + 12),
        ...options,
        validator,
      };
    case MessageType.I2bis:
      if (validator === undefined) return "missing-validator";
      return {
        type,
        initiatorTag: getTag(octets, start + 6),
        initiatorNonce: get32(octets, start + 12),
        responderNonce: get32(octets, start + 16),
        packetTag: getTag(octets, start + 26),
        ...options,
        validator,
      };
    case MessageType.UpdateRequest:
    case MessageType.UpdateAcknowledgement:
      return { type, receiverTag: getTag(octets, start + 6), requestNonce: get32(octets, start + 12), ...options };
    case MessageType.Keepalive:
      return { type, receiverTag: getTag(octets, start + 6), ...options };
    default:
      throw new RangeError(`message type ${type} has no parser`);
  }
}

function parseProbe(octets: Uint8Array, start: number, end: number): Message | DropReason | CriticalOption {
  const sentCount = octets[start + 12] & 0x0f, receivedCount = octets[start + 12] >> 4;
  const state = reapState(octets[start + 13] >> 6);
  const received = start + PROBE_FIXED_LENGTH + sentCount * REPORT_LENGTH;
  const optionsStart = received + receivedCount * REPORT_LENGTH;
  if (sentCount === 0) return "no-sent-report";
  if (optionsStart > end) return "reports-past-message";
  if (state === undefined) return "bad-probe-state";
  const options = parseOptions(octets, optionsStart, end, 0);
  if (typeof options === "string" || "criticalOption" in options) return options;
  return {
    type: MessageType.Probe,
    receiverTag: getTag(octets, start + 6),
    state,
    sent: parseReports(octets, start + PROBE_FIXED_LENGTH, received),
    received: parseReports(octets, received, optionsStart),
    ...options,
  };
}

function reapState(bits: number): ReapState | undefined {
  switch (bits) {
    case ReapState.Operational:
    case ReapState.Exploring:
    case ReapState.InboundOk:
      return bits;
  }
}

function parseReports(octets: Uint8Array, start: number, end: number): Report[] {
  const reports: Report[] = [];
  for (let at = start; at < end; at += REPORT_LENGTH) {
    reports.push({
      source: formatAddress(octets, at),
      destination: formatAddress(octets, at + 16),
      nonce: get32(octets, at + 32),
      data: get32(octets, at + 36),
    });
  }
  return reports;
}

function parseError(octets: Uint8Array, start: number, end: number): ErrorMessage {
  return {
    type: MessageType.Error,
    code: octets[start + 3] >> 1,
    pointer: get16(octets, start + 6),
    packetInError: octets.slice(start + ERROR_FIXED_LENGTH, end),
  };
}

function drop(reason: DropReason): ParseResult {
  return { ok: false, drop: reason };
}

function isUnicast(address: Address): boolean {
  return address !== UNSPECIFIED && !isMulticast(address);
}

/** Octets of the message from the Shim6 header on; more than {@linkcode MAX_MESSAGE_LENGTH} must not be sent. */
export function messageLength(message: Message): number {
  switch (message.type) {
    case MessageType.Error:
      return Math.max(16, ERROR_FIXED_LENGTH + message.packetInError.length + 7 & ~7);
    case MessageType.Probe:
      return PROBE_FIXED_LENGTH + (message.sent.length + message.received.length) * REPORT_LENGTH +
        optionsLength(message);
    default:
      return fixedLength(message.type) + optionsLength(message);
  }
}

/**
 * Emits a message as a Shim6 header with its checksum. Numbers are cut to the width of their field. Throws
 * {@linkcode UnencodableMessage} when the message cannot be sent, {@linkcode InvalidAddress} for a bad address.
 */
export function emitMessage(message: Message): Uint8Array<ArrayBuffer> {
  const length = messageLength(message);
  if (length > MAX_MESSAGE_LENGTH) {
    throw new UnencodableMessage(`${length} octets, more than ${MAX_MESSAGE_LENGTH}`);
  }
  const octets = new Uint8Array(length);
  octets[0] = NextHeader.None;
  octets[1] = length / 8 - 1;
  octets[2] = message.type;
  switch (message.type) {
    case MessageType.I1:
      putTag(octets, 6, message.initiatorTag);
      put32(octets, 12, message.initiatorNonce);
      break;
    case MessageType.R1:
      put32(octets, 8, message.initiatorNonce);
      put32(octets, 12, message.responderNonce);
      break;
    case MessageType.I2:
      putTag(octets, 6, message.initiatorTag);
      put32(octets, 12, message.initiatorNonce);
      put32(octets, 16, message.responderNonce);
      break;
    case MessageType.R2:
      putTag(octets, 6, message.responderTag);
      put32(octets, 12, message.initiatorNonce);
      break;
    case MessageType.R1bis:
      putTag(octets, 6, message.packetTag);
      put32(octets, 12, message.responderNonce);
      break;
    case MessageType.I2bis:
      putTag(octets, 6, message.initiatorTag);
      put32(octets, 12, message.initiatorNonce);
      put32(octets, 16, message.responderNonce);
      putTag(octets, 26, message.packetTag);
      break;
    case MessageType.UpdateRequest:
    case MessageType.UpdateAcknowledgement:
      putTag(octets, 6, message.receiverTag);
      put32(octets, 12, message.requestNonce);
      break;
    case MessageType.Keepalive:
      putTag(octets, 6, message.receiverTag);
      break;
    case MessageType.Probe: {
      const sent = message.sent.length, received = message.received.length;
      if (sent < 1 || sent > MAX_REPORTS || received > MAX_REPORTS) {
        throw new UnencodableMessage(`${sent} sent and ${received} received reports`);
      }
      putTag(octets, 6, message.receiverTag);
      octets[12] = received << 4 | sent;
      octets[13] = message.state << 6;
      let at = PROBE_FIXED_LENGTH;
      for (const report of message.sent) at = writeReport(octets, at, report);
      for (const report of message.received) at = writeReport(octets, at, report);
      writeOptions(message, octets, at);
      break;
    }
    case MessageType.Error:
      octets[3] = message.code << 1;
      put16(octets, 6, message.pointer);
      octets.set(message.packetInError, ERROR_FIXED_LENGTH);
      break;
  }
  if (message.type !== MessageType.Error && message.type !== MessageType.Probe) {
    writeOptions(message, octets, fixedLength(message.type));
  }
  put16(octets, 4, shim6Checksum(octets, 0, length));
  return octets;
}

function fixedLength(type: number): number {
  const layout = LAYOUTS.get(type);
  if (layout === undefined) throw new UnencodableMessage(`type ${type} is not a message`);
  return layout.fixedLength;
}

function writeReport(into: Uint8Array, at: number, report: Report): number {
  writeAddress(report.source, into, at);
  writeAddress(report.destination, into, at + 16);
  put32(into, at + 32, report.nonce);
  put32(into, at + 36, report.data);
  return at + REPORT_LENGTH;
}

/** Wraps an emitted message into an IPv6 packet. Throws {@linkcode InvalidAddress}. */
export function controlPacket(
  source: Address,
  destination: Address,
  message: Uint8Array,
  protocol = SHIM6_PROTOCOL,
  hopLimit = DEFAULT_HOP_LIMIT,
): Uint8Array<ArrayBuffer> {
  const packet = new Uint8Array(IPV6_HEADER_LENGTH + message.length);
  writeIpv6Header(packet, 0, {
    source: parseAddress(source),
    destination: parseAddress(destination),
    payloadLength: message.length,
    nextHeader: protocol,
    hopLimit,
  });
  packet.set(message, IPV6_HEADER_LENGTH);
  return packet;
}

/** What an Error quotes of `invokingPacket`: from its IPv6 header on, as much as fits (RFC 5533 §5.14). A copy. */
export function errorPacketInError(invokingPacket: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(invokingPacket.subarray(0, MAX_QUOTE_LENGTH));
}

/** Which octet of which option an Error's Pointer names, counted from the option's type (RFC 5533 §7.2, §10.4). */
const OPTION_ERRORS: ReadonlyMap<number, { readonly option: number; readonly octet: number }> = new Map([
  [ErrorCode.VerificationFailed, { option: OptionType.LocatorList, octet: 9 }], // method of the first locator
  [ErrorCode.GenerationOutOfSync, { option: OptionType.LocatorPreferences, octet: 4 }], // generation number
  [ErrorCode.WrongPreferenceCount, { option: OptionType.LocatorPreferences, octet: 2 }], // length of the option
]);

/**
 * The Pointer of an Error about an option of a message that was parsed without fault. `octets` start with the Shim6
 * header, and the pointer takes the IPv6 header before it to be bare. `locatorIndex` says which locator's method failed
 * verification. Returns 0 when the message has no such option or the code is about none.
 */
export function optionErrorPointer(octets: Uint8Array, code: number, locatorIndex = 0): number {
  const place = OPTION_ERRORS.get(code);
  if (place === undefined) return 0;
  const at = findOption(octets, fixedLength(octets[2]), (octets[1] + 1) * 8, place.option);
  return at < 0 ? 0 : IPV6_HEADER_LENGTH + at + place.octet + locatorIndex;
}

/** What can be told of a quoted packet, which may be cut anywhere: in an Error or in an ICMPv6 error. */
export interface Quote {
  /** The message type, or `"payload"` for a payload extension header. */
  readonly type: number | "payload";
  /** The tag in the header; R1 and Error have none. Whose tag it is depends on the type. */
  readonly tag: ContextTag | undefined;
}

/** A {@linkcode Quote} with its addresses. */
export interface PacketQuote extends Quote {
  /** Source address of the quoted packet. */
  readonly source: Address;
  /** Destination address of the quoted packet. */
  readonly destination: Address;
}

/** Reads a quoted packet from its IPv6 header on (RFC 5533 §12.4). Undefined when it does not reach into Shim6. */
export function readQuotedPacket(packet: Uint8Array, protocol = SHIM6_PROTOCOL): PacketQuote | undefined {
  if (packet.length < IPV6_HEADER_LENGTH || packet[0] >> 4 !== 6) return undefined;
  const start = findShim6Header(packet, 0, packet.length, protocol);
  if (typeof start === "string") return undefined;
  const header = readQuotedHeader(packet.subarray(start));
  return header && {
    source: formatAddress(packet, Ipv6Offset.Source),
    destination: formatAddress(packet, Ipv6Offset.Destination),
    ...header,
  };
}

/** Reads a quoted packet from its Shim6 header on. Undefined when less than 8 octets are left of it. */
export function readQuotedHeader(octets: Uint8Array): Quote | undefined {
  if (octets.length < 8) return undefined;
  if ((octets[2] & 0x80) !== 0) return { type: "payload", tag: getTag(octets, 2) };
  const type = octets[2];
  const tagged = LAYOUTS.has(type) && type !== MessageType.R1 && type !== MessageType.Error && octets.length >= 12;
  return { type, tag: tagged ? getTag(octets, 6) : undefined };
}
