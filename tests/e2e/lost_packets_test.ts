/** A dense TCP stream whose path dies without a sign goes on as soon as there is another path. */

import { assert, assertEquals } from "@std/assert";
import { bpfRefused } from "../datapath/bpf_allowed.ts";
import { FAST, finish, Hosts, pause, tcpCounter } from "./hosts.ts";

const needsRoot = Deno.uid() !== 0;
if (needsRoot) console.log("the failover of a dense stream is left out: not root");

/** So many octets each millisecond that some are always on their way. */
const DENSE = { blockBytes: 16_384, everyMs: 1 };
/** On a busy machine a failure may be noticed only after TCP's 200 ms: then the next one has to tell. */
const FAILURES = 4;

Deno.test({
  name: "what was lost with a dense stream's path is repeated at once, without TCP's retransmission timer",
  ignore: needsRoot || bpfRefused,
  async fn() {
    await using hosts = new Hosts("shim6-test-lost");
    const { topology } = hosts, { a, b } = topology;
    const [agentA, agentB] = await Promise.all([hosts.start(a, FAST), hosts.start(b, FAST)]);
    const stream = await hosts.stream(5_011, a.addresses[0], b.addresses[0], DENSE);
    for (const agent of [agentA, agentB]) await agent.context("context", ({ state }) => state === "ESTABLISHED");
    const nudged = async () => (await agentA.status()).counters.datapath["nudged-connections"];
    let isInTime = false;
    for (let failure = 0; failure < FAILURES && !isInTime; failure++) {
      await pause(1_500); // the usual silence is learnt
      const [{ current, switches }] = await agentA.contexts(), [peer] = await agentB.contexts();
      const timeouts = await tcpCounter(topology, a, "TCPTimeouts"), nudgedBefore = await nudged();
      topology.setPath(current.local, current.peer, "down");
      topology.setPath(peer.current.local, peer.current.peer, "down");
      await agentA.context("switch", (context) => context.switches > switches);
      await pause(300);
      assert(await nudged() > nudgedBefore, "TCP was not told");
      isInTime = await tcpCounter(topology, a, "TCPTimeouts") === timeouts;
    }
    assertEquals(isInTime, true, "TCP's timer went off in each failure");
    await finish(stream);
  },
});
