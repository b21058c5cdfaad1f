import { assert, assertEquals, assertThrows } from "@std/assert";
import { closeNetns, createNetns, monotonicNow, Netlink, withNetns } from "deno-tun";
import { installAddresses } from "../../agent/install_addresses.ts";
import { VethPair } from "./veth_pair.ts";

const noRoot = Deno.uid() !== 0;
if (noRoot) console.log("tests that install addresses are left out: they need root");
else monotonicNow(); // opens the C library for the whole file, or the first test would count as leaking it

const ADDRESSES = ["2001:db8:1::a", "2001:db8:2::a"];

Deno.test({
  name: "addresses are installed once duplicate address detection has found nobody else",
  ignore: noRoot,
  async fn() {
    using pair = new VethPair();
    const index = pair.leftIndex;
    const result = await installAddresses(pair.left, ADDRESSES.map((address) => ({ address, index })));
    assertEquals(result, { ok: true, tentative: [] });
    const assigned = pair.left.addresses(index).filter(({ scope }) => scope === "global");
    assertEquals(assigned.map(({ address }) => address).sort(), ADDRESSES);
    assert(assigned.every(({ prefixLength, tentative, permanent }) => prefixLength === 64 && !tentative && permanent));
  },
});

Deno.test({
  name: "when one address is taken on the link, none is installed",
  ignore: noRoot,
  async fn() {
    using pair = new VethPair();
    const index = pair.leftIndex;
    pair.right.addAddress(pair.rightIndex, ADDRESSES[1], 64, { nodad: true });
    const result = await installAddresses(pair.left, ADDRESSES.map((address) => ({ address, index })));
    assertEquals(result, { ok: false, collision: ADDRESSES[1] });
    assertEquals(pair.left.addresses(index).filter(({ scope }) => scope === "global"), []);
  },
});

Deno.test({
  name: "without a carrier the addresses stay tentative, which is told",
  ignore: noRoot,
  async fn() {
    using pair = new VethPair();
    pair.right.setLink("right", { up: false });
    const placements = ADDRESSES.map((address) => ({ address, index: pair.leftIndex }));
    const result = await installAddresses(pair.left, placements, 60);
    assertEquals(result, { ok: true, tentative: ADDRESSES });
  },
});

Deno.test({
  name: "an address that the kernel refuses leaves none behind",
  ignore: noRoot,
  async fn() {
    const fd = createNetns();
    const netlink = withNetns(fd, () => new Netlink());
    try {
      netlink.setLink("lo", { up: true });
      let refused: unknown;
      await installAddresses(netlink, [{ address: ADDRESSES[0], index: 1 }, { address: ADDRESSES[1], index: 99 }])
        .catch((error) => refused = error);
      assertThrows(
        () => {
          throw refused;
        },
        Error,
        "ENODEV",
      );
      assertEquals(netlink.addresses(1).map(({ address }) => address), ["::1"]);
    } finally {
      netlink.close();
      closeNetns(fd);
    }
  },
});
