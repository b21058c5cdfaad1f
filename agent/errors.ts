/** Errors that the command line turns into one sentence and an exit code. */

export { CommandError, UsageError } from "../errors.ts";
