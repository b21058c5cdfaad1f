import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import fc from "fast-check";
import { libc } from "../../ffi/libc.ts";
import {
  Netlink,
  NetlinkError,
  type NetlinkEvent,
  NetlinkEvents,
  parseEvent,
  parseLinkAddress,
  RTPROT_STATIC,
} from "../../ffi/netlink.ts";
import { Attributes, MessageBuilder, readMessages } from "../../ffi/netlink_message.ts";
import { closeNetns, createNetns, withNetns } from "../../ffi/netns.ts";
import { parsePrefix } from "../../wire/address.ts";

const noRoot = Deno.uid() !== 0;
if (noRoot) console.log("netlink tests in namespaces are left out: they need root");
else libc(); // opened for the whole file, or the first test would count as leaking it

/** Two namespaces joined by a veth pair `left`–`right`, both ends up. */
class Pair implements Disposable {
  readonly leftFd = createNetns();
  readonly rightFd = createNetns();
  readonly left = withNetns(this.leftFd, () => new Netlink());
  readonly right = withNetns(this.rightFd, () => new Netlink());

  constructor() {
    this.left.createVeth("left", "right", {
      peerNetnsFd: this.rightFd,
      address: "02:00:00:00:00:01",
      mtu: 1400,
      index: 5,
      peerIndex: 7,
    });
    this.left.setLink("left", { up: true });
    this.right.setLink("right", { up: true });
  }

  get leftIndex(): number {
    return this.left.link("left")!.index;
  }

  get rightIndex(): number {
    return this.right.link("right")!.index;
  }

  [Symbol.dispose](): void {
    this.left.close();
    this.right.close();
    closeNetns(this.leftFd);
    closeNetns(this.rightFd);
  }
}

function drain(events: NetlinkEvents): NetlinkEvent[] {
  const all: NetlinkEvent[] = [];
  for (let event = events.next(); event !== undefined; event = events.next()) all.push(event);
  return all;
}

/** The next event that is wanted. Some are sent by a kernel thread, so they take a moment. */
async function nextEvent(events: NetlinkEvents, wanted: (event: NetlinkEvent) => boolean): Promise<void> {
  for (let attempt = 0; attempt < 2000; attempt++) {
    for (let event = events.next(); event !== undefined; event = events.next()) if (wanted(event)) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error("no such event within two seconds");
}

Deno.test("the attribute reader stays inside its octets whatever they hold", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(40), fc.nat(40), (content, before, after) => {
      const whole = new Uint8Array(before + content.length + after).fill(0xee);
      whole.set(content, before);
      const octets = whole.subarray(before, before + content.length);
      const check = (attributes: Attributes, depth: number) => {
        for (const type of attributes.types()) {
          const value = attributes.octets(type)!;
          assert(value.byteOffset >= octets.byteOffset);
          assert(value.byteOffset + value.length <= octets.byteOffset + octets.length);
          attributes.u32(type);
          attributes.text(type);
          if (depth < 3) check(attributes.nested(type), depth + 1);
        }
      };
      check(new Attributes(octets), 0);
    }),
  );
});

Deno.test("attributes with hostile lengths end the list", () => {
  // One good attribute, then one that claims more than there is, then one shorter than its own header.
  const good = [8, 0, 5, 0, 1, 2, 3, 4];
  for (const bad of [[0xff, 0xff, 6, 0], [3, 0, 6, 0], [0, 0, 6, 0], [9, 0, 6, 0, 1, 2, 3, 4], [8, 0, 6]]) {
    const attributes = new Attributes(Uint8Array.of(...good, ...bad));
    assertEquals([...attributes.types()], [5]);
    assertEquals(attributes.u32(5), 0x04030201);
  }
  assertEquals(new Attributes(new Uint8Array(3)).size, 0);
  assertEquals(new Attributes(new Uint8Array(8), 100).size, 0);
});

Deno.test("the message reader stays inside the received octets and ends", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(400), (octets, length) => {
      const end = octets.byteOffset + Math.min(length, octets.length);
      for (const message of readMessages(octets, length)) {
        assert(message.body.byteOffset + message.body.length <= end);
        parseEvent(message);
      }
    }),
  );
});

Deno.test("link, address and route messages of any content are parsed or refused, never out of bounds", () => {
  const type = fc.constantFrom(16, 17, 20, 21, 24, 25);
  const family = fc.constantFrom(0, 10, 7);
  fc.assert(
    fc.property(type, family, fc.uint8Array({ maxLength: 120 }), (type, family, rest) => {
      const body = Uint8Array.of(family, ...rest);
      const event = parseEvent({ type, flags: 0, sequence: 0, body });
      if (event?.type === "address") assert(event.address.address.includes(":"));
    }),
  );
});

Deno.test("what the builder writes the readers read back", () => {
  const entry = fc.tuple(fc.integer({ min: 1, max: 0x3fff }), fc.uint8Array({ maxLength: 40 }));
  const message = fc.uniqueArray(entry, { maxLength: 8, selector: ([type]) => type });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 4 }), (messages) => {
      const builder = new MessageBuilder(4096);
      messages.forEach((entries, i) => {
        builder.begin(100 + i, 5, i).u32(0xdeadbeef);
        for (const [type, value] of entries) builder.attribute(type, value);
      });
      const read = [...readMessages(builder.octets, builder.length)];
      assertEquals(read.length, messages.length);
      read.forEach((message, i) => {
        assertEquals([message.type, message.flags, message.sequence], [100 + i, 5, i]);
        const attributes = new Attributes(message.body, 4);
        assertEquals(attributes.size, messages[i].length);
        for (const [type, value] of messages[i]) assertEquals(attributes.octets(type), value);
      });
    }),
  );
});

Deno.test("a nested attribute contains what was put into it", () => {
  const builder = new MessageBuilder();
  builder.begin(1, 0, 1).nest(3, () => builder.attributeText(1, "veth").nest(2, () => builder.attributeU32(7, 9)));
  const [message] = readMessages(builder.octets, builder.length);
  const outer = new Attributes(message.body).nested(3);
  assertEquals(outer.text(1), "veth");
  assertEquals(outer.nested(2).u32(7), 9);
  assertEquals(outer.nested(99).size, 0);
});

Deno.test("a request longer than the buffer is refused and the octets after it stay", () => {
  const builder = new MessageBuilder(128);
  builder.begin(1, 0, 1);
  assertThrows(() => builder.attribute(1, new Uint8Array(200)), RangeError, "longer than 128 octets");
});

Deno.test("a link-layer address has six octets", () => {
  assertEquals(parseLinkAddress("02:00:00:00:0a:ff"), Uint8Array.of(2, 0, 0, 0, 10, 255));
  for (const text of ["", "02:00:00:00:00", "02:00:00:00:00:0g", "0200.0000.0001"]) {
    assertThrows(() => parseLinkAddress(text), Error, "not a link-layer address");
  }
});

Deno.test("a bridge port that leaves its bridge is not taken for a removed interface", () => {
  const builder = new MessageBuilder();
  builder.begin(17, 0, 0).u32(7, 4, 0, 0).attributeText(3, "eth0");
  const [message] = readMessages(builder.octets, builder.length);
  assertEquals(parseEvent(message), undefined);
});

Deno.test({
  name: "a veth pair is created across namespaces, found, changed and removed",
  ignore: noRoot,
  fn() {
    using pair = new Pair();
    const left = pair.left.link("left")!;
    assertEquals(
      left,
      {
        index: 5,
        name: "left",
        up: true,
        running: true,
        loopback: false,
        noarp: false,
        mtu: 1400,
        kind: "veth",
        address: "02:00:00:00:00:01",
        linkedIndex: 7,
      },
    );
    assertEquals(pair.right.link("right")!.mtu, 1400);
    assertEquals(pair.left.link(left.index), left);
    assertEquals(pair.left.links().map((l) => l.name).sort(), ["left", "lo"]);
    assert(pair.left.links().find((l) => l.name === "lo")!.loopback);

    pair.left.setLink("left", { up: false });
    pair.left.setLink("left", { name: "west", mtu: 1300, arp: false, address: "02:00:00:00:00:09" });
    assertEquals(pair.left.link("left"), undefined);
    const west = pair.left.link("west")!;
    assertEquals([west.up, west.mtu, west.noarp, west.address], [false, 1300, true, "02:00:00:00:00:09"]);
    assertEquals(pair.right.link("right")!.running, false);

    pair.left.setLink("west", { netnsFd: pair.rightFd });
    assertEquals(pair.right.links().map((l) => l.name).sort(), ["lo", "right", "west"]);

    assertEquals(pair.right.deleteLink("west"), true);
    assertEquals(pair.right.deleteLink("west"), false);
    assertEquals(pair.right.links().map((l) => l.name), ["lo"]);
  },
});

Deno.test({
  name: "addresses carry their flags and lifetimes",
  ignore: noRoot,
  fn() {
    using pair = new Pair();
    const index = pair.leftIndex;
    pair.left.addAddress(index, "2001:db8::1", 64, { nodad: true });
    pair.left.addAddress(index, "2001:db8::2", 128, { nodad: true, preferredLifetime: 0, validLifetime: 100 });
    pair.left.addAddress(index, "2001:db8:1::3", 64, { noPrefixRoute: true });
    const of = (address: string) => pair.left.addresses(index).find((a) => a.address === address)!;

    const first = of("2001:db8::1");
    assertEquals([first.prefixLength, first.scope, first.permanent], [64, "global", true]);
    assertEquals([first.tentative, first.deprecated, first.temporary, first.dadFailed], [false, false, false, false]);
    assertEquals([first.preferredLifetime, first.validLifetime], [Infinity, Infinity]);

    const second = of("2001:db8::2");
    assertEquals([second.deprecated, second.permanent, second.preferredLifetime], [true, false, 0]);
    assert(second.validLifetime > 95 && second.validLifetime <= 100);

    assertEquals(of("2001:db8:1::3").tentative, true);
    const toPrefix = (prefix: string) => pair.left.routes().some((r) => r.destination.address === prefix);
    assertEquals([toPrefix("2001:db8::"), toPrefix("2001:db8:1::")], [true, false]);

    pair.left.addAddress(index, "2001:db8::2", 128, { nodad: true, preferredLifetime: 50, validLifetime: 100 });
    assertEquals(of("2001:db8::2").deprecated, false);

    assertEquals(pair.left.deleteAddress(index, "2001:db8::2", 128), true);
    assertEquals(pair.left.deleteAddress(index, "2001:db8::2", 128), false);
    assertEquals(of("2001:db8::2"), undefined);
    assert(pair.left.addresses().some((a) => a.index === index && a.scope === "link"));
  },
});

Deno.test({
  name: "an interface that makes no addresses of its own has none",
  ignore: noRoot,
  fn() {
    using pair = new Pair();
    pair.left.setLink("left", { up: false });
    pair.left.setLink("left", { ownAddresses: false });
    pair.left.setLink("left", { up: true });
    assertEquals(pair.left.addresses(pair.leftIndex), []);
  },
});

Deno.test({
  name: "a source-specific route is set, found by protocol, replaced and deleted",
  ignore: noRoot,
  fn() {
    using pair = new Pair();
    const { left, leftIndex: dev } = pair;
    left.addAddress(dev, "2001:db8::1", 64, { nodad: true });
    const key = { destination: parsePrefix("2001:db8:b::/48"), source: parsePrefix("2001:db8::1") };
    left.replaceRoute({ ...key, dev, via: "2001:db8::2", protocol: 146, mtu: 1300, metric: 7, expires: 20 });
    const [route] = left.routes({ protocol: 146 });
    assert(route.expires! > 18 && route.expires! <= 20);
    assertEquals({ ...route, expires: 20 }, {
      ...key,
      dev,
      via: "2001:db8::2",
      table: 254,
      protocol: 146,
      type: "unicast",
      metric: 7,
      mtu: 1300,
      expires: 20,
      preferredSource: undefined,
    });

    left.replaceRoute({ ...key, dev, protocol: 146, mtu: 1280, metric: 7 });
    const replaced = left.routes({ protocol: 146, dev });
    assertEquals(replaced.map((r) => [r.mtu, r.via, r.expires]), [[1280, undefined, undefined]]);

    assertEquals(left.lookupRoute("2001:db8:b::5", { source: "2001:db8::1" })?.mtu, 1280);
    assertEquals(left.lookupRoute("2001:db8:b::5"), undefined);
    assertEquals(left.lookupRoute("2001:db8::77")?.preferredSource, "2001:db8::1");

    assertEquals(left.deleteRoute({ ...key, protocol: 99 }), false);
    assertEquals(left.deleteRoute({ ...key, protocol: 146 }), true);
    assertEquals(left.deleteRoute({ ...key, protocol: 146 }), false);
    assertEquals(left.routes({ protocol: 146 }), []);
  },
});

Deno.test({
  name: "deleting a route with a source that is not there leaves the route without one alone",
  ignore: noRoot,
  fn() {
    using pair = new Pair();
    const { left, leftIndex: dev } = pair;
    const destination = parsePrefix("2001:db8:b::/48"), source = parsePrefix("2001:db8::/64");
    left.replaceRoute({ destination, dev });
    assertEquals(left.deleteRoute({ destination, source }), false);
    assertEquals(left.deleteRoute({ destination, source, protocol: 146 }), false);
    const present = () => left.routes({ protocol: RTPROT_STATIC }).map((r) => r.source?.address ?? "any");
    assertEquals(present(), ["any"]);
    left.replaceRoute({ destination, source, dev });
    assertEquals(left.deleteRoute({ destination, source }), true);
    assertEquals(present(), ["any"]);
  },
});

Deno.test({
  name: "a route in another table counts where a rule points there, and a blackhole discards",
  ignore: noRoot,
  fn() {
    using pair = new Pair();
    const { left, leftIndex: dev } = pair;
    left.addAddress(dev, "2001:db8::1", 64, { nodad: true });
    const rule = { to: parsePrefix("2001:db8:c::/48"), from: parsePrefix("2001:db8::1"), table: 500, priority: 1000 };
    left.replaceRoute({ destination: rule.to, dev, table: 500 });
    left.replaceRoute({ destination: parsePrefix("2001:db8:d::/48"), type: "blackhole", table: 500 });
    assertEquals(left.lookupRoute("2001:db8:c::5", { source: "2001:db8::1" }), undefined);
    assertEquals(left.addRule(rule), true);
    assertEquals(left.addRule(rule), false);
    assertEquals(left.lookupRoute("2001:db8:c::5", { source: "2001:db8::1" })?.table, 500);
    assertEquals(left.deleteRule(rule), true);
    assertEquals(left.deleteRule(rule), false);

    const byInterface = { iif: "left", table: 500, priority: 1001 };
    assertEquals([left.addRule(byInterface), left.deleteRule(byInterface)], [true, true]);

    assertEquals(left.routes({ table: 500 }).map((r) => r.type).sort(), ["blackhole", "unicast"]);
    assertEquals(left.routes({ table: 501 }), []);
  },
});

Deno.test({
  name: "a neighbour is found once the kernel has resolved it",
  ignore: noRoot,
  fn() {
    using pair = new Pair();
    const index = pair.leftIndex;
    pair.left.addAddress(index, "2001:db8::1", 64, { nodad: true });
    pair.right.addAddress(pair.rightIndex, "2001:db8::2", 64, { nodad: true });
    assertEquals(pair.left.neighbour(index, "2001:db8::2"), undefined);
    // A connection that is refused at once resolves the neighbour first; UDP would not wait for it.
    const socket = withNetns(pair.leftFd, () => libc().socket(10, 1, 0));
    const to = new Uint8Array(28);
    to.set([10, 0, 0, 9]);
    to.set([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], 8);
    assertEquals(libc().connect(socket, to, to.length), -1);
    libc().close(socket);
    const neighbour = pair.left.neighbour(index, "2001:db8::2")!;
    assertEquals(neighbour.valid, true);
    assertEquals(neighbour.linkAddress, pair.right.link("right")!.address);
  },
});

Deno.test({
  name: "the kernel's refusal comes as a typed error with its own explanation",
  ignore: noRoot,
  fn() {
    using pair = new Pair();
    const error = assertThrows(() => pair.left.setLink("left", { mtu: 10 }));
    assertInstanceOf(error, NetlinkError);
    assertEquals([error.code, error.reason], ["EINVAL", "mtu less than device minimum"]);
    assertEquals(error.message, "change link left: EINVAL (mtu less than device minimum)");
    assertThrows(() => pair.left.setLink("absent", { up: true }), NetlinkError, "ENODEV");
    assertThrows(() => pair.left.replaceRoute({ via: "2001:db8:9::1" }), NetlinkError, "set route ::/0: EHOSTUNREACH");
    assertEquals(pair.left.links().length, 2);
  },
});

Deno.test({
  name: "more routes than one datagram holds are all listed",
  ignore: noRoot,
  fn() {
    using pair = new Pair();
    const dev = pair.leftIndex;
    for (let i = 0; i < 1500; i++) {
      pair.left.replaceRoute({ destination: parsePrefix(`2001:db8:${i.toString(16)}::/48`), dev, protocol: 146 });
    }
    assertEquals(pair.left.routes({ protocol: 146 }).length, 1500);
  },
});

Deno.test({
  name: "events tell of links, addresses and routes in the order of what happened",
  ignore: noRoot,
  async fn() {
    using pair = new Pair();
    using events = withNetns(pair.leftFd, () => new NetlinkEvents({ routes: true }));
    const { left, leftIndex: dev } = pair;

    const address = (removed: boolean, deprecated: boolean) => (e: NetlinkEvent) =>
      e.type === "address" && e.address.address === "2001:db8::1" && e.address.index === dev &&
      e.removed === removed && e.address.deprecated === deprecated;
    left.addAddress(dev, "2001:db8::1", 64, { nodad: true });
    await nextEvent(events, address(false, false));
    left.addAddress(dev, "2001:db8::1", 64, { nodad: true, preferredLifetime: 0 });
    await nextEvent(events, address(false, true));
    left.deleteAddress(dev, "2001:db8::1", 64);
    await nextEvent(events, address(true, true));

    left.replaceRoute({ destination: parsePrefix("2001:db8:5::/48"), dev, protocol: 146 });
    left.deleteRoute({ destination: parsePrefix("2001:db8:5::/48") });
    const routes = drain(events).flatMap((e) => e.type === "route" && e.route.protocol === 146 ? [e.removed] : []);
    assertEquals(routes, [false, true]);

    pair.right.setLink("right", { up: false });
    await nextEvent(events, (e) => e.type === "link" && e.link.up && !e.link.running);
    pair.right.setLink("right", { up: true });
    await nextEvent(events, (e) => e.type === "link" && e.link.running);
    left.deleteLink("left");
    await nextEvent(events, (e) => e.type === "link" && e.removed && e.link.name === "left");
  },
});

Deno.test({
  name: "lost events are reported as an overrun, and later ones still come",
  ignore: noRoot,
  fn() {
    using pair = new Pair();
    using events = withNetns(pair.leftFd, () => new NetlinkEvents({ routes: true }));
    const small = new Uint8Array(4); // the kernel's minimum, far below what follows
    libc().setsockopt(events.fd, 1, 8, small, 4);
    const dev = pair.leftIndex;
    for (let i = 0; i < 200; i++) {
      pair.left.replaceRoute({ destination: parsePrefix(`2001:db8:${i.toString(16)}::/48`), dev });
    }
    assert(drain(events).some((e) => e.type === "overrun"));
    pair.left.deleteRoute({ destination: parsePrefix("2001:db8:1::/48") });
    assert(drain(events).some((e) => e.type === "route" && e.removed));
  },
});
