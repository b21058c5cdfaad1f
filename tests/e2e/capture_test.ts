/** What two agents say to each other on the wire, judged by Wireshark's dissector. */

import { assert, assertEquals } from "@std/assert";
import { cgaNew, hbaNew } from "../../agent/identity.ts";
import { ask } from "../../control/client.ts";
import type { ContextReport } from "../../control/protocol.ts";
import { thisProgram } from "../../lab/self.ts";
import { type LabHost, providerPrefixes } from "../../lab/topology.ts";
import { needsRoot } from "../lab/processes.ts";
import { Hosts, until } from "./hosts.ts";

const ARGUMENTS = ["--policy", "burst9", "--profile", "paper", "--establish-after-packets", "5"];
/** By the names that Wireshark has for them. Error (68) is unknown to it, and nothing draws one here. */
const TYPES = [1, 2, 3, 4, 5, 6, 64, 65, 66, 67];
const CHECKSUM_GOOD = "1";

const settled = (context: ContextReport) => context.state === "ESTABLISHED" && context.reap === "operational";

const hasTshark = (() => {
  try {
    return new Deno.Command("tshark", { args: ["--version"], stdout: "null", stderr: "null" }).outputSync().success;
  } catch {
    return false;
  }
})();
if (!hasTshark) console.log("judging a live capture is left out: there is no tshark");

/** All values of a field, and what the dissector shows for them. */
function valuesOf(pdml: string, field: string): { value: string; shown: string }[] {
  const pattern = new RegExp(`<field name="${field.replaceAll(".", "\\.")}" [^>]*>`, "g");
  return [...pdml.matchAll(pattern)].map(([tag]) => ({
    value: /\bshow="([^"]*)"/.exec(tag)![1],
    shown: /\bshowname="([^"]*)"/.exec(tag)![1],
  }));
}

Deno.test({
  name: "Wireshark names every message of a live capture and finds every checksum good",
  ignore: needsRoot || !hasTshark,
  async fn() {
    // One host proves by HBA, the other one by signatures, so that all options are there.
    const hba = await hbaNew({ prefixes: providerPrefixes("a", 3), sec: 0 });
    const cga = await cgaNew({ prefixes: providerPrefixes("b", 3), sec: 0 });
    await using hosts = new Hosts("e2e-capture", [hba, cga]);
    const { a, b, router } = hosts.topology;
    const argumentsA = [...ARGUMENTS, "--identity", hosts.identityFile(a)];
    const argumentsB = [...ARGUMENTS, "--identity", hosts.identityFile(b)];
    const file = `${hosts.directory}/wire.pcapng`;
    const tshark = hosts.topology.spawn(router, "tshark", {
      args: [...a.providers.flatMap((p) => ["-i", p.routerInterface]), "-w", file, "-q", "ip6 proto 140"],
      stdout: "null",
      stderr: "piped",
    });
    const messages = tshark.stderr.pipeThrough(new TextDecoderStream()).getReader();
    let told = "";
    while (!told.includes("Capturing on")) told += (await messages.read()).value ?? assert(false, told);

    // A flow one way only, so that the receiver has to send Keepalives.
    const program = thisProgram();
    const udp = (host: LabHost, other: LabHost, ...args: string[]) =>
      hosts.topology.spawn(host, program.command, {
        args: [
          ...[...program.args, "lab", "traffic", "udp", "--port", "5050", "--local", host.addresses[0]],
          ...["--peer", other.addresses[0], "--every-ms", "20", "--block-bytes", "200", ...args],
        ],
        stdin: "null",
        stdout: "null",
      });
    const [agent, first] = await Promise.all([hosts.start(a, argumentsA), hosts.start(b, argumentsB)]);
    let peer = first;
    udp(b, a, "--no-send");
    udp(a, b);
    await agent.context("established context", settled);
    await peer.context("context with a Keepalive", (c) => settled(c) && c.counters.keepalives_sent > 0);
    await ask(agent.control, { command: "explore", context: "1" });
    await agent.context("context that has probed", (c) => settled(c) && c.counters.probes_sent > 0);
    for (const [state, count] of [["absent", 2], ["preferred", 3]] as const) {
      hosts.topology.setAddress(a.addresses[2], state);
      await peer.context(`${count} locators`, (context) => context.peer_locators.length === count);
    }
    await ask(agent.control, { command: "switch", context: "1", local: a.addresses[1], peer: b.addresses[1] });
    await agent.context("moved context", (c) => settled(c) && c.current.local === a.addresses[1]);
    // A peer that has forgotten everything gets payload with a tag that it does not know.
    await peer.end("SIGKILL");
    peer = await hosts.start(b, argumentsB);
    await until("I2bis", async () => ((await agent.status()).counters.sent.I2bis ?? 0) > 0);
    await peer.context("recovered context", settled);
    await new Promise((resolve) => setTimeout(resolve, 1_500)); // dumpcap gets packets from the kernel in blocks
    tshark.kill("SIGINT");
    while (!(await messages.read()).done);
    await tshark.status;

    const { stdout } = await new Deno.Command("tshark", { args: ["-r", file, "-T", "pdml"], stderr: "null" }).output();
    const pdml = new TextDecoder().decode(stdout);
    const types = valuesOf(pdml, "shim6.type");
    const names = new Map(types.map(({ value, shown }) => [Number(value), shown]));
    assertEquals([...names.keys()].sort((x, y) => x - y), TYPES);
    for (const [type, name] of names) assert(!/unknown/i.test(name), `${type}: ${name}`);
    const checksums = valuesOf(pdml, "shim6.checksum.status").map(({ value }) => value);
    assertEquals(checksums.length, types.length);
    assertEquals(new Set(checksums), new Set([CHECKSUM_GOOD]));
    const payload = valuesOf(pdml, "shim6.p").filter(({ value }) => value === "1");
    assert(payload.length > 10, `${payload.length} packets of payload`);
    console.log(`${types.length} messages, ${payload.length} packets of payload: ${[...names.values()].join("; ")}`);
  },
});
