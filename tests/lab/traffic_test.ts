import { assert, assertEquals, assertRejects } from "@std/assert";
import { UsageError } from "../../agent/errors.ts";
import { type TcpReceived, type TcpSent, trafficCommand, type UdpExchanged } from "../../lab/traffic.ts";
import { TrafficProcess } from "../../lab/traffic_process.ts";
import { spawnLab } from "./processes.ts";

const PATIENCE_MS = 20_000;

const LOCAL = ["--local", "::1"];
const TO_SELF = [...LOCAL, "--peer", "::1"];

function start(...args: string[]): TrafficProcess {
  return new TrafficProcess(spawnLab(["traffic", ...args]));
}

async function stream(send: string[], receive: string[] = []): Promise<[TcpSent, TcpReceived, TrafficProcess]> {
  const receiver = start("tcp-receive", ...LOCAL, "--port", "0", ...receive);
  const { port } = await receiver.line("listening");
  const sender = start("tcp-send", ...TO_SELF, "--port", String(port), ...send);
  const [sent, received] = await Promise.all([sender.result(PATIENCE_MS), receiver.result(PATIENCE_MS)]);
  return [sent as TcpSent, received as TcpReceived, receiver];
}

Deno.test("a bulk stream arrives whole, and both ends agree on its hash", async () => {
  const [sent, received] = await stream(["--duration-ms", "300", "--block-bytes", "65536"]);
  assertEquals([sent.complete, received.complete, sent.error, received.error], [true, true, null, null]);
  assert(sent.bytes > 1e6);
  assertEquals([received.bytes, received.sha256], [sent.bytes, sent.sha256]);
  assertEquals(received.reception.bins.reduce((sum, bytes) => sum + bytes, 0), sent.bytes);
});

Deno.test("a paced stream sends a block every so often, and progress is told meanwhile", async () => {
  const [sent, received, receiver] = await stream(
    ["--duration-ms", "500", "--block-bytes", "1000", "--every-ms", "50"],
    ["--progress-ms", "50"],
  );
  assert(sent.bytes >= 8_000 && sent.bytes <= 11_000, `${sent.bytes} octets`);
  assertEquals(received.bytes, sent.bytes);
  assert(received.reception.gaps.length >= 4); // most gaps are longer than 20 ms
  assert(receiver.lines.some((line) => line.event === "progress" && line.bytes > 0));
});

Deno.test("a sender that is told to stop ends its stream cleanly", async () => {
  const receiver = start("tcp-receive", ...LOCAL, "--port", "0");
  const { port } = await receiver.line("listening");
  const sender = start("tcp-send", ...TO_SELF, "--port", String(port), "--every-ms", "5");
  await receiver.line("connected");
  await sender.line("connected");
  sender.stop();
  const [sent, received] = await Promise.all([sender.result(PATIENCE_MS), receiver.result(PATIENCE_MS)]) as [
    TcpSent,
    TcpReceived,
  ];
  assertEquals([sent.complete, received.complete], [true, true]);
  assertEquals(received.sha256, sent.sha256);
});

Deno.test("a receiver that is told to stop says what it had received", async () => {
  const receiver = start("tcp-receive", ...LOCAL, "--port", "0");
  await receiver.line("listening");
  receiver.stop();
  const received = await receiver.result(PATIENCE_MS) as TcpReceived;
  assertEquals([received.complete, received.error, received.bytes], [false, "told to stop", 0]);
});

Deno.test("datagrams to itself are all accounted for", async () => {
  const exchange = start("udp", ...TO_SELF, "--port", "47001", "--every-ms", "5", "--block-bytes", "200");
  await exchange.line("listening");
  await new Promise((resolve) => setTimeout(resolve, 300));
  exchange.stop();
  const result = await exchange.result(PATIENCE_MS) as UdpExchanged;
  assert(result.sent > 20);
  assertEquals([result.received, result.bytes_received], [result.sent, 200 * result.sent]);
  assertEquals([result.duplicates, result.reordered, result.corrupt, result.send_errors], [0, 0, 0, 0]);
  assert(result.delay_ms.min >= 0 && result.delay_ms.mean <= result.delay_ms.max);
});

Deno.test("a side that does not send only listens", async () => {
  const silent = start("udp", ...TO_SELF, "--port", "47002", "--no-send", "--duration-ms", "50", "--every-ms", "10");
  const result = await silent.result(PATIENCE_MS) as UdpExchanged;
  assertEquals([result.sent, result.received, result.send_errors], [0, 0, 0]);
});

Deno.test("wrong use of a traffic program is refused", async () => {
  await assertRejects(() => trafficCommand(["smtp"]), UsageError, "smtp");
  await assertRejects(() => trafficCommand(["udp", "--local", "::1", "--port", "x"]), UsageError, "--port");
  await assertRejects(() => trafficCommand(["udp", "--port", "1"]), UsageError, "--local");
  await assertRejects(() => trafficCommand(["udp", "--fast"]), UsageError, "--fast");
});
