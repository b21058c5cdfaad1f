/**
 * The driver: owns the clock, the sockets and the randomness, feeds the engine and carries out what it returns.
 *
 * One turn of the loop:
 *   1. wait in poll (on another thread) for the control socket, netlink, the datapath's notices, the timer;
 *   2. hand over what arrived: control messages, ICMPv6 errors, address changes, notices;
 *   3. when a tick is due: payload activity, new flows, steering leases;
 *   4. let the engine's own timers run; then, if there is time, see who wants a context;
 *   5. drain the engine's effects: messages to send, paths to install, events to record;
 *   6. arm the timer for whatever comes next.
 * Payload never passes through here.
 */

import {
  closeFd,
  ControlReceiver,
  createEventFd,
  drainEventFd,
  Errno,
  errnoName,
  giveBackFreePages,
  monotonicNow,
  Netlink,
  openControlSocket,
  openOpeningsSocket,
  openSender,
  PollEvent,
  PollSet,
  type Sender,
  signalEventFd,
  SystemError,
  TimerFd,
} from "deno-tun";
import type { ControlTarget } from "../control/server.ts";
import { ControlServer } from "../control/server.ts";
import type {
  ContextReport,
  CoordinatesReport,
  PathReport,
  PlaceReport,
  Request,
  StatusReport,
  WhyReport,
} from "../control/protocol.ts";
import { pairText, reapName } from "../control/render.ts";
import type { Datapath } from "../datapath/datapath.ts";
import { TunDatapath } from "../datapath/tun_datapath.ts";
import type { Coordinate } from "../policies/coordinates.ts";
import { type LocatorPair, pairKey } from "../policies/policy.ts";
import { createPolicy, UnknownPolicy } from "../policies/registry.ts";
import type { Activity, ContextView, Effect, LocalLocator } from "../shim6/api.ts";
import { Engine, EngineError } from "../shim6/engine.ts";
import type { LocatorProver } from "../shim6/identity.ts";
import { identityVerifier } from "../shim6/identity_verifier.ts";
import { insecureVerifier } from "../shim6/verifier.ts";
import { type Address, canonicalAddress, InvalidAddress } from "../wire/address.ts";
import { controlPacket } from "../wire/codec.ts";
import { SHIM6_PROTOCOL } from "../wire/message.ts";
import type { AgentConfig } from "./config.ts";
import { CommandError, UsageError } from "./errors.ts";
import { EventLog, type LoggedEvent } from "./event_log.ts";
import { LocatorWatch } from "./locators.ts";
import { log } from "./logging.ts";
import { PcapWriter } from "./pcap.ts";
import {
  DEFAULT_PRIORITY,
  matches,
  parsePreference,
  type Preference,
  PREFERENCE_SYNTAX,
  withPreferences,
} from "./preferences.ts";
import { VERSION } from "./version.ts";

/**
 * How often payload activity is read: while there is some, the same for a profile that decides on it within tens of
 * milliseconds, and while there is none. What is due at a certain time is read at that time as well.
 */
const ACTIVE_TICK_MS = 100, FAST_TICK_MS = 10, IDLE_TICK_MS = 400;
/** After so long without any payload the slow tick is enough. */
const IDLE_AFTER_MS = 2_000;
/** How often flows without a context are looked at: half of the shortest time anyone sets for establishment. */
const FLOWS_MS = 500;
/** Steering leases live for two seconds or more. */
const LEASE_MS = 700;
/** A flood of control messages must leave time for everything else; poll tells at once that more are waiting. */
const MAX_MESSAGES_PER_TURN = 256;
/**
 * I1, I2 and I2bis, which anybody may send, have a socket of their own and are read last, so few at a time that what is due
 * meanwhile waits for less than a millisecond, and so many a second at most: four times what is ever answered. That bounds
 * the processor time that a flood costs; the kernel drops the rest.
 */
const OPENINGS_PER_TURN = 64, OPENINGS_PER_SECOND = 8_000;
/** When the openings of this second are used up, the socket is looked at again after this time, ms. */
const OPENINGS_PAUSE_MS = 10;
/** One line per kind of failure and second is enough in the log; so many kinds are told apart. */
const LOG_AGAIN_MS = 1_000, LOG_KINDS = 256;
/** After so many control messages the memory that they took is given back, at the first look after each ten seconds. */
const TRIM_AFTER_MESSAGES = 1_000, TRIM_MS = 10_000;

/** The running agent. */
export class Agent implements ControlTarget {
  readonly #config: AgentConfig;
  readonly #started = monotonicNow();
  readonly #netlink = new Netlink();
  readonly #watch: LocatorWatch;
  readonly #datapath: Datapath & { readonly accountingName: string; readonly accountingReason?: string };
  readonly #engine: Engine;
  readonly #controlSocket: number;
  readonly #receiver: ControlReceiver;
  readonly #openingsSocket: number;
  readonly #openings: ControlReceiver;
  readonly #senders = new Map<Address, Sender>();
  readonly #events: EventLog;
  readonly #pcap: PcapWriter | undefined;
  readonly #poll = new PollSet();
  readonly #timer = new TimerFd();
  readonly #wake = createEventFd();
  readonly #activity: Activity = {
    lastSent: 0,
    lastReceived: 0,
    firstUnanswered: 0,
    firstUnreplied: 0,
    sentPackets: 0,
    sentBytes: 0,
    receivedPackets: 0,
    receivedBytes: 0,
  };
  readonly #loggedAt = new Map<string, number>();
  readonly #internalErrors = { count: 0 };
  /** Time of day less monotonic time, taken anew at each tick: fixed between, so that events keep their order. */
  #wallOffset = Date.now() - monotonicNow();
  #policy: string;
  #control: ControlServer | undefined;
  #locators: readonly LocalLocator[] = [];
  #preferences: readonly Preference[] = [];
  #stopping = false;
  /** Openings that may be read, and when that was reckoned. */
  #openingsLeft = OPENINGS_PER_TURN;
  #openingsAt = 0;
  /** When the openings' socket is looked at again; Infinity while it is. */
  #openingsFrom = Infinity;
  #lastPayload = -Infinity;
  #nextTick = 0;
  #nextFlows = 0;
  #nextLease = 0;
  #nextTrim = 0;
  /** Control messages since memory was given back. */
  #messages = 0;
  /** Settles when the agent has stopped and every trace of it is gone. */
  readonly finished: Promise<void>;

  /** Starts the agent; it is ready when the promise resolves. Throws {@linkcode UsageError} for what can be mended. */
  static async start(config: AgentConfig, moduleUrl: string): Promise<Agent> {
    // First the socket: a second agent on this host must find out before it touches the network.
    let agent: Agent | undefined;
    const control = await ControlServer.open(config.control, {
      handle: (request) => {
        if (agent === undefined) throw new CommandError("the agent is starting");
        return agent.handle(request);
      },
      watch: (watcher) => agent === undefined ? () => {} : agent.watch(watcher),
    });
    try {
      agent = new Agent(config, moduleUrl, control, await loadIdentity(config.identity));
    } catch (error) {
      await control.close();
      if (error instanceof SystemError) throw new UsageError(`cannot start: ${error.message}`);
      throw error;
    }
    return agent;
  }

  private constructor(
    config: AgentConfig,
    moduleUrl: string,
    control: ControlServer,
    identity: LocatorProver | undefined,
  ) {
    this.#config = config;
    this.#control = control;
    this.#policy = config.policy;
    const undo: (() => void)[] = [];
    try {
      this.#events = openOutput("--events", config.events, (path) => new EventLog(path));
      undo.push(() => this.#events.close());
      this.#pcap = config.pcap === undefined
        ? undefined
        : openOutput("--pcap", config.pcap, (path) => new PcapWriter(path!));
      undo.push(() => this.#pcap?.close());
      this.#checkNames();
      this.#watch = new LocatorWatch(this.#netlink, { interfaces: config.interfaces, locators: config.locators });
      undo.push(() => this.#watch.close());
      this.#preferences = config.preferences;
      this.#locators = withPreferences(this.#watch.locators(), this.#preferences);
      this.#controlSocket = openControlSocket(config.protocol, "without-openings");
      undo.push(() => closeFd(this.#controlSocket));
      this.#receiver = new ControlReceiver(this.#controlSocket);
      this.#openingsSocket = openOpeningsSocket(config.protocol);
      undo.push(() => closeFd(this.#openingsSocket));
      this.#openings = new ControlReceiver(this.#openingsSocket);
      this.#datapath = new TunDatapath({
        moduleUrl,
        netlink: this.#netlink,
        excludedPorts: config.excludedPorts,
        accounting: config.accounting === "auto" ? undefined : config.accounting,
        // What is killed leaves nothing behind with the packet loop; the kernel's translation leaves a device and, for
        // two seconds, its routes. So it is taken only when asked for.
        translation: config.datapath === "bpf" ? "kernel" : "loop",
        holdMs: 2 * config.profile.sendTimeoutMs,
        protocol: config.protocol,
      });
      undo.push(() => this.#datapath.close());
      this.#datapath.setLocators(this.#locators);
      this.#engine = new Engine({
        profile: config.profile,
        policy: createPolicy(config.policy),
        locators: this.#locators,
        verifier: config.insecureLocators ? insecureVerifier(config.insecurePrefixes) : identityVerifier,
        identity,
        establish: config.establish,
        limits: config.limits,
        probesPer100ms: config.probesPer100ms,
        random: Math.random,
        randomBytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
        idleTeardownMs: config.idleTeardownMs,
        endWithUlid: config.endWithUlid,
        protocol: config.protocol,
        coordinates: config.coordinates,
      }, monotonicNow());
      this.#openSenders();
    } catch (error) {
      for (const step of undo.reverse()) step();
      this.#netlink.close();
      throw error;
    }
    for (
      const fd of [
        this.#controlSocket,
        this.#openingsSocket,
        this.#watch.fd,
        this.#datapath.noticeFd,
        this.#timer.fd,
        this.#wake,
      ]
    ) {
      this.#poll.set(fd, PollEvent.IN);
    }
    this.#tellStart();
    this.finished = this.#run();
  }

  /** A typing error in a name must not look like an interface that is down. */
  #checkNames(): void {
    const links = this.#netlink.links().map((link) => link.name);
    for (const name of this.#config.interfaces) {
      if (!links.includes(name)) throw new UsageError(`no interface ${name}; there are ${links.join(", ")}`);
    }
    const addresses = this.#netlink.addresses().map((entry) => entry.address);
    for (const address of this.#config.locators) {
      if (!addresses.includes(address)) throw new UsageError(`locator ${address} is not an address of this host`);
    }
  }

  #warnings(): string[] {
    const warnings: string[] = [];
    if (this.#config.insecureLocators) {
      warnings.push("locators of peers are accepted without proof (--insecure-locators): not for an open network");
    }
    if (this.#datapath.accountingReason !== undefined) {
      warnings.push(`payload is counted by a packet tap, which costs more: ${this.#datapath.accountingReason}`);
    }
    const { protocol } = this.#config;
    if (protocol !== SHIM6_PROTOCOL) {
      warnings.push(`Shim6 is protocol ${protocol} here: only peers that were told the same understand it`);
    }
    if (this.#config.identity === undefined) {
      warnings.push("no --identity: peers cannot verify this host's locators and will keep to the ULID pair");
    }
    const usable = this.#locators.filter((locator) => locator.usable).length;
    if (usable === 0) warnings.push("no usable locator: no global IPv6 address on a running interface");
    else if (usable === 1) warnings.push("only one usable locator: no path to fall back to");
    return warnings;
  }

  #tellStart(): void {
    log.info("ready", {
      version: VERSION,
      policy: this.#policy,
      profile: this.#config.profile.name,
      datapath: this.#datapath.name,
      accounting: this.#datapath.accountingName,
      locators: this.#locators.map((locator) => `${locator.address}%${locator.interfaceName}`),
      control: this.#config.control,
      startup_ms: Math.round(performance.now()),
    });
    for (const warning of this.#warnings()) log.warn(warning);
  }

  /** Asks the agent to stop; `finished` settles when it has. */
  stop(): void {
    this.#stopping = true;
    signalEventFd(this.#wake);
  }

  async #run(): Promise<void> {
    try {
      this.#turn();
      while (!this.#stopping) {
        await this.#poll.waitAsync(-1);
        this.#turn();
      }
    } finally {
      await this.#close();
    }
  }

  #turn(): void {
    drainEventFd(this.#wake);
    this.#timer.drain();
    this.#guard("control message", () => this.#readControl());
    this.#guard("address change", () => this.#readAddresses());
    this.#guard("datapath notice", () => this.#readNotices());
    const now = monotonicNow();
    if (now >= this.#nextTick) this.#guard("tick", () => this.#tick(now));
    // A timer must not fire on old news: what is due decides on the payload of this very moment.
    for (const id of this.#engine.due(now)) {
      if (this.#datapath.hasNews(id)) this.#guard("activity", () => this.#readActivity(id, now));
    }
    this.#guard("timer", () => this.#engine.handleTimeout(monotonicNow()));
    this.#guard("opening", () => this.#readOpenings(now));
    this.#settle();
  }

  /** Carries out the engine's effects and arms the timer; also after each console command. */
  #settle(): void {
    for (;;) {
      const effect = this.#engine.nextEffect();
      if (effect === undefined) break;
      this.#guard(effect.type, () => this.#perform(effect));
    }
    // When all contexts that fail together have their paths: the list of connections is read once for all of them.
    let nextRepeat = Infinity;
    this.#guard("lost packets", () => nextRepeat = this.#datapath.repeatLost(monotonicNow()));
    this.#timer.armAt(Math.min(this.#engine.nextDeadline(), this.#nextTick, this.#openingsFrom, nextRepeat));
  }

  /** One bad input must not end the agent: it is counted and told, and the loop goes on. */
  #guard(what: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#internalErrors.count++;
      this.#logOnce(
        `internal ${what}`,
        () =>
          log.error("internal error", {
            in: what,
            error: error instanceof Error ? error.stack ?? error.message : error,
          }),
      );
    }
  }

  #logOnce(key: string, write: () => void): void {
    const now = monotonicNow();
    if (now - (this.#loggedAt.get(key) ?? -Infinity) < LOG_AGAIN_MS) return;
    // Keys name addresses, of which strangers have many: the one that was told longest ago is forgotten.
    this.#loggedAt.delete(key);
    this.#loggedAt.set(key, now);
    if (this.#loggedAt.size > LOG_KINDS) this.#loggedAt.delete(this.#loggedAt.keys().next().value!);
    write();
  }

  #readControl(): void {
    this.#readMessages(this.#receiver, MAX_MESSAGES_PER_TURN);
    for (let turn = 0; turn < MAX_MESSAGES_PER_TURN; turn++) {
      const error = this.#receiver.nextError();
      if (error === undefined) break;
      // Anybody can send one: what names no context of ours could fill the memory, or slow down a path.
      if (!this.#engine.handleIcmpError(error, monotonicNow()) || error.mtu === undefined) continue;
      this.#datapath.setPathMtu({ local: error.local, peer: error.peer }, error.mtu);
    }
  }

  /** Reads at most `limit` control messages. Returns how many there were. */
  #readMessages(receiver: ControlReceiver, limit: number): number {
    for (let read = 0; read < limit; read++) {
      const message = receiver.next();
      if (message === undefined) return read;
      this.#messages++;
      const { octets, source, destination } = message;
      this.#pcap?.write(controlPacket(source, destination, octets, this.#config.protocol), Date.now());
      this.#engine.handleControlMessage(octets, source, destination, monotonicNow());
    }
    return limit;
  }

  #readOpenings(now: number): void {
    if (this.#openingsFrom < Infinity && now < this.#openingsFrom) return;
    const earned = (now - this.#openingsAt) * OPENINGS_PER_SECOND / 1_000;
    this.#openingsAt = now;
    this.#openingsLeft = Math.min(OPENINGS_PER_SECOND / 10, this.#openingsLeft + earned);
    this.#openingsLeft -= this.#readMessages(
      this.#openings,
      Math.min(OPENINGS_PER_TURN, Math.floor(this.#openingsLeft)),
    );
    const isUsedUp = this.#openingsLeft < 1;
    this.#openingsFrom = isUsedUp ? now + OPENINGS_PAUSE_MS : Infinity;
    this.#poll.set(this.#openingsSocket, isUsedUp ? 0 : PollEvent.IN);
  }

  #readAddresses(): void {
    if (this.#watch.read()) this.#useLocators();
  }

  #useLocators(): void {
    this.#locators = withPreferences(this.#watch.locators(), this.#preferences);
    log.info("addresses changed", {
      usable: this.#locators.filter((locator) => locator.usable).map((locator) => locator.address),
      lost: this.#locators.filter((locator) => !locator.usable).map((locator) => locator.address),
    });
    // The engine first: what it decides on a dead link must not wait for the sockets.
    this.#engine.handleLocators(this.#locators, monotonicNow());
    this.#datapath.setLocators(this.#locators);
    this.#openSenders();
  }

  #openSenders(): void {
    const wanted = new Map(
      this.#locators.filter((locator) => locator.usable).map((locator) => [locator.address, locator]),
    );
    for (const [address, sender] of this.#senders) {
      if (wanted.get(address)?.interfaceName === sender.interfaceName) continue;
      sender.close();
      this.#senders.delete(address);
    }
    for (const [address, locator] of wanted) {
      if (this.#senders.has(address)) continue;
      try {
        this.#senders.set(address, openSender(address, locator.interfaceName));
      } catch (error) {
        // The address may vanish between the event and now; the next event tells.
        log.warn("cannot send from a locator", { locator: address, error: (error as Error).message });
      }
    }
  }

  #readNotices(): void {
    for (;;) {
      const notice = this.#datapath.nextNotice();
      if (notice === undefined) return;
      const now = monotonicNow();
      switch (notice.type) {
        case "unknown-tag":
          this.#engine.handleUnknownTag(notice.tag, notice.source, notice.destination, now);
          break;
        case "resumed":
          this.#nextTick = now;
          break;
        case "packet-too-big":
          this.#logOnce(
            `mtu ${pairKey(notice.pair)}`,
            () => log.info("path MTU", { pair: pairText(notice.pair), mtu: notice.mtu }),
          );
          break;
        case "send-failed":
          this.#logOnce(
            `send ${pairKey(notice.pair)}`,
            () => log.warn("payload could not be sent", { pair: pairText(notice.pair), error: notice.code }),
          );
          break;
      }
    }
  }

  /** Tells the engine of a context's payload. */
  #readActivity(id: number, now: number): void {
    if (!this.#datapath.readActivity(id, this.#activity)) return;
    this.#lastPayload = now;
    this.#engine.handleActivity(id, this.#activity, now);
  }

  #tick(now: number): void {
    for (const id of this.#datapath.withNews()) this.#readActivity(id, now);
    if (now >= this.#nextFlows) {
      this.#nextFlows = now + FLOWS_MS;
      for (const flow of this.#datapath.readFlows()) this.#engine.handleFlow(flow, now);
    }
    this.#wallOffset = Date.now() - now;
    if (now >= this.#nextLease) {
      this.#nextLease = now + LEASE_MS;
      this.#datapath.renewLeases();
    }
    if (now >= this.#nextTrim) {
      this.#nextTrim = now + TRIM_MS;
      if (this.#messages >= TRIM_AFTER_MESSAGES) giveBackFreePages();
      this.#messages %= TRIM_AFTER_MESSAGES;
    }
    const active = this.#config.profile.suspicion === undefined ? ACTIVE_TICK_MS : FAST_TICK_MS;
    this.#nextTick = now + (now - this.#lastPayload < IDLE_AFTER_MS ? active : IDLE_TICK_MS);
  }

  #perform(effect: Effect): void {
    switch (effect.type) {
      case "send":
        return this.#send(effect.source, effect.destination, effect.message);
      case "context-added":
        return this.#datapath.addContext(effect);
      case "context-retagged":
        return this.#datapath.retag(effect.id, effect.localTag, effect.peerTag);
      case "context-removed":
        return this.#datapath.removeContext(effect.id);
      case "path":
        return this.#datapath.setPath(
          effect.id,
          this.#config.hold ? effect : { pair: effect.pair, hold: false, release: false },
        );
      case "event":
        return this.#record(effect.event);
    }
  }

  #send(source: Address, destination: Address, message: Uint8Array): void {
    const packet = controlPacket(source, destination, message, this.#config.protocol);
    const sender = this.#senders.get(source);
    const errno = sender?.send(packet) ?? Errno.EADDRNOTAVAIL;
    if (errno !== 0) {
      this.#logOnce(
        `control ${source}>${destination}`,
        () => log.warn("control message could not be sent", { from: source, to: destination, error: errnoName(errno) }),
      );
      return;
    }
    this.#pcap?.write(packet, Date.now());
  }

  #record(event: LoggedEvent | Parameters<EventLog["add"]>[0]): void {
    this.#events.add(event, this.#wallOffset + event.at);
    const fields = { context: event.context };
    switch (event.kind) {
      case "switch":
        log.warn("path switched", {
          ...fields,
          from: pairText(event.from),
          to: pairText(event.to),
          cause: event.cause,
        });
        break;
      case "recovered":
        log.warn("recovered", {
          ...fields,
          cause: event.cause,
          detection_ms: Math.round(event.detectionMs),
          exploration_ms: Math.round(event.explorationMs),
          probes: event.probes,
          path: pairText(event.pair),
        });
        break;
      case "reap":
        log.info("reap", { ...fields, from: reapName(event.from), to: reapName(event.to), cause: event.cause });
        break;
      case "state":
        log.info("context", {
          ...fields,
          peer: event.ulid?.peer,
          from: event.from,
          to: event.to,
          reason: event.reason,
        });
        break;
      case "unverified":
      case "peer-without-shim6":
        log.warn(event.kind, { ...fields, peer: event.ulid?.peer, reason: event.reason });
        break;
      default:
        log.debug(event.kind, { ...event });
    }
  }

  /** Carries out a console request. */
  handle(request: Request): unknown {
    const now = monotonicNow();
    try {
      switch (request.command) {
        case "status":
          return this.#status(now);
        case "contexts":
          return this.#contexts(now);
        case "paths":
          return this.#paths(now);
        case "why": {
          const context = this.#find(request.context);
          return { context: this.#report(context, now), events: this.#events.recent(context.id) } satisfies WhyReport;
        }
        case "explore": {
          const context = this.#find(request.context);
          this.#engine.explore(context.id, now);
          return `context ${context.id} explores its paths; shim6-agent why ${context.id} tells the outcome`;
        }
        case "switch": {
          const context = this.#find(request.context);
          const pair = { local: canonicalAddress(request.local), peer: canonicalAddress(request.peer) };
          return this.#engine.switchPair(context.id, pair, now) === "switched"
            ? `context ${context.id} now sends on ${pairText(pair)}`
            : `context ${context.id} probes ${pairText(pair)} and moves there when the peer answers`;
        }
        case "prefer":
          return this.#prefer(request.preference);
        case "policy":
          this.#engine.setPolicy(createPolicy(request.name));
          this.#policy = request.name;
          return `policy is now ${request.name}`;
        case "fork": {
          const context = this.#find(request.context);
          const id = this.#engine.fork(context.id, now);
          const { fii } = this.#engine.context(id)!;
          return `context ${id} is being established as a fork of context ${context.id}, with identifier ${fii}`;
        }
        case "forget": {
          const context = this.#find(request.context);
          this.#engine.forget(context.id, now);
          return `context ${context.id} is forgotten`;
        }
        default:
          throw new UsageError(`unknown command ${(request as { command: string }).command}`);
      }
    } catch (error) {
      if (error instanceof UnknownPolicy || error instanceof InvalidAddress) throw new UsageError(error.message);
      if (error instanceof EngineError) throw new CommandError(error.message);
      throw error;
    } finally {
      this.#settle();
    }
  }

  #prefer(text: string): string {
    if (typeof text !== "string") throw new UsageError(`a preference is expected: ${PREFERENCE_SYNTAX}`);
    const preference = parsePreference(text, "prefer");
    const meant = this.#locators.filter((locator) => matches(preference.subject, locator));
    if (meant.length === 0) throw new CommandError(`no locator is meant by ${preference.subject}; see status`);
    // Those of the same subject are replaced, so that repeated commands do not pile up.
    this.#preferences = [...this.#preferences.filter(({ subject }) => subject !== preference.subject), preference];
    this.#useLocators();
    return `preference set for ${meant.map((locator) => locator.address).join(", ")}; peers are told`;
  }

  /** Calls `watcher` for each event from now on; returns what ends it. */
  watch(watcher: (event: LoggedEvent) => void): () => void {
    return this.#events.watch(watcher);
  }

  /** A context by its number, or by the peer's address when only one has it. */
  #find(text: string): ContextView {
    if (typeof text !== "string" || text === "") {
      throw new UsageError("which context? its number or the peer's address");
    }
    if (/^\d+$/.test(text)) {
      const context = this.#engine.context(Number(text));
      if (context !== undefined) return context;
      throw new CommandError(`no context ${text}; shim6-agent contexts lists them`);
    }
    canonicalAddress(text); // so that what is no address is called so
    const context = this.#engine.find(text);
    if (context !== undefined) return context;
    throw new CommandError(`no context, or more than one, with ${text}: name it by the number in shim6-agent contexts`);
  }

  #status(now: number): StatusReport {
    const { dropped, sent, received } = this.#engine.counters;
    return {
      version: VERSION,
      policy: this.#policy,
      profile: this.#config.profile.name,
      datapath: this.#datapath.name,
      accounting: this.#datapath.accountingName,
      protocol: this.#config.protocol,
      uptime_s: Math.round((now - this.#started) / 1_000),
      warnings: this.#warnings(),
      locators: this.#locators.map((locator) => ({
        address: locator.address,
        interface: locator.interfaceName,
        usable: locator.usable,
        deprecated: locator.deprecated,
        priority: locator.priority ?? DEFAULT_PRIORITY,
        weight: locator.weight ?? 0,
        transient: locator.transient ?? false,
      })),
      coordinates: this.#coordinates(),
      contexts: this.#contexts(now),
      counters: {
        dropped: {
          ...dropped,
          ...(this.#internalErrors.count > 0 ? { "internal-error": this.#internalErrors.count } : {}),
        },
        sent: { ...sent },
        received: { ...received },
        datapath: this.#datapath.counters(),
      },
    };
  }

  #coordinates(): CoordinatesReport | null {
    const accuracy = this.#engine.predictionAccuracy;
    if (accuracy === undefined) return null;
    const coordinates = this.#engine.book.coordinates!;
    const place = (address: Address, { x, y, height, error }: Coordinate): PlaceReport => ({
      address,
      x_ms: rounded(x),
      y_ms: rounded(y),
      height_ms: rounded(height),
      error: rounded(error),
    });
    const peers = new Map<Address, PlaceReport>();
    for (const { peerLocators } of this.#engine.contexts()) {
      for (const { address } of peerLocators) {
        const coordinate = coordinates.peer(address);
        if (coordinate !== undefined) peers.set(address, place(address, coordinate));
      }
    }
    return {
      locators: this.#locators.map(({ address }) => place(address, coordinates.own(address))),
      peers: [...peers.values()],
      predictions: accuracy.predictions,
      median_error: Number.isNaN(accuracy.medianError) ? null : rounded(accuracy.medianError),
      rankings: accuracy.rankings,
      first_best: accuracy.firstBest,
      refused: accuracy.refused,
    };
  }

  #contexts(now: number): ContextReport[] {
    return [...this.#engine.contexts()].map((context) => this.#report(context, now));
  }

  #report(context: ContextView, now: number): ContextReport {
    this.#datapath.readActivity(context.id, this.#activity);
    const failure = context.lastFailure;
    return {
      id: context.id,
      ulid: context.ulid,
      fii: context.fii,
      state: context.state,
      reap: reapName(context.reap),
      current: context.current,
      local_locators: context.localLocators,
      peer_locators: context.peerLocators,
      since_ms: Math.round(now - context.since),
      rtt_ms: Number.isNaN(context.rttMs) ? null : Number(context.rttMs.toFixed(3)),
      switches: context.switches,
      last_failure: failure === undefined ? null : {
        cause: failure.cause,
        detection_ms: Math.round(failure.detectionMs),
        exploration_ms: Math.round(failure.explorationMs),
        recovery_ms: Math.round(failure.recoveryMs),
      },
      counters: {
        sent_packets: this.#activity.sentPackets,
        sent_bytes: this.#activity.sentBytes,
        received_packets: this.#activity.receivedPackets,
        received_bytes: this.#activity.receivedBytes,
        probes_sent: context.probesSent,
        keepalives_sent: context.keepalivesSent,
      },
    };
  }

  #paths(now: number): PathReport[] {
    const users = new Map<string, number[]>();
    for (const context of this.#engine.contexts()) {
      const key = pairKey(context.current);
      const ids = users.get(key);
      if (ids === undefined) users.set(key, [context.id]);
      else ids.push(context.id);
    }
    const ago = (at: number) => at === -Infinity ? null : Math.round(now - at);
    const number = (value: number) => Number.isNaN(value) ? null : rounded(value);
    const known = new Map([...this.#engine.book.entries()]);
    const pairs = new Map<string, LocatorPair>();
    for (const context of this.#engine.contexts()) {
      for (const local of context.localLocators) {
        for (const { address } of context.peerLocators) {
          const pair = { local, peer: address };
          pairs.set(pairKey(pair), pair);
        }
      }
    }
    const coordinates = this.#engine.predictionAccuracy && this.#engine.book.coordinates;
    return [...pairs].map(([key, pair]) => {
      const record = known.get(key);
      const predicted = number(coordinates?.predictMs(pair) ?? NaN);
      const source = record?.source ?? "none";
      return {
        ...pair,
        rtt_ms: record === undefined ? null : number(record.rttMs),
        rtt_variance_ms: record === undefined || Number.isNaN(record.rttMs) ? null : number(record.rttVarianceMs),
        source: source === "none" && predicted !== null ? "coordinate" : source,
        predicted_rtt_ms: predicted,
        last_success_ms: record === undefined ? null : ago(record.lastSuccess),
        last_failure_ms: record === undefined ? null : ago(record.lastFailure),
        probes_sent: record?.probesSent ?? 0,
        probes_answered: record?.probesAnswered ?? 0,
        contexts: users.get(key) ?? [],
      };
    });
  }

  async #close(): Promise<void> {
    log.info("stopping");
    const steps: [string, () => void | Promise<void>][] = [
      ["datapath", () => this.#datapath.close()],
      ["control socket", () => this.#control?.close()],
      ["senders", () => {
        for (const sender of this.#senders.values()) sender.close();
      }],
      ["control receiver", () => closeFd(this.#controlSocket)],
      ["openings receiver", () => closeFd(this.#openingsSocket)],
      ["locator watch", () => this.#watch.close()],
      ["netlink", () => this.#netlink.close()],
      ["timer", () => this.#timer.close()],
      ["wake", () => closeFd(this.#wake)],
      ["events", () => this.#events.close()],
      ["pcap", () => this.#pcap?.close()],
    ];
    // Each step on its own: what can be removed is removed, whatever fails before it.
    for (const [what, step] of steps) {
      try {
        await step();
      } catch (error) {
        log.error("clean-up failed", { of: what, error: (error as Error).message });
      }
    }
  }
}

/** To a thousandth. */
function rounded(value: number): number {
  return Number(value.toFixed(3));
}

/** Loaded only when wanted: the cryptography behind it takes its time to start. */
async function loadIdentity(path: string | undefined): Promise<LocatorProver | undefined> {
  if (path === undefined) return undefined;
  const { loadIdentityFile, localIdentity } = await import("./identity.ts");
  return localIdentity(loadIdentityFile(path));
}

/** Opens what the agent writes; a file that cannot be opened is told by the option that named it. */
function openOutput<T>(option: string, path: string | undefined, open: (path: string | undefined) => T): T {
  try {
    return open(path);
  } catch (error) {
    throw new UsageError(`${option}: cannot write ${path}: ${(error as Error).message}`);
  }
}
