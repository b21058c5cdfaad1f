import { assert, assertEquals, assertGreaterOrEqual, assertLess } from "@std/assert";
import { monotonicNow, openSender, withNetns } from "deno-tun";
import { parseAddress } from "../../wire/address.ts";
import { shim6Checksum } from "../../wire/checksum.ts";
import { needsRoot } from "../lab/processes.ts";
import vectors from "../fixtures/vectors.json" with { type: "json" };
import { finish, Hosts, longestSilence, QUICK } from "./hosts.ts";

const PACKETS = 20_000;
/** As many as an agent reads in one turn, then a pause: what the kernel drops at a full socket cannot be counted. */
const BURST = 100, PAUSE_MS = 4;

/** A small seeded generator (mulberry32): the same packets in each run. */
function generator(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const fromHex = (hex: string) => Uint8Array.from(hex.match(/../g)!, (pair) => parseInt(pair, 16));

/** The IPv6 packets of a capture file (24 octets of header, 16 before each packet). */
function captured(path: string): Uint8Array[] {
  const file = Deno.readFileSync(path), view = new DataView(file.buffer);
  const packets: Uint8Array[] = [];
  for (let at = 24; at + 16 <= file.length;) {
    const length = view.getUint32(at + 8, true);
    packets.push(file.slice(at + 16, at + 16 + length));
    at += 16 + length;
  }
  return packets;
}

/** Damages a packet behind its IPv6 header; half of the time its checksum is made right again. */
function mutate(original: Uint8Array, random: () => number): Uint8Array<ArrayBuffer> {
  const below = (n: number) => Math.floor(random() * n);
  let packet = new Uint8Array(original);
  for (let times = 1 + below(4); times > 0; times--) {
    const at = 40 + below(Math.max(1, packet.length - 40));
    switch (below(5)) {
      case 0:
        packet[at] ^= 1 << below(8);
        break;
      case 1:
        packet[at] = below(256);
        break;
      case 2:
        packet = packet.slice(0, Math.max(41, at));
        break;
      case 3: {
        const longer = new Uint8Array(Math.min(1400, packet.length + 8 * (1 + below(8))));
        longer.set(packet);
        packet = longer;
        break;
      }
      case 4:
        if (packet.length > 41) packet[41] = below(40); // Hdr Ext Len
        break;
    }
  }
  const length = packet.length > 41 ? 8 * (packet[41] + 1) : 0;
  if (random() < 0.5 && length >= 8 && 40 + length <= packet.length) {
    packet[44] = packet[45] = 0;
    const sum = shim6Checksum(packet, 40, 40 + length);
    packet[44] = sum >> 8;
    packet[45] = sum & 0xff;
  }
  packet[4] = (packet.length - 40) >> 8;
  packet[5] = (packet.length - 40) & 0xff;
  packet[6] = 140;
  return packet;
}

const total = (counters: Readonly<Record<string, number>>) => Object.values(counters).reduce((a, b) => a + b, 0);

Deno.test({
  name: "20,000 damaged packets leave agent, context and stream unharmed, and each is counted",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-hostile");
    const { a, b } = hosts.topology;
    const pcap = `${hosts.directory}/control.pcap`;
    const agent = await hosts.start(a, [...QUICK, "--pcap", pcap]);
    const peer = await hosts.start(b);
    const stream = await hosts.stream(5010);
    const settled = (context: { state: string; reap: string }) =>
      context.state === "ESTABLISHED" && context.reap === "operational";
    await agent.context("established context", settled);
    await peer.context("established context", settled);

    // What was really said is the best start for lies: it has the right tags and nonces.
    const corpus = [
      ...captured(pcap).filter((packet) => packet.length > 48),
      ...vectors.vectors.map((vector) => fromHex(vector.hex)).filter((packet) => packet[6] === 140),
    ];
    const before = await agent.status();
    const random = generator(20_000);
    const sender = withNetns(b.netnsFd, () => openSender(b.addresses[0], b.providers[0].interface));
    const began = monotonicNow();
    let sent = 0;
    try {
      for (let i = 0; i < PACKETS; i++) {
        const packet = mutate(corpus[Math.floor(random() * corpus.length)], random);
        packet.set(parseAddress(b.addresses[0]), 8);
        packet.set(parseAddress(a.addresses[0]), 24);
        if (sender.send(packet) === 0) sent++;
        if (i % BURST === BURST - 1) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    } finally {
      sender.close();
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
    assertEquals(sent, PACKETS);

    const after = await agent.status();
    const counted = (status: typeof before) =>
      total(status.counters.dropped) + total(status.counters.received) +
      total(Object.fromEntries(
        Object.entries(status.counters.datapath).filter(([name]) =>
          name.startsWith("dropped-") || name === "translated-in"
        ),
      ));
    console.log("counted by reason:", after.counters.dropped);
    assertGreaterOrEqual(counted(after) - counted(before), sent);
    assertEquals(after.counters.dropped["internal-error"] ?? 0, 0);
    assertLess(Object.keys(after.counters.dropped).length, 60);
    assertEquals(after.contexts.length, before.contexts.length);

    await agent.context("established context", settled);
    const received = await finish(stream);
    assertLess(longestSilence(received, began), 1_000);
    assert(agent.log.indexOf("internal error") < 0, agent.log);
  },
});
