import { assert, assertEquals, assertLess } from "@std/assert";
import { monotonicNow } from "deno-tun";
import { cgaNew, hbaNew } from "../../agent/identity.ts";
import type { ContextReport } from "../../control/protocol.ts";
import { hbaSets } from "../../lab/identities.ts";
import { type LabHost, providerPrefixes } from "../../lab/topology.ts";
import { needsRoot } from "../lab/processes.ts";
import { finish, Hosts, longestSilence } from "./hosts.ts";

const ARGUMENTS = ["--policy", "burst9", "--profile", "paper", "--establish-after-packets", "5"];

const verified = (context: ContextReport) => context.peer_locators.filter((locator) => locator.verified).length;

Deno.test({
  name: "locators that HBA proves carry a stream over a dead path, with nothing accepted on trust",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-hba", await hbaSets([3, 3]));
    const { a, b } = hosts.topology;
    const agent = await hosts.start(a, [...ARGUMENTS, "--identity", hosts.identityFile(a)]);
    const peer = await hosts.start(b, [...ARGUMENTS, "--identity", hosts.identityFile(b)]);
    const stream = await hosts.stream(5020);
    const context = await agent.context(
      "context whose peer has proved three locators",
      (context) => verified(context) === 3,
    );
    assertEquals(context.peer_locators.map((locator) => locator.address), b.addresses);
    await peer.context("established context", (context) => context.state === "ESTABLISHED");
    assertEquals((await agent.status()).warnings, []);

    const broken = monotonicNow();
    hosts.topology.setPath(a.addresses[0], b.addresses[0], "down");
    hosts.topology.setPath(b.addresses[0], a.addresses[0], "down");
    await agent.context("moved context", (context) => context.switches > 0 && context.reap === "operational");
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const received = await finish(stream);
    assertLess(longestSilence(received, broken), 6_000);
  },
});

Deno.test({
  name: "a host with a set of HBAs and a signed locator, and one with CGAs: both prove all, also after a restart",
  ignore: needsRoot,
  async fn() {
    const mixed = await hbaNew({ prefixes: providerPrefixes("a", 2), sec: 0, cga: true });
    const cga = await cgaNew({ prefixes: providerPrefixes("b", 3), sec: 0 });
    await using hosts = new Hosts("e2e-mixed", [mixed, cga]);
    const { a, b } = hosts.topology;
    assertEquals([a.addresses.slice(0, 2), a.addresses[2]], [mixed.addresses, "2001:db8:a3::a"]);
    const argumentsOf = (host: LabHost) => [...ARGUMENTS, "--identity", hosts.identityFile(host)];
    const argumentsA = argumentsOf(a), argumentsB = argumentsOf(b);
    const files = [argumentsA, argumentsB].map((args) => args.at(-1)!);
    const contents = files.map((file) => Deno.readTextFileSync(file));
    const stream = await hosts.stream(5022);
    for (const signed of [false, true]) {
      const agent = await hosts.start(a, argumentsA), peer = await hosts.start(b, argumentsB);
      const proven = (context: ContextReport) => verified(context) === 3 && context.reap === "operational";
      const context = await agent.context("context whose peer has proved three locators", proven);
      const back = await peer.context("context whose peer has proved three locators", proven);
      assertEquals(context.peer_locators.map((locator) => locator.address), b.addresses);
      assertEquals(back.peer_locators.map((locator) => locator.address), a.addresses);
      if (signed) {
        // Only the locator that a signature alone binds is left.
        for (const address of a.addresses.slice(0, 2)) hosts.topology.setProvider(address, "down");
        const moved = await agent.context("moved context", (c) => c.current.local === a.addresses[2]);
        assert(moved.switches > 0);
        await agent.context("operational context", (c) => c.reap === "operational");
        break;
      }
      await agent.end("SIGTERM");
      await peer.end("SIGKILL");
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await finish(stream);
    assertEquals(files.map((file) => Deno.readTextFileSync(file)), contents);
    assertEquals(files.map((file) => Deno.statSync(file).mode! & 0o777), [0o600, 0o600]);
  },
});

Deno.test({
  name: "a peer that proves nothing keeps its context on the ULID pair, and status and log say so",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-noproof");
    const agent = await hosts.start(hosts.topology.a, ARGUMENTS);
    const peer = await hosts.start(hosts.topology.b, [...ARGUMENTS, "--insecure-locators"]);
    const stream = await hosts.stream(5021);
    const context = await agent.context("established context", (context) => context.state === "ESTABLISHED");
    assertEquals(context.peer_locators.filter((locator) => locator.verified).map((locator) => locator.address), [
      hosts.topology.b.addresses[0],
    ]);
    const { warnings } = await agent.status();
    assert(warnings.some((warning) => warning.includes("--identity")), warnings.join("; "));
    assert((await peer.status()).warnings.some((warning) => warning.includes("without proof")));
    await finish(stream);
  },
});
