import { assert, assertEquals, assertGreater, assertLess, assertLessOrEqual, assertStringIncludes } from "@std/assert";
import {
  closeFd,
  ControlReceiver,
  monotonicNow,
  openControlSocket,
  openPayloadSocket,
  openSender,
  type Sender,
  withNetns,
} from "deno-tun";
import { ask } from "../../control/client.ts";
import { payload } from "../../control/path_probe.ts";
import type { ContextReport, PathReport } from "../../control/protocol.ts";
import { STEERING_TABLE } from "../../datapath/steering.ts";
import type { Topology } from "../../lab/topology.ts";
import { type Address, parseAddress } from "../../wire/address.ts";
import { onesComplementSum, pseudoHeaderSum } from "../../wire/checksum.ts";
import { controlPacket, emitMessage, parseControlPacket } from "../../wire/codec.ts";
import { writeIpv6Header } from "../../wire/ipv6.ts";
import { type Message, MessageType, ReapState, type Report, VerificationMethod } from "../../wire/message.ts";
import { put16, put32 } from "../../wire/octets.ts";
import { needsRoot } from "../lab/processes.ts";
import { ADAPTIVE, finish, Hosts, longestSilence, QUICK, type RunningAgent } from "./hosts.ts";

/** Somebody who has nothing to do with it. Lives in the router, which sees what is sent there. */
const VICTIM = "2001:db8:dead::1";
const LOOPBACK = 1;
const I1_OCTETS = 56, R1_OCTETS = 80;
const ICMPV6 = 58, UNREACHABLE = 1, TOO_BIG = 2, PARAMETER_PROBLEM = 4;

const random32 = () => Math.floor(Math.random() * 2 ** 32);
const randomTag = () => Math.floor(Math.random() * 2 ** 47);
const randomOctets = (length: number) => crypto.getRandomValues(new Uint8Array(length));
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** An attacker off the path who may forge any source address: packets of its own in the router, none of the hosts'. */
class Attacker implements Disposable {
  readonly #sender: Sender;
  readonly #fds: readonly number[];
  readonly #control: ControlReceiver;
  readonly #payload: ControlReceiver;
  /** What came to the victim: octets by type of message, -1 for payload. */
  readonly atVictim = new Map<number, { packets: number; octets: number }>();

  constructor({ router }: Topology) {
    router.netlink.addAddress(LOOPBACK, VICTIM, 128, { nodad: true });
    this.#sender = withNetns(router.netnsFd, () => openSender(VICTIM, undefined));
    this.#fds = withNetns(router.netnsFd, () => [openControlSocket(), openPayloadSocket()]);
    this.#control = new ControlReceiver(this.#fds[0]);
    this.#payload = new ControlReceiver(this.#fds[1]);
  }

  packet(packet: Uint8Array): void {
    this.#sender.send(packet);
  }

  message(message: Message, source: Address, destination: Address): void {
    this.packet(controlPacket(source, destination, emitMessage(message)));
  }

  /** An ICMPv6 error of the router's about a payload packet with `tag` from `local` to `peer`. */
  icmpError(type: number, code: number, word: number, local: Address, peer: Address, tag: number): void {
    const quote = payload({ local, peer }, tag, 400);
    const packet = new Uint8Array(40 + 8 + quote.length);
    writeIpv6Header(packet, 0, {
      source: parseAddress(VICTIM),
      destination: parseAddress(local),
      payloadLength: 8 + quote.length,
      nextHeader: ICMPV6,
      hopLimit: 64,
    });
    packet[40] = type;
    packet[41] = code;
    put32(packet, 44, word);
    packet.set(quote, 48);
    const pseudo = pseudoHeaderSum(packet, 8, 8 + quote.length, ICMPV6);
    put16(packet, 42, ~onesComplementSum(packet, 40, packet.length, pseudo) & 0xffff);
    this.packet(packet);
  }

  /** Takes in what has come to the victim. */
  look(): void {
    for (const [receiver, isPayload] of [[this.#control, false], [this.#payload, true]] as const) {
      for (let message = receiver.next(); message !== undefined; message = receiver.next()) {
        if (message.destination !== VICTIM) continue;
        const type = isPayload ? -1 : message.octets[2];
        const count = this.atVictim.get(type) ?? { packets: 0, octets: 0 };
        count.packets++;
        count.octets += 40 + message.octets.length;
        this.atVictim.set(type, count);
      }
    }
  }

  get octetsAtVictim(): number {
    return [...this.atVictim.values()].reduce((sum, { octets }) => sum + octets, 0);
  }

  [Symbol.dispose](): void {
    this.#sender.close();
    for (const fd of this.#fds) closeFd(fd);
  }
}

/** Resident memory of a process in MiB. */
function residentMiB(agent: RunningAgent): number {
  const status = Deno.readTextFileSync(`/proc/${agent.process.pid}/status`);
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)![1]) / 1024;
}

const settled = (context: ContextReport) => context.state === "ESTABLISHED" && context.reap === "operational";

/** What no stranger may change of a context. */
function essence({ id, ulid, state, current, peer_locators, switches }: ContextReport) {
  return { id, ulid, state, current, peer_locators, switches };
}

/** The control packets in a capture file of an agent (24 octets of header, 16 before each packet). */
function captured(path: string): Uint8Array<ArrayBuffer>[] {
  const file = Deno.readFileSync(path), view = new DataView(file.buffer);
  const packets: Uint8Array<ArrayBuffer>[] = [];
  for (let at = 24; at + 16 <= file.length;) {
    const length = view.getUint32(at + 8, true);
    packets.push(file.slice(at + 16, at + 16 + length));
    at += 16 + length;
  }
  return packets;
}

/** The tag that the host of `addresses` gave to its peer, as whoever was on the path once may know it. */
function tagOf(packets: readonly Uint8Array[], addresses: readonly Address[]): number {
  for (const packet of packets) {
    const result = parseControlPacket(packet);
    if (!result.ok || !addresses.includes(result.packet.source)) continue;
    const { message } = result.packet;
    if (message.type === MessageType.I1 || message.type === MessageType.I2) return message.initiatorTag;
    if (message.type === MessageType.R2) return message.responderTag;
  }
  throw new Error("no message with a tag was captured");
}

Deno.test({
  name: "floods of I1 and of I2 with bad validators during a failover: no state, no amplification, and it recovers",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("at-flood");
    const { topology } = hosts, { a, b } = topology;
    const agent = await hosts.start(a, ADAPTIVE);
    await hosts.start(b, ADAPTIVE);
    using attacker = new Attacker(topology);
    const stream = await hosts.stream(5021);
    await agent.context("established context", settled);

    const before = await agent.status();
    const memory = residentMiB(agent);
    const octetsOf: Record<string, number> = { victim: 0 };
    let sent = 0, seconds = 0;
    const flood = async (ms: number) => {
      const began = monotonicNow();
      for (let i = 0; monotonicNow() - began < ms; i++) {
        const toVictim = i % 2 === 0;
        const stranger = toVictim ? VICTIM : `2001:db8:ffff::${i.toString(16).replace(/^(.+)(.{4})$/, "$1:$2")}`;
        const common = { initiatorTag: randomTag(), initiatorNonce: random32() };
        const message: Message = i % 4 < 2
          ? { type: MessageType.I1, ...common }
          : { type: MessageType.I2, ...common, responderNonce: random32(), validator: randomOctets(20) };
        const packet = controlPacket(stranger, a.addresses[i % 3], emitMessage(message));
        attacker.packet(packet);
        if (toVictim) octetsOf.victim += packet.length;
        sent++;
        if (i % 40 === 39) {
          attacker.look();
          await pause(5);
        }
      }
      seconds += (monotonicNow() - began) / 1_000;
    };
    await flood(1_000);
    const failed = monotonicNow();
    topology.setProvider(a.addresses[0], "down");
    await flood(5_000);
    attacker.look();

    const moved = await agent.context("moved context", (context) => settled(context) && context.switches > 0);
    assert(moved.current.local !== a.addresses[0]);
    const after = await agent.status();
    const growth = residentMiB(agent) - memory;
    const received = await finish(stream);
    const silence = longestSilence(received, failed);
    const answers = (after.counters.sent.R1 ?? 0) - (before.counters.sent.R1 ?? 0);
    console.log(
      `${sent} packets in ${seconds.toFixed(1)} s, ${answers} R1, memory +${growth.toFixed(1)} MiB, ` +
        `silence ${Math.round(silence)} ms, victim: ${octetsOf.victim} octets in its name, ` +
        `${attacker.octetsAtVictim} to it`,
    );
    assertGreater(sent, 5_000);
    assertEquals(after.contexts.length, 1);
    assertLess(growth, 24); // of which 4 are those of any first failover
    // The Send Timeout of 3 s, the exploration, and a machine that is busy with the flood.
    assertLess(silence, 6_000);
    // Four answers a second are free, in each window that the flood touched.
    const free = 4 * (R1_OCTETS - I1_OCTETS) * (Math.ceil(seconds) + 3);
    assertLessOrEqual(attacker.octetsAtVictim, octetsOf.victim + free);
    assertLess(attacker.octetsAtVictim, octetsOf.victim / 4, "the limit on answers to one address");
    assertEquals([...attacker.atVictim.keys()], [MessageType.R1]);
    assertLessOrEqual(answers, 2_000 * (seconds + 2));
    assert((after.counters.dropped.validator ?? 0) > 0);
    assertEquals(after.counters.dropped["internal-error"] ?? 0, 0);
  },
});

Deno.test({
  name: "nothing that is forged, replayed or guessed moves, retags or ends a context, and little is said about it",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("at-forged");
    const { topology } = hosts, { a, b } = topology;
    const pcap = `${hosts.directory}/control.pcap`;
    const agent = await hosts.start(a, [...QUICK, "--pcap", pcap]);
    // Only host a establishes: when I1s cross, there is neither R1 nor I2.
    const peer = await hosts.start(b, [...QUICK.slice(0, -1), "1000000"]);
    using attacker = new Attacker(topology);
    const stream = await hosts.stream(5022);
    await agent.context("established context", settled);
    await peer.context("established context", settled);
    // An address goes and comes back, so that an old list is in the capture.
    for (const [state, count] of [["absent", 2], ["preferred", 3]] as const) {
      topology.setAddress(a.addresses[2], state);
      await peer.context(`${count} locators`, (context) => context.peer_locators.length === count);
    }
    // Translated, so that tags matter, and with probes in the capture.
    await ask(agent.control, { command: "switch", context: "1", local: a.addresses[1], peer: b.addresses[2] });
    const before = essence(await agent.context("moved context", (c) => settled(c) && c.switches === 1));
    const peerBefore = essence(await peer.context("settled context", settled));
    const statusBefore = await agent.status();
    const mtu = () => a.netlink.routes({ table: STEERING_TABLE }).map((route) => route.mtu);
    const mtuBefore = mtu();
    assertEquals(mtuBefore.length, 1);
    const began = monotonicNow();

    // Replayed: everything that was said, in both directions, twice.
    const packets = captured(pcap);
    const types = new Set(packets.map((packet) => packet[42]));
    const { I1, R1, I2, R2, UpdateRequest, UpdateAcknowledgement, Probe } = MessageType;
    for (const type of [I1, R1, I2, R2, UpdateRequest, UpdateAcknowledgement, Probe]) {
      assert(types.has(type), `type ${type} was captured`);
    }
    for (const packet of [...packets, ...packets]) {
      attacker.packet(packet);
      await pause(10);
    }

    // Forged by somebody who knows the addresses, but no tag and no nonce.
    const [a1] = a.addresses, [b1] = b.addresses;
    const list = {
      generation: 7,
      locators: [{ address: VICTIM, method: VerificationMethod.HBA }, { address: b1, method: VerificationMethod.HBA }],
    };
    const report: Report = { source: b1, destination: a1, nonce: random32(), data: 0 };
    const forged = (tag: () => number): Message[] => [
      { type: MessageType.UpdateRequest, receiverTag: tag(), requestNonce: random32(), locators: list },
      { type: MessageType.UpdateAcknowledgement, receiverTag: tag(), requestNonce: random32() },
      { type: MessageType.Keepalive, receiverTag: tag() },
      ...[ReapState.Exploring, ReapState.InboundOk, ReapState.Operational].map((state): Message => ({
        type: MessageType.Probe,
        receiverTag: tag(),
        state,
        sent: [report],
        received: [{ ...report, source: a1, destination: VICTIM }],
      })),
    ];
    const initiator = { initiatorTag: randomTag(), initiatorNonce: random32() };
    const answer = { responderNonce: random32(), validator: randomOctets(20) };
    const establishing: Message[] = [
      { type: MessageType.I1, ...initiator },
      { type: MessageType.R1, initiatorNonce: random32(), ...answer },
      { type: MessageType.I2, ...initiator, ...answer, locators: list },
      { type: MessageType.R2, responderTag: randomTag(), initiatorNonce: random32(), locators: list },
      { type: MessageType.R1bis, packetTag: randomTag(), ...answer },
      { type: MessageType.I2bis, ...initiator, ...answer, packetTag: randomTag(), locators: list },
      { type: MessageType.Error, code: 0, pointer: 42, packetInError: payload({ local: a1, peer: b1 }, 1, 80) },
    ];
    for (let round = 0; round < 20; round++) {
      for (const message of [...establishing, ...forged(randomTag)]) {
        for (const destination of a.addresses) attacker.message(message, b.addresses[round % 3], destination);
      }
      await pause(5);
    }

    // By somebody who once was on the path and knows the tag, in the name of an address that is not the peer's.
    const tag = tagOf(packets, a.addresses);
    for (const message of forged(() => tag)) attacker.message(message, VICTIM, a1);

    // Guessed: one tag in 2^47 would be right.
    for (let guess = 0; guess < 4_000; guess++) {
      if (guess % 2 === 0) attacker.message({ type: MessageType.Keepalive, receiverTag: randomTag() }, VICTIM, a1);
      else attacker.packet(payload({ local: VICTIM, peer: a1 }, randomTag(), 80));
      if (guess % 40 === 39) {
        attacker.look();
        await pause(5);
      }
    }

    // Errors about packets that were never sent.
    for (let i = 0; i < 200; i++) {
      const [local, remote] = [before.current.local, i % 2 === 0 ? before.current.peer : VICTIM];
      attacker.icmpError(UNREACHABLE, 3, 0, local, remote, randomTag());
      attacker.icmpError(PARAMETER_PROBLEM, 1, 40, local, remote, randomTag());
      attacker.icmpError(TOO_BIG, 0, 1280, local, remote, randomTag());
      if (i % 20 === 19) await pause(5);
    }
    await pause(500);
    attacker.look();

    const after = await agent.context("settled context", settled);
    const statusAfter = await agent.status();
    assertEquals(essence(after), before);
    assertEquals(essence(await peer.context("settled context", settled)), peerBefore);
    const peerAfter = await peer.status();
    assertEquals([statusAfter.contexts.length, peerAfter.contexts.length], [1, 1]);
    assertGreater(peerAfter.counters.dropped["replayed-list"] ?? 0, 0);
    assertEquals(mtu(), mtuBefore);
    const more = (reason: string) =>
      (statusAfter.counters.dropped[reason] ?? 0) - (statusBefore.counters.dropped[reason] ?? 0);
    for (
      const reason of ["unknown-tag", "locators", "validator", "unexpected-R1", "unexpected-R2", "unexpected-R1bis"]
    ) {
      assertGreater(more(reason), 0, reason);
    }
    assertGreater(more("unknown-tag"), 1_900);
    console.log("to the victim:", attacker.atVictim, "ignored:", statusAfter.counters.dropped);
    assert([...attacker.atVictim.keys()].every((type) => type === MessageType.R1bis), "only R1bis");
    const seconds = (monotonicNow() - began) / 1_000;
    assertLessOrEqual(attacker.atVictim.get(MessageType.R1bis)?.packets ?? 0, 64 * (seconds + 1));
    const received = await finish(stream);
    assertLess(longestSilence(received, began), 2_000);
    assert(!agent.log.includes("internal error"), agent.log);
  },
});

Deno.test({
  name: "a peer cannot redirect payload or probes to a locator that nothing proves, even when its own path is dead",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("at-redirect");
    const { topology } = hosts, { a, b } = topology;
    const pcap = `${hosts.directory}/control.pcap`;
    const agent = await hosts.start(a, [...QUICK.filter((flag) => flag !== "--insecure-locators"), "--pcap", pcap]);
    const peer = await hosts.start(b); // announces its locators without a proof
    using attacker = new Attacker(topology);
    const stream = await hosts.stream(5023);
    await agent.context("established context", settled);
    await peer.context("established context", settled);
    const [a1] = a.addresses, [b1] = b.addresses;
    const tag = tagOf(captured(pcap), a.addresses);

    // In the peer's name and with the right tag: what a malicious peer would send.
    const update = (method: number, signature?: Uint8Array): Message => ({
      type: MessageType.UpdateRequest,
      receiverTag: tag,
      requestNonce: random32(),
      locators: { generation: random32(), locators: [b1, VICTIM].map((address) => ({ address, method })) },
      signature,
    });
    attacker.message(update(VerificationMethod.HBA), b1, a1);
    attacker.message(update(VerificationMethod.CGA, randomOctets(128)), b1, a1);
    attacker.message(update(77), b1, a1);
    await pause(200);
    const told = await agent.context("settled context", settled);
    const believed = told.peer_locators.filter(({ verified }) => verified).map(({ address }) => address);
    assertEquals(believed, [b1]);

    // It explores from the victim's address, so that answers and reports go there.
    const report: Report = { source: VICTIM, destination: a1, nonce: random32(), data: 0 };
    for (const state of [ReapState.Exploring, ReapState.InboundOk]) {
      attacker.message({ type: MessageType.Probe, receiverTag: tag, state, sent: [report], received: [] }, VICTIM, a1);
      await pause(50);
    }
    // And its own path dies, so that the host looks for another one.
    const failed = monotonicNow();
    topology.setProvider(b1, "down");
    await agent.context("exploring context", (context) => context.reap === "exploring");
    await pause(1_500);
    const exploring = (await agent.contexts())[0];
    const paths = await ask<PathReport[]>(agent.control, { command: "paths" });
    topology.setProvider(b1, "up");
    await agent.context("settled context", settled);
    attacker.look();

    assertEquals(exploring.current, { local: a1, peer: b1 });
    const probed = paths.filter((path) => path.probes_sent > 0).map((path) => path.peer);
    assertEquals(new Set(probed), new Set([b1]));
    assert([...attacker.atVictim.keys()].every((type) => type === MessageType.R1bis), "no probe and no payload");
    console.log("to the victim:", attacker.atVictim, `path dead for ${Math.round(monotonicNow() - failed)} ms`);
    await finish(stream);
  },
});

Deno.test({
  name: "another user of the host cannot use the control socket, wherever it lies",
  ignore: needsRoot || !hasNode(),
  async fn() {
    await using hosts = new Hosts("at-socket");
    const agent = await hosts.start(hosts.topology.a);
    Deno.chmodSync(hosts.directory, 0o755); // it is the socket that must refuse, not the directory
    const script = `require("net").connect(process.argv[1])` +
      `.on("connect", () => { console.log("connected"); process.exit(0); })` +
      `.on("error", (error) => { console.log(error.code); process.exit(0); })`;
    const connect = async (ids: { uid?: number; gid?: number }) => {
      const command = new Deno.Command("node", { args: ["-e", script, agent.control], cwd: "/", ...ids });
      return new TextDecoder().decode((await command.output()).stdout).trim();
    };
    assertStringIncludes(await connect({ uid: 65534, gid: 65534 }), "EACCES");
    assertEquals(await connect({}), "connected");
    assertEquals((await agent.status()).contexts, []);
  },
});

/** An ordinary user may run node, but seldom the Deno of root. */
function hasNode(): boolean {
  try {
    return new Deno.Command("node", { args: ["--version"], stdout: "null", stderr: "null" }).outputSync().success;
  } catch {
    return false;
  }
}
