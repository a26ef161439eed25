import { type BillingProfile, billingProfileSchema, type Decimal, decimal } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'

/** What the counting for Stripe's meters reads and writes. */

/** A customer whose profile says `stripe_meters`. */
export interface MeteredProfile {
  readonly customer: string
  readonly profile: BillingProfile
  /** Where the last cycle ended that was invoiced by another system; undefined: none was. */
  readonly invoicedElsewhereUntil: Date | undefined
}

interface ProfileRow {
  readonly customer_id: string
  readonly definition: unknown
  readonly until: Date | null
}

export async function listMeteredProfiles(
  database: Pool | PoolClient,
  organizationId: string,
  customers: readonly string[] | null,
): Promise<readonly MeteredProfile[]> {
  const { rows } = await database.query<ProfileRow>(
    `select profile.customer_id, profile.definition, (
       select max(period_end) from invoice
       where invoice.organization_id = profile.organization_id and invoice.customer_id = profile.customer_id
         and invoice.profile ->> 'system' <> 'stripe_meters'
     ) as until
     from billing_profile as profile
     where profile.organization_id = $1 and profile.definition ->> 'system' = 'stripe_meters'
       and ($2::text[] is null or profile.customer_id = any($2))
     order by profile.customer_id`,
    [organizationId, customers],
  )
  return rows.map((row) => ({
    customer: row.customer_id,
    profile: billingProfileSchema.parse(row.definition),
    invoicedElsewhereUntil: row.until ?? undefined,
  }))
}

/** Up to where a customer was counted. */
export interface MeteredStanding {
  readonly customer: string
  readonly usageSinceMs: number
  readonly untilMs: number
  readonly position: number
  /** Null: never. */
  readonly meteredAtMs: number | null
}

/** Locks customers, with a row for each: those that have none begin at their `sinceMs`. */
export async function lockStandings(
  client: PoolClient,
  organizationId: string,
  customers: readonly { readonly customer: string; readonly sinceMs: number }[],
): Promise<ReadonlyMap<string, MeteredStanding>> {
  const names = customers.map(({ customer }) => customer)
  await client.query(
    `insert into stripe_metered_customer (organization_id, customer_id, usage_since, metered_until, position)
     select $1, customer_id, since, since, 0
     from unnest($2::text[], $3::timestamptz[]) as given (customer_id, since)
     order by customer_id
     on conflict do nothing`,
    [organizationId, names, customers.map(({ sinceMs }) => new Date(sinceMs))],
  )
  const { rows } = await client.query<{
    customer_id: string
    usage_since: Date
    metered_until: Date
    position: string
    metered_at: Date | null
  }>(
    `select customer_id, usage_since, metered_until, position::text, metered_at
     from stripe_metered_customer
     where organization_id = $1 and customer_id = any($2)
     order by customer_id
     for update`,
    [organizationId, names],
  )
  return new Map(
    rows.map((row) => [
      row.customer_id,
      {
        customer: row.customer_id,
        usageSinceMs: row.usage_since.getTime(),
        untilMs: row.metered_until.getTime(),
        position: Number(row.position),
        meteredAtMs: row.metered_at?.getTime() ?? null,
      },
    ]),
  )
}

/** Writes up to where customers were counted. */
export async function writeStandings(
  client: PoolClient,
  organizationId: string,
  standings: readonly MeteredStanding[],
): Promise<void> {
  await client.query(
    `update stripe_metered_customer as metered
     set usage_since = given.usage_since, metered_until = given.metered_until, position = given.position,
       metered_at = given.metered_at
     from unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::timestamptz[])
       as given (customer_id, usage_since, metered_until, position, metered_at)
     where metered.organization_id = $1 and metered.customer_id = given.customer_id`,
    [
      organizationId,
      standings.map(({ customer }) => customer),
      standings.map(({ usageSinceMs }) => new Date(usageSinceMs)),
      standings.map(({ untilMs }) => new Date(untilMs)),
      standings.map(({ position }) => position),
      standings.map(({ meteredAtMs }) => (meteredAtMs === null ? null : new Date(meteredAtMs))),
    ],
  )
}

export interface MeterTotal {
  readonly customer: string
  readonly eventName: string
  readonly value: string
  readonly counted: Decimal
  readonly sent: Decimal
}

/** All that was counted for customers. */
export async function readTotals(
  client: PoolClient,
  organizationId: string,
  customers: readonly string[],
): Promise<readonly MeterTotal[]> {
  const { rows } = await client.query<{
    customer_id: string
    event_name: string
    value: string
    counted: string
    sent: string
  }>(
    `select customer_id, event_name, value, counted::text, sent::text
     from stripe_meter_total where organization_id = $1 and customer_id = any($2)`,
    [organizationId, customers],
  )
  return rows.map((row) => ({
    customer: row.customer_id,
    eventName: row.event_name,
    value: row.value,
    counted: decimal(row.counted),
    sent: decimal(row.sent),
  }))
}

/** Writes totals, over those before. */
export async function writeTotals(
  client: PoolClient,
  organizationId: string,
  totals: readonly MeterTotal[],
): Promise<void> {
  await client.query(
    `insert into stripe_meter_total (organization_id, customer_id, event_name, value, counted, sent)
     select $1, * from unnest($2::text[], $3::text[], $4::text[], $5::numeric[], $6::numeric[])
     on conflict (organization_id, customer_id, event_name, value) do update
     set counted = excluded.counted, sent = excluded.sent`,
    [
      organizationId,
      totals.map(({ customer }) => customer),
      totals.map(({ eventName }) => eventName),
      totals.map(({ value }) => value),
      totals.map(({ counted }) => counted.toFixed()),
      totals.map(({ sent }) => sent.toFixed()),
    ],
  )
}

/** By `meterKey`, for each of these days the last minute of it that an event stands at, UTC milliseconds. */
export async function readLastMinutes(
  client: PoolClient,
  organizationId: string,
  customers: readonly string[],
  days: readonly string[],
): Promise<ReadonlyMap<string, ReadonlyMap<string, number>>> {
  const { rows } = await client.query<{
    customer_id: string
    event_name: string
    day: string
    last_at: Date
  }>(
    `select customer_id, event_name, day::text, last_at from stripe_meter_day
     where organization_id = $1 and customer_id = any($2) and day = any($3::date[])`,
    [organizationId, customers, days],
  )
  const found = new Map<string, Map<string, number>>()
  for (const { customer_id, event_name, day, last_at } of rows) {
    const key = meterKey(customer_id, event_name)
    const known = found.get(key)
    if (known === undefined) found.set(key, new Map([[day, last_at.getTime()]]))
    else known.set(day, last_at.getTime())
  }
  return found
}

export function meterKey(customer: string, eventName: string): string {
  return JSON.stringify([customer, eventName])
}

/** Notes events that are planned: at most one for a customer, meter and day. */
export async function noteEvents(
  client: PoolClient,
  organizationId: string,
  events: readonly {
    readonly customer: string
    readonly eventName: string
    readonly atMs: number
    readonly value: string
  }[],
): Promise<void> {
  await client.query(
    `insert into stripe_meter_day as known (organization_id, customer_id, event_name, day, last_at, sent)
     select $1, customer_id, event_name, (at at time zone 'UTC')::date, at, value
     from unnest($2::text[], $3::text[], $4::timestamptz[], $5::numeric[])
       as given (customer_id, event_name, at, value)
     on conflict (organization_id, customer_id, event_name, day) do update
     set last_at = excluded.last_at, sent = known.sent + excluded.sent`,
    [
      organizationId,
      events.map(({ customer }) => customer),
      events.map(({ eventName }) => eventName),
      events.map(({ atMs }) => new Date(atMs)),
      events.map(({ value }) => value),
    ],
  )
}

/** What a customer's meter was told so far. */
export interface ToldMeter {
  readonly customer: string
  readonly eventName: string
  readonly value: string
  readonly counted: string
  readonly planned: string
  readonly waitingEvents: number
  readonly refusedEvents: number
  readonly meteredUntil: Date
  readonly position: string
}

/** Meters of customers, in the order of customer, event name and value. */
export async function listToldMeters(
  pool: Pool,
  request: {
    readonly organizationId: string
    readonly customer: string | undefined
    readonly limit: number
    readonly after: readonly [customer: string, eventName: string, value: string] | undefined
  },
): Promise<readonly ToldMeter[]> {
  const { rows } = await pool.query<{
    customer_id: string
    event_name: string
    value: string
    counted: string
    sent: string
    waiting: string
    refused: string
    metered_until: Date
    position: string
  }>(
    `select total.customer_id, total.event_name, total.value, trim_scale(total.counted)::text as counted,
       total.sent::text, metered.metered_until, metered.position::text, undone.waiting::text, undone.refused::text
     from stripe_meter_total as total
     join stripe_metered_customer as metered using (organization_id, customer_id)
     cross join lateral (
       select count(*) filter (where status = 'waiting') as waiting,
         count(*) filter (where status = 'refused') as refused
       from outbox_step as step
       where step.organization_id = total.organization_id and step.system = 'stripe' and step.status <> 'done'
         and step.stream = 'meters:' || total.customer_id and step.payload ->> 'event_name' = total.event_name
     ) as undone
     where total.organization_id = $1 and ($2::text is null or total.customer_id = $2)
       and ($3::text is null
         or (total.customer_id, total.event_name, total.value) > ($3, $4::text, $5::text))
     order by total.customer_id, total.event_name, total.value
     limit $6`,
    [
      request.organizationId,
      request.customer ?? null,
      ...(request.after ?? [null, null, null]),
      request.limit,
    ],
  )
  return rows.map((row) => ({
    customer: row.customer_id,
    eventName: row.event_name,
    value: row.value,
    counted: row.counted,
    planned: row.sent,
    waitingEvents: Number(row.waiting),
    refusedEvents: Number(row.refused),
    meteredUntil: row.metered_until,
    position: row.position,
  }))
}
