/**
 * What an agent costs a host: time from start to ready, resident memory with one context and with 10,000, CPU while
 * idle. The contexts are established for real, over raw sockets, by a peer that plays 10,000 hosts.
 *
 *     deno run -A bench/footprint.ts [--executable dist/shim6-agent] [--contexts 10000]
 */

import { parseArgs } from "@std/cli";
import { closeFd, ControlReceiver, monotonicNow, openControlSocket, openSender, withNetns } from "deno-tun";
import { ask } from "../control/client.ts";
import type { StatusReport } from "../control/protocol.ts";
import { thisProgram } from "../lab/self.ts";
import { Topology } from "../lab/topology.ts";
import { TrafficProcess } from "../lab/traffic_process.ts";
import { type Address, canonicalAddress } from "../wire/address.ts";
import { controlPacket, emitMessage, parseControlMessage } from "../wire/codec.ts";
import { MessageType, VerificationMethod } from "../wire/message.ts";
import { cpuMs, median } from "./measures.ts";

const STARTS = 7;
const IDLE_MS = 10_000;
/** Until the last Keepalive has been sent (10 s after the last packet), and the collector has had its turn. */
const SETTLE_MS = 20_000;
const IN_FLIGHT = 64;

const flags = parseArgs(Deno.args, { string: ["executable", "contexts"], default: { contexts: "10000" } });
const wanted = Number(flags.contexts);
const program = thisProgram(flags.executable);
const directory = Deno.makeTempDirSync({ prefix: "shim6-footprint-" });
const control = `${directory}/control.sock`;

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Resident memory in KiB. */
function resident(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`))![1]);
}

await using topology = Topology.create({ name: "shim6-fp" });
const { a, b } = topology;

/** Starts the agent on host a. Returns it and the ms it took until it said that it was ready. */
async function start(): Promise<[Deno.ChildProcess, number]> {
  const began = performance.now();
  const agent = topology.spawn(a, program.command, {
    args: [...program.args, "run", "--control", control, "--insecure-locators", "--profile", "paper"],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  });
  const reader = agent.stderr.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("ready")) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`the agent did not start: ${text}`);
    text += value;
  }
  const took = performance.now() - began;
  // Go on reading, else it would block on a full pipe.
  (async () => {
    while (!(await reader.read()).done);
  })();
  return [agent, took];
}

/**
 * Plays peers, each with a ULID and a second locator, that establish contexts with the agent. The socket it returns keeps host
 * b's kernel from telling the agent that there is no Shim6.
 */
async function establish(count: number): Promise<{ rate: number; fd: number }> {
  const base = b.prefixes[0].address.replace(/::$/, "");
  const peers = { address: `${base}::1:0:0`, length: 96 };
  // Host b accepts the whole prefix as its own, and the router need not ask for each neighbour.
  b.netlink.replaceRoute({
    destination: peers,
    dev: b.netlink.link("lo")!.index,
    type: "local",
    table: 255,
    metric: 1,
  });
  const { router } = topology;
  const dev = router.netlink.link(b.providers[0].routerInterface)!.index;
  router.netlink.replaceRoute({ destination: peers, via: "fe80::b", dev });
  const { fd, sender } = withNetns(b.netnsFd, () => ({
    fd: openControlSocket(),
    sender: openSender(b.addresses[0], b.providers[0].interface),
  }));
  const receiver = new ControlReceiver(fd);
  const ulid = (i: number): Address =>
    canonicalAddress(`${base}::1:${(i >> 12).toString(16)}:${(i & 0xfff).toString(16)}`);
  const index = new Map<Address, number>();
  const began = monotonicNow();
  let next = 0, done = 0, quiet = monotonicNow();
  const pending = new Map<number, number>();
  const sendI1 = (i: number, now: number) => {
    pending.set(i, now);
    const message = emitMessage({ type: MessageType.I1, initiatorTag: 0x10_0000_0000 + i, initiatorNonce: i });
    sender.send(controlPacket(ulid(i), a.addresses[0], message) as Uint8Array<ArrayBuffer>);
  };
  while (done < count) {
    const now = monotonicNow();
    while (pending.size < IN_FLIGHT && next < count) {
      index.set(ulid(next), next);
      sendI1(next++, now);
    }
    for (const [i, at] of pending) if (now - at > 1_000) sendI1(i, now);
    for (let received = receiver.next(); received !== undefined; received = receiver.next()) {
      const parsed = parseControlMessage(received.octets, received.source, received.destination);
      const i = index.get(received.destination);
      if (!parsed.ok || i === undefined) continue;
      const message = parsed.packet.message;
      if (message.type === MessageType.R1) {
        const { responderNonce, validator } = message;
        const locators = [ulid(i), ...b.addresses.slice(1)]
          .map((address) => ({ address, method: VerificationMethod.HBA }));
        const reply = emitMessage({
          type: MessageType.I2,
          initiatorTag: 0x10_0000_0000 + i,
          initiatorNonce: i,
          responderNonce,
          validator,
          locators: { generation: i, locators },
        });
        sender.send(controlPacket(ulid(i), a.addresses[0], reply) as Uint8Array<ArrayBuffer>);
      } else if (message.type === MessageType.R2 && pending.delete(i)) {
        // An R2 wants a sign of life as any packet does (RFC 5534 §6.2), else the agent explores.
        const alive = emitMessage({ type: MessageType.Keepalive, receiverTag: message.responderTag });
        sender.send(controlPacket(ulid(i), a.addresses[0], alive) as Uint8Array<ArrayBuffer>);
        done++;
        quiet = monotonicNow();
      }
    }
    if (monotonicNow() - quiet > 10_000) throw new Error(`only ${done} of ${count} contexts were established`);
    await sleep(1);
  }
  sender.close();
  return { rate: 1_000 * count / (monotonicNow() - began), fd };
}

const times: number[] = [];
for (let i = 0; i < STARTS; i++) {
  const [agent, took] = await start();
  times.push(took);
  agent.kill("SIGTERM");
  await agent.status;
}
console.log(`start to ready: median ${median(times).toFixed(0)} ms, all ${times.map((ms) => ms.toFixed(0)).join(" ")}`);

const [agent] = await start();
const peer = topology.spawn(b, program.command, {
  args: [...program.args, "run", "--control", `${directory}/peer.sock`, "--insecure-locators"],
  stdin: "null",
  stdout: "null",
  stderr: "null",
});
const traffic = (args: string[], on: typeof a) =>
  new TrafficProcess(topology.spawn(on, program.command, {
    args: [...program.args, "lab", "traffic", ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }));
const receiver = traffic(["tcp-receive", "--local", b.addresses[0], "--port", "5001"], b);
await receiver.line("listening");
const sender = traffic([
  ...["tcp-send", "--local", a.addresses[0], "--peer", b.addresses[0], "--port", "5001"],
  ...["--block-bytes", "1000", "--every-ms", "10", "--duration-ms", "4000"],
], a);
await sender.result(20_000);
await receiver.result(20_000);
const status = () => ask<StatusReport>(control, { command: "status" });
if ((await status()).contexts.length !== 1) throw new Error("there should be one context now");
await sleep(3_000);
const one = resident(agent.pid);
const before = cpuMs(agent.pid);
await sleep(IDLE_MS);
const idle = (cpuMs(agent.pid) - before) / IDLE_MS;
console.log(`one context: ${(one / 1024).toFixed(1)} MiB resident, idle CPU ${(100 * idle).toFixed(2)} % of a core`);

peer.kill("SIGTERM");
await peer.status;
const { rate, fd } = await establish(wanted);
await sleep(SETTLE_MS);
const many = resident(agent.pid);
console.log(
  `${wanted} more contexts: ${(many / 1024).toFixed(1)} MiB resident, ` +
    `${((many - one) / wanted).toFixed(2)} KiB each, established at ${rate.toFixed(0)} a second`,
);
const busyBefore = cpuMs(agent.pid);
await sleep(IDLE_MS);
console.log(`idle CPU with them: ${(100 * (cpuMs(agent.pid) - busyBefore) / IDLE_MS).toFixed(2)} % of a core`);
agent.kill("SIGTERM");
await agent.status;
closeFd(fd);
Deno.removeSync(directory, { recursive: true });
