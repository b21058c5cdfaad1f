import { assert, assertEquals } from "@std/assert";
import { monotonicNow, type TcpConnection, TcpDiag, type TcpState, writeSysctl } from "deno-tun";
import { mtuToTell, writeTooBig } from "../../datapath/tcp_nudge.ts";
import { parseAddress } from "../../wire/address.ts";
import { onesComplementSum, pseudoHeaderSum } from "../../wire/checksum.ts";
import { bpfRefused } from "./bpf_allowed.ts";
import { type HostsDatapath, openDatapath } from "./hosts_datapath.ts";
import { type Host, needsRoot, type TwoHosts, twoHosts } from "./two_hosts.ts";

const LOCAL = parseAddress("2001:db8:a::1"), PEER = parseAddress("2001:db8:b::1");
const CONNECTION = { addresses: Uint8Array.from([...LOCAL, ...PEER]), localPort: 40_000, peerPort: 5001 };
const STATE: TcpState = {
  unacknowledged: 10,
  retransmitted: 0,
  inLoss: false,
  mss: 1428,
  timestamps: true,
  rttMs: 1,
  sinceAckMs: 40,
};

Deno.test("a Packet Too Big quotes the segment that it is about, and its checksum is right", () => {
  const octets = new Uint8Array(200).fill(0xee), view = new DataView(octets.buffer);
  const length = writeTooBig(octets, CONNECTION, 0xfedc_ba98, 1500, 1492);
  assertEquals(length, 40 + 8 + 40 + 20);
  assertEquals([view.getUint16(4), octets[6]], [length - 40, 58]);
  assertEquals([octets.subarray(8, 24), octets.subarray(24, 40)], [PEER, LOCAL]);
  assertEquals([octets[40], octets[41], view.getUint32(44)], [2, 0, 1492]);
  assertEquals(onesComplementSum(octets, 40, length, pseudoHeaderSum(octets, 8, length - 40, 58)), 0xffff);
  assertEquals([view.getUint16(48 + 4), octets[48 + 6]], [1460, 6]);
  assertEquals([octets.subarray(56, 72), octets.subarray(72, 88)], [LOCAL, PEER]);
  assertEquals([view.getUint16(88), view.getUint16(90), view.getUint32(92)], [40_000, 5001, 0xfedc_ba98]);
});

Deno.test("TCP is told what the path carries, or if it knows that, an octet less, and never less than 1280", () => {
  assertEquals(mtuToTell(STATE, 1492), 1492);
  assertEquals(mtuToTell({ ...STATE, mss: 1420 }, 1492), 1491);
  assertEquals(mtuToTell({ ...STATE, mss: 1432, timestamps: false }, 1492), 1491);
  assertEquals(mtuToTell({ ...STATE, mss: 1300 }, 1492), 1371); // the peer takes no larger segments
  assertEquals(mtuToTell({ ...STATE, mss: 1209 }, 1492), 1280);
  assertEquals(mtuToTell({ ...STATE, mss: 1208 }, 1492), undefined);
  assertEquals(mtuToTell(STATE, 1280), 1280);
});

/** TCP's least retransmission timeout is 200 ms; some time passes until the repeated data is answered. */
const LEAST_TIMEOUT = 150;

/** A counter of a host's TCP (`/proc/net/netstat`). */
function tcpCounter(host: Host, name: string): number {
  return host.in(() => {
    const lines = Deno.readTextFileSync("/proc/thread-self/net/netstat").split("\n");
    const [names, values] = lines.filter((line) => line.startsWith("TcpExt:")).map((line) => line.split(" "));
    return Number(values[names.indexOf(name)]);
  });
}

/** TCP from A to B, a block each millisecond: the receiver keeps up, so that its window is never what stops the sender. */
class Bulk {
  received = 0;
  readonly #ends: Deno.TcpConn[];
  readonly #done: Promise<void>;

  private constructor(sender: Deno.TcpConn, receiver: Deno.TcpConn) {
    this.#ends = [sender, receiver];
    const block = new Uint8Array(16_384), taken = new Uint8Array(262_144);
    const write = async () => {
      for (;; await pause(1)) await sender.write(block);
    };
    const read = async () => {
      for (let n = await receiver.read(taken); n !== null; n = await receiver.read(taken)) this.received += n;
    };
    this.#done = Promise.allSettled([write(), read()]).then(() => {});
  }

  static async open(hosts: TwoHosts): Promise<Bulk> {
    const options = { hostname: hosts.b.address(1), port: 5534 };
    let listener: Deno.TcpListener | undefined, connecting: Promise<Deno.TcpConn> | undefined;
    hosts.b.in(() => {
      listener = Deno.listen(options);
    });
    const accepting = listener!.accept();
    hosts.a.in(() => {
      connecting = Deno.connect(options);
    });
    const bulk = new Bulk(await connecting!, await accepting);
    listener!.close();
    return bulk;
  }

  /** Waits until so much more has arrived. Returns how long that took, in ms. */
  async more(octets: number): Promise<number> {
    const began = monotonicNow(), end = this.received + octets;
    while (this.received < end) {
      assert(monotonicNow() - began < 10_000, "the stream stands still");
      await pause(1);
    }
    return monotonicNow() - began;
  }

  async close(): Promise<void> {
    for (const end of this.#ends) end.close();
    await this.#done;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function test(name: string, fn: (hosts: TwoHosts, datapath: HostsDatapath, bulk: Bulk) => Promise<void>): void {
  Deno.test({
    name,
    ignore: needsRoot || bpfRefused,
    async fn() {
      using hosts = twoHosts(2);
      using datapath = openDatapath(hosts);
      const bulk = await Bulk.open(hosts);
      try {
        await bulk.more(1 << 20);
        await fn(hosts, datapath, bulk);
      } finally {
        await bulk.close();
      }
    },
  });
}

/** B takes nothing any more from a link and sends nothing there; A notices nothing of it. */
function kill(hosts: TwoHosts, link: number): void {
  hosts.b.in(() => writeSysctl(`net/ipv6/conf/eth${link}/disable_ipv6`, 1));
}

/** Waits until the host's connection has been acknowledged nothing for so long. Returns for how long, in ms. */
async function silence(host: Host, leastMs: number): Promise<number> {
  const diag = host.in(() => new TcpDiag());
  try {
    for (;; await pause(5)) {
      const found: TcpConnection[] = [];
      diag.connections((connection) => found.push(connection));
      const state = found.length === 0 ? undefined : diag.state(found[0]);
      if (state !== undefined && state.unacknowledged > 0 && state.sinceAckMs >= leastMs) return state.sinceAckMs;
    }
  } finally {
    diag.close();
  }
}

/** Link `from` dies, and soon both hosts change to link `to`: the stream goes on, and its timer has no part in it. */
async function failOver(
  hosts: TwoHosts,
  datapath: HostsDatapath,
  bulk: Bulk,
  from: number,
  to: number,
): Promise<void> {
  const timeouts = tcpCounter(hosts.a, "TCPTimeouts");
  kill(hosts, from);
  const sinceAckMs = await silence(hosts.a, 40);
  const dead = monotonicNow() - sinceAckMs;
  datapath.setPath("b", to);
  datapath.setPath("a", to, { lost: true });
  while (hosts.a.in(() => datapath.a.repeatLost(monotonicNow())) < Infinity) await pause(1);
  const isInTime = monotonicNow() - dead < LEAST_TIMEOUT;
  await bulk.more(1 << 20);
  if (isInTime) assertEquals(tcpCounter(hosts.a, "TCPTimeouts"), timeouts);
  else console.log("the machine was too slow to tell whether TCP's timer has gone off before");
}

test("after a failure TCP repeats at once what was lost, without its timer", async (hosts, datapath, bulk) => {
  await failOver(hosts, datapath, bulk, 1, 2);
  assertEquals(datapath.a.counters()["nudged-connections"], 1);
});

test(
  "on the way back to the ULID pair, too, and the kernel's own path keeps its MTU",
  async (hosts, datapath, bulk) => {
    datapath.translate(2);
    await bulk.more(1 << 20);
    await failOver(hosts, datapath, bulk, 2, 1);
    // Rarely B answers something that it had before its path changed, and TCP goes on by itself.
    assert(datapath.a.counters()["nudged-connections"] <= 1);
    const route = hosts.a.netlink.lookupRoute(hosts.b.address(1), { source: hosts.a.address(1) });
    assertEquals([route?.dev, route?.mtu], [hosts.a.netlink.link("eth1")!.index, undefined]);
  },
);

test("a path that was changed without a failure makes TCP repeat nothing", async (hosts, datapath, bulk) => {
  datapath.translate(2);
  assertEquals(hosts.a.in(() => datapath.a.repeatLost(monotonicNow())), Infinity);
  await bulk.more(1 << 20);
  assertEquals(datapath.a.counters()["nudged-connections"], 0);
});

test("a stream that is answered all the time is left alone", async (hosts, datapath, bulk) => {
  // A machine that stands still for longer than a silence may last makes an attempt worthless.
  let isLeftAlone = false;
  for (let attempt = 0; attempt < 5 && !isLeftAlone; attempt++) {
    const before = datapath.a.counters()["nudged-connections"], link = attempt % 2 === 0 ? 2 : 1;
    datapath.setPath("b", link);
    datapath.setPath("a", link, { lost: true });
    for (let i = 0; i < 60; i++) {
      hosts.a.in(() => datapath.a.repeatLost(monotonicNow()));
      await pause(1);
    }
    isLeftAlone = datapath.a.counters()["nudged-connections"] === before;
  }
  assert(isLeftAlone);
  await bulk.more(1 << 20);
});
