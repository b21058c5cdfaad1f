import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { createPolicy, policyNames, UnknownPolicy } from "../../policies/registry.ts";

Deno.test("every name makes a policy of that name with a one-line summary", () => {
  for (const name of policyNames()) {
    const policy = createPolicy(name);
    assertEquals(policy.name, name);
    assertEquals(policy.summary.includes("\n"), false);
  }
});

Deno.test("the paper's policy, its bursts of 1 to 18, and LinShim6's order exist", () => {
  const bursts = Array.from({ length: 18 }, (_, i) => `burst${i + 1}`);
  for (const name of ["random", ...bursts, "disjoint"]) assertEquals(policyNames().includes(name), true, name);
});

Deno.test("a name that does not exist is refused, and the error lists those that do", () => {
  for (const name of ["", "Random", "burst0", "burst19", "burst", "constructor", "burst04"]) {
    const error = assertThrows(() => createPolicy(name), UnknownPolicy);
    assertEquals(error.policy, name);
    assertStringIncludes(error.message, "random");
    assertStringIncludes(error.message, "burst1 to burst18");
    assertStringIncludes(error.message, "disjoint");
  }
});
