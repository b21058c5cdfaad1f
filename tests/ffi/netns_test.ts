import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { SystemError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { cString } from "../../ffi/memory.ts";
import { Netlink } from "../../ffi/netlink.ts";
import {
  closeNetns,
  createNetns,
  deleteNamedNetns,
  nameNetns,
  openNamedNetns,
  readSysctl,
  withNetns,
  writeSysctl,
} from "../../ffi/netns.ts";

const noRoot = Deno.uid() !== 0;
if (noRoot) console.log("network namespace tests are left out: they need root");
else libc(); // opened for the whole file, or the first test would count as leaking it

const NAME = "nl-netns-test";
const here = () => Deno.readLinkSync("/proc/thread-self/ns/net");

function inside<T>(fn: (fd: number) => T): T {
  const fd = createNetns();
  try {
    return fn(fd);
  } finally {
    closeNetns(fd);
  }
}

Deno.test({
  name: "creating a namespace leaves the thread in its own",
  ignore: noRoot,
  fn() {
    const before = here();
    inside((fd) => {
      assertEquals(here(), before);
      assertNotEquals(withNetns(fd, here), before);
      assertEquals(here(), before);
    });
  },
});

Deno.test({
  name: "the thread comes back when the function throws, and from nested namespaces",
  ignore: noRoot,
  fn() {
    const before = here();
    inside((outer) => {
      assertThrows(
        () =>
          withNetns(outer, () => {
            throw new Error("inside");
          }),
        Error,
        "inside",
      );
      assertEquals(here(), before);
      inside((inner) => {
        withNetns(outer, () => {
          const outside = here();
          assertNotEquals(withNetns(inner, here), outside);
          assertEquals(here(), outside);
        });
      });
      assertEquals(here(), before);
    });
  },
});

Deno.test({
  name: "a file descriptor that is no namespace is refused and nothing changes",
  ignore: noRoot,
  fn() {
    const before = here();
    const devNull = libc().open(cString("/dev/null"), 0);
    assertThrows(() => withNetns(devNull, () => {}), SystemError, "setns: EINVAL");
    libc().close(devNull);
    assertThrows(() => withNetns(99999, () => {}), SystemError, "setns: EBADF");
    assertEquals(here(), before);
  },
});

Deno.test({
  name: "a process spawned inside belongs to the namespace",
  ignore: noRoot,
  async fn() {
    const fd = createNetns();
    try {
      const code = 'console.log(Deno.readLinkSync("/proc/self/ns/net"))';
      const command = new Deno.Command(Deno.execPath(), { args: ["eval", code], stdout: "piped" });
      const child = withNetns(fd, () => {
        const child = command.spawn();
        return { output: () => child.output() }; // a ChildProcess is no promise, but its members are
      });
      const { stdout } = await child.output();
      assertEquals(new TextDecoder().decode(stdout).trim(), withNetns(fd, here));
      assertNotEquals(withNetns(fd, here), here());
    } finally {
      closeNetns(fd);
    }
  },
});

Deno.test({
  name: "settings are read and written in the namespace of the thread",
  ignore: noRoot,
  fn() {
    const before = readSysctl("net/ipv6/conf/all/forwarding");
    inside((fd) => {
      withNetns(fd, () => writeSysctl("net/ipv6/conf/all/forwarding", 1));
      assertEquals(withNetns(fd, () => readSysctl("net/ipv6/conf/all/forwarding")), "1");
      withNetns(fd, () => writeSysctl("net/ipv6/conf/all/forwarding", 0));
      assertEquals(withNetns(fd, () => readSysctl("net/ipv6/conf/all/forwarding")), "0");
      assertThrows(() => withNetns(fd, () => writeSysctl("net/ipv6/conf/all/absent", 1)), SystemError, "ENOENT");
    });
    assertEquals(readSysctl("net/ipv6/conf/all/forwarding"), before);
  },
});

Deno.test({
  name: "a named namespace outlives its file descriptor until the name is taken away",
  ignore: noRoot,
  fn() {
    deleteNamedNetns(NAME);
    assertEquals(openNamedNetns(NAME), undefined);
    inside((fd) => {
      nameNetns(fd, NAME);
      assertThrows(() => nameNetns(fd, NAME), Deno.errors.AlreadyExists);
      using netlink = withNetns(fd, () => new Netlink());
      netlink.createVeth("nl-v0", "nl-v1");
    });
    try {
      const again = openNamedNetns(NAME)!;
      using netlink = withNetns(again, () => new Netlink());
      assert(netlink.link("nl-v0") !== undefined);
      closeNetns(again);
    } finally {
      assertEquals(deleteNamedNetns(NAME), true);
    }
    assertEquals(deleteNamedNetns(NAME), false);
    assertEquals(openNamedNetns(NAME), undefined);
  },
});

Deno.test({
  name: "`ip netns exec` finds a named namespace",
  ignore: noRoot || !hasIp(),
  async fn() {
    deleteNamedNetns(NAME);
    const fd = createNetns();
    try {
      nameNetns(fd, NAME);
      const args = ["netns", "exec", NAME, "readlink", "/proc/self/ns/net"];
      const { stdout } = await new Deno.Command("ip", { args }).output();
      assertEquals(new TextDecoder().decode(stdout).trim(), withNetns(fd, here));
    } finally {
      closeNetns(fd);
      deleteNamedNetns(NAME);
    }
  },
});

function hasIp(): boolean {
  try {
    return new Deno.Command("ip", { args: ["-V"], stdout: "null" }).outputSync().success;
  } catch {
    console.log("no `ip` here: its view of named namespaces is not checked");
    return false;
  }
}
