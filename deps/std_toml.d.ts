/**
 * The part of `@std/toml` that this project uses.
 *
 * @module
 */

/** How {@linkcode stringify} lays its text out. */
export interface FormatOptions {
  /** Whether the `=` of all keys stand below each other (default false). */
  keyAlignment?: boolean;
}

/**
 * Parses a TOML document. Dates become `Date`, local times stay strings.
 *
 * @throws {SyntaxError} if the text is no TOML
 */
export declare function parse(text: string): Record<string, unknown>;

/** Writes the object as a TOML document. */
export declare function stringify(value: Record<string, unknown>, options?: FormatOptions): string;
