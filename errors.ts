/** Errors that the command line turns into one sentence and an exit code. */

/** Wrong use: a flag, file or address that cannot be accepted. Exit code 2. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** The use was right, but it failed: no agent answers, the context does not exist. Exit code 1. */
export class CommandError extends Error {
  override name = "CommandError";
}
