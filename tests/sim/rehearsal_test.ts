import { assertEquals } from "@std/assert";
import { createPolicy, policyNames } from "../../policies/registry.ts";
import { PROFILES } from "../../reap/profile.ts";
import { rehearsal } from "../../sim/rehearsal.ts";

Deno.test("a failover can be rehearsed with every policy and profile, a step at a time", () => {
  for (const profile of Object.values(PROFILES)) {
    for (const policy of policyNames()) {
      assertEquals([...rehearsal(() => createPolicy(policy), profile)].length, 7, `${policy}, ${profile.name}`);
    }
  }
});
