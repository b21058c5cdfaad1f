/** Engines that prove their locators to each other, and engines that lie. */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { sign } from "node:crypto";
import { samePair } from "../../policies/policy.ts";
import { PAPER } from "../../reap/profile.ts";
import { LocalIdentity, type LocatorProver } from "../../shim6/identity.ts";
import { identityVerifier } from "../../shim6/identity_verifier.ts";
import { insecureVerifier } from "../../shim6/verifier.ts";
import { Traffic } from "../../sim/traffic.ts";
import type { VirtualHost } from "../../sim/virtual_host.ts";
import { VirtualNetwork } from "../../sim/virtual_network.ts";
import { ErrorCode } from "../../wire/message.ts";
import { fromHex, hba, hbaList, keys, named } from "./cga_vectors.ts";

interface AddressSet {
  readonly addresses: string[];
  readonly pds: Uint8Array;
}

function set(name: string): AddressSet {
  const { members } = named(hba, name);
  return { addresses: members.map(({ address }) => address), pds: fromHex(members[0].pds) };
}

const A = set("hba-3-prefixes-sec0-hostA"), B = set("hba-3-prefixes-sec0-hostB");
const withKey = set("cgahba-2-prefixes-sec0-rsa1024");
const VICTIM = "2001:db8:bad::1";

const proverOf = ({ pds, addresses }: AddressSet) => new LocalIdentity(pds, addresses);
const signer = (message: Uint8Array) => new Uint8Array(sign("sha1", message, keys.rsa1024.privateKeyPkcs8Pem));

/** Two hosts that ask for proof; what B proves is up to the test. */
function hosts(b: readonly string[], identity: LocatorProver | undefined, verifier = identityVerifier) {
  const network = new VirtualNetwork({ seed: 1, delayMs: 10 });
  const hostA = network.addHost("A", A.addresses, {
    profile: PAPER,
    verifier: identityVerifier,
    engine: { identity: proverOf(A) },
  });
  const hostB = network.addHost("B", b, { profile: PAPER, verifier, engine: { identity } });
  return { network, hostA, hostB };
}

function verified(host: VirtualHost, local: string, peer: string): Record<string, boolean> | undefined {
  const locators = host.context(local, peer)?.peerLocators;
  return locators && Object.fromEntries(locators.map(({ address, verified }) => [address, verified]));
}

const all = (addresses: readonly string[]) => Object.fromEntries(addresses.map((address) => [address, true]));

Deno.test("two hosts with sets verify each other's locators, and a failure is survived on a proven pair", () => {
  for (const [a, b] of [[0, 0], [1, 2]]) {
    const { network, hostA, hostB } = hosts(B.addresses, proverOf(B));
    const ulid = { local: A.addresses[a], peer: B.addresses[b] };
    hostA.establish(ulid.local, ulid.peer);
    network.run(1_000);
    assertEquals(verified(hostA, ulid.local, ulid.peer), all(B.addresses));
    assertEquals(verified(hostB, ulid.peer, ulid.local), all(A.addresses));

    const traffic = new Traffic(network, { from: hostA, to: hostB, ulid, intervalMs: 100, bothWays: true });
    network.run(5_000);
    network.cut(ulid, true);
    network.run(30_000);
    const current = hostA.context(ulid.local, ulid.peer)!.current;
    assert(!samePair(current, ulid), "the context has left the dead pair");
    const { received } = traffic.forth;
    network.run(1_000);
    assert(traffic.forth.received > received, "and traffic flows");
  }
});

Deno.test("a host with a key adds a locator that is not of its set, and the peer believes it", () => {
  const identity = new LocalIdentity(withKey.pds, withKey.addresses, signer);
  const { network, hostA, hostB } = hosts(withKey.addresses, identity);
  const [a] = A.addresses, [b] = withKey.addresses;
  hostA.establish(a, b);
  network.run(1_000);
  assertEquals(verified(hostA, a, b), all(withKey.addresses));
  const added = { ...hostB.locators[0], address: "2001:db8:f1:1::abcd" };
  hostB.setLocators([...hostB.locators, added]);
  network.run(1_000);
  assertEquals(verified(hostA, a, b), all([...withKey.addresses, added.address]));
});

/** Claims addresses that are not its own, with the proof of somebody who has only a part of them. */
function liar(pds: Uint8Array): LocatorProver {
  return {
    covers: () => true,
    prove: (_, addresses, generation) => ({
      locators: hbaList(addresses.map((address) => ({ address })), generation),
      pds,
    }),
  };
}

Deno.test("a host that claims the address of another one gets no context, and is told why", () => {
  const { network, hostA, hostB } = hosts([...B.addresses, VICTIM], liar(B.pds));
  hostB.establish(B.addresses[0], A.addresses[0]);
  network.run(3_000);
  assertEquals(hostA.engine?.size, 0);
  assertEquals(hostA.engine?.counters.dropped, { verification: 1 });
  assertNotEquals(hostB.context(B.addresses[0], A.addresses[0])?.state, "ESTABLISHED");
  // The method octet of the fourth locator: IPv6 header, fixed part of the I2, validator option, list up to it.
  const errors = hostB.events.filter((event) => event.kind === "error-received");
  assertEquals(errors.map(({ code, pointer }) => [code, pointer]), [[
    ErrorCode.VerificationFailed,
    40 + 24 + 24 + 9 + 3,
  ]]);
});

Deno.test("whoever answers with the locator of another one does not get a context either", () => {
  const { network, hostA, hostB } = hosts([...B.addresses, VICTIM], liar(B.pds));
  hostA.establish(A.addresses[0], B.addresses[0]);
  network.run(3_000);
  assertEquals(hostA.context(A.addresses[0], B.addresses[0])?.state, "I2-SENT");
  assertEquals(hostB.engine?.counters.errors, { [ErrorCode.VerificationFailed]: hostA.engine!.counters.sent.Error });
});

Deno.test("a PDS that does not belong to the ULID is met with silence", () => {
  const { network, hostA, hostB } = hosts([VICTIM, ...B.addresses], liar(B.pds));
  hostB.establish(VICTIM, A.addresses[0]);
  network.run(3_000);
  assertEquals(hostA.engine?.size, 0);
  assertEquals(hostA.engine?.counters.dropped, { verification: 1 });
  assertEquals(hostB.events.filter((event) => event.kind === "error-received"), []);
});

Deno.test("a peer without proof keeps its context, on the ULID pair", () => {
  const addresses = ["2001:db8:b1::1", "2001:db8:b2::1"];
  const { network, hostA, hostB } = hosts(addresses, undefined, insecureVerifier());
  hostA.establish(A.addresses[0], addresses[0]);
  network.run(1_000);
  assertEquals(hostA.context(A.addresses[0], addresses[0])?.state, "ESTABLISHED");
  assertEquals(verified(hostA, A.addresses[0], addresses[0]), { [addresses[0]]: true, [addresses[1]]: false });
  assertEquals(verified(hostB, addresses[0], A.addresses[0]), all(A.addresses));
});

Deno.test("a host does not announce what it cannot prove", () => {
  // The third address is not of the set.
  const { network, hostA, hostB } = hosts([...B.addresses.slice(0, 2), VICTIM], proverOf(B));
  hostA.establish(A.addresses[0], B.addresses[0]);
  network.run(1_000);
  assertEquals(verified(hostA, A.addresses[0], B.addresses[0]), all(B.addresses.slice(0, 2)));
  assertEquals(hostB.context(B.addresses[0], A.addresses[0])?.state, "ESTABLISHED");
});
