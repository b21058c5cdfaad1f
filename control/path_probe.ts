/**
 * What gets through between two hosts, pair by pair: Echo Requests, Shim6 control messages, payload with a Shim6 header,
 * and packets as large as the link. Nothing is needed of the peer but its agent, and no state is made there: an I1 draws
 * an R1 and payload of an unknown context an R1bis, both stateless answers (RFC 5533 §7.10, §7.17).
 */

import {
  closeFd,
  ControlReceiver,
  errnoName,
  openControlSocket,
  openEchoReplySocket,
  openSender,
  type Sender,
  type Shim6IcmpError,
} from "deno-tun";
import type { LocatorPair } from "../policies/policy.ts";
import { type Address, parseAddress } from "../wire/address.ts";
import { onesComplementSum, pseudoHeaderSum } from "../wire/checksum.ts";
import { controlPacket, DEFAULT_HOP_LIMIT, emitMessage, parseControlMessage } from "../wire/codec.ts";
import { IPV6_HEADER_LENGTH, IPV6_MIN_MTU, Ipv6Offset, NextHeader, writeIpv6Header } from "../wire/ipv6.ts";
import { MessageType, SHIM6_PROTOCOL } from "../wire/message.ts";
import { get16, put16 } from "../wire/octets.ts";
import { PAYLOAD_HEADER_LENGTH, writePayloadHeader } from "../wire/payload.ts";

/** What became of the packets of one kind. */
export type Passage =
  /** They arrive and are answered. */
  | "passes"
  /** Nothing came back. */
  | "lost"
  /** The peer's kernel answers that nobody there speaks Shim6. */
  | "no-agent"
  /** An ICMPv6 error says that the peer cannot be reached. */
  | "unreachable"
  /** This host could not send: `sendError` says why. */
  | "not-sent"
  /** It made no sense to try. */
  | "untested";

/** A local locator to probe from. */
export interface ProbeSource {
  readonly address: Address;
  readonly interfaceName: string;
  /** Of the interface, in octets. */
  readonly mtu: number;
}

/** What gets through on a pair. */
export interface PairPassage extends LocatorPair {
  readonly ping: Passage;
  readonly control: Passage;
  readonly payload: Passage;
  /** The largest packet, from its IPv6 header on, that was answered; null when that was not found out. */
  readonly mtu: number | null;
  /** Name of the errno with which this host refused to send. */
  readonly sendError: string | null;
}

type Kind = "ping" | "control" | "payload" | "mtu";

interface Attempt {
  readonly kind: Kind;
  readonly pair: LocatorPair;
  readonly source: ProbeSource;
  /** 47 random bits: what an answer or an error quotes. */
  readonly tag: number;
  readonly nonce: number;
  /** Echo sequence number. */
  readonly sequence: number;
  /** Octets of the packet, of kind `mtu`. */
  size: number;
  tries: number;
  outcome: Passage | undefined;
  sendError: string | undefined;
}

/** Agents answer strangers four times a second and no more; a round is a little longer than that second. */
const ANSWERS_PER_ROUND = 4, ROUND_MS = 1_050;
/** How often each kind is tried: two losses in a row may be bad luck. */
const TRIES = 3;
const POLL_MS = 5;
const ICMPV6 = 58, ECHO_REQUEST = 128;

/** Sends probes and understands what comes back. */
export class PathProber {
  readonly #senders = new Map<Address, Sender>();
  readonly #control: number;
  readonly #echo: number;
  readonly #receiver: ControlReceiver;
  readonly #echoReceiver: ControlReceiver;
  readonly #identifier = randomBits(16);
  readonly #protocol: number;
  #attempts: Attempt[] = [];

  /** `protocol`: next header of Shim6. Throws `SystemError`, EPERM without CAP_NET_RAW. */
  constructor(protocol = SHIM6_PROTOCOL) {
    this.#protocol = protocol;
    this.#control = openControlSocket(protocol);
    try {
      this.#echo = openEchoReplySocket();
    } catch (error) {
      closeFd(this.#control);
      throw error;
    }
    this.#receiver = new ControlReceiver(this.#control);
    this.#echoReceiver = new ControlReceiver(this.#echo);
  }

  /** Probes every pair of `sources` and `peers`. Takes a fraction of a second, and some seconds where much is lost. */
  async pairs(sources: readonly ProbeSource[], peers: readonly Address[]): Promise<PairPassage[]> {
    const pairs = sources.flatMap((source) => peers.map((peer) => ({ source, pair: { local: source.address, peer } })));
    const kinds = (wanted: readonly Kind[]) =>
      pairs.flatMap(({ source, pair }) => wanted.map((kind) => this.#attempt(kind, source, pair)));
    const small = kinds(["ping", "control", "payload"]);
    await this.#run(small);
    const of = (kind: Kind, { local, peer }: LocatorPair, among: readonly Attempt[]) =>
      among.find((attempt) => attempt.kind === kind && attempt.pair.local === local && attempt.pair.peer === peer)!;
    const large = kinds(["mtu"]).filter((attempt) => of("payload", attempt.pair, small).outcome === "passes");
    await this.#run(large);
    return pairs.map(({ pair }) => {
      const [ping, control, payload] = (["ping", "control", "payload"] as const).map((kind) => of(kind, pair, small));
      const mtu = of("mtu", pair, large);
      return {
        ...pair,
        ping: ping.outcome ?? "lost",
        control: control.outcome ?? "lost",
        payload: payload.outcome ?? "lost",
        mtu: mtu?.outcome === "passes" ? mtu.size : null,
        sendError: control.sendError ?? payload.sendError ?? ping.sendError ?? null,
      };
    });
  }

  /** Whether an address answers an Echo Request from `source`. */
  async ping(source: ProbeSource, destination: Address): Promise<Passage> {
    const attempt = this.#attempt("ping", source, { local: source.address, peer: destination });
    await this.#run([attempt]);
    return attempt.outcome ?? "lost";
  }

  /** Closes the sockets. */
  close(): void {
    for (const sender of this.#senders.values()) sender.close();
    closeFd(this.#control);
    closeFd(this.#echo);
  }

  #attempt(kind: Kind, source: ProbeSource, pair: LocatorPair): Attempt {
    return {
      kind,
      pair,
      source,
      tag: randomBits(47),
      nonce: randomBits(32),
      sequence: randomBits(16),
      size: kind === "mtu" ? source.mtu : IPV6_HEADER_LENGTH,
      tries: 0,
      outcome: undefined,
      sendError: undefined,
    };
  }

  /** Tries until everything has an outcome or was tried often enough. */
  async #run(attempts: readonly Attempt[]): Promise<void> {
    this.#attempts = [...attempts];
    const isOpen = (attempt: Attempt) => attempt.outcome === undefined && attempt.tries < TRIES;
    while (attempts.some(isOpen)) {
      const perSource = new Map<Address, number>();
      const round = attempts.filter(isOpen).sort((a, b) => a.tries - b.tries).filter(({ kind, pair }) => {
        if (kind === "ping") return true;
        const count = (perSource.get(pair.local) ?? 0) + 1;
        perSource.set(pair.local, count);
        return count <= ANSWERS_PER_ROUND;
      });
      for (const attempt of round) this.#send(attempt);
      const end = performance.now() + ROUND_MS;
      while (performance.now() < end) {
        this.#receive();
        // The last round may end early; another one has to wait until the peer answers again.
        if (attempts.every((attempt) => attempt.outcome !== undefined)) return;
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    }
  }

  #send(attempt: Attempt): void {
    attempt.tries++;
    const { address, interfaceName } = attempt.source;
    let sender = this.#senders.get(address);
    if (sender === undefined) this.#senders.set(address, sender = openSender(address, interfaceName));
    const errno = sender.send(this.#packet(attempt));
    if (errno === 0) return;
    attempt.outcome = "not-sent";
    attempt.sendError = errnoName(errno);
  }

  #packet(attempt: Attempt): Uint8Array {
    const { kind, pair, tag, nonce, sequence, size } = attempt;
    switch (kind) {
      case "ping":
        return echoRequest(pair, this.#identifier, sequence);
      case "control": {
        const message = emitMessage({ type: MessageType.I1, initiatorTag: tag, initiatorNonce: nonce });
        return controlPacket(pair.local, pair.peer, message, this.#protocol);
      }
      case "payload":
        return payload(pair, tag, IPV6_MIN_MTU / 2, this.#protocol);
      case "mtu":
        return payload(pair, tag, size, this.#protocol);
    }
  }

  #receive(): void {
    for (let reply = this.#echoReceiver.next(); reply !== undefined; reply = this.#echoReceiver.next()) {
      const { octets, source, destination } = reply;
      if (octets.length < 8 || get16(octets, 4) !== this.#identifier) continue;
      const sequence = get16(octets, 6);
      this.#settle(
        "passes",
        (attempt) =>
          attempt.kind === "ping" && attempt.sequence === sequence && comesFrom(attempt, source, destination),
      );
    }
    for (let message = this.#receiver.next(); message !== undefined; message = this.#receiver.next()) {
      const { source, destination } = message;
      const result = parseControlMessage(message.octets, source, destination);
      if (!result.ok) continue;
      const answer = result.packet.message;
      this.#settle("passes", (attempt) => {
        if (!comesFrom(attempt, source, destination)) return false;
        if (answer.type === MessageType.R1bis) return attempt.tag === answer.packetTag && attempt.kind !== "control";
        // A peer that is just establishing with this host takes our I1 for its answer, and sends an R2 (§7.4).
        const isAnswer = answer.type === MessageType.R1 || answer.type === MessageType.R2;
        return isAnswer && attempt.kind === "control" && attempt.nonce === answer.initiatorNonce;
      });
    }
    for (let error = this.#receiver.nextError(); error !== undefined; error = this.#receiver.nextError()) {
      this.#handleError(error);
    }
  }

  #handleError({ kind, local, peer, tag, mtu }: Shim6IcmpError): void {
    const isQuoted = (attempt: Attempt) => attempt.tag === tag && comesFrom(attempt, peer, local);
    if (kind !== "packet-too-big") return this.#settle(kind === "no-shim6" ? "no-agent" : "unreachable", isQuoted);
    const attempt = this.#attempts.find(isQuoted);
    if (attempt === undefined || mtu === undefined || mtu < IPV6_MIN_MTU || mtu >= attempt.size) return;
    attempt.size = mtu;
    attempt.tries = 0; // each size is smaller than the one before: this ends
  }

  #settle(outcome: Passage, matches: (attempt: Attempt) => boolean): void {
    const attempt = this.#attempts.find(matches);
    if (attempt !== undefined) attempt.outcome ??= outcome;
  }
}

/** A link-local router answers from its own address; everybody else from the one that was asked. */
function comesFrom({ pair }: Attempt, source: Address, destination: Address): boolean {
  return pair.peer === source && pair.local === destination;
}

/** An Echo Request (RFC 4443 §4.1) in its IPv6 packet. */
export function echoRequest(pair: LocatorPair, identifier: number, sequence: number): Uint8Array<ArrayBuffer> {
  const length = 16;
  const packet = ipv6Packet(pair, ICMPV6, length);
  packet[IPV6_HEADER_LENGTH] = ECHO_REQUEST;
  put16(packet, IPV6_HEADER_LENGTH + 4, identifier);
  put16(packet, IPV6_HEADER_LENGTH + 6, sequence);
  const pseudo = pseudoHeaderSum(packet, Ipv6Offset.Source, length, ICMPV6);
  const sum = onesComplementSum(packet, IPV6_HEADER_LENGTH, packet.length, pseudo);
  put16(packet, IPV6_HEADER_LENGTH + 2, ~sum & 0xffff);
  return packet;
}

/** A packet of `size` octets with a payload extension header and nothing but zeros behind it. */
export function payload(
  pair: LocatorPair,
  tag: number,
  size: number,
  protocol = SHIM6_PROTOCOL,
): Uint8Array<ArrayBuffer> {
  const length = Math.max(2 * PAYLOAD_HEADER_LENGTH, size - IPV6_HEADER_LENGTH);
  const packet = ipv6Packet(pair, protocol, length);
  writePayloadHeader(packet, IPV6_HEADER_LENGTH, NextHeader.None, tag);
  return packet;
}

function ipv6Packet(pair: LocatorPair, nextHeader: number, payloadLength: number): Uint8Array<ArrayBuffer> {
  const packet = new Uint8Array(IPV6_HEADER_LENGTH + payloadLength);
  writeIpv6Header(packet, 0, {
    source: parseAddress(pair.local),
    destination: parseAddress(pair.peer),
    payloadLength,
    nextHeader,
    hopLimit: DEFAULT_HOP_LIMIT,
  });
  return packet;
}

function randomBits(bits: number): number {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return (high * 2 ** 21 + (low >>> 11)) % 2 ** bits;
}
