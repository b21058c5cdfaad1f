/** A failure that is over soon costs translation until the hold-down is over, and no longer. */

import { assert, assertEquals } from "@std/assert";
import { needsRoot } from "../lab/processes.ts";
import { FAST, finish, Hosts, pause } from "./hosts.ts";

Deno.test({
  name: "after a short failure both hosts send as ever again, ten seconds later",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-return");
    const { topology } = hosts, { a, b } = topology;
    const agents = await Promise.all([a, b].map((host) => hosts.start(host, FAST)));
    const stream = await hosts.stream(5_061);
    const all = (what: string, isOnUlid: boolean) =>
      Promise.all(agents.map((agent) =>
        agent.context(
          what,
          ({ state, current, ulid }) =>
            state === "ESTABLISHED" && isOnUlid === (current.local === ulid.local && current.peer === ulid.peer),
        )
      ));
    await all("established context", true);
    await pause(4_000); // the other pairs are measured
    const setUlidPair = (state: "up" | "down") => {
      topology.setPath(a.addresses[0], b.addresses[0], state);
      topology.setPath(b.addresses[0], a.addresses[0], state);
    };
    setUlidPair("down");
    const movedAt = Date.now();
    await all("payload on another pair", false);
    setUlidPair("up");
    await all("payload on the ULID pair again", true);
    const afterMs = Date.now() - movedAt;
    assert(afterMs > 9_900, `back after ${afterMs} ms, which is no hold-down`);
    const translated = () =>
      Promise.all(agents.map(async (agent) => (await agent.status()).counters.datapath["translated-out"]));
    await pause(100);
    const before = await translated();
    await pause(500);
    assertEquals(await translated(), before, "packets are still translated");
    await finish(stream);
  },
});
