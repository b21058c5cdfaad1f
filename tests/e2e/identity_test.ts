import { assert, assertEquals, assertLess } from "@std/assert";
import { monotonicNow } from "deno-tun";
import { hbaNew, writeIdentityFile } from "../../agent/identity.ts";
import type { LabHost } from "../../lab/topology.ts";
import { needsRoot } from "../lab/processes.ts";
import { finish, Hosts, longestSilence } from "./hosts.ts";

const ARGUMENTS = ["--policy", "burst9", "--profile", "paper", "--establish-after-packets", "5"];

/** Gives a host a set of addresses that prove each other. Returns them and the file with the proof. */
async function identify(host: LabHost, directory: string): Promise<{ addresses: readonly string[]; file: string }> {
  const identity = await hbaNew({ prefixes: host.prefixes, sec: 0 });
  host.providers.forEach((provider, i) => {
    const index = host.netlink.link(provider.interface)!.index;
    host.netlink.addAddress(index, identity.addresses[i], 64, { nodad: true });
  });
  const file = `${directory}/${host.name}.identity`;
  writeIdentityFile(file, identity);
  return { addresses: identity.addresses, file };
}

Deno.test({
  name: "locators that HBA proves carry a stream over a dead path, with nothing accepted on trust",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-hba");
    const { a, b } = hosts.topology;
    const identityA = await identify(a, hosts.directory), identityB = await identify(b, hosts.directory);
    const agent = await hosts.start(a, [...ARGUMENTS, "--identity", identityA.file]);
    const peer = await hosts.start(b, [...ARGUMENTS, "--identity", identityB.file]);
    const stream = await hosts.stream(5020, identityA.addresses[0], identityB.addresses[0]);
    const context = await agent.context(
      "context whose peer has proved three locators",
      (context) => context.peer_locators.filter((locator) => locator.verified).length === 3,
    );
    assertEquals(context.peer_locators.map((locator) => locator.address), identityB.addresses);
    await peer.context("established context", (context) => context.state === "ESTABLISHED");

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
