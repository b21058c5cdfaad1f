import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertLessOrEqual,
  assertThrows,
} from "@std/assert";
import {
  closeFd,
  closeNetns,
  countTcxPrograms,
  currentNetns,
  monotonicNow,
  openTun,
  stableBytes,
  SystemError,
  writeSysctl,
} from "deno-tun";
import { libc } from "../../ffi/libc.ts";
import { parseAddress } from "../../wire/address.ts";
import type { Activity, FlowObservation } from "../../shim6/api.ts";
import { type Accounting, MAX_CONTEXTS, mergeActivity, noActivity, openAccounting } from "../../datapath/accounting.ts";
import { bpfRefused } from "./bpf_allowed.ts";
import { Datagrams, transferTcp, until } from "./sockets.ts";
import { type Host, needsRoot, type TwoHosts, twoHosts } from "./two_hosts.ts";

type Backend = "ebpf" | "tap";
const EXCLUDED_PORTS = [53, 853];
const HEADERS = 40 + 8; // IPv6 and UDP

const inUserNamespace = !/^\s*0\s+0\s+4294967295/.test(Deno.readTextFileSync("/proc/self/uid_map"));
const backends: readonly Backend[] = bpfRefused ? ["tap"] : ["ebpf", "tap"];

/** The tap's time stamps are those of another clock, which is compared with ours now and then: ms. */
const INACCURACY: Record<Backend, number> = { ebpf: 0, tap: 1 };

/** Host a with accounting on its link 1, and host b. */
class Bed {
  readonly hosts: TwoHosts = twoHosts(2);
  readonly a: Host = this.hosts.a;
  readonly b: Host = this.hosts.b;
  readonly ulid = { local: this.a.address(1), peer: this.b.address(1) };
  readonly accounting: Accounting;
  constructor(backend: Backend) {
    // A lost solicitation is repeated soon, not after a second.
    for (const host of [this.a, this.b]) host.in(() => writeSysctl("net/ipv6/neigh/eth1/retrans_time_ms", 20));
    // Afterwards the neighbours know each other: no packet waits for that any more.
    using ours = new Datagrams(this.a, this.ulid.local, 5000);
    using theirs = new Datagrams(this.b, this.ulid.peer, 6000);
    theirs.send(ours, 1);
    ours.receive(1);
    ours.send(theirs, 1);
    theirs.receive(1);
    this.accounting = openIn(this.a, backend);
    this.watch("eth1");
  }
  watch(...names: string[]): void {
    const indexes = names.map((name) => this.a.netlink.link(name)!.index);
    this.a.in(() => this.accounting.setInterfaces(indexes));
  }
  /** Reads until the activity is as expected: a tap is read in batches. */
  read(id: number, enough: (activity: Activity) => boolean = () => true): Activity {
    const activity = noActivity();
    until("the expected activity", () => {
      assert(this.accounting.read(id, activity));
      return enough(activity);
    });
    return activity;
  }
  flows(): FlowObservation[] {
    pause(25); // longer than the tap's interval between batches
    return this.accounting.flows();
  }
  [Symbol.dispose](): void {
    this.accounting.close();
    this.hosts[Symbol.dispose]();
  }
}

function openIn(host: Host, backend: Backend): Accounting {
  let accounting: Accounting | undefined;
  host.in(() => {
    accounting = openAccounting({ excludedPorts: EXCLUDED_PORTS, force: backend });
  });
  return accounting!;
}

function pause(ms: number): void {
  libc().poll(stableBytes(8), 0, ms);
}

function conform(name: string, test: (bed: Bed, backend: Backend) => void): void {
  for (const backend of backends) {
    Deno.test({
      name: `${backend}: ${name}`,
      ignore: needsRoot,
      fn() {
        using bed = new Bed(backend);
        test(bed, backend);
      },
    });
  }
}

conform("payload is counted each way, in packets and octets of IPv6", (bed, backend) => {
  using ours = new Datagrams(bed.a, bed.ulid.local, 5000);
  using theirs = new Datagrams(bed.b, bed.ulid.peer, 6000);
  bed.accounting.add(7, bed.ulid);
  const before = monotonicNow() - INACCURACY[backend];
  ours.send(theirs, 100, 10);
  theirs.receive(10);
  theirs.send(ours, 200, 3);
  ours.receive(3);
  const after = monotonicNow();
  const activity = bed.read(7, (a) => a.receivedPackets === 3);
  assertEquals(activity.sentPackets, 10);
  assertEquals(activity.sentBytes, 10 * (HEADERS + 100));
  assertEquals(activity.receivedBytes, 3 * (HEADERS + 200));
  assertGreaterOrEqual(activity.lastSent, before);
  assertGreaterOrEqual(activity.lastReceived, activity.lastSent);
  assertLessOrEqual(activity.lastReceived, after);
});

conform("an answer is outstanding since the first packet after the peer's last word", (bed, backend) => {
  using ours = new Datagrams(bed.a, bed.ulid.local, 5000);
  using theirs = new Datagrams(bed.b, bed.ulid.peer, 6000);
  bed.accounting.add(1, bed.ulid);
  assertEquals(bed.read(1), noActivity());

  const first = monotonicNow() - INACCURACY[backend];
  ours.send(theirs, 10);
  pause(3);
  const second = monotonicNow() - INACCURACY[backend];
  ours.send(theirs, 10);
  let activity = bed.read(1, (a) => a.sentPackets === 2);
  assertGreaterOrEqual(activity.firstUnanswered, first);
  assertLessOrEqual(activity.firstUnanswered, second);
  assertGreaterOrEqual(activity.lastSent, second);
  assertEquals(activity.firstUnreplied, 0);

  const answer = monotonicNow() - INACCURACY[backend];
  theirs.send(ours, 10);
  pause(3);
  theirs.send(ours, 10);
  activity = bed.read(1, (a) => a.receivedPackets === 2);
  assertEquals(activity.firstUnanswered, 0);
  assertGreaterOrEqual(activity.firstUnreplied, answer);
  assertGreater(activity.lastReceived, activity.firstUnreplied);

  const again = monotonicNow() - INACCURACY[backend];
  ours.send(theirs, 10);
  activity = bed.read(1, (a) => a.sentPackets === 3);
  assertEquals(activity.firstUnreplied, 0);
  assertGreaterOrEqual(activity.firstUnanswered, again);
});

conform("Shim6 packets do not count, and neither does Neighbor Discovery", (bed) => {
  using ours = new Datagrams(bed.a, bed.ulid.local, 5000);
  using theirs = new Datagrams(bed.b, bed.ulid.peer, 6000);
  using control = new Datagrams(bed.a, bed.ulid.local, 0, 140);
  using discovery = new Datagrams(bed.a, bed.ulid.local, 0, 58);
  bed.accounting.add(1, bed.ulid);
  control.send({ address: bed.ulid.peer, port: 0 }, 16, 4);
  // A buffer of zeros is an ICMPv6 message of type 0, which counts; 135 is a Neighbor Solicitation.
  discovery.send({ address: bed.ulid.peer, port: 0 }, 24, 1);
  discovery.send({ address: bed.ulid.peer, port: 0 }, 24, 1, 135);
  ours.send(theirs, 10);
  theirs.receive(1);
  assertEquals(bed.read(1, (a) => a.sentPackets > 0).sentPackets, 2);
});

conform("a TCP stream counts as it is on the wire, at both ends", (bed, backend) => {
  bed.accounting.add(1, bed.ulid);
  const octets = 4 << 20;
  transferTcp(
    { host: bed.a, address: bed.ulid.local },
    { host: bed.b, address: bed.ulid.peer },
    7000,
    octets,
  );
  let activity = bed.read(1, (a) => a.sentBytes > octets);
  assertLessOrEqual(activity.sentBytes, octets * 1.1);
  // Super-packets count by their segments: exactly by eBPF, by estimate in the tap.
  assertGreaterOrEqual(activity.sentPackets, Math.floor(octets / 1500));
  assertLessOrEqual(activity.sentPackets, octets / 1000);
  assertGreater(activity.receivedPackets, 0);

  bed.accounting.add(2, { local: bed.ulid.local, peer: bed.b.address(2) });
  bed.watch("eth1", "eth2");
  transferTcp(
    { host: bed.b, address: bed.ulid.peer },
    { host: bed.a, address: bed.ulid.local },
    7001,
    octets,
  );
  activity = bed.read(1, (a) => a.receivedBytes > octets);
  assertLessOrEqual(activity.receivedBytes, octets * 1.1);
  assertGreaterOrEqual(activity.receivedPackets, Math.floor(octets / 1500));
  assertEquals(bed.read(2), noActivity());
  assertEquals(bed.accounting.name, backend);
});

conform("a pair without context is reported as a flow when it has sent something", (bed, backend) => {
  using ours = new Datagrams(bed.a, bed.ulid.local, 5000);
  using theirs = new Datagrams(bed.b, bed.ulid.peer, 6000);
  using resolver = new Datagrams(bed.b, bed.ulid.peer, 53);
  assertEquals(bed.flows(), []);
  const before = monotonicNow() - INACCURACY[backend];
  ours.send(theirs, 100, 3);
  ours.send(resolver, 100, 5);
  theirs.send(ours, 100, 2); // what the peer sends makes no flow
  resolver.receive(5);
  const [flow, ...others] = bed.flows();
  assertEquals(others, []);
  assertEquals([flow.local, flow.peer], [bed.ulid.local, bed.ulid.peer]);
  assertEquals([flow.packets, flow.bytes], [3, 3 * (HEADERS + 100)]);
  assertGreaterOrEqual(flow.firstSeen, before);
  assertGreaterOrEqual(flow.lastSeen, flow.firstSeen);
  assertEquals(bed.flows(), []);

  ours.send(theirs, 100, 1);
  const [more] = bed.flows();
  assertEquals([more.packets, more.firstSeen], [4, flow.firstSeen]);
  assertGreater(more.lastSeen, flow.lastSeen);

  bed.accounting.add(1, bed.ulid);
  ours.send(theirs, 100, 1);
  assertEquals(bed.flows(), []);
  bed.accounting.remove(1);
  ours.send(theirs, 100, 1);
  assertEquals(bed.flows().map((f) => f.packets), [1]);
});

conform("excluded ports, ICMPv6 and Shim6 make no flow, and a fragment is of its packet's kind", (bed) => {
  using ours = new Datagrams(bed.a, bed.ulid.local, 5000);
  using resolver = new Datagrams(bed.b, bed.ulid.peer, 853);
  using dns = new Datagrams(bed.a, bed.ulid.local, 53);
  using theirs = new Datagrams(bed.b, bed.ulid.peer, 6000);
  using echo = new Datagrams(bed.a, bed.ulid.local, 0, 58);
  using control = new Datagrams(bed.a, bed.ulid.local, 0, 140);
  ours.send(resolver, 4000);
  dns.send(theirs, 4000);
  echo.send({ address: bed.ulid.peer, port: 0 }, 4000, 1, 128);
  control.send({ address: bed.ulid.peer, port: 0 }, 16);
  theirs.receive(1);
  assertEquals(bed.flows(), []);
  ours.send(theirs, 4000);
  theirs.receive(1);
  assertEquals(bed.flows().map((f) => f.packets), [3]);
});

conform("other interfaces are left alone, and one that comes back counts again", (bed) => {
  using ours = new Datagrams(bed.a, bed.a.address(2), 5000);
  using theirs = new Datagrams(bed.b, bed.b.address(2), 6000);
  const ulid = { local: bed.a.address(2), peer: bed.b.address(2) };
  bed.accounting.add(2, ulid);
  ours.send(theirs, 10);
  theirs.receive(1);
  pause(25);
  assertEquals(bed.read(2), noActivity());
  bed.watch("eth1", "eth2");
  ours.send(theirs, 10);
  assertEquals(bed.read(2, (a) => a.sentPackets > 0).sentPackets, 1);

  const index = bed.a.netlink.link("eth2")!.index;
  bed.a.netlink.deleteLink("eth2");
  bed.a.in(() => bed.accounting.setInterfaces([index])); // named by an event, gone before the call
  bed.a.in(() => bed.accounting.setInterfaces([]));
  bed.a.in(() => bed.accounting.setInterfaces([index]));
  const netns = bed.b.in(() => currentNetns());
  bed.a.netlink.createVeth("eth2", "eth2", { peerNetnsFd: netns });
  closeNetns(netns);
  for (const host of [bed.a, bed.b]) {
    host.netlink.setLink("eth2", { up: true });
    host.netlink.addAddress(host.netlink.link("eth2")!.index, host.address(2), 64, { nodad: true });
  }
  bed.watch("eth2");
  ours.send(theirs, 10);
  assertEquals(bed.read(2, (a) => a.sentPackets > 1).sentPackets, 2);
});

conform("contexts with the same ULIDs share their figures, and a slot that is used again starts empty", (bed) => {
  using ours = new Datagrams(bed.a, bed.ulid.local, 5000);
  using theirs = new Datagrams(bed.b, bed.ulid.peer, 6000);
  bed.accounting.add(1, bed.ulid);
  bed.accounting.add(2, bed.ulid);
  ours.send(theirs, 10);
  assertEquals(bed.read(2, (a) => a.sentPackets > 0), bed.read(1));
  bed.accounting.remove(1);
  assertEquals(bed.accounting.read(1, noActivity()), false);
  ours.send(theirs, 10);
  bed.read(2, (a) => a.sentPackets === 2);
  bed.accounting.remove(2);
  bed.accounting.remove(2);
  for (let id = 0; id < MAX_CONTEXTS; id++) {
    bed.accounting.add(id, { local: bed.ulid.local, peer: `fd99::${id.toString(16)}` });
    assertEquals(bed.read(id).sentPackets, 0);
  }
  assertThrows(() => bed.accounting.add(MAX_CONTEXTS, bed.ulid), RangeError, `${MAX_CONTEXTS}`);
  bed.accounting.remove(17);
  bed.accounting.add(MAX_CONTEXTS, bed.ulid);
  ours.send(theirs, 10);
  assertEquals(bed.read(MAX_CONTEXTS, (a) => a.sentPackets > 0).sentPackets, 1);
});

conform("a device without link-layer header counts too, also when headers come in page fragments", (bed) => {
  const tun = bed.a.in(() => openTun("l3"));
  try {
    const netlink = bed.a.netlink;
    netlink.setLink("l3", { up: true });
    netlink.addAddress(tun.index, "fd33::a", 64, { nodad: true });
    bed.watch("l3");
    bed.accounting.add(3, { local: "fd33::a", peer: "fd33::b" });
    using ours = new Datagrams(bed.a, "fd33::a", 5000);
    ours.send({ address: "fd33::b", port: 6000 }, 100);
    assertEquals(bed.read(3, (a) => a.sentPackets > 0).sentBytes, HEADERS + 100);

    const VNET_HEADER = 10;
    const packet = stableBytes(VNET_HEADER + 40 + 6000);
    packet[2] = 1; // virtio_net_hdr.hdr_len: only so much is made contiguous
    packet.set([0x60, 0, 0, 0, 6000 >> 8, 6000 & 0xff, 17, 64], VNET_HEADER);
    packet.set(parseAddress("fd33::b"), VNET_HEADER + 8);
    packet.set(parseAddress("fd33::a"), VNET_HEADER + 24);
    assertEquals(libc().write(tun.fd, packet, packet.length), packet.length);
    assertEquals(bed.read(3, (a) => a.receivedPackets > 0).receivedBytes, 6040);
  } finally {
    closeFd(tun.fd);
  }
});

conform("a frame for another machine does not count", (bed) => {
  using ours = new Datagrams(bed.a, bed.ulid.local, 5000);
  using theirs = new Datagrams(bed.b, bed.ulid.peer, 6000);
  bed.accounting.add(1, bed.ulid);
  bed.a.netlink.setLink("eth1", { address: "02:00:00:00:00:99" }); // the peer goes on writing to the old address
  theirs.send(ours, 10, 5);
  pause(25);
  assertEquals(bed.read(1).receivedPackets, 0);
});

Deno.test({
  name: "ebpf: what this host forwards makes no flow",
  ignore: needsRoot || bpfRefused,
  fn() {
    using bed = new Bed("ebpf");
    const tun = bed.a.in(() => openTun("l3"));
    try {
      bed.a.in(() => writeSysctl("net/ipv6/conf/all/forwarding", 1));
      bed.a.netlink.setLink("l3", { up: true });
      bed.a.netlink.addAddress(tun.index, "fd33::a", 64, { nodad: true });
      const dev = bed.b.netlink.link("eth1")!.index;
      bed.b.netlink.replaceRoute({ destination: { address: bed.ulid.local, length: 128 }, dev });
      bed.b.netlink.replaceRoute({ destination: { address: "fd33::", length: 64 }, via: bed.ulid.local, dev });
      using theirs = new Datagrams(bed.b, bed.ulid.peer, 6000);
      bed.watch("eth1", "l3");
      theirs.send({ address: "fd33::b", port: 6000 }, 100, 3);
      const packet = stableBytes(200);
      // The kernel's own packets (router and multicast announcements) leave by the device as well.
      until("the forwarded packet", () => libc().read(tun.fd, packet, 200) > 0 && packet[10 + 6] === 17);
      assertEquals(bed.accounting.flows(), []);
    } finally {
      closeFd(tun.fd);
    }
  },
});

/** Open files and mappings of this process that are of bpf or packet sockets. */
function kernelObjects(): number {
  let count = 0;
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      if (/bpf/.test(Deno.readLinkSync(`/proc/self/fd/${name}`))) count++;
    } catch {
      // the folder's own file descriptor
    }
  }
  const maps = Deno.readTextFileSync("/proc/self/maps");
  const sockets = Deno.readTextFileSync("/proc/thread-self/net/packet").trim().split("\n").length - 1;
  return count + sockets + maps.split("\n").filter((line) => /bpf|socket:/.test(line)).length;
}

conform("closing leaves nothing in the kernel", (bed, backend) => {
  const before = bed.a.in(kernelObjects);
  const accounting = openIn(bed.a, backend);
  const index = bed.a.netlink.link("eth2")!.index;
  bed.a.in(() => accounting.setInterfaces([index]));
  accounting.add(1, bed.ulid);
  assertGreater(bed.a.in(kernelObjects), before);
  accounting.close();
  assertEquals(bed.a.in(kernelObjects), before);
  assertEquals(accounting.read(1, noActivity()), false);
  if (backend === "ebpf") assertEquals(bed.a.in(() => countTcxPrograms(index, "egress")), 0);
});

Deno.test({
  name: "ebpf: a killed process leaves no program at the interface",
  ignore: needsRoot || bpfRefused,
  async fn() {
    using hosts = twoHosts(1);
    const index = hosts.a.netlink.link("eth1")!.index;
    const script = `
      import { openAccounting } from ${JSON.stringify(import.meta.resolve("../../datapath/accounting.ts"))};
      openAccounting({ excludedPorts: [] }).setInterfaces([${index}]);
      console.log("attached");
      setInterval(() => {}, 1000);
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
    assertEquals(hosts.a.in(() => countTcxPrograms(index, "ingress")), 1);
    assertEquals(hosts.a.in(() => countTcxPrograms(index, "egress")), 1);
    child!.kill("SIGKILL");
    await child!.status;
    await reader.cancel();
    until("detached", () => hosts.a.in(() => countTcxPrograms(index, "ingress")) === 0);
    assertEquals(hosts.a.in(() => countTcxPrograms(index, "egress")), 0);
  },
});

Deno.test({
  name: "in a user namespace the tap takes over, says why, and counts the same",
  ignore: needsRoot || inUserNamespace,
  async fn() {
    const { code, stdout } = await new Deno.Command("unshare", {
      args: ["-Urn", Deno.execPath(), "test", "-A", "--no-check", new URL(import.meta.url).pathname],
      env: { NO_COLOR: "1" },
    }).output();
    const output = new TextDecoder().decode(stdout);
    assertEquals(code, 0, output);
    assert(/ok \| 1\d passed/.test(output), output);
  },
});

Deno.test({
  name: "without bpf(2) the tap is opened and tells the refusal",
  ignore: needsRoot || !bpfRefused,
  fn() {
    const accounting = openAccounting({ excludedPorts: [] });
    accounting.close();
    assertEquals(accounting.name, "tap");
    assertEquals(accounting.reason, "eBPF is refused: BPF_MAP_CREATE shim6_contexts: EPERM");
    assertThrows(() => openAccounting({ excludedPorts: [], force: "ebpf" }), SystemError, "EPERM");
  },
});

Deno.test({
  name: "the tap can be asked for",
  ignore: needsRoot,
  fn() {
    const accounting = openAccounting({ excludedPorts: [], force: "tap" });
    accounting.close();
    assertEquals([accounting.name, accounting.reason], ["tap", "asked for"]);
  },
});

/** Activity with only the four times set. */
function times(lastSent: number, lastReceived: number, firstUnanswered: number, firstUnreplied: number): Activity {
  return { ...noActivity(), lastSent, lastReceived, firstUnanswered, firstUnreplied };
}

Deno.test("two paths of a context merge into one activity: an answer on either counts for both", () => {
  for (
    const [name, one, other, merged] of [
      ["nothing", times(0, 0, 0, 0), times(0, 0, 0, 0), times(0, 0, 0, 0)],
      ["sent on both", times(20, 0, 10, 0), times(30, 0, 15, 0), times(30, 0, 10, 0)],
      ["answered on the other", times(20, 0, 10, 0), times(0, 25, 0, 25), times(20, 25, 0, 25)],
      ["answered between", times(20, 0, 10, 0), times(0, 15, 0, 15), times(20, 15, 20, 0)],
      ["sent again on the other", times(20, 0, 10, 0), times(30, 25, 30, 0), times(30, 25, 30, 0)],
      ["long ago on the other", times(0, 50, 0, 40), times(20, 15, 20, 0), times(20, 50, 0, 40)],
    ] as const
  ) {
    for (const [a, b] of [[one, other], [other, one]]) {
      const into = { ...a, sentPackets: 1, sentBytes: 2, receivedPackets: 3, receivedBytes: 4 };
      mergeActivity(into, { ...b, sentPackets: 10, sentBytes: 20, receivedPackets: 30, receivedBytes: 40 });
      const counts = { sentPackets: 11, sentBytes: 22, receivedPackets: 33, receivedBytes: 44 };
      assertEquals(into, { ...merged, ...counts }, name);
    }
  }
});
