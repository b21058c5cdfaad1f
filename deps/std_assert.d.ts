/**
 * The part of `@std/assert` that this project uses. Messages are appended to the library's own explanation.
 *
 * @module
 */

/** A class of errors; abstract classes count too. */
export type ErrorClass<E extends Error> = abstract new (...args: never[]) => E;

/** What every assertion throws when it does not hold. */
export declare class AssertionError extends Error {
  /** An error with the given explanation. */
  constructor(message: string, options?: ErrorOptions);
}

/** Deep equality as {@linkcode assertEquals} understands it. */
export declare function equal(a: unknown, b: unknown): boolean;

/** Holds if `expr` is truthy. */
export declare function assert(expr: unknown, msg?: string): asserts expr;

/** Holds if `expr` is falsy. */
export declare function assertFalse(
  expr: unknown,
  msg?: string,
): asserts expr is false | 0 | "" | 0n | null | undefined;

/** Holds if both values are deeply equal; prints a diff if not. */
export declare function assertEquals<T>(actual: T, expected: T, msg?: string): void;

/** Holds if the values are not deeply equal. */
export declare function assertNotEquals<T>(actual: T, expected: T, msg?: string): void;

/** Holds if both are the same by `Object.is`. */
export declare function assertStrictEquals<T>(actual: unknown, expected: T, msg?: string): asserts actual is T;

/** Holds if the two are not the same by `Object.is`. */
export declare function assertNotStrictEquals<T>(actual: T, expected: T, msg?: string): void;

/** Holds if the numbers differ by at most `tolerance` (default: one part in 10⁷ of `expected`). */
export declare function assertAlmostEquals(actual: number, expected: number, tolerance?: number, msg?: string): void;

/** Holds if `actual > expected`. */
export declare function assertGreater<T>(actual: T, expected: T, msg?: string): void;

/** Holds if `actual >= expected`. */
export declare function assertGreaterOrEqual<T>(actual: T, expected: T, msg?: string): void;

/** Holds if `actual < expected`. */
export declare function assertLess<T>(actual: T, expected: T, msg?: string): void;

/** Holds if `actual <= expected`. */
export declare function assertLessOrEqual<T>(actual: T, expected: T, msg?: string): void;

/** Holds if `actual` is neither null nor undefined. */
export declare function assertExists<T>(actual: T, msg?: string): asserts actual is NonNullable<T>;

/** Holds if `actual` is an instance of `expectedType`. */
export declare function assertInstanceOf<T>(
  actual: unknown,
  expectedType: abstract new (...args: never[]) => T,
  msg?: string,
): asserts actual is T;

/** Holds if `actual` is no instance of `unexpectedType`. */
export declare function assertNotInstanceOf<A, T>(
  actual: A,
  unexpectedType: abstract new (...args: never[]) => T,
  msg?: string,
): asserts actual is Exclude<A, T>;

/** Holds if `actual` contains `expected`. */
export declare function assertStringIncludes(actual: string, expected: string, msg?: string): void;

/** Holds if `actual` matches the expression. */
export declare function assertMatch(actual: string, expected: RegExp, msg?: string): void;

/** Holds if `actual` does not match the expression. */
export declare function assertNotMatch(actual: string, expected: RegExp, msg?: string): void;

/** Holds if every element of `expected` equals some element of `actual`, in any order. */
export declare function assertArrayIncludes<T>(actual: ArrayLike<T>, expected: ArrayLike<T>, msg?: string): void;

/** Holds if each property of `expected` is deeply equal in `actual`, which may have more. */
export declare function assertObjectMatch(actual: object, expected: object, msg?: string): void;

/** Holds if `error` is an instance of the class and its message contains `msgMatches` (or matches the expression). */
export declare function assertIsError<E extends Error = Error>(
  error: unknown,
  errorClass?: ErrorClass<E>,
  msgMatches?: string | RegExp,
  msg?: string,
): asserts error is E;

/** Holds if `fn` throws; returns what it threw. */
export declare function assertThrows(fn: () => unknown, msg?: string): unknown;
/** Holds if `fn` throws an instance of `errorClass` whose message contains `msgIncludes`; returns that error. */
export declare function assertThrows<E extends Error>(
  fn: () => unknown,
  errorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): E;

/** Holds if the promise of `fn` rejects; gives the reason. A synchronous throw does not count. */
export declare function assertRejects(fn: () => PromiseLike<unknown>, msg?: string): Promise<unknown>;
/** Holds if the promise of `fn` rejects with an `errorClass` whose message contains `msgIncludes`; gives that error. */
export declare function assertRejects<E extends Error>(
  fn: () => PromiseLike<unknown>,
  errorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;

/** Fails always. */
export declare function fail(msg?: string): never;

/** Fails: this place was not to be reached. */
export declare function unreachable(msg?: string): never;
