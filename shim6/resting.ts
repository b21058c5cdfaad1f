/**
 * Contexts at rest. Most contexts of a host are, most of the time, and as an object with its strings and its peer's
 * locators each would take a kilobyte. At rest a context is one piece of text: what differs from a new context.
 */

import { Suspicion } from "../reap/suspicion.ts";
import { samePair } from "../policies/policy.ts";
import { Context, type ContextHost } from "./context.ts";
import { PeerLocators } from "./peer_locators.ts";

/** Fields by the place that they have in every context. */
const FIELDS = Object.keys(
  new Context({} as ContextHost, 0, { local: "", peer: "" }, 0, 0, 0),
) as readonly (keyof Context)[];

/** Fields that hold plain data, but for these: numbers, truth values, text and pairs of addresses. */
const PLAIN_OBJECTS: ReadonlySet<keyof Context> = new Set(["incoming", "lastFailure"]);
/** Fields that need not be named. */
const IMPLIED: ReadonlySet<keyof Context> = new Set([
  "host",
  "id",
  "ulid",
  "fii",
  "localTag",
  "since",
  "state",
]);

/** In place of the pair on which peers send as a rule. */
const ULID = true;

/** A field's place and its value, one after the other. */
type Record = [local: string, peer: string, fii: number, localTag: number, since: number, ...fields: unknown[]];

/**
 * The text of an ESTABLISHED context at rest; undefined while something goes on with it, that is to say while it has
 * anything beyond plain data.
 */
export function restingText(context: Context): string | undefined {
  if (context.state !== "ESTABLISHED") return undefined;
  const { ulid, fii, localTag, since } = context;
  const fresh = new Context(context.host, context.id, ulid, fii, localTag, since);
  const record: Record = [ulid.local, ulid.peer, fii, localTag, since];
  for (let i = 0; i < FIELDS.length; i++) {
    const field = FIELDS[i], value = context[field];
    if (value === fresh[field] || IMPLIED.has(field)) continue;
    if (field === "announced") {
      if (value !== context.host.local) return undefined;
      record.push(i, true);
    } else if (field === "current" || field === "toldPair") {
      if (!samePair(context[field], ulid)) record.push(i, value);
    } else if (field === "incoming" && samePair(context.incoming!, ulid)) {
      record.push(i, ULID);
    } else if (value instanceof PeerLocators || value instanceof Suspicion || PLAIN_OBJECTS.has(field)) {
      record.push(i, value);
    } else if (typeof value === "object" || typeof value === "number" && !Number.isFinite(value)) {
      return undefined;
    } else record.push(i, value);
  }
  return JSON.stringify(record);
}

/** The context again, as it was. The host's locators must be what they were. */
export function fromRestingText(text: string, host: ContextHost, id: number): Context {
  const [local, peer, fii, localTag, since, ...fields] = JSON.parse(text) as Record;
  const context = new Context(host, id, { local, peer }, fii, localTag, since);
  context.state = "ESTABLISHED";
  for (let i = 0; i < fields.length; i += 2) {
    const field = FIELDS[fields[i] as number];
    let value = fields[i + 1];
    if (field === "announced") value = host.local;
    else if (field === "incoming" && value === ULID) value = context.ulid;
    else if (field === "peer") value = PeerLocators.fromJSON(value as ReturnType<PeerLocators["toJSON"]>);
    else if (field === "suspicion") value = Suspicion.fromJSON(value as ReturnType<Suspicion["toJSON"]>);
    Object.assign(context, { [field]: value });
  }
  return context;
}
