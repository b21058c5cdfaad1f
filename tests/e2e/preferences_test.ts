import { assert, assertEquals } from "@std/assert";
import { ask } from "../../control/client.ts";
import type { ContextReport } from "../../control/protocol.ts";
import { hbaSets } from "../../lab/identities.ts";
import { needsRoot } from "../lab/processes.ts";
import { finish, Hosts } from "./hosts.ts";

const ARGUMENTS = ["--policy", "random", "--profile", "paper", "--establish-after-packets", "5"];

const settled = (context: ContextReport) => context.state === "ESTABLISHED" && context.reap === "operational";

Deno.test({
  name: "an operator moves a peer's payload between providers, drains one, and a failure leads to the preferred one",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-prefer", await hbaSets([3, 3]));
    const { a, b } = hosts.topology;
    const [agent, peer] = await Promise.all([
      hosts.start(a, [...ARGUMENTS, "--identity", hosts.identityFile(a)]),
      hosts.start(b, [...ARGUMENTS, "--identity", hosts.identityFile(b), "--prefer", "b3=90,weight=3,transient"]),
    ]);
    const stream = await hosts.stream(5060);
    const context = await agent.context("established context", settled);
    assertEquals(context.current, { local: a.addresses[0], peer: b.addresses[0] }, "a new context is on its ULID pair");
    assertEquals(context.peer_locators.map(({ preference }) => preference), [
      { priority: 100, weight: 0, transient: false, broken: false },
      { priority: 100, weight: 0, transient: false, broken: false },
      { priority: 90, weight: 3, transient: true, broken: false },
    ]);
    await peer.context("established context", settled);
    const prefer = (preference: string) => ask(peer.control, { command: "prefer", preference });
    const sendsTo = (address: string) =>
      agent.context(`payload to ${address}`, (c) => settled(c) && c.current.peer === address);

    await prefer("b2=10");
    await sendsTo(b.addresses[1]);
    await peer.context("payload from the same", (c) => settled(c) && c.current.local === b.addresses[1]);
    assertEquals((await peer.status()).locators.map(({ priority }) => priority), [100, 10, 90]);

    // Both directions of the preferred provider die: the next preferred one is found first, and is there to stay.
    hosts.topology.setProvider(b.addresses[1], "down");
    await sendsTo(b.addresses[2]);
    hosts.topology.setProvider(b.addresses[1], "up");

    await prefer("b3=broken");
    const drained = await agent.context(
      "payload elsewhere",
      (c) => settled(c) && c.current.peer !== b.addresses[2] && c.peer_locators[2].preference?.broken === true,
    );
    assert(drained.switches >= 3);
    await finish(stream);
  },
});
