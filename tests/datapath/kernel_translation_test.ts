import { assert, assertEquals, assertGreater, assertGreaterOrEqual, assertThrows } from "@std/assert";
import { countTcxPrograms } from "deno-tun";
import { noActivity } from "../../datapath/accounting.ts";
import { DatapathError, type TunDatapath } from "../../datapath/tun_datapath.ts";
import { bpfRefused } from "./bpf_allowed.ts";
import {
  assertCounts,
  CONTEXT,
  type HostsDatapath,
  openDatapath,
  TAG_A,
  TAG_B,
  WORKER_MODULE,
} from "./hosts_datapath.ts";
import { Datagrams, transferTcp, until } from "./sockets.ts";
import { needsRoot, type TwoHosts, twoHosts } from "./two_hosts.ts";

type Translation = "loop" | "kernel";

/** Runs a test on two hosts, where host B translates as `peer` says. */
function test(name: string, peer: Translation, fn: (hosts: TwoHosts, datapath: HostsDatapath) => void): void {
  Deno.test({
    name: `kernel and ${peer}: ${name}`,
    ignore: needsRoot || bpfRefused,
    fn() {
      using hosts = twoHosts(2);
      using datapath = openDatapath(hosts, { translation: "kernel" }, { translation: peer });
      fn(hosts, datapath);
    },
  });
}

/** A pair of UDP sockets between the ULIDs. */
function sockets(hosts: TwoHosts) {
  const ours = new Datagrams(hosts.a, hosts.a.address(1), 5000);
  const theirs = new Datagrams(hosts.b, hosts.b.address(1), 6000);
  return {
    ours,
    theirs,
    /** Datagrams there and back. */
    exchange(length: number, count = 1) {
      ours.send(theirs, length, count);
      theirs.receive(count);
      theirs.send(ours, length, count);
      ours.receive(count);
    },
    [Symbol.dispose]() {
      ours[Symbol.dispose]();
      theirs[Symbol.dispose]();
    },
  };
}

function count(datapath: TunDatapath, counter: string): number {
  return datapath.counters()[counter];
}

for (const peer of ["kernel", "loop"] as const) {
  test("datagrams of all sizes go by another pair and come back", peer, (hosts, datapath) => {
    datapath.translate(2);
    using udp = sockets(hosts);
    udp.exchange(0);
    udp.exchange(100, 10);
    udp.exchange(1492 - 48);
    udp.exchange(20_000); // fragments
    const fragments = Math.ceil(20_008 / (1492 - 48));
    for (const host of [datapath.a, datapath.b]) {
      for (const counter of ["translated-out", "translated-in"]) assertCounts(host, counter, 12 + fragments);
    }
  });
}

for (const peer of ["kernel", "loop"] as const) {
  test("a TCP stream goes by another pair, and goes on when the pair changes", peer, (hosts, datapath) => {
    const octets = 2 << 20;
    const ends = [hosts.a, hosts.b].map((host) => ({ host, address: host.address(1) }));
    let port = 7000;
    for (const link of [2, 1, 2]) {
      datapath.translate(link);
      transferTcp(ends[0], ends[1], port++, octets);
      transferTcp(ends[1], ends[0], port++, octets);
    }
    assertGreater(count(datapath.a, "translated-out"), octets / 1500);
  });
}

test("activity of translated payload is that of native payload", "kernel", (hosts, datapath) => {
  datapath.translate(2);
  using udp = sockets(hosts);
  udp.exchange(100, 3);
  udp.ours.send(udp.theirs, 100);
  udp.theirs.receive(1);
  const a = noActivity(), b = noActivity();
  until("both have counted", () => {
    assert(datapath.a.readActivity(CONTEXT, a) && datapath.b.readActivity(CONTEXT, b));
    return b.receivedPackets === 4;
  });
  assertEquals([a.sentPackets, a.sentBytes], [4, 4 * 148]);
  assertEquals([a.receivedPackets, a.receivedBytes], [3, 3 * 148]);
  assertEquals([b.receivedPackets, b.receivedBytes], [4, 4 * 148]);
  assertGreater(a.lastSent, a.lastReceived);
  assertGreater(a.firstUnanswered, a.lastReceived);
  assertEquals(a.firstUnreplied, 0);
  assertEquals(b.firstUnanswered, 0);
});

test("while a path is in doubt copies are kept, and released on the new pair", "kernel", (hosts, datapath) => {
  using udp = sockets(hosts);
  udp.exchange(100);
  datapath.setPath("a", 1, { hold: true });
  hosts.a.netlink.setLink("eth1", { up: false });
  udp.ours.send(udp.theirs, 100, 5);
  until(
    "the packets are in the loop",
    () => count(datapath.a, "sent-unchanged") + count(datapath.a, "dropped-send-failed") >= 5,
  );
  datapath.setPath("a", 2, { release: true });
  udp.theirs.receive(5);
  assertCounts(datapath.a, "released", 5);
  udp.ours.send(udp.theirs, 100, 3);
  udp.theirs.receive(3);
  assertCounts(datapath.a, "translated-out", 8);
  assertEquals(datapath.a.name, "bpf");
});

test(
  "a smaller path is told to the sender, and packets that do not fit are not lost in silence",
  "kernel",
  (hosts, datapath) => {
    datapath.translate(2);
    using udp = sockets(hosts);
    udp.exchange(1400);
    hosts.a.in(() => datapath.a.setPathMtu({ local: hosts.a.address(2), peer: hosts.b.address(2) }, 1300));
    udp.ours.send(udp.theirs, 1400);
    udp.theirs.receive(1);
    assertCounts(datapath.a, "translated-out", 3);
  },
);

test("new tags count from now on", "kernel", (hosts, datapath) => {
  datapath.translate(2);
  using udp = sockets(hosts);
  udp.exchange(100);
  hosts.a.in(() => datapath.a.retag(CONTEXT, TAG_A + 1, TAG_B));
  udp.theirs.send(udp.ours, 100);
  until("a notice", () => {
    const notice = datapath.a.nextNotice();
    return notice?.type === "unknown-tag" && notice.tag === TAG_A && notice.source === hosts.b.address(2);
  });
  hosts.b.in(() => datapath.b.retag(CONTEXT, TAG_B, TAG_A + 1));
  udp.exchange(100);
  assertCounts(datapath.a, "dropped-unknown-tag", 1);
});

test("one direction translated and the other native", "kernel", (hosts, datapath) => {
  datapath.setPath("a", 2);
  datapath.setPath("b", 1);
  using udp = sockets(hosts);
  udp.exchange(100, 4);
  assertEquals([count(datapath.a, "translated-out"), count(datapath.a, "translated-in")], [4, 0]);
  assertEquals([count(datapath.b, "translated-out"), count(datapath.b, "translated-in")], [0, 4]);
  const activity = noActivity();
  datapath.a.readActivity(CONTEXT, activity);
  assertEquals([activity.sentPackets, activity.receivedPackets, activity.firstUnanswered], [4, 4, 0]);
});

Deno.test({
  name: "kernel: closing removes device and programs, and opening again finds a clean house",
  ignore: needsRoot || bpfRefused,
  fn() {
    using hosts = twoHosts(2);
    const programs = () =>
      hosts.a.in(() =>
        hosts.a.netlink.links().map(({ index }) =>
          countTcxPrograms(index, "ingress") + countTcxPrograms(index, "egress")
        ).reduce((sum, n) => sum + n)
      );
    const links = hosts.a.netlink.links().length;
    for (let i = 0; i < 2; i++) {
      const datapath = openDatapath(hosts, { translation: "kernel" });
      assertEquals(programs(), 2 * 3 + 1); // accounting both ways and translation at two interfaces, and the device
      assertEquals(hosts.a.netlink.links().length, links + 3);
      datapath[Symbol.dispose]();
      assertEquals(programs(), 0);
      assertEquals(hosts.a.netlink.links().length, links);
      assertGreaterOrEqual(count(datapath.a, "translated-out"), 0);
    }
  },
});

Deno.test({
  name: "kernel where it can: without eBPF the loop translates alone, and says why",
  ignore: needsRoot || bpfRefused,
  fn() {
    using hosts = twoHosts(2);
    assertThrows(() => openDatapath(hosts, { translation: "kernel", accounting: "tap" }), DatapathError, "asked for");
    using datapath = openDatapath(hosts, { translation: "auto" }, { translation: "auto", accounting: "tap" });
    assertEquals([datapath.a.name, datapath.a.translationReason], ["bpf", undefined]);
    assertEquals([datapath.b.name, datapath.b.translationReason], ["tun", "asked for"]);
    assertEquals(hosts.b.netlink.link("shim0")!.kind, "tun");
    datapath.translate(2);
    using udp = sockets(hosts);
    udp.exchange(100, 3);
  },
});

Deno.test({
  name: "kernel: when the process is killed the native path is back as soon as the leases lapse",
  ignore: needsRoot || bpfRefused,
  async fn() {
    using hosts = twoHosts(2);
    const pair = (link: number) => ({ local: hosts.a.address(link), peer: hosts.b.address(link) });
    const locator = (link: number) => ({
      address: hosts.a.address(link),
      interfaceIndex: hosts.a.netlink.link(`eth${link}`)!.index,
      interfaceName: `eth${link}`,
      usable: true,
      deprecated: false,
    });
    const script = `
      import { TunDatapath } from ${JSON.stringify(import.meta.resolve("../../datapath/tun_datapath.ts"))};
      const datapath = new TunDatapath({
        moduleUrl: ${JSON.stringify(WORKER_MODULE)}, excludedPorts: [], translation: "kernel",
      });
      datapath.setLocators(${JSON.stringify([locator(1), locator(2)])});
      datapath.addContext({ id: 1, ulid: ${JSON.stringify(pair(1))}, localTag: 1, peerTag: 2, fii: 0 });
      datapath.setPath(1, { pair: ${JSON.stringify(pair(2))}, hold: false, release: false });
      setInterval(() => datapath.renewLeases(), 300);
      console.log("steered");
    `;
    let child: Deno.ChildProcess | undefined;
    const config = new URL(import.meta.resolve("../../deno.json")).pathname;
    hosts.a.in(() => {
      child = new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--no-check", "--config", config, "--ext=ts", "-"],
        stdin: "piped",
        stdout: "piped",
      }).spawn();
    });
    const writer = child!.stdin.getWriter();
    await writer.write(new TextEncoder().encode(script));
    await writer.close();
    const reader = child!.stdout.getReader();
    await reader.read();
    const device = () => hosts.a.netlink.lookupRoute(hosts.b.address(1), { source: hosts.a.address(1) })?.dev;
    assertEquals(device(), hosts.a.netlink.link("shim0")!.index);
    child!.kill("SIGKILL");
    await child!.status;
    await reader.cancel();
    until("the native path", () => device() === hosts.a.netlink.link("eth1")!.index, 4000);
    using udp = sockets(hosts);
    udp.exchange(100);
    using datapath = openDatapath(hosts, { translation: "kernel" }); // takes what is left away
    datapath.translate(2);
    udp.exchange(100);
  },
});
