import {
  canonicalTier,
  catalogueProvider,
  type LedgerHour,
  type PriceBook,
  type Vendor,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { ENTRY_SIGN } from '../rollups/index.ts'

interface HourRow {
  readonly hour: Date
  readonly provider: string
  readonly model: string | null
  readonly service_tier: string | null
  readonly meter: string
  readonly quantity: string
  readonly cost_usd: string
  readonly unpriced_quantity: string
  readonly unsure_quantity: string
}

// Reads the events of the range, not the rollups: those keep neither tiers nor the meters of an event.
// A line that was rated late replaces the one that had no price.
const HOURS = `
  select
    date_trunc('hour', event.ts, 'UTC') as hour,
    event.provider,
    coalesce(event.response_model, event.model) as model,
    event.service_tier,
    line.meter,
    trim_scale(sum(${ENTRY_SIGN} * line.quantity))::text as quantity,
    trim_scale(coalesce(sum(${ENTRY_SIGN} * line.cost_usd), 0))::text as cost_usd,
    trim_scale(sum(case when line.unit_price_usd is null then ${ENTRY_SIGN} * line.quantity else 0 end))::text
      as unpriced_quantity,
    trim_scale(sum(case when event.status = 'aborted' or event.estimated then ${ENTRY_SIGN} * line.quantity else 0 end))::text
      as unsure_quantity
  from usage_event as event
  left join late_rating as late
    on late.organization_id = event.organization_id and late.event_id = event.event_id
  cross join lateral jsonb_to_recordset(
    case
      when late.event_id is null then event.lines
      else jsonb_path_query_array(event.lines, '$[*] ? (@.unit_price_usd != null)') || late.lines
    end
  ) as line (meter text, quantity numeric, unit_price_usd numeric, cost_usd numeric)
  where event.organization_id = $1 and event.ts >= $2 and event.ts < $3 and event.provider = any($4::text[])
  group by 1, 2, 3, 4, 5`

export interface HoursRequest {
  readonly organizationId: string
  readonly vendor: Vendor
  readonly start: Date
  readonly end: Date
}

/** What the ledger has of a vendor's calls by hour, model, meter and tier. */
export async function loadLedgerHours(
  pool: Pool,
  book: PriceBook,
  { organizationId, vendor, start, end }: HoursRequest,
): Promise<readonly LedgerHour[]> {
  const { rows: known } = await pool.query<{ provider: string }>(
    'select distinct provider from dimension_set where organization_id = $1',
    [organizationId],
  )
  const providers = known.map(({ provider }) => provider).filter((name) => catalogueProvider(name) === vendor)
  if (providers.length === 0) return []
  const { rows } = await pool.query<HourRow>(HOURS, [organizationId, start, end, providers])
  return rows.map((row) => ({
    hourMs: row.hour.getTime(),
    model: canonicalModel(book, organizationId, vendor, row.model ?? ''),
    meter: row.meter,
    serviceTier: canonicalTier(row.service_tier ?? undefined),
    quantity: row.quantity,
    costUsd: row.cost_usd,
    unpricedQuantity: row.unpriced_quantity,
    unsureQuantity: row.unsure_quantity,
  }))
}

/** The price book's name of a model, so that aliases and snapshots are one; a name that it does not know stays. */
export function canonicalModel(
  book: PriceBook,
  organizationId: string,
  vendor: Vendor,
  model: string,
): string {
  return knownModel(book, organizationId, vendor, model) ?? model
}

/** Undefined when the price book knows no such model. */
export function knownModel(
  book: PriceBook,
  organizationId: string,
  vendor: Vendor,
  model: string,
): string | undefined {
  return book.candidates(organizationId, vendor, [model])[0]?.model
}
