import { assert, assertEquals, assertGreater } from "@std/assert";
import { ask } from "../../control/client.ts";
import type { DoctorReport } from "../../control/doctor.ts";
import type { ContextReport } from "../../control/protocol.ts";
import { hbaSets } from "../../lab/identities.ts";
import { thisProgram } from "../../lab/self.ts";
import { needsRoot } from "../lab/processes.ts";
import { finish, Hosts } from "./hosts.ts";

const PROTOCOL = 61;
const ARGUMENTS = ["--policy", "burst9", "--profile", "paper", "--establish-after-packets", "5"];

const settled = (context: ContextReport) => context.state === "ESTABLISHED" && context.reap === "operational";

/** The Next Header of each packet in a capture file of an agent (24 octets of header, 16 before each packet). */
function nextHeaders(path: string): Set<number> {
  const file = Deno.readFileSync(path), view = new DataView(file.buffer);
  const found = new Set<number>();
  for (let at = 24; at + 16 <= file.length; at += 16 + view.getUint32(at + 8, true)) found.add(file[at + 16 + 6]);
  return found;
}

Deno.test({
  name: "two agents that were told another protocol number speak that one, in control messages and in payload",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-protocol", await hbaSets([3, 3]));
    const { a, b } = hosts.topology;
    const pcap = `${hosts.directory}/control.pcap`;
    const common = [...ARGUMENTS, "--protocol", String(PROTOCOL)];
    // The kernel translates for one of them, and counts for the other by the tap.
    const agent = await hosts.start(a, [
      ...common,
      ...["--identity", hosts.identityFile(a), "--pcap", pcap, "--datapath", "bpf"],
    ]);
    const peer = await hosts.start(b, [...common, "--identity", hosts.identityFile(b), "--accounting", "tap"]);
    assert((await agent.status()).warnings.some((warning) => warning.includes(`protocol ${PROTOCOL}`)));
    const stream = await hosts.stream(5030);
    await agent.context("established context", settled);
    await peer.context("established context", settled);
    for (const [side, from, to] of [[agent, a, b], [peer, b, a]] as const) {
      await ask(side.control, { command: "switch", context: "1", local: from.addresses[1], peer: to.addresses[1] });
      await side.context("moved context", (c) => settled(c) && c.current.local === from.addresses[1]);
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
    await finish(stream);
    for (const side of [agent, peer]) {
      const { "translated-out": out, "translated-in": back } = (await side.status()).counters.datapath;
      assertGreater(Math.min(out, back), 10);
    }

    // Probes are no payload, whoever counts it.
    const payload = async () =>
      (await Promise.all([agent.contexts(), peer.contexts()])).flat()
        .map(({ counters }) => counters.sent_packets + counters.received_packets);
    const counted = await payload();
    for (const side of [agent, peer]) await ask(side.control, { command: "explore", context: "1" });
    for (const side of [agent, peer]) {
      await side.context("settled context", (c) => settled(c) && c.counters.probes_sent > 0);
    }
    assertEquals(await payload(), counted);
    assertEquals(nextHeaders(pcap), new Set([PROTOCOL]));

    const doctor = async (...args: string[]) => {
      const { command, args: first } = thisProgram();
      const child = hosts.topology.spawn(a, command, {
        args: [...first, "doctor", "--json", "--control", agent.control, ...args, b.addresses[2]],
        stdout: "piped",
      });
      return JSON.parse(new TextDecoder().decode((await child.output()).stdout)) as DoctorReport;
    };
    const kinds = ({ pairs }: DoctorReport) => new Set(pairs.flatMap(({ control, payload }) => [control, payload]));
    assertEquals(kinds(await doctor()), new Set(["passes"]));
    assertEquals(kinds(await doctor("--protocol", "140")), new Set(["no-agent"]));
  },
});
