import {
  type Decimal,
  decimal,
  decimalText,
  type FixedPrice,
  listFactor,
  type MarkupRule,
  unitPrices,
} from '@tokentally/core'
import type { PoolClient } from 'pg'
import type { ROLLED_UP_COLUMNS } from '../ledger/index.ts'

/** The ledger of a range, summed up as far as the rules at hand and the groups asked for tell events apart. */

/** A column of `usage_event` that events are told apart by, or one of their tags. */
export type Trait = { readonly column: TraitColumn } | { readonly tag: string }
/** `entry_sale`: of sources that have it, the currency and the rate that an entry was sold at. */
export type TraitColumn = (typeof ROLLED_UP_COLUMNS)[number] | 'response_model' | 'entry_sale'

/** Events that are alike in all traits. */
export interface UsageGroup {
  /** The values of the traits, in their order. */
  readonly values: readonly (string | null)[]
  /** The calls failed: they cost nothing. */
  readonly isFailed: boolean
  readonly events: number
  readonly listCostUsd: string
  readonly sellCostUsd: string
  /** How many requests those events say that they are which have a price. */
  readonly requests: Decimal
  /** Of these, the events that say nothing of requests: each is one. */
  readonly withoutRequests: number
  /** What the events cost with each of the floors asked for, in their order. */
  readonly floored: readonly string[]
}

/** A multiple of the list cost, and the least that a request costs. */
export interface Floor {
  readonly factor: string
  readonly minimum: string
}

export interface Slice {
  readonly organizationId: string
  readonly startMs: number
  readonly endMs: number
}

/**
 * Where usage is read from: a relation `event` with the columns of `usage_event` and, beside them,
 * - `entry_sign`, `entry_events`: what its amounts count, and how many events it is; a reversal takes back what it names
 * - `entry_list_usd`, `entry_sell_usd`: without the sign
 * - `entry_lines`: what was rated; `entry_is_priced`: something was
 * - `entry_has_minimum`: minima of rules and prices of requests count here, once for an event that is in several entries
 */
export interface UsageSource {
  readonly sql: string
  /** Of its parameters, from $1. */
  readonly parameters: readonly unknown[]
}

const REQUESTS = `coalesce((event.meters ->> 'requests')::numeric, 1)`

/** All events of a time, each with its late rating. */
export function sliceSource({ organizationId, startMs, endMs }: Slice): UsageSource {
  return {
    sql: `(
      select event.*, sign.entry_sign, sign.entry_sign as entry_events,
        event.list_cost_usd + coalesce(late.list_cost_usd, 0) as entry_list_usd,
        event.sell_cost_usd + coalesce(late.sell_cost_usd, 0) as entry_sell_usd,
        case when late.lines is null then event.lines else event.lines || late.lines end as entry_lines,
        late.event_id is not null or event.price_version_id is not null as entry_is_priced,
        true as entry_has_minimum
      from usage_event as event
      cross join lateral (select case event.entry_kind when 'reversal' then -1 else 1 end as entry_sign) as sign
      left join late_rating as late
        on late.organization_id = $1 and late.ts >= $2 and late.ts < $3
        and late.organization_id = event.organization_id and late.event_id = event.event_id
      where event.organization_id = $1 and event.ts >= $2 and event.ts < $3
    ) as event`,
    parameters: [organizationId, new Date(startMs), new Date(endMs)],
  }
}

// What failed costs nothing, by no rule, and what has no price is not sold before it has one.
const IS_SOLD = `(event.status <> 'error' and event.entry_is_priced)`
/** Whether what is due for a request is due here, and is not a meter of the event. */
const IS_ONE_REQUEST = `(event.entry_has_minimum and not coalesce(event.meters ? 'requests', false)
  and not event.entry_lines @> '[{"meter": "requests"}]')`

/** Which sums are needed beside those of money: each costs time. */
export interface AskedSums {
  readonly floors: readonly Floor[]
  readonly requests: boolean
  readonly withoutRequests: boolean
}

/** Sums usage by traits. What was not asked for is 0. */
export async function sumUsage(
  client: PoolClient,
  source: UsageSource,
  traits: readonly Trait[],
  { floors, ...asked }: AskedSums,
): Promise<readonly UsageGroup[]> {
  const { select, groupBy, key, parameters } = groupSql([`(event.status = 'error')`], traits, source)
  const first = source.parameters.length + parameters.length + 1
  const floored = floors.map((_, index) => {
    const [factor, minimum] = [first + 2 * index, first + 2 * index + 1]
    const cost = `greatest($${factor}::numeric * event.entry_list_usd, case when event.entry_has_minimum then $${minimum}::numeric * ${REQUESTS} end)`
    return `coalesce(sum(event.entry_sign * ${cost}) filter (where ${IS_SOLD}), 0)::text`
  })
  const { rows } = await client.query<{
    key: string
    events: number
    list: string
    sell: string
    requests: string
    without_requests: number
    floored: string[]
  }>(
    `with usage as (
       select ${select},
         sum(event.entry_events)::int as events, sum(event.entry_sign * event.entry_list_usd) as list,
         sum(event.entry_sign * event.entry_sell_usd) as sell,
         ${asked.requests ? `coalesce(sum(event.entry_sign * ${REQUESTS}) filter (where ${IS_SOLD} and event.entry_has_minimum), 0)` : '0'} as requests,
         ${asked.withoutRequests ? `coalesce(sum(event.entry_sign) filter (where ${IS_SOLD} and ${IS_ONE_REQUEST}), 0)::int` : '0'} as without_requests,
         array[${floored.join(', ')}]::text[] as floored
       from ${source.sql}
       group by ${groupBy}
     )
     select ${key} as key, events, list::text, sell::text, requests::text, without_requests, floored
     from usage`,
    [...source.parameters, ...parameters, ...floors.flatMap(({ factor, minimum }) => [factor, minimum])],
  )
  return rows.map((row) => {
    const [isFailed, ...rest] = keyOf(row.key)
    return {
      values: rest.map((value) => (typeof value === 'string' ? value : null)),
      isFailed: isFailed === true,
      events: row.events,
      listCostUsd: row.list,
      sellCostUsd: row.sell,
      requests: decimal(row.requests),
      withoutRequests: row.without_requests,
      floored: row.floored,
    }
  })
}

/** What a group used of one meter that has a list price. */
export interface MeterSum {
  readonly meter: string
  readonly quantity: Decimal
  readonly listCostUsd: Decimal
}

/**
 * Sums up each meter by traits; failed calls and what has no price are left out.
 *
 * @returns by `traitKey` of the traits' values
 */
export async function sumMeters(
  client: PoolClient,
  source: UsageSource,
  traits: readonly Trait[],
): Promise<ReadonlyMap<string, readonly MeterSum[]>> {
  const { select, groupBy, key, parameters } = groupSql([`line ->> 'meter'`], traits, source)
  const sum = (name: string) => `sum(event.entry_sign * (line ->> '${name}')::numeric)`
  const { rows } = await client.query<{ key: string; quantity: string; cost_usd: string }>(
    `with used as (
       select ${select}, ${sum('quantity')} as quantity, ${sum('cost_usd')} as cost_usd
       from ${source.sql}
       cross join lateral jsonb_array_elements(event.entry_lines) as line
       where ${IS_SOLD} and line ->> 'cost_usd' is not null
       group by ${groupBy}
     )
     select ${key} as key, quantity::text, cost_usd::text
     from used`,
    [...source.parameters, ...parameters],
  )
  const sums = new Map<string, MeterSum[]>()
  for (const row of rows) {
    const [meter, ...values] = keyOf(row.key)
    const sumOf = {
      meter: String(meter),
      quantity: decimal(row.quantity),
      listCostUsd: decimal(row.cost_usd),
    }
    const group = traitKey(values)
    const known = sums.get(group)
    if (known === undefined) sums.set(group, [sumOf])
    else known.push(sumOf)
  }
  return sums
}

/** Tells groups apart by the values of their traits. */
export function traitKey(values: readonly unknown[]): string {
  return JSON.stringify(values)
}

/** Usage with the rule that it would be sold by. */
export interface ChosenRule {
  readonly group: UsageGroup
  readonly rule: MarkupRule
}

/**
 * What usage would be sold for by rules that must look at each event. As `sellPrice` of core does it: what has no
 * priced line costs nothing.
 *
 * @returns sell costs in the order of `chosen`
 */
export async function sellEach(
  client: PoolClient,
  source: UsageSource,
  traits: readonly Trait[],
  chosen: readonly ChosenRule[],
): Promise<readonly string[]> {
  const first = source.parameters.length + 1
  const rules = [...new Set(chosen.map(({ rule }) => rule))]
  const indexOf = new Map(rules.map((rule, index) => [rule, index]))
  const { expressions, parameters } = traitsSql(traits, first + 7 + traits.length)
  const names = expressions.map((_, index) => `trait_${index}`)
  // Equality is what can be hashed, and takes an absent value for a rare one; the second condition knows better.
  const isAlike = expressions.map(
    (expression, index) =>
      `coalesce(${expression}, e'\\x01') = coalesce(chosen.${names[index]}, e'\\x01')
         and ${expression} is not distinct from chosen.${names[index]}`,
  )
  // The planner takes arrays for short and compares each event with each group: minutes instead of a second.
  await client.query('set local enable_nestloop = off')
  const { rows } = await client.query<{ position: number; sell_cost_usd: string }>(
    `with chosen as (
       select *
       from unnest(${[`$${first}::int[]`, `$${first + 1}::int[]`, ...names.map((_, index) => `$${first + 7 + index}::text[]`)].join(', ')})
         as chosen (${['position', 'rule', ...names].join(', ')})
     ), rule as (
       select *
       from unnest($${first + 2}::int[], $${first + 3}::numeric[], $${first + 4}::numeric[], $${first + 5}::jsonb[],
         $${first + 6}::numeric[])
         as rule (rule, factor, per_request, prices, minimum)
     ), sold as (
       select chosen.position, event.entry_sign,
         case when event.entry_has_minimum then rule.minimum * ${REQUESTS} end as least,
         case
           when rule.factor is not null then rule.factor * event.entry_list_usd
           when rule.per_request is not null
             then case when event.entry_has_minimum then rule.per_request * ${REQUESTS} else 0 end
           else (
             select sum(coalesce((rule.prices ->> line.meter)::numeric * line.quantity, line.cost_usd))
               + case when ${IS_ONE_REQUEST} then coalesce((rule.prices ->> 'requests')::numeric, 0) else 0 end
             from jsonb_to_recordset(event.entry_lines)
               as line (meter text, quantity numeric, cost_usd numeric)
             where line.cost_usd is not null
           )
         end as cost_usd
       from ${source.sql}
       join chosen on ${['true', ...isAlike].join(' and ')}
       join rule on rule.rule = chosen.rule
       where ${IS_SOLD}
     )
     select position,
       sum(entry_sign * greatest(cost_usd, least))::text
         as sell_cost_usd
     from sold
     group by position`,
    [
      ...source.parameters,
      chosen.map((_, position) => position),
      chosen.map(({ rule }) => indexOf.get(rule)),
      rules.map((_, index) => index),
      rules.map(({ terms }) => textOrNull(listFactor(terms))),
      rules.map(({ terms: { basis } }) => (basis.kind === 'price_per_request' ? basis.price : null)),
      rules.map(({ terms: { basis } }) => (basis.kind === 'prices' ? pricesJson(basis.prices) : null)),
      rules.map(({ terms }) => terms.minimum),
      ...traits.map((_, index) => chosen.map(({ group }) => group.values[index] ?? null)),
      ...parameters,
    ],
  )
  const sold = new Map(rows.map((row) => [row.position, row.sell_cost_usd]))
  return chosen.map((_, position) => sold.get(position) ?? '0')
}

/** What is grouped by: some expressions, then the traits; and the groups' values as JSON text. */
function groupSql(own: readonly string[], traits: readonly Trait[], source: UsageSource) {
  const { expressions, parameters } = traitsSql(traits, source.parameters.length + 1)
  const all = [...own, ...expressions]
  const names = all.map((_, index) => `group_${index}`)
  return {
    select: all.map((expression, index) => `${expression} as ${names[index]}`).join(', '),
    groupBy: names.map((_, index) => index + 1).join(', '),
    key: `jsonb_build_array(${names.join(', ')})::text`,
    parameters,
  }
}

function keyOf(text: string): readonly unknown[] {
  const values: unknown = JSON.parse(text)
  return Array.isArray(values) ? values : []
}

/** The traits of an event. Names of tags are parameters, from number `from` on. */
function traitsSql(
  traits: readonly Trait[],
  from: number,
): { readonly expressions: readonly string[]; readonly parameters: readonly string[] } {
  const parameters: string[] = []
  const expressions = traits.map((trait) => {
    if ('column' in trait) return `event.${trait.column}`
    parameters.push(trait.tag)
    return `event.tags ->> $${from + parameters.length - 1}::text`
  })
  return { expressions, parameters }
}

/** US dollars for one unit by meter, as text: no digit passes through a float. */
function pricesJson(prices: Readonly<Record<string, FixedPrice>>): string {
  return JSON.stringify(
    Object.fromEntries([...unitPrices(prices)].map(([meter, usd]) => [meter, decimalText(usd)])),
  )
}

function textOrNull(amount: Decimal | undefined): string | null {
  return amount === undefined ? null : decimalText(amount)
}
