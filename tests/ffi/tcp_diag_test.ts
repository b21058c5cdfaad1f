import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { libc } from "../../ffi/libc.ts";
import { Attributes, MessageBuilder, readMessages } from "../../ffi/netlink_message.ts";
import { Netlink } from "../../ffi/netlink.ts";
import { closeNetns, createNetns, withNetns } from "../../ffi/netns.ts";
import {
  MAX_PAIRS,
  parseConnection,
  parseState,
  type TcpConnection,
  TcpDiag,
  writeDumpRequest,
  writeStateRequest,
} from "../../ffi/tcp_diag.ts";

const noRoot = Deno.uid() !== 0;
if (noRoot) console.log("a test of TCP connections in a namespace is left out: it needs root");
libc(); // opened for the whole file, or the first test would count as leaking it

const LOCAL = Uint8Array.from({ length: 16 }, (_, i) => 0x20 + i),
  PEER = Uint8Array.from({ length: 16 }, (_, i) => 0x90 + i);
const ADDRESSES = Uint8Array.from([...LOCAL, ...PEER]);
const CONNECTION: TcpConnection = { addresses: ADDRESSES, localPort: 0xc001, peerPort: 5001 };

/** `struct inet_diag_msg` and a `struct tcp_info` as its attribute. */
function answer(writeQueue: number, infoLength = 100): Uint8Array {
  const octets = new Uint8Array(72 + 4 + infoLength), view = new DataView(octets.buffer);
  octets[0] = 10;
  view.setUint16(4, CONNECTION.localPort);
  view.setUint16(6, CONNECTION.peerPort);
  octets.set(ADDRESSES, 8);
  view.setUint32(60, writeQueue, true);
  view.setUint16(72, 4 + infoLength, true);
  view.setUint16(74, 2, true); // INET_DIAG_INFO
  const set = (offset: number, value: number) => {
    if (offset + 4 <= infoLength) view.setUint32(76 + offset, value, true);
  };
  octets[77] = 4; // TCP_CA_Loss
  octets[81] = 7; // timestamps, SACK, window scale
  set(16, 1428);
  set(24, 30);
  set(36, 1);
  set(56, 250);
  set(68, 20_500);
  return octets;
}

function only(request: MessageBuilder): Uint8Array {
  const [message] = readMessages(request.octets, request.length);
  assertEquals(message.type, 20); // SOCK_DIAG_BY_FAMILY
  return message.body;
}

Deno.test("the list is asked for with the states in which something may be unanswered, and for some address pairs if wanted", () => {
  const request = new MessageBuilder(256);
  writeDumpRequest(request, 1);
  const all = only(request);
  assertEquals([...all.subarray(0, 4)], [10, 6, 0, 0]);
  assertEquals(new DataView(all.buffer, all.byteOffset).getUint32(4, true), 0b1011_0001_0010);
  assertEquals(all.length, 56);

  request.clear();
  writeDumpRequest(request, 2, [ADDRESSES, ADDRESSES]);
  const filter = new Attributes(only(request), 56).octets(1)!;
  const view = new DataView(filter.buffer, filter.byteOffset);
  assertEquals(filter.length, 120);
  const operation = (at: number) => [filter[at], filter[at + 1], view.getUint16(at + 2, true)];
  // Destination and source: where one does not hold, the jump leads to the next pair, or 4 octets beyond the end.
  assertEquals([operation(0), operation(28), operation(56)], [[8, 28, 60], [7, 28, 32], [1, 4, 64]]);
  assertEquals([operation(60), operation(88), operation(116)], [[8, 28, 64], [7, 28, 36], [1, 4, 4]]);
  assertEquals([filter[4], filter[5], view.getInt32(8, true)], [10, 128, -1]);
  assertEquals([filter.subarray(12, 28), filter.subarray(40, 56)], [PEER, LOCAL]);
});

Deno.test("a connection is asked for by its ports and addresses", () => {
  const request = new MessageBuilder(256);
  writeStateRequest(request, 1, CONNECTION);
  const body = only(request);
  assertEquals(body[2], 2); // INET_DIAG_INFO
  assertEquals([...body.subarray(8, 12)], [0xc0, 0x01, 5001 >> 8, 5001 & 0xff]);
  assertEquals(body.subarray(12, 44), ADDRESSES);
  assertEquals([...body.subarray(48)], Array(8).fill(0xff));
});

Deno.test("answers of the kernel are read; what has nothing to send is left out, and what is cut off is no answer", () => {
  assertEquals(parseConnection(answer(5_000)), CONNECTION);
  assertEquals(parseConnection(answer(0)), undefined);
  assertEquals(parseConnection(answer(5_000).subarray(0, 71)), undefined);
  assertEquals(parseState(answer(5_000)), {
    unacknowledged: 30,
    retransmitted: 1,
    inLoss: true,
    mss: 1428,
    timestamps: true,
    rttMs: 20.5,
    sinceAckMs: 250,
  });
  assertEquals(parseState(answer(5_000, 71)), undefined);
  assertEquals(parseState(answer(5_000).subarray(0, 74)), undefined);
});

Deno.test("no answer, however damaged, makes the reader fail", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(200), (octets, cut) => {
    const damaged = answer(5_000);
    damaged.set(octets.subarray(0, damaged.length));
    for (const body of [octets, damaged, damaged.subarray(0, cut)]) {
      parseConnection(body);
      parseState(body);
    }
  }));
});

Deno.test({
  name: "connections of a namespace are found, by their addresses if wanted, and gone when they have ended",
  ignore: noRoot,
  async fn() {
    const namespace = createNetns();
    const { diag, listener, connecting } = withNetns(namespace, () => {
      using netlink = new Netlink();
      netlink.setLink("lo", { up: true });
      const listener = Deno.listen({ hostname: "::1", port: 5533 });
      return { diag: new TcpDiag(), listener, connecting: Deno.connect({ hostname: "::1", port: 5533 }) };
    });
    try {
      const [sender, receiver] = await Promise.all([connecting, listener.accept()]);
      const list = (...pairs: Uint8Array[]) => {
        const found: TcpConnection[] = [];
        diag.connections((connection) => found.push(connection), pairs);
        return found;
      };
      assertEquals(list(), [], "nothing to send");
      // Until nobody takes any more: then the sender's queue stays full.
      const block = new Uint8Array(1 << 20);
      const writing = (async () => {
        for (;;) await sender.write(block);
      })().catch(() => {});
      while (list().length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      const [connection] = list();
      assertEquals(connection.localPort, (sender.localAddr as Deno.NetAddr).port);
      assertEquals(connection.peerPort, 5533);
      assertEquals(list(connection.addresses).length, 1);
      assertEquals(list(ADDRESSES, connection.addresses).length, 1);
      assertEquals(list(connection.addresses, ...Array(MAX_PAIRS - 1).fill(ADDRESSES)).length, 1);
      assertEquals(list(ADDRESSES), []);
      assertEquals(list(ADDRESSES, ADDRESSES), []);
      assert(diag.state(connection)!.mss > 0);
      sender.close();
      receiver.close();
      await writing;
      assertEquals(diag.state({ ...connection, localPort: 1 }), undefined);
    } finally {
      listener.close();
      diag.close();
      closeNetns(namespace);
    }
    assertThrows(() => diag.connections(() => {}));
  },
});
