import { callMultiplier, type PriceBook, rateCard } from '@tokentally/core'
import type { Pool } from 'pg'

/** Events of one kind that have no price, or not for all meters. */
export interface UnpricedUsage {
  readonly provider: string
  readonly model: string | null
  readonly responseModel: string | null
  readonly serviceTier: string | null
  readonly meters: readonly string[]
  readonly events: number
  readonly firstSeen: Date
  readonly lastSeen: Date
}

/**
 * What would have to be added: a price for the model (`no_price`), a rate for the meters (`no_rate`), or the
 * price of a service tier, of which only the standard one is known (`service_tier`). `pending`: the price is
 * there and the events are about to be rated.
 */
export type UnpricedReason = 'no_price' | 'no_rate' | 'service_tier' | 'pending'

// Kinds are grouped before their meters are taken apart: there are few kinds and many events.
const UNPRICED = `
  with kind as (
    select event.provider, event.model, event.response_model, event.service_tier, event.unpriced_meters,
      count(*) as events, min(event.ts) as first_seen, max(event.ts) as last_seen
    from usage_event as event
    where event.organization_id = $1
      and event.rating_status <> 'rated'
      and not exists (
        select from late_rating as late
        where late.organization_id = event.organization_id and late.event_id = event.event_id
      )
      and event.entry_kind is distinct from 'reversal'
      and not exists (
        select from correction_target as target
        where target.organization_id = event.organization_id and target.event_id = event.event_id
      )
    group by event.provider, event.model, event.response_model, event.service_tier, event.unpriced_meters
  ), meters as (
    select provider, model, response_model, service_tier, array_agg(distinct meter order by meter) as meters
    from kind
    cross join lateral unnest(unpriced_meters) as meter
    group by provider, model, response_model, service_tier
  )
  select kind.provider, kind.model, kind.response_model, kind.service_tier,
    coalesce(meters.meters, '{}') as meters, sum(kind.events)::text as events,
    min(kind.first_seen) as first_seen, max(kind.last_seen) as last_seen
  from kind
  left join meters
    on meters.provider = kind.provider
    and meters.model is not distinct from kind.model
    and meters.response_model is not distinct from kind.response_model
    and meters.service_tier is not distinct from kind.service_tier
  group by kind.provider, kind.model, kind.response_model, kind.service_tier, meters.meters
  order by sum(kind.events) desc, kind.provider, kind.model, kind.response_model, kind.service_tier
  limit $2`

interface UnpricedRow {
  readonly provider: string
  readonly model: string | null
  readonly response_model: string | null
  readonly service_tier: string | null
  readonly meters: readonly string[]
  readonly events: string
  readonly first_seen: Date
  readonly last_seen: Date
}

/** What an organization's events lack a price for, the most frequent first. */
export async function listUnpriced(
  pool: Pool,
  organizationId: string,
  limit: number,
): Promise<readonly UnpricedUsage[]> {
  const { rows } = await pool.query<UnpricedRow>(UNPRICED, [organizationId, limit])
  return rows.map((row) => ({
    provider: row.provider,
    model: row.model,
    responseModel: row.response_model,
    serviceTier: row.service_tier,
    meters: row.meters,
    events: Number(row.events),
    firstSeen: row.first_seen,
    lastSeen: row.last_seen,
  }))
}

/** Why the latest of these events has no price, by the price book of now. */
export function unpricedReason(
  organizationId: string,
  usage: UnpricedUsage,
  book: PriceBook,
): UnpricedReason {
  const names = [usage.responseModel, usage.model].filter((name) => name !== null)
  const { provider, serviceTier } = usage
  const call = { provider, serviceTier: serviceTier ?? undefined }
  const version = book.find(organizationId, provider, names, usage.lastSeen.getTime(), call)
  if (version === undefined) return 'no_price'
  if (callMultiplier(version, call) === undefined) return 'service_tier'
  const prices = rateCard(version, 0, '1')
  return usage.meters.every((meter) => prices.has(meter)) ? 'pending' : 'no_rate'
}
