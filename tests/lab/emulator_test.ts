import { assert, assertEquals, assertRejects } from "@std/assert";
import { monotonicNow } from "deno-tun";
import { Emulator } from "../../lab/emulator.ts";
import { thisProgram } from "../../lab/self.ts";
import { type LabNode, Topology } from "../../lab/topology.ts";
import type { TcpReceived, TcpSent, UdpExchanged } from "../../lab/traffic.ts";
import { TrafficProcess } from "../../lab/traffic_process.ts";
import { needsRoot } from "./processes.ts";

monotonicNow(); // opens the C library, which stays open, before a test begins and counts what it leaves behind

const PATIENCE_MS = 20_000;
const FROM = "2001:db8:a1::/64", TO = "2001:db8:b1::/64";

/** A testbed whose first pair of prefixes is emulated in both directions. */
class Bench {
  private constructor(readonly topology: Topology, readonly emulator: Emulator) {}

  static async open(): Promise<Bench> {
    const topology = Topology.create({ providers: [1, 1], named: false });
    const emulator = await Emulator.attach(spawn(topology, topology.router, "emulator"));
    const bench = new Bench(topology, emulator);
    for (const [from, to] of [[FROM, TO], [TO, FROM]]) await emulator.setPath({ from, to });
    const [a, b] = [topology.a.addresses[0], topology.b.addresses[0]];
    topology.setPath(a, b, "emulated");
    topology.setPath(b, a, "emulated");
    return bench;
  }

  traffic(host: "a" | "b", program: string, ...args: string[]): TrafficProcess {
    const local = this.topology[host].addresses[0], peer = this.topology[host === "a" ? "b" : "a"].addresses[0];
    const ends = ["--local", local, "--port", "5001", ...(program === "tcp-receive" ? [] : ["--peer", peer])];
    return new TrafficProcess(spawn(this.topology, this.topology[host], "traffic", program, ...ends, ...args));
  }

  /** Datagrams both ways. Returns what a and b saw. */
  async exchange(everyMs: number, durationMs: number): Promise<[UdpExchanged, UdpExchanged]> {
    const args = ["--block-bytes", "100", "--every-ms", String(everyMs), "--duration-ms", String(durationMs)];
    const b = this.traffic("b", "udp", "--answer", ...args);
    await b.line("listening");
    const a = this.traffic("a", "udp", ...args);
    return await Promise.all([a.result(PATIENCE_MS), b.result(PATIENCE_MS)]) as [UdpExchanged, UdpExchanged];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.emulator.close();
    await this.topology.destroy();
  }
}

function spawn(topology: Topology, node: LabNode, ...args: string[]): Deno.ChildProcess {
  const { command, args: first } = thisProgram();
  return topology.spawn(node, command, {
    args: [...first, "lab", ...args],
    stdin: args[0] === "emulator" ? "piped" : "null",
    stdout: "piped",
  });
}

Deno.test({
  name: "packets take as long as their path asks for, each direction for itself",
  ignore: needsRoot,
  fn: async () => {
    await using bench = await Bench.open();
    await bench.emulator.setPath({ from: FROM, to: TO, delay_ms: 60 });
    await bench.emulator.setPath({ from: TO, to: FROM, delay_ms: 15 });
    const [a, b] = await bench.exchange(10, 1000);
    const state = await bench.emulator.state();
    // Never too early. How late depends on the machine; the smallest delay tells what it can do.
    assert(b.delay_ms.min >= 60 && b.delay_ms.min < 63, `60 ms: ${JSON.stringify(b.delay_ms)}`);
    assert(a.delay_ms.min >= 15 && a.delay_ms.min < 18, `15 ms: ${JSON.stringify(a.delay_ms)}`);
    assert(state.lateness_ms.p50 < 1, JSON.stringify(state.lateness_ms));
    assertEquals([b.missing, a.missing, b.reordered, a.reordered, b.duplicates], [[], [], 0, 0, 0]);
    assertEquals([state.held, state.overflow, state.refused], [0, 0, 0]);
  },
});

Deno.test({
  name: "losses are counted, a path that is down passes nothing, and the other direction does not care",
  ignore: needsRoot,
  fn: async () => {
    await using bench = await Bench.open();
    await bench.emulator.setPath({ from: FROM, to: TO, loss: 0.2 });
    const [a, b] = await bench.exchange(2, 800);
    const [forth, back] = (await bench.emulator.state()).paths;
    assertEquals(b.received, a.sent - forth.lost);
    assert(forth.lost > 0.1 * a.sent && forth.lost < 0.3 * a.sent, `${forth.lost} of ${a.sent} lost`);
    assertEquals([a.received, back.lost], [b.sent, 0]);

    await bench.emulator.setPath({ from: FROM, to: TO, loss: 0, up: false });
    const [sender, receiver] = await bench.exchange(20, 200);
    assertEquals([receiver.received, receiver.sent], [0, 0]); // it answers only what it hears
    assertEquals((await bench.emulator.state()).paths[0].down, sender.sent);
    await assertRejects(() => bench.emulator.setPath({ from: FROM, to: TO, loss: 2 }), Error, "loss 2");
  },
});

Deno.test({
  name: "a stream passes whole and fast, in super-packets as well as packet by packet",
  ignore: needsRoot,
  fn: async () => {
    await using bench = await Bench.open();
    // The rate limit is never reached, but makes the kernel hand over single packets.
    for (const rate of [0, 100_000]) {
      for (const [from, to] of [[FROM, TO], [TO, FROM]]) {
        await bench.emulator.setPath({ from, to, rate_mbit: rate, queue_ms: 1000 });
      }
      const receiver = bench.traffic("b", "tcp-receive");
      await receiver.line("listening");
      const sender = bench.traffic("a", "tcp-send", "--duration-ms", "700", "--block-bytes", "65536");
      const sent = await sender.result(PATIENCE_MS) as TcpSent,
        received = await receiver.result(PATIENCE_MS) as TcpReceived;
      assertEquals([received.complete, received.sha256], [true, sent.sha256]);
      const { first, last } = received.reception;
      const mbit = received.bytes * 8 / 1000 / (last - first);
      assert(mbit > (rate === 0 ? 150 : 25), `${mbit.toFixed(0)} Mbit/s`); // far below what an idle machine does
    }
    assertEquals((await bench.emulator.state()).overflow, 0);
  },
});

Deno.test({
  name: "when the emulator ends, its device and routes are gone and the kernel forwards by itself",
  ignore: needsRoot,
  fn: async () => {
    const bench = await Bench.open();
    try {
      await bench.emulator.setPath({ from: FROM, to: TO, up: false });
      await bench.emulator.close();
      assertEquals(bench.topology.router.netlink.link("emu0"), undefined);
      const [a, b] = await bench.exchange(20, 200);
      assertEquals(b.received, a.sent);
    } finally {
      await bench.topology.destroy();
    }
  },
});
