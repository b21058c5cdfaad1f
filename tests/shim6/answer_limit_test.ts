import { assert, assertEquals } from "@std/assert";
import { AnswerLimit, FREE_ANSWERS, GLOBAL_ANSWERS, MAX_ANSWERS } from "../../shim6/answer_limit.ts";

/** The smallest I1 and our R1, with their IPv6 headers. */
const I1_OCTETS = 56, R1_OCTETS = 80;

Deno.test("four answers a second to one address are always possible, also as the smallest I1s ask for larger R1s", () => {
  const limit = new AnswerLimit();
  for (let second = 0; second < 10; second++) {
    for (let i = 0; i < FREE_ANSWERS; i++) {
      assert(limit.allow("2001:db8::1", I1_OCTETS, R1_OCTETS, second * 1_000 + 250 * i));
    }
  }
});

Deno.test("in a flood never more octets go to an address than came from it, at any rate above five packets a second", () => {
  for (const rate of [6, 8, 20, 100, 1_000, 10_000]) {
    const limit = new AnswerLimit();
    let octetsIn = 0, octetsOut = 0, answers = 0;
    for (let i = 0; i < rate; i++) {
      octetsIn += I1_OCTETS;
      if (!limit.allow("2001:db8::1", I1_OCTETS, R1_OCTETS, i * 1_000 / rate)) continue;
      octetsOut += R1_OCTETS;
      answers++;
    }
    assert(octetsOut <= octetsIn, `${rate} a second: ${octetsOut} for ${octetsIn}`);
    assert(answers >= FREE_ANSWERS && answers <= MAX_ANSWERS);
  }
});

Deno.test("whoever sends large packets gets more answers, so that many contexts recover at once", () => {
  const limit = new AnswerLimit();
  let answers = 0;
  for (let i = 0; i < 100; i++) if (limit.allow("2001:db8::1", 1_280, R1_OCTETS, i)) answers++;
  assertEquals(answers, MAX_ANSWERS);
});

Deno.test("all strangers together get no more than the global rate, and few addresses are remembered", () => {
  const limit = new AnswerLimit(100);
  let answers = 0;
  for (let i = 0; i < 50_000; i++) {
    if (limit.allow(`2001:db8::${i.toString(16)}`, I1_OCTETS, R1_OCTETS, i / 50)) answers++;
  }
  assert(answers <= 2 * GLOBAL_ANSWERS + 1, `${answers} in one second`);
  assertEquals(limit.size, 100);
});
