import { assertEquals } from "@std/assert";
import {
  addressOf,
  closeFd,
  ControlReceiver,
  monotonicNow,
  openControlSocket,
  openOpeningsSocket,
  openPayloadSocket,
  openSender,
  type PacketMemory,
  PayloadReceiver,
  SendBatch,
  writeSysctl,
} from "deno-tun";
import { formatAddress, parseAddress } from "../../wire/address.ts";
import { onesComplementSum, pseudoHeaderSum } from "../../wire/checksum.ts";
import { put16 } from "../../wire/octets.ts";
import { needsRoot, twoHosts } from "../datapath/two_hosts.ts";

/** An IPv6 packet with a Shim6 header of `shim` octets and a payload of `length` octets. */
function packet(source: string, destination: string, shim: number[], length = 0, firstWord = 0x60000000): Uint8Array {
  const octets = new Uint8Array(
    new ArrayBuffer(Math.max(128, 40 + shim.length + length)),
    0,
    40 + shim.length + length,
  );
  new DataView(octets.buffer).setUint32(0, firstWord);
  new DataView(octets.buffer).setUint16(4, shim.length + length);
  octets[6] = 140;
  octets[7] = 61;
  octets.set(parseAddress(source), 8);
  octets.set(parseAddress(destination), 24);
  octets.set(shim, 40);
  return octets;
}

const PAYLOAD_HEADER = [59, 0, 0x80, 1, 2, 3, 4, 5];
const PROBE = [59, 1, 67, 0, 0, 0, 0, 9, 8, 7, 6, 5, 0, 0, 0, 0];

function until<T>(fn: () => T | undefined): T | undefined {
  const end = monotonicNow() + 3000;
  let result = fn();
  while (result === undefined && monotonicNow() < end) result = fn();
  return result;
}

function memory(length: number): PacketMemory {
  const buffer = new ArrayBuffer(length);
  const bytes = new Uint8Array(buffer);
  let used = 0;
  return {
    bytes,
    words: new Uint32Array(buffer),
    address: addressOf(bytes),
    reserve(length, alignment) {
      const offset = Math.ceil(used / alignment) * alignment;
      used = offset + length;
      return offset;
    },
  };
}

Deno.test({
  name: "the control socket takes control messages and the payload socket payload, with their IPv6 header's fields",
  ignore: needsRoot,
  fn() {
    using hosts = twoHosts(1);
    const [a, b] = [hosts.a.address(1), hosts.b.address(1)];
    const sender = hosts.a.in(() => openSender(a, "eth1"));
    const control = hosts.b.in(openControlSocket), payload = hosts.b.in(openPayloadSocket);
    try {
      assertEquals(sender.send(packet(a, b, PROBE)), 0);
      assertEquals(sender.send(packet(a, b, PAYLOAD_HEADER, 100, 0x6b812345)), 0);
      const receiver = new ControlReceiver(control);
      const message = until(() => receiver.next())!;
      assertEquals([message.source, message.destination, [...message.octets]], [a, b, PROBE]);
      assertEquals(message.interfaceIndex, hosts.b.netlink.link("eth1")!.index);
      assertEquals(receiver.next(), undefined);

      const slots = memory(1 << 16);
      const packets = new PayloadReceiver(payload, slots, 4, 2048);
      assertEquals(until(() => packets.receive() || undefined), 1);
      assertEquals(packets.length(0), 108);
      assertEquals([...slots.bytes.subarray(packets.offset(0), packets.offset(0) + 8)], PAYLOAD_HEADER);
      assertEquals(formatAddress(slots.bytes, packets.source(0)), a);
      assertEquals(formatAddress(slots.bytes, packets.destination(0)), b);
      assertEquals(packets.hopLimit(0), 61);
      assertEquals(packets.flowInfo(0), 0x4523810b); // traffic class b8, flow label 12345, as the memory has them
      assertEquals(packets.receive(), 0);
    } finally {
      sender.close();
      closeFd(control);
      closeFd(payload);
    }
  },
});

Deno.test({
  name: "I1, I2 and I2bis come to the socket for openings, all other control messages to the other one",
  ignore: needsRoot,
  fn() {
    using hosts = twoHosts(1);
    const [a, b] = [hosts.a.address(1), hosts.b.address(1)];
    const sender = hosts.a.in(() => openSender(a, "eth1"));
    const [control, openings] = hosts.b.in(
      () => [openControlSocket(undefined, "without-openings"), openOpeningsSocket()],
    );
    try {
      const types = [1, 2, 3, 4, 5, 6, 64, 65, 66, 67, 68, 99];
      for (const type of types) assertEquals(sender.send(packet(a, b, PROBE.with(2, type))), 0);
      assertEquals(sender.send(packet(a, b, PAYLOAD_HEADER)), 0);
      const typesAt = (fd: number, count: number) => {
        const receiver = new ControlReceiver(fd);
        const found = Array.from({ length: count }, () => until(() => receiver.next())!.octets[2]);
        assertEquals(receiver.next(), undefined);
        return found;
      };
      assertEquals(typesAt(openings, 3), [1, 3, 6]);
      assertEquals(typesAt(control, 9), types.filter((type) => ![1, 3, 6].includes(type)));
    } finally {
      sender.close();
      closeFd(control);
      closeFd(openings);
    }
  },
});

Deno.test({
  name: "a batch sends by several senders and says which packet failed and why",
  ignore: needsRoot,
  fn() {
    using hosts = twoHosts(2);
    const control = hosts.b.in(openControlSocket);
    const senders = [1, 2].map((link) => hosts.a.in(() => openSender(hosts.a.address(link), `eth${link}`)));
    try {
      const m = memory(1 << 16);
      const batch = new SendBatch(m, 8);
      const to = [1, 2].map((link) => {
        const at = m.reserve(32, 32);
        m.bytes[at] = 10;
        m.bytes.set(parseAddress(hosts.b.address(link)), at + 8);
        return at;
      });
      const put = (link: number, length: number) => {
        const octets = packet(hosts.a.address(link), hosts.b.address(link), PROBE, length);
        const at = m.reserve(octets.length, 8);
        m.bytes.set(octets, at);
        batch.push(senders[link - 1].fd, to[link - 1], at, 48, at + 48, octets.length - 48);
      };
      put(1, 0);
      put(1, 10);
      put(1, 1600); // beyond the device's MTU
      put(2, 20);
      assertEquals(batch.send(0), 2);
      assertEquals(batch.send(2), -90); // EMSGSIZE
      assertEquals(batch.send(3), 1);
      const receiver = new ControlReceiver(control);
      const lengths = [1, 2, 3].map(() => until(() => receiver.next())!.octets.length);
      assertEquals(lengths, [16, 26, 36]);
    } finally {
      for (const sender of senders) sender.close();
      closeFd(control);
    }
  },
});

Deno.test({
  name: "a host without Shim6 is reported as such, with the tag of the packet that it refused",
  ignore: needsRoot,
  fn() {
    using hosts = twoHosts(1);
    const [a, b] = [hosts.a.address(1), hosts.b.address(1)];
    const sender = hosts.a.in(() => openSender(a, "eth1")), control = hosts.a.in(openControlSocket);
    try {
      const receiver = new ControlReceiver(control);
      sender.send(packet(a, b, PROBE));
      assertEquals(until(() => receiver.nextError()), {
        kind: "no-shim6",
        local: a,
        peer: b,
        tag: 0x090807060500 / 256,
      });
      sender.send(packet(a, b, PAYLOAD_HEADER, 30));
      assertEquals(until(() => receiver.nextError()), { kind: "no-shim6", local: a, peer: b, tag: 0x0102030405 });
      assertEquals(receiver.next(), undefined);
    } finally {
      sender.close();
      closeFd(control);
    }
  },
});

Deno.test({
  name: "of errors that anybody may send, those that speak of the path or of Shim6 are reported",
  ignore: needsRoot,
  fn() {
    using hosts = twoHosts(1);
    const [a, b] = [hosts.a.address(1), hosts.b.address(1)];
    const sender = hosts.b.in(() => openSender(b, "eth1")), control = hosts.a.in(openControlSocket);
    const quote = packet(a, b, PAYLOAD_HEADER, 40);
    const send = (type: number, code: number, word: number) => {
      const error = packet(b, a, [type, code, 0, 0, 0, 0, word >> 8, word & 0xff, ...quote]);
      error[6] = 58; // ICMPv6
      const length = error.length - 40;
      put16(error, 42, ~onesComplementSum(error, 40, error.length, pseudoHeaderSum(error, 8, length, 58)) & 0xffff);
      assertEquals(sender.send(error), 0);
    };
    try {
      const receiver = new ControlReceiver(control);
      send(1, 4, 0); // the port is unreachable, the host is not
      send(4, 0, 4); // a fault of the IPv6 header
      send(4, 0, 60); // a fault of the payload
      send(1, 1, 0);
      send(4, 0, 42);
      send(4, 2, 47);
      send(4, 1, 6);
      const kinds = Array.from({ length: 4 }, () => until(() => receiver.nextError())!.kind);
      assertEquals(kinds, ["unreachable", "unreachable", "unreachable", "no-shim6"]);
      assertEquals(receiver.nextError(), undefined);
    } finally {
      sender.close();
      closeFd(control);
    }
  },
});

Deno.test({
  name: "errors of a router are reported: too big with its MTU, unreachable, time exceeded",
  ignore: needsRoot,
  fn() {
    using hosts = twoHosts(1);
    const [a, b] = [hosts.a.address(1), hosts.b.address(1)];
    const elsewhere = "fd00:9::1", nowhere = "fd00:8::1";
    const index = hosts.a.netlink.link("eth1")!.index;
    for (const { netlink } of [hosts.a, hosts.b]) {
      netlink.replaceRoute({ destination: { address: "fd00:1::", length: 64 }, dev: netlink.link("eth1")!.index });
    }
    hosts.a.netlink.replaceRoute({ destination: { address: "fd00:9::", length: 64 }, via: b, dev: index });
    hosts.a.netlink.replaceRoute({ destination: { address: "fd00:8::", length: 64 }, via: b, dev: index });
    // B is a router whose next link to fd00:9::/64 is narrow.
    hosts.b.in(() => writeSysctl("net/ipv6/conf/all/forwarding", 1));
    hosts.b.netlink.createVeth("narrow", "narrow-end", { mtu: 1400 });
    for (const name of ["narrow", "narrow-end"]) hosts.b.netlink.setLink(name, { up: true });
    const narrow = hosts.b.netlink.link("narrow")!.index;
    hosts.b.netlink.addAddress(narrow, "fd00:9::f", 64, { nodad: true });
    hosts.b.netlink.replaceRoute({ destination: { address: "fd00:8::", length: 64 }, type: "unreachable" });
    const sender = hosts.a.in(() => openSender(a, "eth1")), control = hosts.a.in(openControlSocket);
    try {
      const receiver = new ControlReceiver(control);
      const tag = 0x0102030405;
      sender.send(packet(a, elsewhere, PAYLOAD_HEADER, 1400));
      assertEquals(until(() => receiver.nextError()), {
        kind: "packet-too-big",
        local: a,
        peer: elsewhere,
        tag,
        mtu: 1400,
      });
      sender.send(packet(a, nowhere, PAYLOAD_HEADER, 40));
      assertEquals(until(() => receiver.nextError()), { kind: "unreachable", local: a, peer: nowhere, tag });
      const dying = packet(a, elsewhere, PAYLOAD_HEADER, 40);
      dying[7] = 1;
      sender.send(dying);
      assertEquals(until(() => receiver.nextError()), { kind: "time-exceeded", local: a, peer: elsewhere, tag });
    } finally {
      sender.close();
      closeFd(control);
    }
  },
});
