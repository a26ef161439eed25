/** Digits of an id that decide: the last ones of a UUID are random. */
const DIGITS = 8

/**
 * Whether a call belongs to the sample. Decided by its event's id, so that the same event always is or is not.
 *
 * @param fraction of calls in the sample, from 0 to 1
 */
export function isSampled(eventId: string, fraction: number): boolean {
  if (fraction <= 0) return false
  return Number.parseInt(eventId.slice(-DIGITS), 16) < fraction * 16 ** DIGITS
}
