/** The example packets in `tests/fixtures/vectors.json`, and what they say as messages. */

import vectorFile from "../fixtures/vectors.json" with { type: "json" };
import { type LocatorPreferences, type Message, MessageType, type ReapState, type Report } from "../../wire/message.ts";
import type { Options } from "../../wire/options.ts";

interface OptionFields {
  readonly name: string;
  readonly type: number;
  readonly critical: number;
  readonly [field: string]: unknown;
}

/** The fields of a vector's Shim6 header as the file names them. */
export interface Decoded {
  readonly P: number;
  readonly type?: number;
  readonly nextHeader: number;
  readonly state?: number;
  readonly errorCode?: number;
  readonly pointer?: number;
  readonly packetInError?: string;
  readonly options?: readonly OptionFields[];
  readonly sent?: readonly Record<keyof Report, string>[];
  readonly received?: readonly Record<keyof Report, string>[];
  readonly [field: string]: unknown;
}

/** One example packet. */
export interface Vector {
  readonly name: string;
  readonly valid: boolean;
  readonly expect?: string;
  readonly hex: string;
  readonly ipv6: { readonly source: string; readonly destination: string; readonly shim6Offset: number };
  readonly decoded: Decoded;
  readonly explain?: { readonly beforeShim?: string };
}

/** All example packets. */
export const vectors: readonly Vector[] = vectorFile.vectors as unknown as Vector[];

/** The example packet of that name. */
export function vector(name: string): Vector {
  const found = vectors.find((v) => v.name === name);
  if (found === undefined) throw new Error(`no vector ${name}`);
  return found;
}

/** Octets from hexadecimal text. */
export function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(hex);
}

/** The octets of a vector's packet. */
export function packetOf(v: Vector): Uint8Array<ArrayBuffer> {
  return fromHex(v.hex);
}

/** The message that a vector's fields describe, built without the codec. */
export function messageOf(v: Vector): Message {
  const d = v.decoded;
  const number = (field: string) => Number(d[field] as string);
  const options = optionsOf(d.options ?? []);
  const validator = options.validator ?? new Uint8Array();
  switch (d.type) {
    case MessageType.I1:
      return {
        type: d.type,
        initiatorTag: number("initiatorContextTag"),
        initiatorNonce: number("initiatorNonce"),
        ...options,
      };
    case MessageType.R1:
      return {
        type: d.type,
        initiatorNonce: number("initiatorNonce"),
        responderNonce: number("responderNonce"),
        ...options,
        validator,
      };
    case MessageType.I2:
      return {
        type: d.type,
        initiatorTag: number("initiatorContextTag"),
        initiatorNonce: number("initiatorNonce"),
        responderNonce: number("responderNonce"),
        ...options,
        validator,
      };
    case MessageType.R2:
      return {
        type: d.type,
        responderTag: number("responderContextTag"),
        initiatorNonce: number("initiatorNonce"),
        ...options,
      };
    case MessageType.R1bis:
      return {
        type: d.type,
        packetTag: number("packetContextTag"),
        responderNonce: number("responderNonce"),
        ...options,
        validator,
      };
    case MessageType.I2bis:
      return {
        type: d.type,
        initiatorTag: number("initiatorContextTag"),
        initiatorNonce: number("initiatorNonce"),
        responderNonce: number("responderNonce"),
        packetTag: number("packetContextTag"),
        ...options,
        validator,
      };
    case MessageType.UpdateRequest:
    case MessageType.UpdateAcknowledgement:
      return {
        type: d.type,
        receiverTag: number("receiverContextTag"),
        requestNonce: number("requestNonce"),
        ...options,
      };
    case MessageType.Keepalive:
      return { type: d.type, receiverTag: number("receiverContextTag"), ...options };
    case MessageType.Probe:
      return {
        type: d.type,
        receiverTag: number("receiverContextTag"),
        state: d.state as ReapState,
        sent: d.sent!.map(reportOf),
        received: d.received!.map(reportOf),
        ...options,
      };
    case MessageType.Error:
      return { type: d.type, code: d.errorCode!, pointer: d.pointer!, packetInError: fromHex(d.packetInError!) };
    default:
      throw new Error(`vector ${v.name} holds no known message`);
  }
}

function reportOf(fields: Record<keyof Report, string>): Report {
  return {
    source: fields.source,
    destination: fields.destination,
    nonce: Number(fields.nonce),
    data: Number(fields.data),
  };
}

function optionsOf(list: readonly OptionFields[]): Options {
  let options: Options = {};
  for (const o of list) {
    switch (o.name) {
      case "ResponderValidator":
        options = { ...options, validator: fromHex(o.validator as string) };
        break;
      case "LocatorList": {
        const methods = o.verificationMethods as number[];
        const locators = (o.locators as string[]).map((address, i) => ({ address, method: methods[i] }));
        options = { ...options, locators: { generation: Number(o.generation), locators } };
        break;
      }
      case "LocatorPreferences": {
        const preferences: LocatorPreferences = {
          generation: Number(o.generation),
          elementLength: o.elementLen as number,
          elements: o.elements as number[][],
        };
        options = { ...options, preferences };
        break;
      }
      case "CgaParameterDataStructure":
        options = { ...options, pds: fromHex(o.pds as string) };
        break;
      case "CgaSignature":
        options = { ...options, signature: fromHex(o.signature as string) };
        break;
      case "UlidPair":
        options = {
          ...options,
          ulidPair: { sender: o.senderUlid as string, receiver: o.receiverUlid as string },
        };
        break;
      case "ForkedInstanceIdentifier":
        options = { ...options, fii: Number(o.fii) };
        break;
      case "KeepaliveTimeout":
        options = { ...options, keepaliveTimeout: o.seconds as number };
        break;
      default:
        options = {
          ...options,
          unknownOptions: [...options.unknownOptions ?? [], { type: o.type, contents: fromHex(o.contents as string) }],
        };
    }
  }
  return options;
}
