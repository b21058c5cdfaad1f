import { assert, assertEquals } from "@std/assert";
import { Capability } from "deno-tun";
import { START_CAPABILITIES } from "../../agent/privileges.ts";
import { ROOT } from "../../tools/source_files.ts";
import { needsRoot } from "../lab/processes.ts";
import { finish, Hosts, QUICK } from "./hosts.ts";

const UNIT = `${ROOT}contrib/shim6-agent.service`;

function mask(...names: (keyof typeof Capability)[]): string {
  return names.reduce((sum, name) => sum | 1n << BigInt(Capability[name]), 0n).toString(16).padStart(16, "0");
}

/** What /proc says of a thread's rights. */
function rights(task: string): Record<string, string> {
  const status = Deno.readTextFileSync(`${task}/status`);
  return Object.fromEntries([...status.matchAll(/^(Name|Cap\w+|NoNewPrivs):\s+(.*)$/gm)].map((m) => [m[1], m[2]]));
}

const start = mask(...START_CAPABILITIES), run = mask("CAP_NET_ADMIN", "CAP_NET_RAW"), none = mask();

for (const datapath of ["tun", "bpf"]) {
  Deno.test({
    name: `no thread of a running agent has more capabilities than it needs (${datapath})`,
    ignore: needsRoot,
    async fn() {
      await using hosts = new Hosts(`e2e-rights-${datapath}`);
      const { a, b } = hosts.topology;
      const agent = await hosts.start(a, [...QUICK, "--datapath", datapath]);
      const peer = await hosts.start(b);
      const { pid } = agent.process;
      const tasks = [...Deno.readDirSync(`/proc/${pid}/task`)].map(({ name }) => name);
      const all = tasks.map((task) => ({ task, ...rights(`/proc/${pid}/task/${task}`) }));
      for (
        const { task, Name, CapInh, CapPrm, CapEff, CapBnd, CapAmb, NoNewPrivs } of all as Record<string, string>[]
      ) {
        assertEquals({ CapInh, CapBnd, CapAmb, NoNewPrivs }, {
          CapInh: none,
          CapBnd: start,
          CapAmb: none,
          NoNewPrivs: "1",
        });
        assertEquals(CapEff, CapPrm);
        const expected = Number(task) === pid ? [run] : /worker-\d/.test(Name) ? [none] : [start, run];
        assert(expected.includes(CapPrm), `${Name}: ${CapPrm}`);
      }
      assertEquals(all.filter(({ CapPrm }: Record<string, string>) => CapPrm === none).length, 1, "the packet loop");

      // And it is enough: for a failover, a link that goes and comes, and an interface that was not there.
      const stream = await hosts.stream(5040);
      for (const side of [agent, peer]) await side.context("established context", (c) => c.state === "ESTABLISHED");
      hosts.topology.setLink(a.addresses[0], "down");
      await agent.context("moved context", (c) => c.reap === "operational" && c.current.local !== a.addresses[0]);
      hosts.topology.setLink(a.addresses[0], "up");
      a.netlink.createVeth("late", "late-peer");
      for (const name of ["late", "late-peer"]) a.netlink.setLink(name, { up: true });
      a.netlink.addAddress(a.netlink.link("late")!.index, "2001:db8:a4::a", 64, { nodad: true });
      await agent.context("context with a new locator", (c) => c.local_locators.includes("2001:db8:a4::a"));
      await finish(stream);
      assertEquals((await agent.status()).counters.dropped["internal-error"] ?? 0, 0, agent.log);
      assertEquals((await agent.end("SIGTERM")).code, 0);
      assert(await Deno.stat(agent.control).then(() => false, () => true), "the control socket is still there");
    },
  });
}

Deno.test("the systemd unit bounds the capabilities to those of the agent", () => {
  const unit = Deno.readTextFileSync(UNIT);
  const bounded = /^CapabilityBoundingSet=(.*)$/m.exec(unit)![1].split(" ");
  assertEquals(new Set<string>(bounded), new Set(START_CAPABILITIES));
});

const analyze = await systemdAnalyze("--version");
if (analyze === undefined) console.log("rating the systemd unit is left out: there is no systemd-analyze");

Deno.test({
  name: "systemd rates the unit as little exposed",
  ignore: analyze === undefined,
  async fn() {
    const rating = await systemdAnalyze("security", "--offline=true", "--threshold=25", "--no-pager", UNIT);
    assert(rating!.success, new TextDecoder().decode(rating!.stdout));
  },
});

async function systemdAnalyze(...args: string[]): Promise<Deno.CommandOutput | undefined> {
  try {
    return await new Deno.Command("systemd-analyze", { args }).output();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
