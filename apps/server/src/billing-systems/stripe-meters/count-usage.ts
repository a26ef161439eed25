import { appliedRate, type Decimal, decimal, firstCycleStartMs, startOfDayMs, ZERO } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { inTransaction } from '../../database/transaction.ts'
import { readRates, takePosition } from '../../invoicing/index.ts'
import { appendSteps } from '../outbox/outbox-store.ts'
import { findSettings } from '../settings-store.ts'
import { meterEventStep, oldestAcceptedMs } from '../stripe/meter-steps.ts'
import { stripeUnits } from '../stripe/minor-amount.ts'
import { type MeterSetting, REQUESTS, SELL_AMOUNT, stripeSettingsSchema, TOKENS } from '../stripe/settings.ts'
import { ensureMeters } from './ensure-meters.ts'
import {
  listMeteredProfiles,
  lockStandings,
  type MeteredProfile,
  type MeteredStanding,
  type MeterTotal,
  meterKey,
  noteEvents,
  readLastMinutes,
  readTotals,
  writeStandings,
  writeTotals,
} from './meter-store.ts'
import { type DayUsage, usageByDay } from './meter-usage.ts'
import { toldDay, type UncountedDay, wholeEvents } from './whole-events.ts'

/**
 * Counts usage of customers whose profile says `stripe_meters`, and plans what Stripe's meters are told.
 *
 * A run takes the organization's next position and, for each customer, what an invoice would have of a cycle from where the
 * last run ended until now: usage of that time, and late usage that came after the run before. Like such invoices, runs tile
 * time and positions, so each entry is counted once. What was counted is written together with the steps. A run that is
 * killed leaves customers for the next one; of two beside each other, each customer is left to the later position.
 */

const CUSTOMERS_AT_ONCE = 500
const MINUTE_MS = 60_000

export interface CountingDependencies {
  readonly pool: Pool
  readonly now: () => Date
}

export interface CountingResult {
  /** Null: none was taken. */
  readonly position: number | null
  readonly customers: number
  /** Planned for Stripe. */
  readonly events: number
  /** Who was not counted, and why; null: nobody was. */
  readonly skipped: readonly { readonly customer: string | null; readonly reason: string }[]
}

/** Counts an organization's usage. @returns undefined: it has set no meters, or Stripe is disabled */
export async function countUsage(
  { pool, now }: CountingDependencies,
  organizationId: string,
): Promise<CountingResult | undefined> {
  const settings = await findSettings(pool, organizationId, 'stripe')
  if (settings === undefined || !settings.isEnabled) return undefined
  const parsed = stripeSettingsSchema.parse(settings.settings)
  const { meters } = parsed
  if (meters.length === 0) return undefined
  const missing = await ensureMeters(pool, organizationId, parsed, now())
  if (missing.length > 0) {
    const reason = `Stripe does not have these meters yet: ${missing.join(', ')}.`
    return { position: null, customers: 0, events: 0, skipped: [{ customer: null, reason }] }
  }
  const metered = await listMeteredProfiles(pool, organizationId, null)
  if (metered.length === 0) return { position: null, customers: 0, events: 0, skipped: [] }

  const position = await inTransaction(pool, (client) => takePosition(client, organizationId, now()))
  const skipped: CountingResult['skipped'][number][] = []
  let customers = 0
  let events = 0
  for (let from = 0; from < metered.length; from += CUSTOMERS_AT_ONCE) {
    const names = metered.slice(from, from + CUSTOMERS_AT_ONCE).map(({ customer }) => customer)
    const done = await inTransaction(pool, (client) =>
      countCustomers(client, { organizationId, meters, position, now: now() }, names),
    )
    customers += done.customers
    events += done.events
    skipped.push(...done.skipped)
  }
  return { position, customers, events, skipped }
}

interface Run {
  readonly organizationId: string
  readonly meters: readonly MeterSetting[]
  readonly position: number
  readonly now: Date
}

/** A customer in a run, with where it will stand after it. */
interface CountedCustomer extends MeteredProfile {
  readonly stripeCustomerId: string
  /** What it selects begins there; as with invoices, what is earlier is late. */
  readonly startMs: number
  readonly previousPosition: number
  readonly next: MeteredStanding
}

async function countCustomers(
  client: PoolClient,
  run: Run,
  names: readonly string[],
): Promise<Omit<CountingResult, 'position'>> {
  const { organizationId, meters, now } = run
  const { ready, skipped } = await lockCustomers(client, run, names)
  const rates = await readRates(
    client,
    organizationId,
    ready.map(({ customer, profile, startMs, previousPosition, next }) => ({
      customer,
      profile,
      selection: {
        sinceMs: next.usageSinceMs,
        startMs,
        endMs: next.untilMs,
        previousPosition,
        position: run.position,
      },
    })),
  )
  const rateOf = new Map(ready.map(({ customer }, index) => [customer, rates[index]]))
  const usage = await readUsage(client, run, ready)
  const oldestMs = oldestAcceptedMs(now.getTime())
  const days = [...usage.values()].flat().map(({ day }) => toldDay(day, oldestMs))
  const customers = ready.map(({ customer }) => customer)
  const lastMinutes = await readLastMinutes(client, organizationId, customers, [...new Set(days)])
  const totals = new Map(
    (await readTotals(client, organizationId, customers)).map((total) => [totalKey(total), total]),
  )

  const standings: MeteredStanding[] = []
  const newTotals: MeterTotal[] = []
  const noted: { customer: string; eventName: string; atMs: number; value: string }[] = []
  for (const one of ready) {
    const { customer, profile, stripeCustomerId } = one
    const amounts = meters.map((meter) => ({
      meter,
      days: uncountedDays(meter.value, usage.get(customer) ?? [], (sold) => {
        const rate = appliedRate(profile.currency, { ...sold, rateDate: null }, rateOf.get(customer))?.rate
        return rate === undefined
          ? undefined
          : stripeUnits(decimal(sold.sellCostUsd).times(decimal(rate)), profile.currency)
      }),
    }))
    if (amounts.some(({ days }) => days === undefined)) {
      skipped.push({ customer, reason: `No exchange rate from USD to ${profile.currency} is known.` })
      continue
    }
    const planned = amounts.flatMap(({ meter: { event_name: eventName, value }, days }) => {
      const key = { customer, eventName, value }
      const before = totals.get(totalKey(key)) ?? { counted: ZERO, sent: ZERO }
      const lastAt = lastMinutes.get(meterKey(customer, eventName)) ?? new Map<string, number>()
      const { events, counted, sent } = wholeEvents(before, days ?? [], oldestMs, lastAt)
      newTotals.push({ ...key, counted, sent })
      return events.map((event) => ({ customer, eventName, ...event }))
    })
    noted.push(...planned)
    standings.push(one.next)
    await appendSteps(
      client,
      {
        organizationId,
        system: 'stripe',
        stream: `meters:${customer}`,
        about: `position:${run.position}`,
        steps: planned.map((event) =>
          meterEventStep({ ...event, organizationId, stripeCustomerId, position: run.position }),
        ),
      },
      now,
    )
  }
  await writeStandings(client, organizationId, standings)
  await writeTotals(client, organizationId, newTotals)
  await noteEvents(client, organizationId, noted)
  return { customers: standings.length, events: noted.length, skipped }
}

/** Locks those that can be counted. */
async function lockCustomers(
  client: PoolClient,
  { organizationId, position, now }: Run,
  names: readonly string[],
): Promise<{
  readonly ready: readonly CountedCustomer[]
  readonly skipped: CountingResult['skipped'][number][]
}> {
  const nowMs = now.getTime()
  const skipped: CountingResult['skipped'][number][] = []
  const metered = (await listMeteredProfiles(client, organizationId, names)).map((one) => ({
    ...one,
    sinceMs: Math.max(firstCycleStartMs(one.profile), one.invoicedElsewhereUntil?.getTime() ?? 0),
  }))
  const begun = metered.filter(({ sinceMs }) => sinceMs < nowMs)
  const standings = await lockStandings(client, organizationId, begun)
  const ready: CountedCustomer[] = []
  for (const { sinceMs, ...one } of begun) {
    const { customer, profile } = one
    const standing = standings.get(customer)
    if (standing === undefined || standing.position >= position) continue
    const stripeCustomerId = profile.stripe_customer_id ?? undefined
    if (stripeCustomerId === undefined) {
      skipped.push({ customer, reason: 'The billing profile has no stripe_customer_id.' })
      continue
    }
    // Each event has a minute of its own: by as many minutes as there were runs, a day has had its first.
    const { meteredAtMs } = standing
    if (meteredAtMs !== null && Math.floor(meteredAtMs / MINUTE_MS) >= Math.floor(nowMs / MINUTE_MS)) {
      skipped.push({ customer, reason: 'It was counted within this minute.' })
      continue
    }
    const elsewhereMs = one.invoicedElsewhereUntil?.getTime() ?? 0
    const isFirst = standing.position === 0
    const usageSinceMs = isFirst ? sinceMs : Math.max(standing.usageSinceMs, elsewhereMs)
    const startMs = isFirst ? usageSinceMs : Math.max(usageSinceMs, standing.untilMs)
    const untilMs = Math.max(startMs, Math.min(nowMs, endOf(profile)))
    ready.push({
      ...one,
      stripeCustomerId,
      startMs,
      previousPosition: standing.position,
      next: { customer, usageSinceMs, untilMs, position, meteredAtMs: nowMs },
    })
  }
  return { ready, skipped }
}

function endOf({ ends_on, timezone }: MeteredProfile['profile']): number {
  return ends_on === undefined || ends_on === null
    ? Number.POSITIVE_INFINITY
    : startOfDayMs(ends_on, timezone)
}

/** By customer. Customers who select alike, but for when they began, share a pass over the ledger. */
async function readUsage(
  client: PoolClient,
  { organizationId, meters, position }: Run,
  customers: readonly CountedCustomer[],
): Promise<ReadonlyMap<string, readonly DayUsage[]>> {
  const groups = Map.groupBy(customers, ({ startMs, next, previousPosition }) =>
    JSON.stringify([startMs, next.untilMs, previousPosition]),
  )
  const ofWhole = [TOKENS, REQUESTS, SELL_AMOUNT]
  const byMeter = [...new Set(meters.map(({ value }) => value).filter((value) => !ofWhole.includes(value)))]
  const passes = [
    ...(meters.some(({ value }) => ofWhole.includes(value)) ? [null] : []),
    ...(byMeter.length > 0 ? [byMeter] : []),
  ]
  const found: DayUsage[] = []
  for (const group of groups.values()) {
    const [first] = group
    if (first === undefined) continue
    const scope = {
      organizationId,
      customers: group.map(({ customer, next }) => ({ customer, sinceMs: next.usageSinceMs })),
      selection: {
        startMs: first.startMs,
        endMs: first.next.untilMs,
        previousPosition: first.previousPosition,
        position,
      },
    }
    for (const pass of passes) found.push(...(await usageByDay(client, scope, pass)))
  }
  return Map.groupBy(found, ({ customer }) => customer)
}

/**
 * What a meter is to count, by day.
 *
 * @param unitsOf what usage was sold for, in Stripe's smallest unit of the profile's currency; undefined: no rate is known
 * @returns undefined when a rate is missing
 */
function uncountedDays(
  value: string,
  usage: readonly DayUsage[],
  unitsOf: (sold: DayUsage) => Decimal | undefined,
): readonly UncountedDay[] | undefined {
  const days: UncountedDay[] = []
  for (const one of usage) {
    const isOfWhole = value === TOKENS || value === REQUESTS || value === SELL_AMOUNT
    if (isOfWhole ? one.meter !== null : one.meter !== value) continue
    const { day, events, quantity, sellCostUsd } = one
    if (value === SELL_AMOUNT) {
      const amount = decimal(sellCostUsd).eq(ZERO) ? ZERO : unitsOf(one)
      if (amount === undefined) return undefined
      days.push({ day, amount })
    } else days.push({ day, amount: decimal(value === REQUESTS ? events : quantity) })
  }
  return days
}

function totalKey({ customer, eventName, value }: Pick<MeterTotal, 'customer' | 'eventName' | 'value'>) {
  return JSON.stringify([customer, eventName, value])
}
