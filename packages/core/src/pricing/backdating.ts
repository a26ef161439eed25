import type { PriceVersion } from './price-version.ts'

/**
 * Whether a price of an organization may apply from a time in the past: only where the model had none, so
 * that no call could have been rated otherwise. From now on any price may begin.
 *
 * @param candidates what applies to the model already (`PriceBook.candidates`)
 * @param fromMs when the new price is to begin, UTC milliseconds; null: as far back as one can ask
 * @param nowMs the present
 */
export function mayBeginAt(
  candidates: readonly PriceVersion[],
  fromMs: number | null,
  nowMs: number,
): boolean {
  const from = fromMs ?? -Infinity
  if (from >= nowMs) return true
  const before = candidates.filter((version) => startOf(version) < nowMs)
  if (before.some((version) => startOf(version) <= from)) return false
  // Later own prices go on as before. A later catalogue price would be hidden by the new one, and with it
  // what was rated by it.
  const next = before.toSorted((a, b) => startOf(a) - startOf(b))[0]
  return next === undefined || next.organizationId !== null
}

/** When a price begins for which no time is given: at once, or from the beginning for a model without any. */
export function defaultStart(candidates: readonly PriceVersion[], nowMs: number): number | null {
  return mayBeginAt(candidates, null, nowMs) ? null : nowMs
}

function startOf(version: PriceVersion): number {
  return version.effectiveFromMs ?? -Infinity
}
