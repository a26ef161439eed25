import {
  breakEvenSpend,
  breakEvenUtilization,
  type CommitmentOffer,
  cheapestChoice,
  cheapestTier,
  costUnderCommitment,
  type Decimal,
  decimal,
  decimalText,
  demandByWeek,
  demandQuantiles,
  MONTH_DAYS,
  type OwnedCommitment,
  type ProvisionedOffer,
  reservedChoices,
  reviewCapacity,
  type SavingInterval,
  type SpendOffer,
  weeklyInterval,
  weeklySavings,
  ZERO,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { type DemandHistory, readDemand } from './demand-store.ts'
import { isInForce } from './idle-commitments.ts'

const WEEK_HOURS = 7 * 24
const QUANTILES = { p50: 0.5, p90: 0.9, p95: 0.95, p99: 0.99, max: 1 } as const

/** The offers and commitments of an organization, held against its history. */
export async function adviseOnCommitments(
  pool: Pool,
  organizationId: string,
  settings: { readonly offers: readonly CommitmentOffer[]; readonly owned: readonly OwnedCommitment[] },
  nowMs: number,
) {
  const { offers, owned } = settings
  const capacity = offers.filter((offer) => offer.kind === 'provisioned_throughput')
  const tiers = offers.filter((offer) => offer.kind === 'committed_spend')
  const models = []
  for (const rivals of Map.groupBy(capacity, ({ provider, model }) =>
    JSON.stringify([provider, model]),
  ).values()) {
    const [first] = rivals
    if (first === undefined) continue
    models.push(modelAdvice(rivals, first, await readDemand(pool, organizationId, first, nowMs)))
  }
  const providers = []
  for (const [provider, rivals] of Map.groupBy(tiers, (offer) => offer.provider)) {
    providers.push(spendAdvice(provider, rivals, await readDemand(pool, organizationId, { provider }, nowMs)))
  }
  const reviews = []
  for (const commitment of owned.filter((one) => isInForce(one, nowMs))) {
    const wanted = commitment.kind === 'committed_spend' ? { provider: commitment.provider } : commitment
    reviews.push(ownedReview(commitment, await readDemand(pool, organizationId, wanted, nowMs)))
  }
  return { models, providers, owned: reviews }
}

function modelAdvice(offers: readonly ProvisionedOffer[], first: ProvisionedOffer, history: DemandHistory) {
  const { demands, stretchMinutes, weeks } = history
  const length = { stretchMinutes, hours: weeks * WEEK_HOURS }
  const compared = offers.map((offer) => {
    const best = cheapestChoice(reservedChoices(demands, offer, length))
    const stretches = (length.hours * 60) / stretchMinutes
    const quantiles = demandQuantiles(demands, offer, { stretchMinutes, stretches }, Object.values(QUANTILES))
    const breakEven = breakEvenUtilization(demands, offer)
    return { offer, best, quantiles, breakEven }
  })
  const onDemand = demands.reduce((sum, { onDemandUsd }) => sum.plus(onDemandUsd), ZERO)
  const [cheapest] = compared.toSorted((a, b) => (a.best?.totalUsd ?? ZERO).cmp(b.best?.totalUsd ?? ZERO))
  const chosen = cheapest?.best !== undefined && cheapest.best.units > 0 ? cheapest : undefined
  const saving =
    chosen?.best === undefined
      ? undefined
      : weeklyInterval(weeklySavings(history, chosen.offer, 0, chosen.best.units))
  return {
    provider: first.provider,
    model: first.model,
    history: historyJson(history),
    on_demand_usd_per_month: monthly(onDemand, weeks),
    best: {
      offer_id: chosen?.offer.id ?? null,
      units: chosen?.best?.units ?? 0,
      total_usd_per_month: monthly(chosen?.best?.totalUsd ?? onDemand, weeks),
    },
    saving_per_month: savingJson(saving),
    offers: compared.map(({ offer, best, quantiles, breakEven }) => ({
      offer_id: offer.id,
      units: best?.units ?? 0,
      reserved_usd_per_month: monthly(best?.reservedUsd ?? ZERO, weeks),
      overflow_usd_per_month: monthly(best?.overflowUsd ?? ZERO, weeks),
      total_usd_per_month: monthly(best?.totalUsd ?? ZERO, weeks),
      break_even_utilization: breakEven === undefined ? null : decimalText(breakEven),
      tokens_per_minute: Object.fromEntries(
        Object.keys(QUANTILES).map((name, index) => [name, decimalText(quantiles[index] ?? ZERO)]),
      ),
    })),
  }
}

function spendAdvice(provider: string, offers: readonly SpendOffer[], history: DemandHistory) {
  const { spend, interval } = spendOf(history)
  const { offer, costUsd } = cheapestTier(spend, offers)
  // The saving grows with the spend: the ends of one are those of the other.
  const savingAt = (usd: Decimal) =>
    offer === undefined ? ZERO : usd.minus(costUnderCommitment(usd.lt(ZERO) ? ZERO : usd, offer))
  const saving = interval && {
    usd: savingAt(spend),
    lowUsd: savingAt(interval.lowUsd),
    highUsd: savingAt(interval.highUsd),
  }
  return {
    provider,
    history: historyJson(history),
    on_demand_usd_per_month: decimalText(spend),
    best: { offer_id: offer?.id ?? null, total_usd_per_month: decimalText(costUsd) },
    saving_per_month: offer === undefined ? null : savingJson(saving),
    offers: offers.map((one) => {
      const breakEven = breakEvenSpend(one)
      return {
        offer_id: one.id,
        total_usd_per_month: decimalText(costUnderCommitment(spend, one)),
        break_even_usd_per_month: breakEven === undefined ? null : decimalText(breakEven),
      }
    }),
  }
}

function ownedReview(owned: OwnedCommitment, history: DemandHistory) {
  if (owned.kind === 'committed_spend') {
    const { spend } = spendOf(history)
    const committed = decimal(owned.monthly_usd)
    const used = spend.times(decimal('1').minus(decimal(owned.discount)))
    const unused = used.lt(committed) ? committed.minus(used) : ZERO
    return {
      id: owned.id,
      history: historyJson(history),
      idle_share: decimalText(decimal(unused.div(committed).round(6))),
      idle_usd_per_month: decimalText(unused),
      units: null,
      cheapest_units: null,
      saving_per_month: null,
    }
  }
  const { idleShare, best, current, saving } = reviewCapacity(owned, history)
  return {
    id: owned.id,
    history: historyJson(history),
    idle_share: decimalText(idleShare),
    idle_usd_per_month: monthly(current.reservedUsd.times(idleShare), history.weeks),
    units: owned.units,
    cheapest_units: best.units,
    saving_per_month: savingJson(saving),
  }
}

/** The spend of 30 days at list prices, by weeks. */
function spendOf(history: DemandHistory): { spend: Decimal; interval: SavingInterval | undefined } {
  const weekly = demandByWeek(history).map((demands) =>
    demands.reduce((sum, { onDemandUsd }) => sum.plus(onDemandUsd), ZERO),
  )
  const total = weekly.reduce((sum, usd) => sum.plus(usd), ZERO)
  return { spend: decimal(monthly(total, history.weeks)), interval: weeklyInterval(weekly) }
}

/** An amount of the whole history for 30 days, to a millionth of a dollar. */
function monthly(usd: Decimal, weeks: number): string {
  if (weeks === 0) return '0'
  return decimalText(
    usd
      .times(decimal(String(MONTH_DAYS)))
      .div(decimal(String(7 * weeks)))
      .round(6),
  )
}

function historyJson({ startMs, endMs, weeks, stretchMinutes, requests }: DemandHistory) {
  return {
    start: new Date(startMs).toISOString(),
    end: new Date(endMs).toISOString(),
    weeks,
    stretch_minutes: stretchMinutes,
    requests,
  }
}

function savingJson(saving: SavingInterval | undefined) {
  return saving === undefined
    ? null
    : {
        usd: decimalText(saving.usd),
        low_usd: decimalText(saving.lowUsd),
        high_usd: decimalText(saving.highUsd),
      }
}
