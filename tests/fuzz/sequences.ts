/**
 * Two hosts and everything that may happen to them: paths that die, lose and reorder, addresses that come and go, agents
 * that are killed, machines that sleep, commands of an operator, and somebody who forges, damages and replays messages.
 *
 * What must hold: nothing is thrown; tables stay within their bounds; no timer keeps a host busy; no payload and no probe
 * goes to a locator that nothing binds to the peer's ULID, and no payload to one where the peer was never reached; no
 * stranger is sent more than came from him; and when all is well again, traffic flows, and can change its path.
 */

import { createPolicy } from "../../policies/registry.ts";
import { PROFILES } from "../../reap/profile.ts";
import type { LocalLocator } from "../../shim6/api.ts";
import { EngineError } from "../../shim6/engine.ts";
import { LocalIdentity } from "../../shim6/identity.ts";
import { identityVerifier } from "../../shim6/identity_verifier.ts";
import { insecureVerifier } from "../../shim6/verifier.ts";
import { SeededRandom } from "../../sim/random.ts";
import { Traffic } from "../../sim/traffic.ts";
import { allPairs, type VirtualHost, VirtualNetwork, type VirtualPacket } from "../../sim/virtual_network.ts";
import { type Address, inPrefix, isMulticast, parsePrefix } from "../../wire/address.ts";
import { emitMessage, parseControlMessage, UnencodableMessage } from "../../wire/codec.ts";
import {
  type I2,
  type LocatorOptions,
  type Message,
  MessageType,
  type R1,
  VerificationMethod,
} from "../../wire/message.ts";
import { fromHex, hba, named } from "../shim6/cga_vectors.ts";
import { type Ingredients, MessageMaker } from "./messages.ts";
import { mutate, seal } from "./octets.ts";
import { count, type Tally } from "./parsers.ts";

/** One thing that happens: what, and four numbers below 65536 that say how. */
export type Step = readonly [what: number, a: number, b: number, c: number, d: number];

/** A run: `seed` decides profile, policy, verification and everything random; the same steps do the same. */
export interface Sequence {
  readonly seed: number;
  readonly steps: readonly Step[];
}

interface Side {
  readonly addresses: readonly Address[];
  /** An address that nothing proves. */
  readonly extra: Address;
  readonly pds: Uint8Array;
}

function side(name: string, extra: Address): Side {
  const { members } = named(hba, name);
  return { addresses: members.map(({ address }) => address), extra, pds: fromHex(members[0].pds) };
}

const A = side("hba-3-prefixes-sec0-hostA", "2001:db8:a9::1");
const B = side("hba-3-prefixes-sec0-hostB", "2001:db8:b9::1");
const STRANGER = "2001:db8:bad::1";
/** Somebody who answers, and so gets a context of his own. */
const GUEST = "2001:db8:9::1", GUEST_TAG = 0x123456789abc;
const EVERYONE = [...A.addresses, A.extra, ...B.addresses, B.extra, STRANGER, GUEST];
/** Where nothing is proved, two of the three locators of each host are believed. */
const BELIEVED = ["2001:db8:a1::/48", "2001:db8:a2::/48", "2001:db8:b1::/48", "2001:db8:b2::/48"].map(parsePrefix);

const POLICIES = ["random", "burst9", "disjoint", "rtt", "adaptive"];
const LIMITS = { contexts: 12, contextsPerPeer: 8, locatorsPerPeer: 4 };
const PAIRS_REMEMBERED = 4_096;
const CAPTURED_MAX = 64;
const INTERVAL_MS = 400;
/** I1s of one flood, and contexts that one host is asked for at once. */
const FLOOD = 80, MANY = 16;
/** What a host may do in a second of virtual time and once for each step, all timers and packets together. */
const ACTIONS_PER_SECOND = 2_000, ACTIONS_AT_ONCE = 20_000;
/**
 * Four answers a second and host are free, though an R1 or an Error is up to 48 octets longer than what it answers. Two
 * of the windows in which a host counts may touch one second.
 */
const FREE_OCTETS_PER_SECOND = 2 * 2 * 4 * 48;
/** An agent that found no Shim6 at its peer waits for 10 minutes before it tries again. */
const HEALED_MS = 400_000, ESTABLISHED_MS = 1_300_000;

const STEPS = [
  ...Array(8).fill("wait"),
  ...[
    "cut",
    "cut",
    "mend",
    "lossy",
    "usable",
    "usable",
    "locators",
    "kill",
    "restart",
    "sleep",
    "operator",
    "operator",
  ],
  ...["replay", "replay", "damage", "damage", "forge", "forge", "forge", "icmp", "unknown-tag", "drop-type"],
  ...["flood", "many", "guest", "guest"],
] as const;

/** A random sequence. */
export function randomSequence(seed: number): Sequence {
  const random = new SeededRandom(seed ^ 0x5eed);
  const length = 4 + random.below(36);
  const number = () => random.below(0x10000);
  return {
    seed,
    steps: Array.from({ length }, (): Step => [random.below(STEPS.length), number(), number(), number(), number()]),
  };
}

/** Thrown when something that must hold does not. */
export class Violation extends Error {
  override name = "Violation";
}

function hold(condition: boolean, what: () => string): void {
  if (!condition) throw new Violation(what());
}

interface Captured {
  readonly source: Address;
  readonly destination: Address;
  readonly octets: Uint8Array;
}

function hbaLocator(address: Address) {
  return { address, method: VerificationMethod.HBA };
}

/** Plays one sequence. */
class Play {
  readonly #network: VirtualNetwork;
  readonly #hosts: readonly [VirtualHost, VirtualHost];
  readonly #traffic: Traffic;
  readonly #random: SeededRandom;
  readonly #maker: MessageMaker;
  readonly #proves: boolean;
  /** Somebody on the path, who knows tags and nonces; otherwise the attacker has to guess, and replays nothing. */
  readonly #onPath: boolean;
  readonly #captured: Captured[] = [];
  readonly #tags: number[] = [];
  readonly #nonces: number[] = [];
  readonly #reached = new Set<Address>();
  readonly #tally: Tally | undefined;
  #guestGot: Message | undefined;
  #lostType = 0;
  /** Of each second, the octets that went to the stranger less those that came from him. */
  readonly #balance = new Map<number, number>();

  constructor(seed: number, tally: Tally | undefined) {
    this.#random = new SeededRandom(seed);
    this.#tally = tally;
    const random = this.#random;
    this.#maker = new MessageMaker(random.fork());
    this.#proves = random.below(2) === 0;
    this.#onPath = random.below(3) > 0;
    const profile = Object.values(PROFILES)[random.below(Object.keys(PROFILES).length)];
    const policy = POLICIES[random.below(POLICIES.length)];
    this.#network = new VirtualNetwork({ seed, delayMs: 1 + random.below(60), jitterMs: random.below(30) });
    const add = (name: string, side: Side) =>
      this.#network.addHost(name, side.addresses, {
        profile,
        policy: createPolicy(policy),
        verifier: this.#proves ? identityVerifier : insecureVerifier(BELIEVED),
        establish: { afterPackets: 3, afterMs: 10_000 },
        pollMs: 50,
        engine: {
          identity: this.#proves ? new LocalIdentity(side.pds, side.addresses) : undefined,
          limits: LIMITS,
          idleTeardownMs: 300_000,
        },
      });
    this.#hosts = [add("A", A), add("B", B)];
    this.#network.filter = (packet) => this.#sees(packet);
    for (const host of this.#hosts) {
      host.onEvent = () => {};
      const receive = host.receive.bind(host);
      host.receive = (packet) => {
        this.#arrives(host, packet);
        receive(packet);
      };
    }
    const [from, to] = this.#hosts;
    const ulid = { local: A.addresses[0], peer: B.addresses[0] };
    this.#traffic = new Traffic(this.#network, {
      from,
      to,
      ulid,
      intervalMs: INTERVAL_MS,
      bothWays: true,
      jitter: 0.3,
    });
  }

  /** Carries out the steps, then heals everything and waits for traffic. */
  run(steps: readonly Step[]): void {
    for (const step of steps) {
      this.#carryOut(step);
      this.#check();
    }
    this.#heal();
    this.#converge();
    this.#check();
    for (const host of this.#hosts) this.#countMessages(host);
  }

  #carryOut([what, a, b, c, d]: Step): void {
    const host = this.#hosts[a % 2], { clock } = this.#network;
    const sides = a % 2 === 0 ? [A, B] : [B, A];
    switch (STEPS[what % STEPS.length]) {
      case "wait": // from a millisecond to a minute
        return this.#run(Math.exp(11 * b / 0x10000));
      case "cut":
        return this.#network.cut(this.#pair(a, b), c % 2 === 0);
      case "mend":
        return this.#network.mend(this.#pair(a, b), c % 2 === 0);
      case "lossy": {
        const { local, peer } = this.#pair(a, b);
        Object.assign(this.#network.path(local, peer), { loss: c % 100 / 100, jitterMs: d % 500 });
        return;
      }
      case "usable":
        return host.setUsable(host.addresses[b % host.addresses.length], c % 3 === 0);
      case "locators": {
        const own = sides[0].addresses.filter((_, i) => (b >> i & 1) === 0 || i === c % 3);
        const addresses = d % 4 === 0 ? [...own, sides[0].extra] : own;
        return host.setLocators(addresses.map((address, i) => this.#locator(address, i, c >> i)));
      }
      case "kill":
        return this.#kill(host);
      case "restart":
        this.#kill(host);
        return host.startAgent();
      case "sleep":
        return host.sleep(Math.exp(12 * b / 0x10000));
      case "operator":
        return this.#command(host, b, c, d);
      case "replay":
        return this.#replay(b, c, d);
      case "damage": {
        const captured = this.#captured[b % (this.#captured.length || 1)];
        if (captured === undefined || !this.#onPath) return;
        const octets = mutate(captured.octets, this.#random, 1240);
        if (c % 4 > 0) seal(octets, 0, d % 2 === 0);
        return this.#inject(captured.source, captured.destination, octets);
      }
      case "forge":
        return this.#forge(a, b, c);
      case "icmp": {
        const kinds = ["unreachable", "time-exceeded", "no-shim6", "packet-too-big"] as const;
        const error = {
          kind: kinds[b % 4],
          local: this.#pick(sides[0].addresses, c),
          peer: this.#pick(sides[1].addresses, d),
          tag: this.#tag(c),
        };
        if (host.engine !== undefined) host.with((engine) => engine.handleIcmpError(error, clock.now));
        return;
      }
      case "unknown-tag": {
        if (host.engine === undefined) return;
        const source = this.#pick(EVERYONE, b), tag = this.#tag(c);
        if (source === STRANGER) this.#account(-56);
        return host.with((engine) =>
          engine.handleUnknownTag(tag, source, this.#pick(sides[0].addresses, d), clock.now)
        );
      }
      case "drop-type":
        this.#lostType = b % 3 === 0 ? 0 : Object.values(MessageType)[c % Object.keys(MessageType).length];
        return;
      case "flood":
        for (let i = 0; i < FLOOD; i++) {
          const i1 = { type: MessageType.I1, initiatorTag: i, initiatorNonce: i };
          this.#inject(STRANGER, this.#pick(sides[0].addresses, b), emitMessage(i1));
        }
        return;
      case "many":
        for (let i = 0; i < MANY; i++) this.#command(host, 7 * (i % 4), c + (i >> 2), d);
        return;
      case "guest":
        return this.#visit(this.#pick(sides[0].addresses, b), c, d);
    }
  }

  #command(host: VirtualHost, b: number, c: number, d: number): void {
    const other = host === this.#hosts[0] ? B : A;
    if (host.engine === undefined) return;
    const local = this.#pick(host.addresses, c), peer = this.#pick(other.addresses, d);
    const ids = [...host.engine.contexts()].map(({ id }) => id);
    const id = ids[c % (ids.length || 1)] ?? 1;
    try {
      host.with((engine, now) => {
        switch (b % 7) {
          case 0:
            return engine.establish(local, peer, now, Math.floor(b / 7) % 4);
          case 1:
            return engine.explore(id, now);
          case 2:
          case 3:
            return engine.switchPair(id, { local, peer }, now);
          case 4:
            return engine.fork(id, now);
          case 5:
            return engine.setPolicy(createPolicy(this.#pick(POLICIES, d)));
          default:
            return engine.forget(id, now);
        }
      });
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
    }
  }

  #replay(b: number, c: number, d: number): void {
    const captured = this.#captured[b % (this.#captured.length || 1)];
    if (captured === undefined || !this.#onPath) return;
    const elsewhere = c % 4 === 0;
    const source = elsewhere ? this.#pick(EVERYONE, d) : captured.source;
    const destination = elsewhere ? this.#pick(EVERYONE, d >> 4) : captured.destination;
    this.#inject(source, destination, captured.octets);
  }

  #forge(a: number, b: number, c: number): void {
    const know: Ingredients = {
      tags: this.#onPath ? this.#tags.slice(-6) : [],
      nonces: this.#onPath ? this.#nonces.slice(-8) : [],
      addresses: EVERYONE,
      pds: [A.pds, B.pds],
    };
    const message = this.#maker.make(know, b % 4 === 0 ? MessageType.UpdateRequest : undefined);
    const [from, to] = a % 2 === 0 ? [A, B] : [B, A];
    const source = b % 3 === 0 ? STRANGER : this.#pick([...from.addresses, from.extra], b);
    this.#send(source, this.#pick(to.addresses, c), message);
  }

  /** A guest establishes a context by the book, with whatever he claims to be, then makes use of its tag. */
  #visit(destination: Address, c: number, d: number): void {
    const know: Ingredients = { tags: [GUEST_TAG], nonces: [c], addresses: EVERYONE, pds: [A.pds, B.pds] };
    const common = {
      initiatorTag: c % 5 === 0 ? this.#tag(d) : GUEST_TAG,
      initiatorNonce: c,
      fii: c % 7 === 0 ? d % 4 : undefined,
      ulidPair: c % 3 === 0 ? { sender: this.#pick(EVERYONE, d), receiver: destination } : undefined,
    };
    const claims = [A, B].find(({ addresses }) => addresses.includes(common.ulidPair?.sender ?? ""));
    const options: LocatorOptions = claims === undefined || d % 3 === 0
      ? {}
      : { pds: claims.pds, locators: { generation: d, locators: [GUEST, common.ulidPair!.sender].map(hbaLocator) } };
    this.#guestGot = undefined;
    this.#inject(GUEST, destination, emitMessage({ type: MessageType.I1, ...common }));
    if (this.#heard()?.type !== MessageType.R1) return;
    const { responderNonce, validator } = this.#heard() as R1;
    const made = this.#maker.make(know, MessageType.I2) as I2;
    this.#send(GUEST, destination, { ...made, ...common, ...options, responderNonce, validator });
    const answer = this.#heard();
    if (answer?.type !== MessageType.R2) return;
    this.#send(GUEST, destination, this.#maker.make({ ...know, tags: [answer.responderTag] }));
  }

  /** What the guest got last. */
  #heard(): Message | undefined {
    return this.#guestGot;
  }

  /** As {@linkcode #inject}, unless the message is too long to be one. */
  #send(source: Address, destination: Address, message: Message): void {
    try {
      this.#inject(source, destination, emitMessage(message));
    } catch (error) {
      if (!(error instanceof UnencodableMessage)) throw error;
    }
  }

  /** A packet of the attacker's comes in, whatever the paths are like. */
  #inject(source: Address, destination: Address, octets: Uint8Array): void {
    const host = this.#hosts.find((each) => each.addresses.includes(destination));
    if (host === undefined || isMulticast(source)) return;
    if (source === STRANGER) this.#account(-40 - octets.length);
    host.receive({ kind: "control", source, destination, octets });
  }

  /** Every packet that leaves a host. */
  #sees(packet: VirtualPacket): boolean {
    if (packet.destination === STRANGER && packet.kind === "control") {
      this.#account(40 + packet.octets.length);
    }
    if (packet.kind === "payload" && packet.tag !== undefined) {
      const { destination, payload } = packet;
      hold(
        this.#isBound(destination, payload.ulid.destination),
        () => `payload for ${payload.ulid.destination} goes to ${destination}, which nothing proves`,
      );
      hold(
        destination === payload.ulid.destination || this.#reached.has(destination),
        () => `payload goes to ${destination}, where nothing ever arrived`,
      );
    }
    if (packet.kind !== "control") return true;
    const result = parseControlMessage(packet.octets, packet.source, packet.destination);
    hold(result.ok, () => `a host sends what cannot be parsed: ${packet.octets.toHex()}`);
    const { message } = (result as Extract<typeof result, { ok: true }>).packet;
    if (packet.destination === GUEST) this.#guestGot = message;
    if (message.type === MessageType.Probe) this.#checkProbe(packet.source, packet.destination);
    return message.type !== this.#lostType;
  }

  #account(octets: number): void {
    const second = Math.floor(this.#network.clock.now / 1_000);
    const balance = (this.#balance.get(second) ?? 0) + octets;
    this.#balance.set(second, balance);
    hold(balance <= FREE_OCTETS_PER_SECOND, () => `a stranger got ${balance} octets more in a second than he sent`);
  }

  #checkProbe(source: Address, destination: Address): void {
    const host = this.#hosts.find(({ addresses }) => addresses.includes(source));
    const ulids = [...host?.engine?.contexts() ?? []].map(({ ulid }) => ulid.peer);
    hold(
      ulids.some((ulid) => this.#isBound(destination, ulid)),
      () => `a probe goes to ${destination}, which nothing proves for ${ulids}`,
    );
  }

  /** Whether an address may be used for a peer's ULID. */
  #isBound(address: Address, ulid: Address): boolean {
    if (address === ulid) return true;
    if (!this.#proves) return BELIEVED.some((prefix) => inPrefix(address, prefix));
    return [A, B].some(({ addresses }) => addresses.includes(ulid) && addresses.includes(address));
  }

  #arrives(host: VirtualHost, packet: VirtualPacket): void {
    const isUp = host.locators.some(({ address, usable }) => address === packet.destination && usable);
    if (!isUp || host.engine === undefined || packet.kind !== "control") return;
    this.#reached.add(packet.destination);
    const { source, destination, octets } = packet;
    const result = parseControlMessage(octets, source, destination);
    if (!result.ok) return;
    this.#learn(result.packet.message);
    if (this.#captured.length < CAPTURED_MAX) this.#captured.push({ source, destination, octets });
    else this.#captured[this.#random.below(CAPTURED_MAX)] = { source, destination, octets };
  }

  /** What somebody on the path knows. */
  #learn(message: Message): void {
    if ("initiatorTag" in message) this.#tags.push(message.initiatorTag);
    if ("responderTag" in message) this.#tags.push(message.responderTag);
    if ("receiverTag" in message) this.#tags.push(message.receiverTag);
    if ("initiatorNonce" in message) this.#nonces.push(message.initiatorNonce);
    if ("requestNonce" in message) this.#nonces.push(message.requestNonce);
    if (message.type === MessageType.Probe) this.#nonces.push(message.sent[0].nonce);
  }

  #check(): void {
    for (const { engine, name } of this.#hosts) {
      if (engine === undefined) continue;
      hold(engine.size <= LIMITS.contexts, () => `${name} has ${engine.size} contexts`);
      hold(engine.book.size <= PAIRS_REMEMBERED, () => `${name} remembers ${engine.book.size} pairs`);
      hold(engine.nextEffect() === undefined, () => `${name} has an effect that nobody took`);
      hold(!Number.isNaN(engine.nextDeadline()), () => `${name} has a deadline that is no number`);
      const ofPeer = new Map<Address, number>();
      for (const { ulid } of engine.contexts()) ofPeer.set(ulid.peer, (ofPeer.get(ulid.peer) ?? 0) + 1);
      hold(
        Math.max(0, ...ofPeer.values()) <= LIMITS.contextsPerPeer,
        () => `${name} has too many contexts with a peer`,
      );
      for (const { id, ulid, current, peerLocators } of engine.contexts()) {
        hold(peerLocators.length <= LIMITS.locatorsPerPeer, () => `${name}: ${peerLocators.length} locators of ${id}`);
        hold(
          this.#isBound(current.peer, ulid.peer),
          () => `${name}: context ${id} with ${ulid.peer} uses ${current.peer}, which nothing proves`,
        );
        for (const { address, verified } of peerLocators) {
          hold(
            !verified || this.#isBound(address, ulid.peer),
            () => `${name}: context ${id} with ${ulid.peer} believes in ${address}`,
          );
        }
      }
    }
  }

  /** Lets time pass, but not for a host that is busy without end. */
  #run(ms: number): void {
    const { clock } = this.#network;
    const until = clock.now + ms;
    let left = ACTIONS_AT_ONCE + ACTIONS_PER_SECOND * ms / 1_000;
    while (clock.next <= until) {
      clock.step();
      hold(left-- > 0, () => `the hosts are busy without end at ${clock.now}`);
    }
    clock.runUntil(until);
  }

  #runUntil(done: () => boolean, limitMs: number): boolean {
    for (const end = this.#network.clock.now + limitMs; !done();) {
      if (this.#network.clock.now >= end) return false;
      this.#run(250);
    }
    return true;
  }

  #heal(): void {
    this.#lostType = 0;
    for (const host of this.#hosts) {
      const { addresses } = host.name === "A" ? A : B;
      host.setLocators(addresses.map((address, i) => this.#locator(address, i, 0)));
      if (host.engine === undefined) host.startAgent();
    }
    for (const [from, to] of [[A, B], [B, A]]) {
      for (const source of [...from.addresses, from.extra]) {
        for (const destination of [...to.addresses, to.extra]) {
          Object.assign(this.#network.path(source, destination), { up: true, loss: 0, jitterMs: 0 });
        }
      }
    }
  }

  #converge(): void {
    const flows = () => {
      const before = [this.#traffic.forth.received, this.#traffic.back.received];
      return () => this.#traffic.forth.received > before[0] + 5 && this.#traffic.back.received > before[1] + 5;
    };
    hold(this.#runUntil(flows(), HEALED_MS), () => `all is well, and no traffic flows: ${this.#states()}`);
    // Who is on the path and knows the tags can take locators out of lists that no key signs (RFC 5533 §16.2).
    if (this.#onPath) return;
    const [a, b] = this.#hosts, [A1] = A.addresses, [B1] = B.addresses;
    const established = () => a.context(A1, B1)?.state === "ESTABLISHED" && b.context(B1, A1)?.state === "ESTABLISHED";
    hold(this.#runUntil(established, ESTABLISHED_MS), () => `all is well, and there is no context: ${this.#states()}`);
    this.#run(10_000); // for Update Requests that were on their way
    this.#network.cut({ local: A1, peer: B1 }, true);
    hold(this.#runUntil(flows(), HEALED_MS), () => `the ULID pair died, and no other is found: ${this.#states()}`);
  }

  #states(): string {
    return this.#hosts.map(({ name, engine }) =>
      [...engine?.contexts() ?? []].map(({ ulid, fii, state, reap, current, peerLocators }) =>
        `${name}: ${ulid.local}>${ulid.peer} fii ${fii} ${state} reap ${reap} on ${current.local}>${current.peer}, ` +
        `peer ${peerLocators.map(({ address, verified }) => `${address} ${verified}`).join(" ")}`
      ).join("\n")
    ).join("\n");
  }

  #kill(host: VirtualHost): void {
    this.#countMessages(host);
    host.killAgent();
  }

  #countMessages(host: VirtualHost): void {
    if (this.#tally === undefined || host.engine === undefined) return;
    const { received, dropped } = host.engine.counters;
    for (const [kind, counters] of [["received", received], ["dropped", dropped]] as const) {
      for (const [name, times] of Object.entries(counters)) {
        for (let i = 0; i < times; i++) count(this.#tally, `${kind}: ${name}`);
      }
    }
  }

  #locator(address: Address, index: number, bits: number): LocalLocator {
    return {
      address,
      interfaceIndex: index + 1,
      interfaceName: `if${index}`,
      usable: (bits & 0x10) === 0,
      deprecated: (bits & 0x100) !== 0,
      priority: (bits & 0x1000) === 0 ? undefined : bits & 0xff,
    };
  }

  #pair(a: number, b: number) {
    const [from, to] = a % 2 === 0 ? [A, B] : [B, A];
    const pairs = allPairs(from.addresses, to.addresses);
    return pairs[b % 3 === 0 ? 0 : b % pairs.length];
  }

  #tag(pick: number): number {
    const known = this.#onPath && pick % 4 > 0 ? this.#tags.at(-1 - pick % 8) : undefined;
    return known ?? this.#random.uint32();
  }

  #pick<T>(list: readonly T[], pick: number): T {
    return list[pick % list.length];
  }
}

/** Plays a sequence. Returns what went wrong, if anything did. */
export function faultOfSequence({ seed, steps }: Sequence, tally?: Tally): string | undefined {
  try {
    new Play(seed, tally).run(steps);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.stack ?? error.message : String(error);
  }
}
