import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  closeFd,
  closeNetns,
  createNetns,
  monotonicNow,
  Netlink,
  NetlinkError,
  openTun,
  withNetns,
  writeSysctl,
} from "deno-tun";
import { Steering, STEERING_PROTOCOL, STEERING_TABLE } from "../../datapath/steering.ts";
import { libc } from "../../ffi/libc.ts";
import { waitUntilReady } from "../../lab/ready.ts";
import { parsePrefix } from "../../wire/address.ts";
import { TestSocket } from "../ffi/test_socket.ts";

const noRoot = Deno.uid() !== 0;
if (noRoot) console.log("steering tests are left out: they need root");
else monotonicNow(); // opens the C library for the whole file

const ULID = { local: "2001:db8:a1::a", peer: "2001:db8:b1::b" };
const PORT = 5000;

/**
 * A multihomed host with source-specific default routes and the device shim0, and a peer. What comes into shim0 is read
 * and thrown away.
 */
class Site implements Disposable {
  readonly hostFd = createNetns();
  readonly peerFd = createNetns();
  readonly host = withNetns(this.hostFd, () => new Netlink());
  readonly peer = withNetns(this.peerFd, () => new Netlink());
  readonly #tun: number;
  readonly #device: number;
  readonly exit: number;
  readonly #buffer = new Uint8Array(new ArrayBuffer(65536));

  constructor() {
    for (const [netlink, fd] of [[this.host, this.hostFd], [this.peer, this.peerFd]] as const) {
      withNetns(fd, () => writeSysctl("net/ipv6/conf/default/accept_dad", 0));
      netlink.setLink("lo", { up: true });
    }
    this.host.createVeth("exit", "site", { peerNetnsFd: this.peerFd });
    this.host.setLink("exit", { up: true });
    this.peer.setLink("site", { up: true });
    this.exit = this.host.link("exit")!.index;
    const site = this.peer.link("site")!.index;
    this.peer.addAddress(site, "fe80::1", 64, { nodad: true });
    this.peer.addAddress(site, ULID.peer, 128, { nodad: true });
    for (const prefix of ["2001:db8:a1::", "2001:db8:a2::"]) {
      this.host.addAddress(this.exit, `${prefix}a`, 64, { nodad: true });
      this.host.replaceRoute({ source: { address: prefix, length: 64 }, via: "fe80::1", dev: this.exit });
      this.peer.replaceRoute({ destination: { address: prefix, length: 64 }, dev: site });
    }
    const tun = withNetns(this.hostFd, () => openTun("shim0"));
    this.#tun = tun.fd;
    this.#device = tun.index;
    this.host.setLink("shim0", { ownAddresses: false });
    this.host.setLink("shim0", { up: true });
    waitUntilReady(this.host, "exit");
    waitUntilReady(this.peer, "site");
  }

  get device(): number {
    return this.#device;
  }

  /** How many packets came into the device since the last call. */
  intoDevice(): number {
    let packets = 0;
    while (libc().read(this.#tun, this.#buffer, this.#buffer.length) > 0) packets++;
    return packets;
  }

  /** How many traces of steering the host's kernel holds. */
  traces(): number {
    const routes = this.host.routes({ protocol: STEERING_PROTOCOL }).length;
    return routes + this.host.addresses(this.#device).length + Steering.removeLeftovers(this.host, "absent") - routes;
  }

  [Symbol.dispose](): void {
    closeFd(this.#tun);
    this.host.close();
    this.peer.close();
    closeNetns(this.hostFd);
    closeNetns(this.peerFd);
  }
}

/** A connected pair of sockets between host and peer, and which way a packet goes now. */
class Flow implements Disposable {
  readonly #site: Site;
  readonly #sender: TestSocket;
  readonly #receiver: TestSocket;

  constructor(site: Site, type: "tcp" | "udp") {
    this.#site = site;
    if (type === "udp") {
      this.#receiver = TestSocket.open(site.peerFd, "udp", ULID.peer, PORT);
      this.#sender = TestSocket.open(site.hostFd, "udp", ULID.local).connect(ULID.peer, PORT);
    } else {
      using listener = TestSocket.open(site.peerFd, "tcp", ULID.peer, PORT).listen();
      this.#sender = TestSocket.open(site.hostFd, "tcp", ULID.local).connect(ULID.peer, PORT);
      this.#receiver = listener.accept();
      this.#sender.option(6, 1, 1); // TCP_NODELAY: each send is a packet
    }
  }

  way(): "native" | "steered" | "lost" {
    this.#site.intoDevice();
    assertEquals(this.#sender.send(10), "");
    if (this.#site.intoDevice() > 0) return "steered";
    return this.#receiver.receive(100) !== undefined ? "native" : "lost";
  }

  [Symbol.dispose](): void {
    this.#sender[Symbol.dispose]();
    this.#receiver[Symbol.dispose]();
  }
}

for (const type of ["tcp", "udp"] as const) {
  Deno.test({
    name: `a live ${type} flow behind a source-specific default route follows steering at once, both ways`,
    ignore: noRoot,
    fn() {
      using site = new Site();
      using flow = new Flow(site, type);
      const steering = new Steering(site.host, site.device);
      steering.addUlid(ULID.local);
      for (let round = 0; round < 3; round++) {
        assertEquals(flow.way(), "native");
        steering.steer(ULID, 1400);
        assertEquals(flow.way(), "steered");
        steering.unsteer(ULID);
      }
      assertEquals(flow.way(), "native");
      steering.close();
    },
  });
}

Deno.test({
  name: "each of several flows follows when its own pair is steered, first or later",
  ignore: noRoot,
  async fn() {
    using site = new Site();
    using flow = new Flow(site, "udp");
    const steering = new Steering(site.host, site.device);
    for (let i = 1; i < 4; i++) {
      steering.steer({ local: ULID.local, peer: `2001:db8:c::${i}` }, 1400);
      assertEquals(flow.way(), "native");
    }
    steering.steer(ULID, 1400);
    await Promise.resolve(); // the end of this turn of the event loop
    assertEquals(flow.way(), "steered");
    steering.unsteer({ local: ULID.local, peer: "2001:db8:c::1" });
    assertEquals(flow.way(), "steered");
    steering.unsteer(ULID);
    assertEquals(flow.way(), "native");
    steering.close();
  },
});

Deno.test({
  name: "steering works on a host that chooses its exits by rules",
  ignore: noRoot,
  fn() {
    using site = new Site();
    const source = parsePrefix("2001:db8:a1::/64");
    site.host.deleteRoute({ source, dev: site.exit });
    site.host.replaceRoute({ via: "fe80::1", dev: site.exit, table: 101 });
    site.host.addRule({ from: source, table: 101, priority: 1000 });
    using flow = new Flow(site, "tcp");
    assertEquals(flow.way(), "native");
    const steering = new Steering(site.host, site.device);
    steering.steer(ULID, 1400);
    assertEquals(flow.way(), "steered");
    steering.unsteer(ULID);
    assertEquals(flow.way(), "native");
    steering.close();
  },
});

Deno.test({
  name: "only the steered pair is steered, and sockets bound to an interface are exempt",
  ignore: noRoot,
  fn() {
    using site = new Site();
    const steering = new Steering(site.host, site.device);
    steering.addUlid(ULID.local);
    steering.steer(ULID, 1400);
    const exitOf = (source: string, peer: string) => site.host.lookupRoute(peer, { source })?.dev;
    assertEquals(exitOf(ULID.local, ULID.peer), site.device);
    assertEquals(exitOf("2001:db8:a2::a", ULID.peer), site.exit);
    assertEquals(exitOf(ULID.local, "2001:db8:b1::c"), site.exit);
    assertEquals(site.host.lookupRoute(ULID.peer, { source: ULID.local })?.mtu, 1400);

    using receiver = TestSocket.open(site.peerFd, "udp", ULID.peer, PORT);
    using sender = TestSocket.open(site.hostFd, "udp", ULID.local);
    sender.option(1, 62, site.exit); // SO_BINDTOIFINDEX
    assertEquals(sender.sendTo(new Uint8Array(10), ULID.peer, PORT), "");
    assertEquals(receiver.receive(100)?.length, 10);
    assertEquals(site.intoDevice(), 0);
    steering.close();
  },
});

Deno.test({
  name: "a socket that lets the kernel choose its source address is steered from the next renewal on",
  ignore: noRoot,
  fn() {
    using site = new Site();
    // The kernel looks a route up before there is a source; only an ordinary default route can then be found.
    site.host.replaceRoute({ via: "fe80::1", dev: site.exit, preferredSource: ULID.local });
    const steering = new Steering(site.host, site.device);
    steering.addUlid(ULID.local);
    steering.steer(ULID, 1400);
    using socket = TestSocket.open(site.hostFd, "udp", "::").connect(ULID.peer, PORT);
    steering.renew();
    site.intoDevice();
    assertEquals(socket.send(10), "");
    assertEquals(site.intoDevice(), 1);
    steering.close();
  },
});

Deno.test({
  name: "a new MTU takes the place of the old one",
  ignore: noRoot,
  fn() {
    using site = new Site();
    using flow = new Flow(site, "udp");
    const steering = new Steering(site.host, site.device);
    steering.steer(ULID, 1400);
    assertEquals(flow.way(), "steered");
    steering.steer(ULID, 1280);
    assertEquals(flow.way(), "steered");
    assertEquals(site.host.lookupRoute(ULID.peer, { source: ULID.local })?.mtu, 1280);
    assertEquals(site.host.routes({ protocol: STEERING_PROTOCOL }).length, 1);
    steering.close();
  },
});

Deno.test({
  name: "a lease that nobody renews lapses after two seconds; renewed it holds, and lapsed it comes back",
  ignore: noRoot,
  async fn() {
    using site = new Site();
    using flow = new Flow(site, "udp");
    const steering = new Steering(site.host, site.device);
    const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
    steering.steer(ULID, 1400);
    for (let i = 0; i < 2; i++) {
      await sleep(600);
      steering.renew();
    }
    const renewed = monotonicNow();
    while (flow.way() === "steered") await sleep(10);
    const held = monotonicNow() - renewed;
    assert(held > 1900 && held < 2500, `${held} ms`);
    assertEquals(flow.way(), "native");
    steering.renew();
    assertEquals(flow.way(), "steered");
    steering.close();
  },
});

Deno.test({
  name: "a renewal sets a route and the rules again that somebody else removed",
  ignore: noRoot,
  fn() {
    using site = new Site();
    using flow = new Flow(site, "udp");
    const steering = new Steering(site.host, site.device);
    steering.steer(ULID, 1400);
    const [route] = site.host.routes({ protocol: STEERING_PROTOCOL });
    site.host.deleteRoute({ ...route, expires: undefined, mtu: undefined });
    assertEquals(flow.way(), "native");
    steering.renew();
    assertEquals(flow.way(), "steered");
    for (const priority of [5, 6]) site.host.deleteRule({ table: STEERING_TABLE, priority });
    assertEquals(flow.way(), "native");
    steering.renew();
    assertEquals(flow.way(), "steered");
    steering.close();
    assertEquals(site.traces(), 0);
  },
});

Deno.test({
  name: "a renewal that fails for all says why, and works again later",
  ignore: noRoot,
  fn() {
    using site = new Site();
    using flow = new Flow(site, "udp");
    const steering = new Steering(site.host, site.device);
    steering.steer(ULID, 1400);
    site.host.setLink("shim0", { up: false });
    assertThrows(() => steering.renew(), NetlinkError, "ENETDOWN");
    assertEquals(flow.way(), "native");
    site.host.setLink("shim0", { up: true });
    steering.renew();
    assertEquals(flow.way(), "steered");
    steering.close();
  },
});

Deno.test({
  name: "a ULID stays on the device until its last user has gone, and is not chosen for new flows",
  ignore: noRoot,
  fn() {
    using site = new Site();
    const steering = new Steering(site.host, site.device);
    const present = () => site.host.addresses(site.device).map((a) => [a.address, a.prefixLength, a.deprecated]);
    steering.addUlid(ULID.local);
    steering.addUlid(ULID.local);
    assertEquals(present(), [[ULID.local, 128, true]]);
    steering.removeUlid(ULID.local);
    assertEquals(present().length, 1);
    steering.removeUlid(ULID.local);
    steering.removeUlid(ULID.local);
    assertEquals(present(), []);
    steering.close();
  },
});

Deno.test({
  name: "a flow outlives the interface of its ULID while it is steered",
  ignore: noRoot,
  fn() {
    using site = new Site();
    using flow = new Flow(site, "tcp");
    const steering = new Steering(site.host, site.device);
    steering.addUlid(ULID.local);
    steering.steer(ULID, 1400);
    site.host.setLink("exit", { up: false });
    assertEquals(site.host.addresses(site.exit), []);
    assertEquals(flow.way(), "steered");
    steering.close();
  },
});

Deno.test({
  name: "closing removes every route, rule and address",
  ignore: noRoot,
  fn() {
    using site = new Site();
    using flow = new Flow(site, "udp");
    const steering = new Steering(site.host, site.device);
    steering.addUlid(ULID.local);
    for (let i = 1; i < 5; i++) steering.steer({ local: ULID.local, peer: `2001:db8:c::${i}` }, 1400);
    steering.steer(ULID, 1400);
    steering.close();
    assertEquals(flow.way(), "native");
    assertEquals(site.traces(), 0);
    steering.renew();
    assertEquals(site.traces(), 0);
  },
});

Deno.test({
  name: "after the last pair has gone back no rule is left",
  ignore: noRoot,
  fn() {
    using site = new Site();
    const steering = new Steering(site.host, site.device);
    steering.steer(ULID, 1400);
    steering.steer({ local: ULID.local, peer: "2001:db8:c::1" }, 1400);
    steering.unsteer(ULID);
    steering.unsteer({ local: ULID.local, peer: "2001:db8:c::1" });
    assertEquals(site.traces(), 0);
    steering.close();
  },
});

Deno.test({
  name: "what a killed agent left behind is found and removed, and nothing else",
  ignore: noRoot,
  fn() {
    using site = new Site();
    using flow = new Flow(site, "udp");
    const { host } = site;
    // As the bpf backend leaves it: the device is a veth pair, and one route is not even a lease.
    host.createVeth("shimx", "shimy");
    host.setLink("shimx", { up: true });
    host.setLink("shimy", { up: true });
    const killed = new Steering(host, host.link("shimx")!.index);
    killed.addUlid(ULID.local);
    killed.steer(ULID, 1400);
    killed.steer({ local: ULID.local, peer: "2001:db8:c::1" }, 1400);
    host.replaceRoute({
      destination: parsePrefix("2001:db8:d::/48"),
      dev: site.exit,
      protocol: STEERING_PROTOCOL,
    });
    const before = host.routes().filter((r) => r.protocol !== STEERING_PROTOCOL && r.dev === site.exit);

    // Two rules, three routes, the device.
    assertEquals(Steering.removeLeftovers(host, "shimx"), 6);
    assertEquals(host.link("shimx"), undefined);
    assertEquals(site.traces(), 0);
    assertEquals(host.routes().filter((r) => r.dev === site.exit), before);
    assertEquals(flow.way(), "native");
    assertEquals(Steering.removeLeftovers(host, "shimx"), 0);
  },
});
