import type { Pool } from 'pg'
import { type AlertCandidate, type AlertDetails, dayOf } from './alert.ts'
import { withoutFired } from './alert-store.ts'
import { type FireDependencies, fire } from './fire.ts'

/** Alerts of one kind, organization and day; what comes on top would say the same. */
const PER_KIND_MAX = 20
/** Events may be this much older than the day that they arrive on. */
const LATE_MS = 7 * 24 * 3_600_000

const RECEIVED = `
  from usage_event as event
  where event.organization_id = $1 and event.ts >= $3 and event.received_at >= $2
    and event.entry_kind is null`

const UNPRICED = `
  select event.provider, coalesce(event.response_model, event.model) as model, count(*)::integer as events
  ${RECEIVED}
    and event.rating_status <> 'rated'
    and not exists (
      select from late_rating as late
      where late.organization_id = event.organization_id and late.event_id = event.event_id
    )
  group by 1, 2
  order by 3 desc, 1, 2
  limit ${PER_KIND_MAX}`

const MISMATCHES = `
  select event.provider, coalesce(event.response_model, event.model) as model, min(event.mismatch) as mismatch,
    count(*)::integer as events
  ${RECEIVED} and event.mismatch is not null
  group by 1, 2
  order by 4 desc, 1, 2
  limit ${PER_KIND_MAX}`

const DEAD_LETTERS = `
  select door, count(*)::integer as letters
  from dead_letter
  where organization_id = $1 and received_at >= $2 and replayed_at is null
  group by 1
  order by 2 desc, 1`

interface ModelRow {
  readonly provider: string
  readonly model: string | null
  readonly events: number
}

/** Tells of usage without a price, counts that contradict each other, and dead letters: once a UTC day and model. */
export async function watchFindings(dependencies: FireDependencies, organizationId: string): Promise<void> {
  const { pool, now } = dependencies
  const period = dayOf(now().getTime())
  const groups = await Promise.all([
    findUnpriced(pool, organizationId, period.startMs),
    findMismatches(pool, organizationId, period.startMs),
    findDeadLetters(pool, organizationId, period.startMs),
  ])
  for (const group of groups) {
    const candidates = group.map(
      (details): AlertCandidate => ({
        subjectKey:
          'provider' in details ? JSON.stringify([details.provider, details.model]) : keyOf(details),
        period,
        threshold: 0,
        budgetId: null,
        details,
      }),
    )
    const open = await withoutFired(pool, organizationId, candidates)
    await fire(dependencies, organizationId, open.toReversed())
  }
}

function keyOf(details: AlertDetails): string {
  return details.kind === 'dead_letters' ? details.door : details.kind
}

async function findUnpriced(pool: Pool, organizationId: string, dayMs: number): Promise<AlertDetails[]> {
  const { rows } = await pool.query<ModelRow>(UNPRICED, parametersOf(organizationId, dayMs))
  return rows.map(({ provider, model, events }) => ({ kind: 'unpriced_usage', provider, model, events }))
}

async function findMismatches(pool: Pool, organizationId: string, dayMs: number): Promise<AlertDetails[]> {
  const { rows } = await pool.query<ModelRow & { readonly mismatch: string }>(
    MISMATCHES,
    parametersOf(organizationId, dayMs),
  )
  return rows.map(({ provider, model, mismatch, events }) => ({
    kind: 'count_mismatch',
    provider,
    model,
    mismatch,
    events,
  }))
}

async function findDeadLetters(pool: Pool, organizationId: string, dayMs: number): Promise<AlertDetails[]> {
  const { rows } = await pool.query<{ readonly door: string; readonly letters: number }>(DEAD_LETTERS, [
    organizationId,
    new Date(dayMs),
  ])
  return rows.map(({ door, letters }) => ({ kind: 'dead_letters', door, letters }))
}

function parametersOf(organizationId: string, dayMs: number): unknown[] {
  return [organizationId, new Date(dayMs), new Date(dayMs - LATE_MS)]
}
