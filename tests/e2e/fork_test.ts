/** Forked contexts of two agents (RFC 5533 §4.2). */

import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { monotonicNow } from "deno-tun";
import { ask } from "../../control/client.ts";
import type { ContextReport } from "../../control/protocol.ts";
import { needsRoot } from "../lab/processes.ts";
import { ADAPTIVE, finish, Hosts, longestSilence, type RunningAgent, until } from "./hosts.ts";

const settled = (context: ContextReport) => context.state === "ESTABLISHED" && context.reap === "operational";

async function forkOf(agent: RunningAgent): Promise<ContextReport> {
  return await until(
    "established fork",
    async () => (await agent.contexts()).find((context) => context.fii !== 0 && settled(context)),
  );
}

Deno.test({
  name: "a fork is opened by a command, is known to both hosts, goes its own way, and leaves the stream alone",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-fork");
    const { topology } = hosts, { a, b } = topology;
    const agent = await hosts.start(a, ADAPTIVE), peer = await hosts.start(b, [...ADAPTIVE.slice(0, -1), "1000000"]);
    const stream = await hosts.stream(5041);
    const { id } = await agent.context("established context", settled);
    const said = await ask<string>(agent.control, { command: "fork", context: String(id) });
    const fork = await forkOf(agent), ofPeer = await forkOf(peer);
    assert(said.includes(`context ${fork.id} `) && said.endsWith(String(fork.fii)), said);
    assertEquals(ofPeer.fii, fork.fii);
    assertEquals([ofPeer.ulid.local, ofPeer.ulid.peer], [fork.ulid.peer, fork.ulid.local]);

    // Each on its own pair.
    await ask(agent.control, {
      command: "switch",
      context: String(fork.id),
      local: a.addresses[2],
      peer: b.addresses[1],
    });
    await agent.context("fork on its own pair", ({ fii, current }) => fii !== 0 && current.local === a.addresses[2]);
    assertEquals((await agent.context("context", ({ fii }) => fii === 0)).switches, 0);

    const failed = monotonicNow();
    topology.setProvider(a.addresses[0], "down");
    const moved = await agent.context("moved context", (c) => c.fii === 0 && settled(c) && c.switches > 0);
    assertGreater(moved.counters.sent_packets, 0);
    assertEquals((await forkOf(agent)).counters.sent_packets, 0);
    await ask(agent.control, { command: "forget", context: String(fork.id) });
    assertEquals((await agent.contexts()).map(({ fii }) => fii), [0]);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const received = await finish(stream);
    assertLess(longestSilence(received, failed), 5_000);
    assert(agent.log.indexOf("internal error") < 0, agent.log);
  },
});
