import { assert, assertEquals, assertThrows } from "@std/assert";
import { closeFd, monotonicNow, openNamedNetns, openTun, withNetns } from "deno-tun";
import { libc } from "../../ffi/libc.ts";
import { hbaSets } from "../../lab/identities.ts";
import { type LabHost, Topology, TopologyError, type TopologyOptions } from "../../lab/topology.ts";
import { runInUserNamespace } from "../../lab/user_namespace.ts";
import { ROOT } from "../../tools/source_files.ts";
import { TestSocket } from "../ffi/test_socket.ts";

const noRoot = Deno.uid() !== 0;
if (noRoot) console.log("testbed tests are left out: they need root");
else monotonicNow(); // opens the C library for the whole file

const NAME = "nl-topology";
const PORT = 4000;
const SOL_IPV6 = 41, IPV6_MTU_DISCOVER = 23, IPV6_PMTUDISC_DO = 2;
const SOL_SOCKET = 1, SO_BINDTOIFINDEX = 62;

function lab(options: TopologyOptions = {}): Topology {
  return Topology.create({ name: NAME, ...options });
}

/** A UDP socket on each address of both hosts, and the packets that get from one to another. */
class Sockets implements Disposable {
  readonly #topology: Topology;
  readonly #sockets = new Map<string, TestSocket>();
  #round = 0;

  constructor(topology: Topology) {
    this.#topology = topology;
    for (const host of topology.hosts) for (const address of host.addresses) this.open(host, address);
  }

  open(host: LabHost, address: string): void {
    this.#sockets.get(address)?.[Symbol.dispose]();
    this.#sockets.set(address, TestSocket.open(host.netnsFd, "udp", address, PORT));
  }

  of(address: string): TestSocket {
    return this.#sockets.get(address)!;
  }

  /** Sends one packet over each path. Returns the paths that lost theirs, as `a1>b2`. */
  lost(): string[] {
    const missing = new Map<string, string>();
    // A packet of an earlier round may have waited in a router for its neighbour.
    const round = ` ${++this.#round}`;
    for (const { from, to } of this.#topology.paths()) {
      const label = this.label(from, to);
      missing.set(label, to);
      // An error that an earlier packet met is reported by the next call, which then does not send: once more.
      for (let attempt = 0; attempt < 2; attempt++) {
        if (this.of(from).sendTo(new TextEncoder().encode(label + round), to, PORT) === "") break;
      }
    }
    for (const [address, socket] of this.#sockets) {
      const expected = () => [...missing.values()].includes(address);
      for (let got = socket.receive(20); got !== undefined; got = socket.receive(expected() ? 20 : 0)) {
        const text = new TextDecoder().decode(got);
        if (!text.endsWith(round)) continue;
        const label = text.slice(0, -round.length);
        assert(label.endsWith(this.#name(address)), `${label} came to ${address}`);
        missing.delete(label);
      }
    }
    return [...missing.keys()].sort();
  }

  label(from: string, to: string): string {
    return `${this.#name(from)}>${this.#name(to)}`;
  }

  #name(address: string): string {
    return this.#topology.hosts.flatMap((h) => h.providers).find((p) => p.address === address)!.interface;
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets.values()) socket[Symbol.dispose]();
  }
}

/** All paths that begin or end at the interface. */
function pathsOf(topology: Topology, sockets: Sockets, name: string): string[] {
  return topology.paths().map(({ from, to }) => sockets.label(from, to)).filter((l) => l.split(">").includes(name))
    .sort();
}

Deno.test({
  name: "each of the 9 + 9 unidirectional paths works, and fails and recovers alone",
  ignore: noRoot,
  async fn() {
    await using topology = lab();
    using sockets = new Sockets(topology);
    assertEquals(topology.paths().length, 18);
    assertEquals(sockets.lost(), []);
    for (const { from, to } of topology.paths()) {
      topology.setPath(from, to, "down");
      assertEquals(sockets.lost(), [sockets.label(from, to)]);
      topology.setPath(from, to, "up");
    }
    assertEquals(sockets.lost(), []);
  },
});

Deno.test({
  name: "a host has as many providers as asked for, and a path of one host to itself is refused",
  ignore: noRoot,
  async fn() {
    await using topology = lab({ providers: [2, 4] });
    using sockets = new Sockets(topology);
    assertEquals(topology.a.addresses, ["2001:db8:a1::a", "2001:db8:a2::a"]);
    assertEquals(topology.b.prefixes.at(-1), { address: "2001:db8:b4::", length: 64 });
    assertEquals(topology.paths().length, 16);
    assertEquals(sockets.lost(), []);
    assertThrows(() => topology.setPath("2001:db8:a1::a", "2001:db8:a2::a", "down"), TopologyError, "same host");
    assertThrows(() => topology.setPath("2001:db8:a1::a", "2001:db8:c1::a", "down"), TopologyError, "no provider");
    assertThrows(() => lab({ providers: [0, 3] }), TopologyError, "1 to 9 providers");
  },
});

Deno.test({
  name: "a path counts for the whole prefixes, and may refuse with an ICMPv6 error",
  ignore: noRoot,
  async fn() {
    await using topology = lab();
    using sockets = new Sockets(topology);
    const [from] = topology.a.addresses, [to] = topology.b.addresses;
    topology.setPath("2001:db8:a1::1234", "2001:db8:b1::5678", "unreachable");
    using connected = TestSocket.open(topology.a.netnsFd, "udp", from).connect(to, PORT);
    assertEquals(connected.send(10), "");
    assertEquals(connected.receive(100), undefined);
    topology.setPath(from, to, "up");
    assertEquals(sockets.lost(), []);
  },
});

Deno.test({
  name: "a provider that fails takes all paths of its prefix along, both ways",
  ignore: noRoot,
  async fn() {
    await using topology = lab();
    using sockets = new Sockets(topology);
    topology.setProvider(topology.b.addresses[1], "down");
    assertEquals(sockets.lost(), pathsOf(topology, sockets, "b2"));
    assertEquals(topology.paths().filter((p) => p.state === "down").length, 6);
    topology.setProvider(topology.b.addresses[1], "up");
    assertEquals(sockets.lost(), []);
  },
});

Deno.test({
  name: "a link without a carrier fails alone, keeps its address and comes back",
  ignore: noRoot,
  async fn() {
    await using topology = lab();
    using sockets = new Sockets(topology);
    const [address] = topology.a.addresses;
    topology.setLink(address, "no-carrier");
    assert(topology.a.netlink.addresses().some((a) => a.address === address));
    assertEquals(sockets.lost(), pathsOf(topology, sockets, "a1"));
    topology.setLink(address, "up");
    assertEquals(sockets.lost(), []);
  },
});

Deno.test({
  name: "a link set down takes its address along and comes back with it, and with what was set for its paths",
  ignore: noRoot,
  async fn() {
    await using topology = lab();
    using sockets = new Sockets(topology);
    const [, address] = topology.a.addresses, [peer] = topology.b.addresses;
    topology.setLink(address, "down");
    assert(!topology.a.netlink.addresses().some((a) => a.address === address));
    assertEquals(sockets.lost(), pathsOf(topology, sockets, "a2"));
    topology.setPath(peer, address, "down");
    topology.setLink(address, "up");
    assertEquals(sockets.lost(), ["b1>a2"]);
  },
});

Deno.test({
  name: "an address is removed, deprecated and assigned again",
  ignore: noRoot,
  async fn() {
    await using topology = lab();
    using sockets = new Sockets(topology);
    const [, , address] = topology.b.addresses;
    const entry = () => topology.b.netlink.addresses().find((a) => a.address === address);
    topology.setAddress(address, "deprecated");
    assertEquals(entry()?.deprecated, true);
    assertEquals(sockets.lost(), []);
    topology.setAddress(address, "absent");
    assertEquals(entry(), undefined);
    topology.setLink(address, "down");
    topology.setLink(address, "up");
    assertEquals(entry(), undefined);
    topology.setAddress(address, "preferred");
    assertEquals(entry()?.deprecated, false);
    assertEquals(sockets.lost(), []);
  },
});

for (const mtu of [1400, 1280]) {
  Deno.test({
    name: `a path with an MTU of ${mtu} answers Packet Too Big, and no other path is narrower for it`,
    ignore: noRoot,
    async fn() {
      await using topology = lab();
      const [from] = topology.a.addresses, [to, other] = topology.b.addresses;
      topology.setMtu(from, to, mtu);
      using receiver = TestSocket.open(topology.b.netnsFd, "udp", to, PORT);
      using otherReceiver = TestSocket.open(topology.b.netnsFd, "udp", other, PORT);
      const headers = 48; // IPv6 and UDP
      const flow = (peer: string) =>
        TestSocket.open(topology.a.netnsFd, "udp", from).option(SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO)
          .connect(peer, PORT);
      using narrow = flow(to);
      using wide = flow(other);
      assertEquals(narrow.send(1500 - headers), ""); // leaves the host; the router answers
      assertEquals(receiver.receive(50), undefined);
      assertEquals(narrow.receive(500), undefined); // takes the error off the socket
      assertEquals(narrow.send(mtu + 1 - headers), "EMSGSIZE");
      assertEquals(narrow.send(mtu - headers), "");
      assertEquals(receiver.receive(500)?.length, mtu - headers);
      assertEquals(wide.send(1500 - headers), "");
      assertEquals(otherReceiver.receive(500)?.length, 1500 - headers);
      topology.setMtu(from, to, undefined);
      assertThrows(() => topology.setMtu(from, to, 1279), TopologyError, "below 1280");
    },
  });
}

Deno.test({
  name: "a provider takes nothing from foreign prefixes",
  ignore: noRoot,
  async fn() {
    await using topology = lab();
    const [from] = topology.a.addresses, [to] = topology.b.addresses;
    using receiver = TestSocket.open(topology.b.netnsFd, "udp", to, PORT);
    using sender = TestSocket.open(topology.a.netnsFd, "udp", from);
    sender.option(SOL_SOCKET, SO_BINDTOIFINDEX, topology.a.netlink.link("a2")!.index);
    assertEquals(sender.sendTo(new Uint8Array(10), to, PORT), "");
    assertEquals(receiver.receive(50), undefined);
    sender.option(SOL_SOCKET, SO_BINDTOIFINDEX, topology.a.netlink.link("a1")!.index);
    assertEquals(sender.sendTo(new Uint8Array(10), to, PORT), "");
    assertEquals(receiver.receive(500)?.length, 10);
  },
});

Deno.test({
  name: "a program that chooses no source address gets one of a link that works",
  ignore: noRoot,
  async fn() {
    await using topology = lab();
    const [to] = topology.b.addresses;
    using receiver = TestSocket.open(topology.b.netnsFd, "udp", to, PORT);
    for (const down of ["", topology.a.addresses[0], topology.a.addresses[1]]) {
      if (down !== "") topology.setLink(down, "down");
      using sender = TestSocket.open(topology.a.netnsFd, "udp", "::");
      assertEquals(sender.sendTo(new Uint8Array(10), to, PORT), "");
      assertEquals(receiver.receive(500)?.length, 10);
    }
  },
});

Deno.test({
  name: "an emulated path goes through the emulator's device and on from there",
  ignore: noRoot,
  async fn() {
    await using topology = lab();
    using sockets = new Sockets(topology);
    const [, from] = topology.a.addresses, [to] = topology.b.addresses;
    assertThrows(() => topology.setPath(from, to, "emulated"), TopologyError, "there is no emu0");
    assertEquals(sockets.lost(), []);

    const tun = withNetns(topology.router.netnsFd, () => openTun("emu0"));
    try {
      topology.router.netlink.setLink("emu0", { ownAddresses: false });
      topology.router.netlink.setLink("emu0", { up: true });
      topology.setPath(from, to, "emulated");
      assertEquals(sockets.lost(), ["a2>b1"]);
      const frame = new Uint8Array(new ArrayBuffer(65536));
      let length: number;
      do length = libc().read(tun.fd, frame, frame.length); // the kernel's own multicast reports may be among them
       while (length > 0 && !new TextDecoder().decode(frame.subarray(0, length)).includes("a2>b1"));
      assert(length > 0);
      assertEquals(libc().write(tun.fd, frame, length), length);
      assert(new TextDecoder().decode(sockets.of(to).receive(500)).startsWith("a2>b1"));
      topology.setPath(from, to, "up");
      assertEquals(sockets.lost(), []);
    } finally {
      closeFd(tun.fd);
    }
  },
});

Deno.test({
  name: "addresses come by router advertisement, again after the link was down, and are deprecated by it",
  ignore: noRoot,
  async fn() {
    await using topology = lab({ advertised: true });
    using sockets = new Sockets(topology);
    assertEquals(sockets.lost(), []);
    const [address] = topology.a.addresses;
    const entry = () => topology.a.netlink.addresses().find((a) => a.address === address);
    assertEquals(entry()?.permanent, false);
    topology.setLink(address, "down");
    assertEquals(entry(), undefined);
    topology.setLink(address, "up");
    topology.setAddress(address, "deprecated");
    assertEquals(entry()?.deprecated, true);
    assertEquals(sockets.lost(), []);
    topology.setAddress(address, "preferred");
    assertEquals(entry()?.deprecated, false);
  },
});

for (const advertised of [false, true]) {
  Deno.test({
    name: `a host has the addresses that its identity binds, ${advertised ? "advertised" : "set by hand"}`,
    ignore: noRoot,
    async fn() {
      const began = performance.now();
      const identities = await hbaSets([3, 2]);
      console.log(`two sets of HBAs in ${Math.round(performance.now() - began)} ms`);
      await using topology = lab({ advertised, identities, providers: [3, 3] });
      assertEquals(topology.a.addresses, identities[0].addresses);
      assertEquals(topology.b.addresses.slice(0, 2), identities[1].addresses);
      assertEquals(topology.b.addresses[2], `2001:db8:b3::${advertised ? "ff:fe00:b003" : "b"}`);
      assertEquals(topology.prefixOf(topology.a.addresses[1]), "2001:db8:a2::/64");
      using sockets = new Sockets(topology);
      assertEquals(sockets.lost(), []);
      topology.setLink(topology.a.addresses[0], "down");
      topology.setLink(topology.a.addresses[0], "up");
      assertEquals(sockets.lost(), []);
    },
  });
}

Deno.test({
  name: "a program runs in its host's namespace, and nothing of the testbed is left after its end",
  ignore: noRoot,
  async fn() {
    const topology = lab();
    const code = 'console.log(Deno.networkInterfaces().map((i) => i.name).join(" "))';
    const child = topology.spawn(topology.b, Deno.execPath(), { args: ["eval", code], stdout: "piped" });
    const { stdout } = await child.output();
    assertEquals(new Set(new TextDecoder().decode(stdout).trim().split(" ")), new Set(["lo", "b1", "b2", "b3"]));

    const sleeper = topology.spawn(topology.a, Deno.execPath(), { args: ["eval", "setTimeout(() => {}, 60000)"] });
    for (const node of [...topology.hosts, topology.router]) {
      assertEquals(node.namespace, `${NAME}-${node.name}`);
      closeFd(openNamedNetns(`${NAME}-${node.name}`)!);
    }
    await topology.destroy();
    assertEquals((await sleeper.status).signal, "SIGKILL");
    for (const letter of ["a", "b", "r"]) assertEquals(openNamedNetns(`${NAME}-${letter}`), undefined);
    assertEquals(Topology.remove(NAME), false);
  },
});

Deno.test({
  name: "what a killed run left behind is removed with its processes when the next one begins",
  ignore: noRoot,
  async fn() {
    const code = `
      const { Topology } = await import(${JSON.stringify(`file://${ROOT}lab/topology.ts`)});
      const topology = Topology.create({ name: ${JSON.stringify(NAME)} });
      const args = ["eval", "console.log(Deno.pid); setTimeout(() => {}, 60000)"];
      const child = topology.spawn(topology.a, Deno.execPath(), { args, stdout: "inherit" });
      await child.status;`;
    const args = ["eval", `--config=${ROOT}deno.json`, "--no-lock", code];
    const run = new Deno.Command(Deno.execPath(), { args, stdout: "piped" }).spawn();
    const reader = run.stdout.getReader();
    const inner = Number(new TextDecoder().decode((await reader.read()).value));
    run.kill("SIGKILL");
    await run.status;
    assert(isAlive(inner));

    await using topology = lab();
    for (let i = 0; i < 100 && isAlive(inner); i++) await new Promise((resolve) => setTimeout(resolve, 10));
    assert(!isAlive(inner));
    await reader.cancel();
    using sockets = new Sockets(topology);
    assertEquals(sockets.lost(), []);
  },
});

/** Whether a process runs, and is not just waiting for its end to be noticed. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
  } catch {
    return false;
  }
}

Deno.test({
  name: "a testbed that is released stays, until it is removed by its name",
  ignore: noRoot,
  fn() {
    lab().release();
    closeFd(openNamedNetns(`${NAME}-a`)!);
    assertEquals(Topology.remove(NAME), true);
    assertEquals(openNamedNetns(`${NAME}-a`), undefined);
  },
});

Deno.test({
  name: "in a user namespace of its own the testbed works without names",
  ignore: noRoot,
  async fn() {
    const code = `
      const { Topology } = await import(${JSON.stringify(`file://${ROOT}lab/topology.ts`)});
      const topology = Topology.create({ name: ${JSON.stringify(NAME)} });
      const [from] = topology.a.addresses, [to] = topology.b.addresses;
      topology.setPath(from, to, "down");
      const via = topology.a.netlink.lookupRoute(to, { source: from })?.via;
      await topology.destroy();
      Deno.exit(topology.a.namespace === undefined && via === "fe80::1" ? 42 : 1);`;
    const program = { command: Deno.execPath(), args: ["eval", `--config=${ROOT}deno.json`, "--no-lock"] };
    const exitCode = await runInUserNamespace(program, [code]);
    if (exitCode === undefined) console.log("no user namespaces here: the testbed in one is not tested");
    else assertEquals(exitCode, 42);
    assertEquals(openNamedNetns(`${NAME}-a`), undefined);
  },
});
