/**
 * Judges what `deno doc --lint` finds. It asks for a JSDoc at every property and method as well; here those need one
 * only where name and type leave something to say, so such findings do not count.
 *
 * @module
 */

/** A member is known by the indented line that is quoted. */
const FINDING_OF_A_MEMBER = /^error\[missing-jsdoc\][^]*?^ *\d+ \| \s/m;
const CLOSING_LINE = /^error: Found \d+ documentation lint errors?\./;

/** The findings that count, each as Deno printed it (without colours); empty if all is well. */
export function documentationFaults(output: string): string[] {
  return output.split(/^(?=error)/m)
    .filter((part) => part.startsWith("error") && !FINDING_OF_A_MEMBER.test(part) && !CLOSING_LINE.test(part));
}
