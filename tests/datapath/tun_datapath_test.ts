import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  closeFd,
  monotonicNow,
  openSender,
  PayloadReceiver,
  PollEvent,
  PollSet,
  type Sender,
  stableBytes,
  SystemError,
} from "deno-tun";
import { libc } from "../../ffi/libc.ts";
import { noActivity } from "../../datapath/accounting.ts";
import type { DatapathNotice } from "../../datapath/datapath.ts";
import { PacketMemory } from "../../datapath/packet_memory.ts";
import { TunDatapath } from "../../datapath/tun_datapath.ts";
import { parseAddress } from "../../wire/address.ts";
import {
  assertCounts,
  CONTEXT,
  type HostsDatapath,
  openDatapath,
  setLocators,
  TAG_A,
  TAG_B,
  WORKER_MODULE,
} from "./hosts_datapath.ts";
import { bpfRefused } from "./bpf_allowed.ts";
import { ipv6, pattern, udp } from "./packets.ts";
import { type Host, needsRoot, type TwoHosts, twoHosts } from "./two_hosts.ts";

const PORT = 5533;

/** Both backends: the packet loop alone, and the kernel before it. */
const BACKENDS = [["tun", "loop"], ["bpf", "kernel"]] as const;

function test(name: string, fn: (hosts: TwoHosts, datapath: HostsDatapath) => Promise<void> | void): void {
  for (const [backend, translation] of BACKENDS) {
    Deno.test({
      name: `${backend}: ${name}`,
      ignore: needsRoot || backend === "bpf" && bpfRefused,
      async fn() {
        using hosts = twoHosts(2);
        using datapath = openDatapath(hosts, { translation });
        await fn(hosts, datapath);
      },
    });
  }
}

/** A TCP connection between the addresses of link 1. */
async function connect(hosts: TwoHosts): Promise<{ a: Deno.TcpConn; b: Deno.TcpConn; [Symbol.dispose](): void }> {
  let listener: Deno.TcpListener | undefined, connecting: Promise<Deno.TcpConn> | undefined;
  hosts.b.in(() => {
    listener = Deno.listen({ hostname: hosts.b.address(1), port: PORT });
  });
  const accepting = listener!.accept();
  hosts.a.in(() => {
    connecting = Deno.connect({ hostname: hosts.b.address(1), port: PORT });
  });
  const [a, b] = await Promise.all([connecting!, accepting]);
  listener!.close();
  return {
    a,
    b,
    [Symbol.dispose]() {
      a.close();
      b.close();
    },
  };
}

async function send(conn: Deno.TcpConn, octets: Uint8Array): Promise<void> {
  for (let at = 0; at < octets.length;) at += await conn.write(octets.subarray(at));
}

async function read(conn: Deno.TcpConn, length: number): Promise<Uint8Array> {
  const octets = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const n = await conn.read(octets.subarray(at));
    if (n === null) break;
    at += n;
  }
  return octets;
}

/** Sends `octets` from A to B and an equal amount back, and checks that it arrives unharmed. */
async function exchange(connection: { a: Deno.TcpConn; b: Deno.TcpConn }, length: number): Promise<void> {
  const there = pattern(length, 3), back = pattern(length, 4);
  const [, , atB, atA] = await Promise.all([
    send(connection.a, there),
    send(connection.b, back),
    read(connection.b, length),
    read(connection.a, length),
  ]);
  assert(there.every((octet, i) => octet === atB[i]), "A to B");
  assert(back.every((octet, i) => octet === atA[i]), "B to A");
}

/** A UDP socket between the addresses of link 1. */
class Datagrams {
  readonly #fd: number;
  readonly #buffer = stableBytes(10_000);
  readonly #set = new PollSet();

  constructor(host: Host, peer: Host) {
    this.#fd = host.in(() => libc().socket(10, 0x80802, 0));
    const name = (address: string) => {
      const octets = stableBytes(28);
      octets[0] = 10;
      new DataView(octets.buffer).setUint16(2, PORT);
      octets.set(parseAddress(address), 8);
      return octets;
    };
    assertEquals(libc().bind(this.#fd, name(host.address(1)), 28), 0);
    assertEquals(libc().connect(this.#fd, name(peer.address(1)), 28), 0);
    this.#set.set(this.#fd, PollEvent.IN);
  }

  send(octets: Uint8Array): void {
    this.#buffer.set(octets);
    assertEquals(libc().write(this.#fd, this.#buffer, octets.length), octets.length);
  }

  /** Has the kernel cut what is sent into datagrams of this length, at the last moment (UDP_SEGMENT). */
  segment(length: number): void {
    const octets = stableBytes(4);
    new DataView(octets.buffer).setInt32(0, length, true);
    assertEquals(libc().setsockopt(this.#fd, 17, 103, octets, 4), 0);
  }

  receive(): Uint8Array {
    assertEquals(this.#set.wait(3000), 1);
    return this.#buffer.slice(0, libc().recv(this.#fd, this.#buffer, 10_000, 0));
  }

  [Symbol.dispose](): void {
    closeFd(this.#fd);
  }
}

/** A raw socket of a protocol that nobody uses, to see whole packets with all their header fields. */
const EXPERIMENT = 253;
class Observer {
  readonly fd: number;
  readonly #memory = new PacketMemory(1 << 18);
  readonly #receiver: PayloadReceiver;

  constructor(host: Host) {
    this.fd = host.in(() => libc().socket(10, 0x80803, EXPERIMENT));
    const one = stableBytes(4);
    one[0] = 1;
    for (const option of [11, 49, 51]) libc().setsockopt(this.fd, 41, option, one, 4);
    this.#receiver = new PayloadReceiver(this.fd, this.#memory, 16, 4096);
  }

  /** The next packets, at most 16, waiting for at most `timeoutMs`. */
  next(timeoutMs = 2000) {
    const set = new PollSet();
    set.set(this.fd, PollEvent.IN);
    set.wait(timeoutMs);
    return Array.from({ length: this.#receiver.receive() }, (_, i) => ({
      payload: this.#memory.bytes.slice(
        this.#receiver.offset(i),
        this.#receiver.offset(i) + this.#receiver.length(i),
      ),
      flowInfo: this.#receiver.flowInfo(i),
      hopLimit: this.#receiver.hopLimit(i),
    }));
  }

  [Symbol.dispose](): void {
    closeFd(this.fd);
  }
}

/** Sends whole packets, by the routing of a socket that is bound to `address` only, so that steering applies. */
function openInjector(host: Host, address: string): Sender {
  return host.in(() => openSender(address, undefined));
}

function stable(octets: Uint8Array): Uint8Array {
  const copy = stableBytes(octets.length);
  copy.set(octets);
  return copy;
}

async function until(condition: () => boolean, what: string, timeoutMs = 3000): Promise<void> {
  const end = monotonicNow() + timeoutMs;
  while (!condition()) {
    assert(monotonicNow() < end, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function activity(datapath: TunDatapath) {
  const into = noActivity();
  assert(datapath.readActivity(CONTEXT, into));
  return into;
}

test("TCP goes on, octet by octet, while its path changes there and back", async (hosts, datapath) => {
  using connection = await connect(hosts);
  for (const link of [1, 2, 1, 2]) {
    datapath.translate(link);
    await exchange(connection, 500_000);
  }
  // The last acknowledgements may be on their way still when the programs have read everything.
  await until(
    () => datapath.a.counters()["translated-in"] === datapath.b.counters()["translated-out"],
    "all that B sent is counted at A",
  );
  const { a, b } = { a: datapath.a.counters(), b: datapath.b.counters() };
  assert(a["translated-out"] > 500 && b["translated-out"] > 500);
  for (const counters of [a, b]) {
    for (const [name, n] of Object.entries(counters)) {
      if (name.startsWith("dropped")) assertEquals([name, n], [name, 0]);
    }
  }
});

test("a path may differ in each direction", async (hosts, datapath) => {
  using connection = await connect(hosts);
  datapath.setPath("a", 2);
  await exchange(connection, 500_000);
  assert(datapath.b.counters()["translated-in"] > 300);
  assertEquals(datapath.b.counters()["translated-out"], 0);
});

test("UDP passes, small and in datagrams that are fragmented", (hosts, datapath) => {
  datapath.translate(2);
  using a = new Datagrams(hosts.a, hosts.b), b = new Datagrams(hosts.b, hosts.a);
  for (const length of [0, 1, 64, 1444, 1445, 4000, 9000]) {
    const octets = pattern(length);
    a.send(octets);
    assertEquals(b.receive(), octets);
    b.send(octets);
    assertEquals(a.receive(), octets);
  }
  assert(datapath.a.counters()["translated-out"] >= 14);
});

test(
  "super-packets of UDP are cut into datagrams, and these into fragments where the path is narrow",
  (hosts, datapath) => {
    using a = new Datagrams(hosts.a, hosts.b), b = new Datagrams(hosts.b, hosts.a);
    const octets = pattern(8000);
    const check = (length: number) => {
      a.segment(length);
      a.send(octets);
      const expected: string[] = [], received: string[] = [];
      for (let at = 0; at < octets.length; at += length) {
        expected.push(octets.slice(at, at + length).toBase64());
        received.push(b.receive().toBase64());
      }
      // In any order: the last one may be short enough to go unfragmented, which is quicker.
      assert(expected.sort().join() === received.sort().join(), `datagrams of ${length}`);
    };
    datapath.translate(2);
    check(1000);
    check(1444);
    assertCounts(datapath.a, "translated-out", 8 + 6);
    hosts.a.in(() => datapath.a.setPathMtu({ local: hosts.a.address(2), peer: hosts.b.address(2) }, 1280));
    check(1224);
    assertEquals(datapath.a.counters().fragmented, 0);
    check(1232);
    assertCounts(datapath.a, "fragmented", 6); // all but the last one
  },
);

test(
  "traffic class, flow label and hop limit pass, and any protocol, behind any extension header",
  (hosts, datapath) => {
    datapath.translate(2);
    using observer = new Observer(hosts.b);
    const sender = openInjector(hosts.a, hosts.a.address(1));
    const addresses = { source: hosts.a.address(1), destination: hosts.b.address(1) };
    const options = Uint8Array.from([EXPERIMENT, 0, 1, 4, 0, 0, 0, 0]); // one PadN
    try {
      const check = (packet: Uint8Array, payload: Uint8Array) => {
        assertEquals(sender.send(stable(packet)), 0);
        const [received, ...others] = observer.next();
        assertEquals(others, []);
        assertEquals(received, { payload, flowInfo: 0x4523310b, hopLimit: 33 });
      };
      const fields = { ...addresses, flow: 0xb312345, hopLimit: 33 }; // DSCP 46, congestion experienced, label 12345
      check(ipv6(EXPERIMENT, pattern(77), fields), pattern(77));
      check(ipv6(0, Uint8Array.from([...options, ...pattern(30)]), fields), pattern(30));
      check(ipv6(60, Uint8Array.from([...options, ...pattern(31)]), fields), pattern(31));
      const both = options.slice();
      both[0] = 60;
      check(ipv6(0, Uint8Array.from([...both, ...options, ...pattern(32)]), fields), pattern(32));
    } finally {
      sender.close();
    }
    assertCounts(datapath.a, "translated-out", 4);
  },
);

test("a host answers echoes of any length", async (hosts, datapath) => {
  datapath.translate(2);
  const fd = hosts.a.in(() => libc().socket(10, 0x80803, 58));
  const address = stableBytes(28);
  address[0] = 10;
  address.set(parseAddress(hosts.a.address(1)), 8);
  libc().bind(fd, address, 28);
  address.set(parseAddress(hosts.b.address(1)), 8);
  try {
    for (const length of [56, 1444, 4000]) {
      const request = stableBytes(8 + length);
      request[0] = 128;
      request.set(pattern(length), 8);
      assertEquals(libc().sendto(fd, request, request.length, 0, address, 28), 8 + length);
      const answer = stableBytes(8192);
      let received = -1;
      await until(() => (received = libc().recv(fd, answer, 8192, 0)) > 0 && answer[0] === 129, `echo of ${length}`);
      assertEquals(received, 8 + length);
      assertEquals(answer.slice(8, received), pattern(length));
    }
  } finally {
    closeFd(fd);
  }
  assertEquals(datapath.a.counters()["dropped-malformed"], 0);
});

test("a path of 1280 octets carries TCP, datagrams and fragments", async (hosts, datapath) => {
  using connection = await connect(hosts);
  for (const host of [hosts.a, hosts.b]) host.netlink.setLink("eth2", { mtu: 1280 });
  setLocators(hosts.a, datapath.a, 2);
  setLocators(hosts.b, datapath.b, 2);
  datapath.translate(2);
  await exchange(connection, 500_000);
  assertEquals(datapath.a.counters()["fragmented"], 0); // segments of TCP are made smaller
  using a = new Datagrams(hosts.a, hosts.b), b = new Datagrams(hosts.b, hosts.a);
  for (const length of [1224, 1225, 1232, 1233, 3000]) {
    const octets = pattern(length);
    a.send(octets);
    assertEquals(b.receive(), octets);
  }
  assert(datapath.a.counters()["fragmented"] > 0);
  assertEquals(datapath.a.counters()["dropped-send-failed"], 0);
});

test("when a path turns out to be narrow, what is sent becomes smaller", async (hosts, datapath) => {
  using connection = await connect(hosts);
  datapath.translate(2);
  await exchange(connection, 200_000);
  // From now on the receiving ends of link 2 refuse more than 1400 octets, as a router on the way would.
  for (const host of [hosts.a, hosts.b]) host.netlink.setLink("eth2", { mtu: 1400 });
  const pair = (from: Host, peer: Host) => ({ local: from.address(2), peer: peer.address(2) });
  hosts.a.in(() => datapath.a.setPathMtu(pair(hosts.a, hosts.b), 1400));
  hosts.b.in(() => datapath.b.setPathMtu(pair(hosts.b, hosts.a), 1400));
  await exchange(connection, 500_000);
  assertEquals(datapath.a.counters()["dropped-send-failed"], 0);
  assertEquals(hosts.a.netlink.lookupRoute(hosts.b.address(1), { source: hosts.a.address(1) })?.mtu, 1392);
});

test("a device that became narrower is noticed", async (hosts, datapath) => {
  using connection = await connect(hosts);
  datapath.translate(2);
  await exchange(connection, 100_000);
  hosts.a.netlink.setLink("eth2", { mtu: 1400 });
  await send(connection.a, pattern(50_000));
  await until(() => datapath.a.counters()["dropped-send-failed"] > 0, "a packet that is too long");
  let notice: DatapathNotice | undefined;
  await until(() => (notice = hosts.a.in(() => datapath.a.nextNotice())) !== undefined, "notice");
  assertEquals(notice, {
    type: "packet-too-big",
    pair: { local: hosts.a.address(2), peer: hosts.b.address(2) },
    mtu: 1400,
  });
  assertEquals(await read(connection.b, 50_000), pattern(50_000));
});

test(
  "a datagram that must not be fragmented is answered with Packet Too Big from the peer's ULID",
  (hosts, datapath) => {
    datapath.translate(2);
    hosts.a.in(() => datapath.a.setPathMtu({ local: hosts.a.address(2), peer: hosts.b.address(2) }, 1400));
    const icmp = hosts.a.in(() => libc().socket(10, 0x80803, 58));
    const sender = openInjector(hosts.a, hosts.a.address(1));
    try {
      const addresses = { source: hosts.a.address(1), destination: hosts.b.address(1) };
      const packet = udp(pattern(1392 - 47), addresses);
      assertEquals(sender.send(stable(packet)), 0);
      const set = new PollSet();
      set.set(icmp, PollEvent.IN);
      const answer = stableBytes(2048);
      let length = 0;
      do {
        assertEquals(set.wait(2000), 1);
        length = libc().recv(icmp, answer, 2048, 0);
      } while (answer[0] !== 2);
      assertEquals(new DataView(answer.buffer).getUint32(4), 1392);
      assertEquals(answer.slice(8, length), packet.slice(0, 1280 - 48));
    } finally {
      closeFd(icmp);
      sender.close();
    }
  },
);

test("activity is accounted for on both ways together", async (hosts, datapath) => {
  using a = new Datagrams(hosts.a, hosts.b), b = new Datagrams(hosts.b, hosts.a);
  const exchangeOne = () => {
    a.send(pattern(100));
    b.receive();
  };
  exchangeOne();
  const native = activity(datapath.a);
  assertEquals([native.sentPackets, native.sentBytes, native.receivedPackets], [1, 148, 0]);
  assert(native.firstUnanswered > 0);
  datapath.translate(2);
  exchangeOne();
  const both = activity(datapath.a);
  assertEquals([both.sentPackets, both.sentBytes], [2, 296]);
  assertEquals(both.firstUnanswered, native.firstUnanswered);
  assert(both.lastSent > native.lastSent);
  // B answers by its own way; A waits for nothing any more.
  datapath.setPath("b", 1);
  b.send(pattern(10));
  a.receive();
  await until(() => activity(datapath.a).receivedPackets === 1, "the answer in the accounts");
  const answered = activity(datapath.a);
  assertEquals([answered.firstUnanswered, answered.firstUnreplied], [0, answered.lastReceived]);
  // An answer awaited on one way stays awaited since then, however often that way is used.
  exchangeOne();
  const first = activity(datapath.a).firstUnanswered;
  exchangeOne();
  exchangeOne();
  assertEquals(activity(datapath.a).firstUnanswered, first);
});

test(
  "while the path is in doubt packets still leave, and their copies are released on the new path",
  async (hosts, datapath) => {
    using a = new Datagrams(hosts.a, hosts.b), b = new Datagrams(hosts.b, hosts.a);
    // Link 1 is dead one way: B's interface takes nothing from A, but A's is up.
    datapath.setPath("a", 1, { hold: true });
    a.send(pattern(10));
    assertEquals(b.receive(), pattern(10)); // the path lives: nothing is withheld
    b.send(pattern(5));
    a.receive(); // heard of the peer: what was sent before need not be repeated
    await until(() => activity(datapath.a).receivedPackets === 1, "the answer in the accounts");

    hosts.b.netlink.setLink("eth1", { up: false });
    for (const n of [20, 21, 22]) a.send(pattern(n));
    await until(
      () => datapath.a.counters()["sent-unchanged"] + datapath.a.counters()["dropped-send-failed"] >= 4,
      "held",
    );
    assertEquals(datapath.b.counters()["translated-in"], 0);
    datapath.setPath("a", 2, { release: true });
    for (const n of [20, 21, 22]) assertEquals(b.receive(), pattern(n));
    assertCounts(datapath.a, "released", 3);
    a.send(pattern(30));
    assertEquals(b.receive(), pattern(30));
  },
);

test(
  "copies leave on a second way as long as the path is in doubt, those first that may have been lost",
  (hosts, datapath) => {
    using a = new Datagrams(hosts.a, hosts.b), b = new Datagrams(hosts.b, hosts.a);
    const copyTo = { local: hosts.a.address(2), peer: hosts.b.address(2) };
    datapath.setPath("a", 1, { hold: true });
    hosts.b.netlink.setLink("eth1", { up: false });
    a.send(pattern(20));
    a.send(pattern(21));
    datapath.setPath("a", 1, { hold: true, copyTo });
    for (const n of [20, 21]) assertEquals(b.receive(), pattern(n));
    a.send(pattern(22));
    assertEquals(b.receive(), pattern(22));
    assertCounts(datapath.a, "copied", 3);
    datapath.setPath("a", 2);
    a.send(pattern(23));
    assertEquals(b.receive(), pattern(23));
    assertCounts(datapath.a, "copied", 3);
  },
);

test("a context on hold that sends after a pause is told of, once", async (hosts, datapath) => {
  using a = new Datagrams(hosts.a, hosts.b), _b = new Datagrams(hosts.b, hosts.a);
  datapath.setPath("a", 1, { hold: true });
  const set = new PollSet();
  set.set(datapath.a.noticeFd, PollEvent.IN);
  for (let pause = 0; pause < 2; pause++) {
    a.send(pattern(20));
    a.send(pattern(21));
    assertEquals(set.wait(2000), 1);
    assertEquals(datapath.a.nextNotice(), { type: "resumed" });
    assertEquals(datapath.a.nextNotice(), undefined);
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
});

test("TCP resumes at once after a release", async (hosts, datapath) => {
  using connection = await connect(hosts);
  await exchange(connection, 10_000);
  datapath.setPath("a", 1, { hold: true });
  hosts.b.netlink.setLink("eth1", { up: false });
  await send(connection.a, pattern(5_000));
  // Long enough for TCP's own timer to be slow: 200, 400, 800 ms.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const started = monotonicNow();
  datapath.setPath("b", 2);
  datapath.setPath("a", 2, { release: true });
  assertEquals(await read(connection.b, 5_000), pattern(5_000));
  assert(monotonicNow() - started < 150, `${monotonicNow() - started} ms`);
  await exchange(connection, 100_000);
});

test(
  "a payload header with an unknown tag is noticed, once per packet and never without bound",
  async (hosts, datapath) => {
    const sender = hosts.a.in(() => openSender(hosts.a.address(2), "eth2"));
    try {
      const addresses = { source: hosts.a.address(2), destination: hosts.b.address(2) };
      const packet = stable(ipv6(140, Uint8Array.from([59, 0, 0x80, 0, 0, 0, 0xab, 0xcd]), addresses));
      sender.send(packet);
      const set = new PollSet();
      set.set(datapath.b.noticeFd, PollEvent.IN);
      assertEquals(set.wait(2000), 1);
      assertEquals(datapath.b.nextNotice(), {
        type: "unknown-tag",
        tag: 0xabcd,
        source: hosts.a.address(2),
        destination: hosts.b.address(2),
      });
      assertEquals(datapath.b.nextNotice(), undefined);
      assertEquals(set.wait(0), 0);
      for (let i = 0; i < 2000; i++) sender.send(packet);
      await until(() => datapath.b.counters()["dropped-unknown-tag"] === 2001, "2001 packets");
      let notices = 0;
      while (datapath.b.nextNotice() !== undefined) notices++;
      assert(notices >= 1 && notices <= 256);
      assertCounts(datapath.b, "notices-lost", 2000 - notices);
    } finally {
      sender.close();
    }
  },
);

test("new tags take the place of old ones", async (hosts, datapath) => {
  datapath.translate(2);
  using a = new Datagrams(hosts.a, hosts.b), b = new Datagrams(hosts.b, hosts.a);
  datapath.b.retag(CONTEXT, 42, TAG_A);
  datapath.a.retag(CONTEXT, TAG_A, 42);
  a.send(pattern(10));
  assertEquals(b.receive(), pattern(10));
  datapath.a.retag(CONTEXT, TAG_A, TAG_B);
  a.send(pattern(11));
  await until(() => datapath.b.counters()["dropped-unknown-tag"] === 1, "a packet with the old tag");
});

test("garbage of every kind is dropped and counted, and the loop goes on", async (hosts, datapath) => {
  datapath.translate(2);
  const sender = hosts.a.in(() => openSender(hosts.a.address(2), "eth2"));
  const injector = openInjector(hosts.a, hosts.a.address(1));
  const tag = [0x80 | 1, 2, 3, 4, 5, 6];
  const random = (length: number, i: number) => pattern(length, i * 7 + 1);
  try {
    for (let i = 0; i < 500; i++) {
      const between = { source: hosts.a.address(2), destination: hosts.b.address(2) };
      const noise = random(i % 90, i);
      sender.send(stable(ipv6(140, noise, between)));
      for (const next of [6, 17, 0, 43, 44, 60, 140, 58, i & 255]) {
        sender.send(stable(ipv6(140, Uint8Array.from([next, 0, ...tag, ...noise]), between)));
      }
      sender.send(stable(ipv6(140, Uint8Array.from([59, 1, ...tag, ...noise]), between)));
      const ulids = { source: hosts.a.address(1), destination: hosts.b.address(1) };
      for (const next of [0, 43, 60, 44, 6]) injector.send(stable(ipv6(next, random(i % 300, i), ulids)));
    }
    await until(() => datapath.b.counters()["dropped-nested"] >= 500, "nested headers");
    await until(() => datapath.b.counters()["dropped-malformed-in"] >= 500, "malformed headers");
    await until(() => datapath.a.counters()["dropped-malformed"] > 0, "malformed extension headers");
  } finally {
    sender.close();
    injector.close();
  }
  using connection = await connect(hosts);
  await exchange(connection, 100_000);
});

test("a locator that goes takes its sender along; packets are counted, not sent", async (hosts, datapath) => {
  datapath.translate(2);
  using a = new Datagrams(hosts.a, hosts.b), b = new Datagrams(hosts.b, hosts.a);
  a.send(pattern(1));
  b.receive();
  setLocators(hosts.a, datapath.a, 1);
  a.send(pattern(2));
  await until(() => datapath.a.counters()["dropped-no-sender"] === 1, "a packet without a sender");
  setLocators(hosts.a, datapath.a, 2);
  a.send(pattern(3));
  assertEquals(b.receive(), pattern(3));
});

test("many contexts come and go", (hosts, datapath) => {
  const { a } = datapath;
  hosts.a.in(() => {
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 3000; i++) {
        const ulid = { local: hosts.a.address(1), peer: `fd00:f::${(i + 1).toString(16)}` };
        a.addContext({ id: 100 + i, ulid, localTag: 1000 + i, peerTag: i, fii: 0 });
      }
      a.setPath(100, {
        pair: { local: hosts.a.address(2), peer: hosts.b.address(2) },
        hold: false,
        release: false,
      });
      for (let i = 0; i < 3000; i++) a.removeContext(100 + i);
    }
  });
  assertEquals(a.readActivity(100, noActivity()), false);
});

test(
  "a forked context is delivered what comes with its tag, and takes nothing from the one whose ULIDs it has",
  (hosts, datapath) => {
    const FORK = 2, FORK_TAG_B = 0x0a0b_0c0d_0e0f;
    const { a, b } = hosts;
    const ulid = { local: b.address(1), peer: a.address(1) };
    // The fork is there first, so that whoever looks for the ULID pair would find it.
    b.in(() => {
      datapath.b.removeContext(CONTEXT);
      datapath.b.addContext({ id: FORK, ulid, localTag: FORK_TAG_B, peerTag: 9, fii: 7 });
      datapath.b.addContext({ id: CONTEXT, ulid, localTag: TAG_B, peerTag: TAG_A, fii: 0 });
    });
    using there = new Datagrams(a, b), back = new Datagrams(b, a);
    const exchange = () => {
      there.send(pattern(500, 1));
      assertEquals(back.receive(), pattern(500, 1));
      back.send(pattern(500, 2));
      assertEquals(there.receive(), pattern(500, 2));
    };
    const packets = (id: number) => {
      const activity = noActivity();
      datapath.b.readActivity(id, activity);
      return [activity.sentPackets, activity.receivedPackets];
    };
    datapath.direct();
    exchange();
    assertEquals([packets(CONTEXT), packets(FORK)], [[1, 1], [0, 0]]);
    datapath.translate(2);
    exchange();
    assertEquals([packets(CONTEXT), packets(FORK)], [[2, 2], [0, 0]]);
    // Host A sends with the tag of the fork.
    a.in(() => datapath.a.retag(CONTEXT, TAG_A, FORK_TAG_B));
    there.send(pattern(300, 3));
    assertEquals(back.receive(), pattern(300, 3));
    assertEquals([packets(CONTEXT), packets(FORK)], [[2, 2], [0, 1]]);
    a.in(() => datapath.a.retag(CONTEXT, TAG_A, TAG_B));
    b.in(() => datapath.b.removeContext(FORK));
    exchange();
    assertEquals(packets(CONTEXT), [3, 3]);
  },
);

Deno.test({
  name: "closing leaves no device, route, rule, address or descriptor behind",
  ignore: needsRoot,
  async fn() {
    using hosts = twoHosts(2);
    const descriptors = () => [...Deno.readDirSync("/proc/self/fd")].length;
    const state = (host: Host) => ({
      links: host.netlink.links().map((link) => link.name),
      addresses: host.netlink.addresses().map((address) => address.address),
      routes: host.netlink.routes().length,
    });
    const run = () => {
      using datapath = openDatapath(hosts);
      datapath.translate(2);
      assert(hosts.a.netlink.link("shim0") !== undefined);
    };
    run();
    const before = [state(hosts.a), state(hosts.b)];
    run();
    assertEquals([state(hosts.a), state(hosts.b)], before);
    const fewest = descriptors();
    for (let i = 0; i < 3; i++) run();
    // The runtime closes a Worker's own descriptors when its thread has ended, a little later.
    await until(() => descriptors() <= fewest, "descriptors closed");
    assertEquals(hosts.a.netlink.link("shim0"), undefined);
  },
});

Deno.test({
  name: "what cannot be opened is said, and nothing is left of the attempt",
  ignore: needsRoot,
  async fn() {
    using hosts = twoHosts(1);
    const descriptors = () => [...Deno.readDirSync("/proc/self/fd")].length;
    const before = descriptors();
    hosts.a.in(() => {
      assertThrows(
        () => new TunDatapath({ moduleUrl: WORKER_MODULE, excludedPorts: [], deviceName: "no/name" }),
        SystemError,
        "EINVAL",
      );
    });
    // The Worker has started meanwhile, and its thread ends a little later.
    await until(() => descriptors() <= before, "descriptors closed");
    assertEquals(hosts.a.netlink.links().map((link) => link.name), ["lo", "eth1"]);
  },
});
