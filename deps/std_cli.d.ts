/**
 * The part of `@std/cli` that this project uses: the argument parser, with a result typed by its options.
 *
 * @module
 */

/** One name or several. */
export type Names<T extends string> = T | readonly T[];

/** The names in a {@linkcode Names}. */
export type NamesIn<T> = T extends readonly (infer E)[] ? E & string : T & string;

/** Which option each alias stands for: option → its other name or names. */
export type Aliases = Readonly<Record<string, Names<string>>>;

/**
 * What {@linkcode parseArgs} should know of the options. The type parameters are the names of the boolean, string and
 * collected options, the defaults, the aliases, and whether `--` is kept apart; all are inferred.
 */
export interface ParseOptions<
  B extends string = string,
  S extends string = string,
  C extends string = string,
  D extends Record<string, unknown> = Record<string, unknown>,
  A extends Aliases = Aliases,
  DD extends boolean = boolean,
> {
  /** Put what follows `--` into the result's `"--"` instead of `_` (default false). */
  "--"?: DD;
  /** Other names of an option; the result has the value under all of them. */
  alias?: A;
  /** Options without a value, false when absent; `true` takes every `--x` without `=` as one. */
  boolean?: boolean | Names<B>;
  /** Options whose value stays a string, even if it looks like a number. */
  string?: Names<S>;
  /** Options that may be repeated; their values are gathered in an array. */
  collect?: Names<C>;
  /** Options that `--no-x` sets to false. */
  negatable?: Names<string>;
  /** Values of absent options. */
  default?: D;
  /** Stop at the first argument that is no option: it and all that follow go to `_` (default false). */
  stopEarly?: boolean;
  /** Called for every argument that is not declared above; returning false leaves it out of the result. */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

/** The type of option `K`, apart from its default: an absent string is undefined, an absent collection empty. */
export type Given<K, B, S, C> = K extends C ? (K extends B ? boolean[] : K extends S ? string[] : unknown[] | undefined)
  : K extends B ? boolean
  : K extends S ? string | undefined
  : unknown;

/** The type of option `K`; with a default, undefined is possible only if the default is. */
export type Value<K, B, S, C, D> = K extends keyof D ? Exclude<Given<K, B, S, C>, undefined> | D[K] : Given<K, B, S, C>;

/** The option that alias `N` stands for. */
export type AliasOf<N, A> = { [K in keyof A]: N extends NamesIn<A[K]> ? K : never }[keyof A];

/** `a.b` becomes the object `{ a: { b } }`, which these types do not follow. */
export type Dotted = `${string}.${string}`;

/** The options by name. With no option declared nothing is known of the result but that it is a record. */
export type Options<B extends string, S extends string, C extends string, D, A> = [B | S | C] extends [never]
  ? Record<string, unknown>
  :
    & { [K in Exclude<B | S | C | (keyof D & string), Dotted>]: Value<K, B, S, C, D> }
    & { [N in Exclude<NamesIn<A[keyof A]>, Dotted>]: Value<AliasOf<N, A>, B, S, C, D> };

/** The parsed command line. */
export type Args<
  B extends string = never,
  S extends string = never,
  C extends string = never,
  D = Record<never, never>,
  A = Record<never, never>,
  DD extends boolean = false,
> =
  & Options<B, S, C, D, A>
  & {
    /** Arguments that are no options. Those that look like numbers are numbers, unless `string` names `_`. */
    _: (string | number)[];
  }
  & (DD extends true ? { /** What followed `--`. */ "--": string[] } : unknown);

/**
 * Parses a command line: `-x`, `--name`, `--name value`, `--name=value`, `--no-name` for negatable options. Of an
 * option given twice the last value counts, unless it is collected.
 *
 * Declare every option as boolean or string: a value of any other option may come as number, boolean or string.
 */
export declare function parseArgs<
  const B extends string = never,
  const S extends string = never,
  const C extends string = never,
  D extends Record<string, unknown> = Record<never, never>,
  const A extends Aliases = Record<never, never>,
  const DD extends boolean = false,
>(args: readonly string[], options?: ParseOptions<B, S, C, D, A, DD>): Args<B, S, C, D, A, DD>;
