/** What the engine refuses, and why. */

/** Why a request was refused. */
export type EngineErrorCode =
  | "no-context"
  | "not-established"
  | "not-a-locator"
  | "unverified-locator"
  | "unusable-locator"
  | "held-down"
  | "too-many-contexts";

/** A console or application request that cannot be carried out. */
export class EngineError extends Error {
  override name = "EngineError";

  constructor(readonly code: EngineErrorCode, message: string) {
    super(message);
  }
}
