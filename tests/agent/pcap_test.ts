import { assertEquals } from "@std/assert";
import { PcapWriter } from "../../agent/pcap.ts";
import vectors from "../fixtures/vectors.json" with { type: "json" };

const octets = (hex: string) => Uint8Array.from(hex.match(/../g)!, (pair) => parseInt(pair, 16));

const directory = Deno.makeTempDirSync();
globalThis.addEventListener("unload", () => Deno.removeSync(directory, { recursive: true }));

Deno.test("a capture file holds each packet with its time and length", () => {
  const path = directory + "/control.pcap";
  const writer = new PcapWriter(path);
  const packet = octets(vectors.vectors[0].hex);
  writer.write(packet, 1_700_000_000_123.5);
  writer.close();
  const file = Deno.readFileSync(path);
  const view = new DataView(file.buffer);
  assertEquals(view.getUint32(0, true), 0xa1b2c3d4);
  assertEquals(view.getUint32(20, true), 229);
  assertEquals(view.getUint32(24, true), 1_700_000_000);
  assertEquals(view.getUint32(28, true), 123_500);
  assertEquals(view.getUint32(32, true), packet.length);
  assertEquals(file.subarray(40), packet);
});

/** tshark is not on every machine; where it is, it is the judge. */
const tshark = (() => {
  try {
    return new Deno.Command("tshark", { args: ["--version"] }).outputSync().success;
  } catch {
    return false;
  }
})();

Deno.test({
  name: "Wireshark opens the capture, names the messages and finds their checksums good",
  ignore: !tshark,
  fn() {
    const path = directory + "/vectors.pcap";
    const writer = new PcapWriter(path);
    // Its dissector does not know Error (68), and payload headers are not control messages.
    const wanted = vectors.vectors.filter((vector) =>
      vector.valid && vector.decoded.P === 0 && (vector.decoded.type ?? 99) <= 67 && vector.name.length > 0
    );
    for (const vector of wanted) writer.write(octets(vector.hex), 1_000);
    writer.close();
    const output = new Deno.Command("tshark", {
      args: ["-r", path, "-T", "fields", "-e", "shim6.type", "-e", "shim6.checksum.status"],
    }).outputSync();
    const lines = new TextDecoder().decode(output.stdout).trim().split("\n");
    assertEquals(lines, wanted.map((vector) => `${vector.decoded.type}\t1`));
  },
});
