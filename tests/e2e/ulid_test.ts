import { assertEquals, assertLess } from "@std/assert";
import { monotonicNow } from "deno-tun";
import type { ContextReport } from "../../control/protocol.ts";
import { hbaSets } from "../../lab/identities.ts";
import { needsRoot } from "../lab/processes.ts";
import { finish, Hosts, longestSilence, until } from "./hosts.ts";

const ARGUMENTS = ["--policy", "burst9", "--profile", "paper", "--establish-after-packets", "5"];

const settled = (context: ContextReport) => context.state === "ESTABLISHED" && context.reap === "operational";

for (const endWithUlid of [false, true]) {
  Deno.test({
    name: endWithUlid
      ? "asked for, a context ends with its ULID, and the agent keeps nothing of that address"
      : "a flow goes on when its ULID is taken from the host, which sends from another address then",
    ignore: needsRoot,
    async fn() {
      await using hosts = new Hosts(`e2e-ulid-${endWithUlid ? "end" : "on"}`, await hbaSets([3, 3]));
      const { a, b } = hosts.topology;
      const config = `${hosts.directory}/config.toml`;
      Deno.writeTextFileSync(config, `end_with_ulid = ${endWithUlid}\n`);
      const [agent, peer] = await Promise.all([
        hosts.start(a, [...ARGUMENTS, "--config", config, "--identity", hosts.identityFile(a)]),
        hosts.start(b, [...ARGUMENTS, "--identity", hosts.identityFile(b)]),
      ]);
      const stream = await hosts.stream(5070);
      for (const side of [agent, peer]) await side.context("established context", settled);

      const taken = monotonicNow();
      hosts.topology.setAddress(a.addresses[0], "absent");
      if (endWithUlid) {
        await until("end of the context", async () => (await agent.contexts()).length === 0);
        assertEquals(a.netlink.addresses().some(({ address }) => address === a.addresses[0]), false);
        return;
      }
      const moved = await agent.context("moved context", (c) => settled(c) && c.current.local !== a.addresses[0]);
      assertEquals(moved.ulid, { local: a.addresses[0], peer: b.addresses[0] });
      await peer.context("moved context", (c) => settled(c) && c.current.peer !== a.addresses[0]);
      await peer.context("news of the address", (c) => c.peer_locators.length === 2);
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      assertLess(longestSilence(await finish(stream), taken), 3_000);
    },
  });
}
