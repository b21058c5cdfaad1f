/** What the operator prefers: which locators peers should use, and this host itself (RFC 5533 §5.15.3). */

import type { LocalLocator } from "../shim6/api.ts";
import { type Address, canonicalAddress, inPrefix, InvalidAddress, parsePrefix, type Prefix } from "../wire/address.ts";
import { UsageError } from "./errors.ts";

/** Preference of the locators that `subject` names. */
export interface Preference {
  /** As it was given: an interface, an address or a prefix. */
  readonly subject: string;
  /** Lower is better; 0 to 254, since 255 is that of deprecated addresses. */
  readonly priority: number;
  /** Share among locators of the same priority, 0 to 255. */
  readonly weight: number;
  /** The locator is not there to stay. */
  readonly transient: boolean;
  /** Not to be used, as if its link were down. */
  readonly broken: boolean;
}

/** That of a locator without a preference. */
export const DEFAULT_PRIORITY = 100;

/** How a preference is written. */
export const PREFERENCE_SYNTAX = "LOCATOR=[PRIORITY][,weight=W][,transient][,broken]";

/** Reads a preference. Throws {@linkcode UsageError}; `origin` names the place for the reader. */
export function parsePreference(text: string, origin: string): Preference {
  const wrong = (what: string) =>
    new UsageError(`${origin}: ${what}, got ${JSON.stringify(text)}; expected ${PREFERENCE_SYNTAX}`);
  const split = text.indexOf("=");
  const subject = text.slice(0, Math.max(0, split));
  if (subject === "") throw wrong("which locators?");
  let priority = DEFAULT_PRIORITY, weight = 0, transient = false, broken = false;
  for (const [i, word] of text.slice(split + 1).split(",").entries()) {
    const number = (digits: string, high: number): number => {
      if (!/^\d{1,3}$/.test(digits) || Number(digits) > high) throw wrong(`a number from 0 to ${high}`);
      return Number(digits);
    };
    if (word === "transient") transient = true;
    else if (word === "broken") broken = true;
    else if (word.startsWith("weight=")) weight = number(word.slice("weight=".length), 255);
    else if (i === 0) priority = number(word, 254);
    else throw wrong(`what is ${JSON.stringify(word)}?`);
  }
  matcher(subject, origin); // what looks like an address must be one
  return { subject, priority, weight, transient, broken };
}

/** The locators with what is preferred of them; of several preferences for one the last counts. */
export function withPreferences(
  locators: readonly LocalLocator[],
  preferences: readonly Preference[],
): readonly LocalLocator[] {
  if (preferences.length === 0) return locators;
  return locators.map((locator) => {
    const preference = preferences.findLast(({ subject }) => matches(subject, locator));
    if (preference === undefined) return locator;
    const { priority, weight, transient, broken } = preference;
    return { ...locator, priority, weight, transient, usable: locator.usable && !broken };
  });
}

/** Whether `subject` names the locator. */
export function matches(subject: string, locator: LocalLocator): boolean {
  const place = matcher(subject, subject);
  if (place === undefined) return subject === locator.interfaceName;
  return typeof place === "string" ? place === locator.address : inPrefix(locator.address, place);
}

/** The address or prefix that a subject is; undefined for the name of an interface. */
function matcher(subject: string, origin: string): Address | Prefix | undefined {
  if (!subject.includes(":")) return undefined;
  try {
    return subject.includes("/") ? parsePrefix(subject) : canonicalAddress(subject);
  } catch (error) {
    if (error instanceof InvalidAddress) throw new UsageError(`${origin}: ${error.message}`);
    throw error;
  }
}
