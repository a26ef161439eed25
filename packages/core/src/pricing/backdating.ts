import type { PriceConditions, PriceVersion } from './price-version.ts'
import { tokenMultiplier } from './service-tiers.ts'

/**
 * Whether a price of an organization may apply from a time in the past: only where the model had none, so
 * that no call could have been rated otherwise. From now on any price may begin.
 *
 * @param candidates what applies to the model already (`PriceBook.candidates`)
 * @param fromMs when the new price is to begin, UTC milliseconds; null: as far back as one can ask
 * @param nowMs the present
 * @param isConditional whether the new price is for some of the model's calls alone
 */
export function mayBeginAt(
  candidates: readonly PriceVersion[],
  fromMs: number | null,
  nowMs: number,
  isConditional = false,
): boolean {
  const from = fromMs ?? -Infinity
  if (from >= nowMs) return true
  const before = candidates.filter((version) => startOf(version) < nowMs)
  // What asks for more goes before what asks for less, whichever began later.
  if (isConditional) return before.length === 0
  if (before.some((version) => startOf(version) <= from)) return false
  // Later own prices go on as before. A later catalogue price would be hidden by the new one, and with it
  // what was rated by it.
  const next = before.toSorted((a, b) => startOf(a) - startOf(b))[0]
  return next === undefined || next.organizationId !== null
}

/**
 * The versions that could have priced a call for which a new price is: those that `mayBeginAt` must look at.
 *
 * @param candidates everything for the model (`PriceBook.candidates`)
 */
export function rivalsOf(
  candidates: readonly PriceVersion[],
  provider: string,
  { serviceTier, region, customer }: PriceConditions,
): readonly PriceVersion[] {
  const isElsewhere = (theirs: string | undefined, ours: string | undefined) =>
    theirs !== undefined && ours !== undefined && theirs !== ours
  return candidates.filter((version) => {
    if (isElsewhere(version.customer, customer) || isElsewhere(version.region, region)) return false
    if (isElsewhere(version.serviceTier, serviceTier)) return false
    // A price for any tier prices this one only if the tier is a known multiple.
    if (version.serviceTier !== undefined || serviceTier === undefined) return true
    return tokenMultiplier(provider, serviceTier) !== undefined
  })
}

/** When a price begins for which no time is given: at once, or from the beginning for a model without any. */
export function defaultStart(
  candidates: readonly PriceVersion[],
  nowMs: number,
  isConditional = false,
): number | null {
  return mayBeginAt(candidates, null, nowMs, isConditional) ? null : nowMs
}

function startOf(version: PriceVersion): number {
  return version.effectiveFromMs ?? -Infinity
}
