/** A host of the virtual network: the real engine, a datapath in a few lines, and applications that send packets. */

import { type LocatorPair, pairKey, type Policy, samePair } from "../policies/policy.ts";
import { RandomPolicy } from "../policies/random.ts";
import { type Profile, RFC5534 } from "../reap/profile.ts";
import type {
  Activity,
  ContextView,
  Effect,
  EngineEvent,
  EngineOptions,
  EstablishOptions,
  LocalLocator,
  LocatorVerifier,
} from "../shim6/api.ts";
import { Engine } from "../shim6/engine.ts";
import { insecureVerifier } from "../shim6/verifier.ts";
import type { Address } from "../wire/address.ts";
import { readQuotedHeader } from "../wire/codec.ts";
import type { ContextTag } from "../wire/message.ts";
import type { VirtualNetwork, VirtualPacket, VirtualPayload } from "./virtual_network.ts";

/** Copies that are held at most for one context. */
const HELD_MAX = 256;

/** How a host differs from the default: profile `rfc5534`, policy `random`, locators believed, no context by itself. */
export interface VirtualHostOptions {
  readonly profile?: Profile;
  readonly policy?: Policy;
  readonly verifier?: LocatorVerifier;
  readonly establish?: Partial<EstablishOptions>;
  readonly engine?: Partial<EngineOptions>;
  /** How often payload activity is polled, ms; 0: the engine hears of each packet at once. */
  readonly pollMs?: number;
}

/** What an application saw of a flow in one direction. */
export interface TrafficStatistics {
  sent: number;
  /** Each packet once. */
  received: number;
  duplicates: number;
  /** When the last packet arrived; NaN: none. */
  lastReceived: number;
  /** The longest time between two arrivals, ms. */
  longestSilence: number;
}

interface DatapathContext {
  readonly id: number;
  readonly ulid: LocatorPair;
  localTag: ContextTag;
  peerTag: ContextTag;
  pair: LocatorPair;
  hold: boolean;
  /** Where copies of what is sent go as well. */
  copyTo: LocatorPair | undefined;
  /** The newest packets sent while on hold. */
  held: { readonly payload: VirtualPayload; readonly at: number }[];
  readonly activity: Activity;
  changed: boolean;
}

/** One host. */
export class VirtualHost {
  /** The agent's engine; undefined while the agent is dead. */
  engine: Engine | undefined;
  /** Called for each event of the engine. */
  onEvent: ((event: EngineEvent) => void) | undefined;
  /** Every event, when `onEvent` is not set. */
  readonly events: EngineEvent[] = [];
  /** What a host that does not keep to the rules makes of its control messages before they leave. */
  tamper: ((octets: Uint8Array, source: Address, destination: Address) => Uint8Array) | undefined;
  /** Control messages sent. */
  messagesSent = 0;
  /** Payload packets dropped because their tag was unknown. */
  unknownTags = 0;
  readonly #network: VirtualNetwork;
  readonly #options: VirtualHostOptions;
  readonly #random;
  #locators: LocalLocator[];
  readonly #contexts = new Map<number, DatapathContext>();
  readonly #byUlid = new Map<string, DatapathContext>();
  readonly #byTag = new Map<ContextTag, DatapathContext>();
  readonly #flows = new Map<string, { packets: number; bytes: number; firstSeen: number }>();
  readonly #sinks = new Map<number, { seen: Set<number>; statistics: TrafficStatistics }>();
  #wakeAt = Infinity;
  #pollPlanned = false;
  #asleep = false;

  constructor(
    network: VirtualNetwork,
    readonly name: string,
    addresses: readonly Address[],
    options: VirtualHostOptions,
  ) {
    this.#network = network;
    this.#options = options;
    this.#random = network.random.fork();
    this.#locators = addresses.map((address, i) => ({
      address,
      interfaceIndex: i + 1,
      interfaceName: `${name}${i}`,
      usable: true,
      deprecated: false,
    }));
  }

  /** The host's addresses, usable or not. */
  get addresses(): Address[] {
    return this.#locators.map((locator) => locator.address);
  }

  /** The host's locators as the engine is told them. */
  get locators(): readonly LocalLocator[] {
    return this.#locators;
  }

  /** Starts the agent, without memory of an earlier life. */
  startAgent(): void {
    const { profile = RFC5534, policy = new RandomPolicy(), verifier = insecureVerifier(), establish } = this.#options;
    this.engine = new Engine({
      profile,
      policy,
      verifier,
      establish: { afterPackets: Infinity, afterMs: Infinity, always: [], never: [], ...establish },
      locators: this.#locators,
      random: this.#random.next,
      randomBytes: this.#random.bytes,
      ...this.#options.engine,
    }, this.#network.clock.now);
  }

  /** Kills the agent: its contexts are gone, payload takes the kernel's own path, next header 140 is unknown. */
  killAgent(): void {
    this.engine = undefined;
    this.#contexts.clear();
    this.#byUlid.clear();
    this.#byTag.clear();
    this.#flows.clear();
    this.#wakeAt = Infinity;
  }

  /** The whole machine sleeps: what comes in is lost, and every timer that falls due meanwhile is late. */
  sleep(ms: number): void {
    this.#asleep = true;
    this.#network.clock.after(ms, () => {
      this.#asleep = false;
      if (this.engine === undefined) return;
      this.#wakeAt = this.#network.clock.now;
      this.#wake(this.#wakeAt);
    });
  }

  /** Calls the engine and carries out what it wants: for console commands, and for messages that a test makes up. */
  with<T>(call: (engine: Engine, now: number) => T): T {
    try {
      return call(this.engine!, this.#network.clock.now);
    } finally {
      this.#settle();
    }
  }

  /** Starts a context to `peer`; returns its number. */
  establish(local: Address, peer: Address): number {
    return this.with((engine, now) => engine.establish(local, peer, now));
  }

  /** The context with a ULID pair. */
  context(local: Address, peer: Address): ContextView | undefined {
    for (const context of this.engine?.contexts() ?? []) {
      if (context.ulid.local === local && context.ulid.peer === peer && context.fii === 0) return context;
    }
  }

  /** Changes the host's locators. An address that is new reaches this host from now on. */
  setLocators(locators: readonly LocalLocator[]): void {
    this.#locators = [...locators];
    for (const { address } of locators) this.#network.own(address, this);
    if (this.engine !== undefined) this.with((engine, now) => engine.handleLocators(this.#locators, now));
  }

  /** Takes the interface of an address down or up. */
  setUsable(address: Address, usable: boolean): void {
    this.setLocators(this.#locators.map((l) => l.address === address ? { ...l, usable } : l));
  }

  /** Sends one packet of an application. */
  send(payload: VirtualPayload): void {
    if (this.#asleep) return;
    const now = this.#network.clock.now;
    const { source, destination } = payload.ulid;
    const context = this.#byUlid.get(source + ">" + destination);
    if (context === undefined) {
      this.#observe(payload, now);
      this.#transmit({ kind: "payload", source, destination, payload, tag: undefined });
      return;
    }
    const { activity } = context;
    activity.sentPackets++;
    activity.sentBytes += payload.bytes;
    activity.lastSent = now;
    if (activity.firstUnanswered === 0) activity.firstUnanswered = now;
    activity.firstUnreplied = 0;
    this.#emitPayload(context, payload, context.pair);
    if (context.copyTo !== undefined) this.#emitPayload(context, payload, context.copyTo);
    if (context.hold) {
      context.held.push({ payload, at: now });
      if (context.held.length > HELD_MAX) context.held.shift();
    }
    this.#counted(context);
  }

  /** What arrived of a flow at this host. */
  received(flow: number): TrafficStatistics {
    return this.#sink(flow).statistics;
  }

  /** A packet came off a path. */
  receive(packet: VirtualPacket): void {
    if (this.#asleep || !this.#isUp(packet.destination)) return;
    const now = this.#network.clock.now;
    const { source, destination } = packet;
    if (packet.kind === "no-shim6") {
      if (this.engine === undefined) return;
      const error = { kind: "no-shim6", local: destination, peer: source, tag: packet.tag } as const;
      this.with((engine) => engine.handleIcmpError(error, now));
    } else if (packet.kind === "control") {
      if (this.engine === undefined) return this.#refuse(packet, readQuotedHeader(packet.octets)?.tag);
      this.with((engine) => engine.handleControlMessage(packet.octets, source, destination, now));
    } else if (packet.tag === undefined) {
      this.#deliver(this.#byUlid.get(destination + ">" + source), packet.payload, now);
    } else {
      if (this.engine === undefined) return this.#refuse(packet, packet.tag);
      const { tag } = packet;
      const context = this.#byTag.get(tag);
      if (context === undefined) {
        this.unknownTags++;
        this.with((engine) => engine.handleUnknownTag(tag, source, destination, now));
        return;
      }
      // An upper layer checks its checksum over the ULIDs; a packet of another context does not pass.
      const { ulid } = packet.payload;
      if (ulid.source === context.ulid.peer && ulid.destination === context.ulid.local) {
        this.#deliver(context, packet.payload, now);
      }
    }
  }

  #isUp(address: Address): boolean {
    return this.#locators.some((locator) => locator.address === address && locator.usable);
  }

  /** What a host without Shim6 does with next header 140 (RFC 5533 §7.8). */
  #refuse({ source, destination }: VirtualPacket, tag: ContextTag | undefined): void {
    this.#transmit({ kind: "no-shim6", source: destination, destination: source, tag });
  }

  #deliver(context: DatapathContext | undefined, payload: VirtualPayload, now: number): void {
    const { seen, statistics } = this.#sink(payload.flow);
    if (seen.has(payload.sequence)) statistics.duplicates++;
    else {
      seen.add(payload.sequence);
      statistics.received++;
      if (statistics.received > 1) {
        statistics.longestSilence = Math.max(statistics.longestSilence, now - statistics.lastReceived);
      }
      statistics.lastReceived = now;
    }
    if (context === undefined) return;
    const { activity } = context;
    activity.receivedPackets++;
    activity.receivedBytes += payload.bytes;
    activity.lastReceived = now;
    if (activity.firstUnreplied === 0) activity.firstUnreplied = now;
    activity.firstUnanswered = 0;
    this.#counted(context);
  }

  #sink(flow: number): { seen: Set<number>; statistics: TrafficStatistics } {
    let sink = this.#sinks.get(flow);
    if (sink === undefined) {
      const statistics = { sent: 0, received: 0, duplicates: 0, lastReceived: NaN, longestSilence: 0 };
      this.#sinks.set(flow, sink = { seen: new Set(), statistics });
    }
    return sink;
  }

  /** A flow without context. */
  #observe({ ulid, bytes }: VirtualPayload, now: number): void {
    if (this.engine === undefined) return;
    const key = ulid.source + ">" + ulid.destination;
    let flow = this.#flows.get(key);
    if (flow === undefined) this.#flows.set(key, flow = { packets: 0, bytes: 0, firstSeen: now });
    flow.packets++;
    flow.bytes += bytes;
    const observation = { ...flow, local: ulid.source, peer: ulid.destination, lastSeen: now };
    this.with((engine) => engine.handleFlow(observation, now));
  }

  #counted(context: DatapathContext): void {
    const { pollMs = 0 } = this.#options;
    context.changed = true;
    if (pollMs === 0) return this.with((engine) => this.#report(context, engine));
    if (this.#pollPlanned) return;
    this.#pollPlanned = true;
    this.#network.clock.after(pollMs, () => {
      this.#pollPlanned = false;
      if (this.engine === undefined) return;
      this.with((engine) => {
        for (const each of this.#contexts.values()) this.#report(each, engine);
      });
    });
  }

  #report(context: DatapathContext, engine: Engine): void {
    if (!context.changed) return;
    context.changed = false;
    engine.handleActivity(context.id, context.activity, this.#network.clock.now);
  }

  #emitPayload(context: DatapathContext, payload: VirtualPayload, pair: LocatorPair): void {
    const { local: source, peer: destination } = pair;
    const tag = samePair(pair, context.ulid) ? undefined : context.peerTag;
    this.#transmit({ kind: "payload", source, destination, payload, tag });
  }

  #transmit(packet: VirtualPacket): void {
    if (this.#isUp(packet.source)) this.#network.send(packet);
  }

  #settle(): void {
    const { engine } = this;
    if (engine === undefined) return;
    for (let effect = engine.nextEffect(); effect !== undefined; effect = engine.nextEffect()) this.#perform(effect);
    const at = engine.nextDeadline();
    if (at >= this.#wakeAt) return;
    this.#wakeAt = at;
    this.#network.clock.at(at, () => this.#wake(at));
  }

  #wake(at: number): void {
    const { engine } = this;
    if (engine === undefined || this.#asleep || at !== this.#wakeAt) return;
    this.#wakeAt = Infinity;
    const now = this.#network.clock.now;
    for (const id of engine.due(now)) {
      const context = this.#contexts.get(id);
      if (context !== undefined) this.#report(context, engine);
    }
    engine.handleTimeout(now);
    this.#settle();
  }

  #perform(effect: Effect): void {
    switch (effect.type) {
      case "send": {
        const { source, destination, message } = effect;
        this.messagesSent++;
        const octets = this.tamper?.(message, source, destination) ?? message;
        return this.#transmit({ kind: "control", source, destination, octets });
      }
      case "context-added": {
        const { id, ulid, localTag, peerTag, fii } = effect;
        const context: DatapathContext = {
          id,
          ulid,
          localTag,
          peerTag,
          pair: ulid,
          hold: false,
          copyTo: undefined,
          held: [],
          activity: emptyActivity(),
          changed: false,
        };
        this.#contexts.set(id, context);
        if (fii === 0) this.#byUlid.set(pairKey(ulid), context);
        this.#byTag.set(localTag, context);
        this.#flows.delete(pairKey(ulid));
        return;
      }
      case "context-retagged": {
        const context = this.#contexts.get(effect.id)!;
        this.#byTag.delete(context.localTag);
        this.#byTag.set(effect.localTag, context);
        context.localTag = effect.localTag;
        context.peerTag = effect.peerTag;
        return;
      }
      case "context-removed": {
        const context = this.#contexts.get(effect.id)!;
        this.#contexts.delete(effect.id);
        this.#byTag.delete(context.localTag);
        if (this.#byUlid.get(pairKey(context.ulid)) === context) this.#byUlid.delete(pairKey(context.ulid));
        return;
      }
      case "path": {
        const context = this.#contexts.get(effect.id)!;
        context.pair = effect.pair;
        context.hold = effect.hold;
        context.copyTo = effect.copyTo;
        const to = effect.copyTo ?? (effect.release ? effect.pair : undefined);
        const { held, activity } = context;
        if (!effect.hold) context.held = [];
        if (to === undefined) return;
        for (const { payload, at } of held) if (at > activity.lastReceived) this.#emitPayload(context, payload, to);
        return;
      }
      case "event":
        if (this.onEvent !== undefined) this.onEvent(effect.event);
        else this.events.push(effect.event);
    }
  }
}

function emptyActivity(): Activity {
  return {
    lastSent: 0,
    lastReceived: 0,
    firstUnanswered: 0,
    firstUnreplied: 0,
    sentPackets: 0,
    sentBytes: 0,
    receivedPackets: 0,
    receivedBytes: 0,
  };
}
