import { assert, assertEquals } from "@std/assert";
import { ask } from "../../control/client.ts";
import type { PathReport } from "../../control/protocol.ts";
import { needsRoot } from "../lab/processes.ts";
import { finish, Hosts, until } from "./hosts.ts";

const COORD = [
  ...["--policy", "coord", "--profile", "paper", "--insecure-locators"],
  ...["--establish-after-packets", "5"],
];

// The testbed's paths have no length, so what is measured is how busy the machine is, and may make no sense as a place.
Deno.test({
  name: "two agents with the policy coord exchange coordinates, learn by their probes, and show it in status and paths",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-coord");
    const { a, b } = hosts.topology;
    const agents = [await hosts.start(a, COORD), await hosts.start(b, COORD)];
    const stream = await hosts.stream(5006);
    await agents[0].context("established context", ({ state }) => state === "ESTABLISHED");
    for (const [i, agent] of agents.entries()) {
      const own = (i === 0 ? a : b).addresses, theirs = (i === 0 ? b : a).addresses;
      const coordinates = await until("coordinates of both sides", async () => {
        const { coordinates } = await agent.status();
        const hasLearnt = coordinates?.locators[0].error !== 1;
        const isTold = coordinates?.peers.some(({ error }) => error < 1);
        if (hasLearnt && isTold) return coordinates;
        // The probes of the beginning were too few, or lost on a busy machine: an exploration brings more.
        await ask(agents[1 - i].control, { command: "explore", context: "1" }).catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, 500));
      });
      assertEquals(coordinates.locators.map(({ address }) => address).toSorted(), [...own].toSorted());
      assertEquals(coordinates.peers.map(({ address }) => address).toSorted(), [...theirs].toSorted());
      assert(coordinates.locators.every(({ height_ms }) => height_ms > 0));
      assertEquals(coordinates.refused, 0);
      const paths = await ask<PathReport[]>(agent.control, { command: "paths" });
      assertEquals(paths.length, own.length * theirs.length);
      assert(paths.some(({ predicted_rtt_ms }) => predicted_rtt_ms !== null && predicted_rtt_ms > 0));
    }
    await finish(stream);
  },
});
