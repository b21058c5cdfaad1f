/** Makes what fails as small as it gets, so that somebody can see why. */

/** Removes pieces of a list, large ones first, as long as what is left still fails (delta debugging). */
export function minimise<T>(list: readonly T[], fails: (list: readonly T[]) => boolean): T[] {
  let best = [...list];
  for (let size = Math.ceil(best.length / 2); size >= 1;) {
    let shorter = false;
    for (let at = 0; at < best.length;) {
      const candidate = [...best.slice(0, at), ...best.slice(at + size)];
      if (fails(candidate)) {
        best = candidate;
        shorter = true;
      } else at += size;
    }
    if (!shorter || size > best.length) {
      size = size === 1 ? 0 : Math.max(1, Math.floor(Math.min(size, best.length) / 2));
    }
  }
  return best;
}
