import { assert, assertEquals, assertLess, assertStringIncludes } from "@std/assert";
import { monotonicNow } from "deno-tun";
import { ask } from "../../control/client.ts";
import { thisProgram } from "../../lab/self.ts";
import { needsRoot } from "../lab/processes.ts";
import { finish, Hosts, longestSilence, QUICK, traces, until } from "./hosts.ts";

const established = (context: { state: string; reap: string }) =>
  context.state === "ESTABLISHED" && context.reap === "operational";

Deno.test({
  name: "a healthy flow outlives the agent's sudden death, and a restarted agent finds its context again",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-kill");
    const { a, b } = hosts.topology;
    const agent = await hosts.start(a);
    const peer = await hosts.start(b);
    const stream = await hosts.stream(5001);
    await agent.context("established context", established);

    const killed = monotonicNow();
    await agent.end("SIGKILL");
    assertEquals(traces(a), []);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    const again = await hosts.start(a);
    await again.context("recovered context", established);
    await peer.context("established context", established);
    const received = await finish(stream);
    assertLess(longestSilence(received, killed), 2_000);
  },
});

Deno.test({
  name: "a moved flow falls back to a living native path when its agent dies, and moves again with a new one",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-moved");
    const { a, b } = hosts.topology;
    const agent = await hosts.start(a);
    const peer = await hosts.start(b);
    const stream = await hosts.stream(5002);
    await agent.context("established context", established);
    await peer.context("established context", established);
    for (const [side, from, to] of [[agent, a, b], [peer, b, a]] as const) {
      await ask(side.control, { command: "switch", context: "1", local: from.addresses[1], peer: to.addresses[2] });
    }
    const moved = (context: { current: { local: string } }) =>
      context.current.local === a.addresses[1] || context.current.local === b.addresses[1];
    await agent.context("moved context", moved);
    await peer.context("moved context", moved);

    const killed = monotonicNow();
    await agent.end("SIGKILL");
    assertEquals(traces(a), []);
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    const again = await hosts.start(a);
    await again.context("recovered context", established);
    const received = await finish(stream);
    assertLess(longestSilence(received, killed), 2_000);
  },
});

Deno.test({
  name: "SIGTERM ends the agent cleanly: exit code 0, no trace in the kernel, no socket, the stream goes on",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-term");
    const { a, b } = hosts.topology;
    const agent = await hosts.start(a);
    await hosts.start(b);
    const stream = await hosts.stream(5003);
    await agent.context("established context", established);
    await ask(agent.control, {
      command: "switch",
      context: "1",
      local: a.addresses[2],
      peer: b.addresses[1],
    });
    await agent.context("moved context", (context) => context.current.local === a.addresses[2]);
    assert(traces(a).length > 0, "a moved context leaves traces while the agent runs");

    const stopped = monotonicNow();
    assertEquals((await agent.end("SIGTERM")).code, 0);
    assertEquals(traces(a), []);
    for (const priority of [5, 6]) assert(!a.netlink.deleteRule({ table: 5533, priority }), "a rule was left");
    const socketGone = await Deno.stat(agent.control).then(() => false, () => true);
    assert(socketGone, "the control socket is still there");
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    const received = await finish(stream);
    assertLess(longestSilence(received, stopped), 2_000);
  },
});

Deno.test({
  name: "an excluded port and a peer without an agent never get in the way of a flow",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-alone");
    const agent = await hosts.start(hosts.topology.a, [...QUICK, "--exclude-port", "5004"]);
    const excluded = await hosts.stream(5004);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    assertEquals(await agent.contexts(), []);
    const alone = await hosts.stream(5005);
    await agent.context("note that the peer does not speak Shim6", (context) => context.state === "NO-SUPPORT");
    await finish(excluded);
    await finish(alone);
  },
});

Deno.test({
  name: "an agent that is ready rehearses a failover and goes on",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-rehearse");
    const agent = await hosts.start(hosts.topology.a, ["--log-level", "debug"]);
    await until("the agent has rehearsed", () => agent.log.includes("failover rehearsed"));
    assertEquals(await agent.contexts(), []);
    assertEquals((await agent.end("SIGTERM")).code, 0);
  },
});

Deno.test({
  name: "wrong use ends with one clear sentence and exit code 2",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("e2e-wrong");
    const { a } = hosts.topology;
    const control = `${hosts.directory}/wrong.sock`;
    const program = thisProgram();
    const run = async (args: string[], prefix: string[] = []) => {
      const [command, ...rest] = [...prefix, program.command, ...program.args, ...args];
      const output = await hosts.topology.spawn(a, command, {
        args: rest,
        stdin: "null",
        stdout: "piped",
        stderr: "piped",
        signal: AbortSignal.timeout(15_000),
      }).output();
      return { code: output.code, text: new TextDecoder().decode(output.stderr) };
    };
    const cases: [string[], string][] = [
      [["run", "--polcy", "x"], "unknown option --polcy"],
      [["run", "--policy", "best"], "unknown policy"],
      [["run", "--locator", "nonsense"], "not an IPv6 address"],
      [["run", "--config", "/nonexistent"], "cannot read the configuration file /nonexistent"],
      [["run", "--control", control, "--events", `${hosts.directory}/none/e`], "/none/e"],
      [["run", "--control", control, "--interface", "eth9"], "eth9"],
      [["run", "--control", control, "--locator", "2001:db8:77::1"], "2001:db8:77::1"],
      [["frobnicate"], "unknown command frobnicate"],
      [["why"], "usage: shim6-agent why CONTEXT"],
    ];
    for (const [args, expected] of cases) {
      const { code, text } = await run(args);
      assertEquals(code, 2, `${args.join(" ")}: ${text}`);
      assertStringIncludes(text, expected);
      assertEquals(text.trim().split("\n").length, 1, text);
    }
    const none = await run(["status", "--control", "/nonexistent.sock"]);
    assertEquals(none.code, 1);
    assertStringIncludes(none.text, "no agent answers on /nonexistent.sock");
    // setpriv is part of util-linux, which is on every Debian machine.
    const powerless = await run(["run", "--control", control], [
      "setpriv",
      "--bounding-set",
      "-all",
      "--inh-caps",
      "-all",
    ]);
    assertEquals(powerless.code, 2, powerless.text);
    assertStringIncludes(powerless.text, "CAP_NET_ADMIN and CAP_NET_RAW missing");
    assertEquals(traces(a), []);

    const agent = await hosts.start(a);
    const second = await run(["run", "--control", agent.control]);
    assertEquals(second.code, 2);
    assertStringIncludes(second.text, "another agent already answers");
    await until("agent that is unharmed", () => agent.status());
  },
});
