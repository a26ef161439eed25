import { type Decimal, ZERO } from '../money/decimal.ts'
import type { OwnedCommitment } from './commitment-offers.ts'
import {
  cheapestChoice,
  choicesOfUnits,
  type Demand,
  idleShare,
  type ReservedChoice,
  withUnits,
} from './reserved-capacity.ts'
import type { SavingInterval } from './saving-interval.ts'
import { weeklyInterval } from './weekly-interval.ts'

export type OwnedCapacity = Extract<OwnedCommitment, { readonly kind: 'provisioned_throughput' }>

/** How well owned capacity was used, and how much of it would have been enough. */
export interface CapacityReview {
  /** 0 to 1. */
  readonly idleShare: Decimal
  readonly current: ReservedChoice
  /** With as many of the owned units as would have been cheapest. */
  readonly best: ReservedChoice
  /** What each week would have cost less with those. */
  readonly weeklyUsd: readonly Decimal[]
  /** Undefined: too few weeks. */
  readonly saving: SavingInterval | undefined
}

/** A history of whole weeks, cut into stretches of equal length. */
export interface WeeksOfDemand {
  readonly startMs: number
  readonly weeks: number
  readonly stretchMinutes: number
  /** Those without demand may be left out. */
  readonly demands: readonly Demand[]
}

const WEEK_MS = 7 * 24 * 3_600_000
const WEEK_HOURS = 7 * 24

/** Splits a history by weeks. */
export function demandByWeek(history: WeeksOfDemand): readonly (readonly Demand[])[] {
  const weeks = Array.from({ length: history.weeks }, (): Demand[] => [])
  for (const demand of history.demands) {
    weeks[Math.floor((demand.startMs - history.startMs) / WEEK_MS)]?.push(demand)
  }
  return weeks
}

/** What each week would have cost less with one number of units than with another. */
export function weeklySavings(
  history: WeeksOfDemand,
  capacity: Parameters<typeof withUnits>[1],
  from: number,
  to: number,
): readonly Decimal[] {
  const length = { stretchMinutes: history.stretchMinutes, hours: WEEK_HOURS }
  return demandByWeek(history).map((demands) =>
    withUnits(demands, capacity, from, length).totalUsd.minus(
      withUnits(demands, capacity, to, length).totalUsd,
    ),
  )
}

/** Looks for the cheapest part of owned capacity: of all its numbers of units, none included. */
export function reviewCapacity(owned: OwnedCapacity, history: WeeksOfDemand): CapacityReview {
  const { stretchMinutes, weeks, demands } = history
  const length = { stretchMinutes, hours: weeks * WEEK_HOURS }
  const counts = Array.from({ length: owned.units + 1 }, (_, units) => units)
  const choices = choicesOfUnits(demands, owned, counts, length)
  const current = choices[owned.units] ?? withUnits(demands, owned, owned.units, length)
  const best = cheapestChoice(choices) ?? current
  const weeklyUsd = weeklySavings(history, owned, owned.units, best.units)
  return {
    idleShare:
      weeks === 0
        ? ZERO
        : idleShare(demands, owned, owned.units, {
            stretchMinutes,
            stretches: (weeks * WEEK_HOURS * 60) / stretchMinutes,
          }),
    current,
    best,
    weeklyUsd,
    saving: weeklyInterval(weeklyUsd),
  }
}
