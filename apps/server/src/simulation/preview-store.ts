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
export type TraitColumn = (typeof ROLLED_UP_COLUMNS)[number] | 'response_model'

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

// A reversal takes back what it names: its amounts count negatively.
const signed = (amount: string) =>
  `case event.entry_kind when 'reversal' then -(${amount}) else ${amount} end`
const LIST_COST = 'event.list_cost_usd + coalesce(late.list_cost_usd, 0)'
const SELL_COST = 'event.sell_cost_usd + coalesce(late.sell_cost_usd, 0)'
const REQUESTS = `coalesce((event.meters ->> 'requests')::numeric, 1)`
// What failed costs nothing, by no rule, and what has no price is not sold before it has one.
const IS_SOLD = `(event.status <> 'error' and (late.event_id is not null or event.price_version_id is not null))`
const LINES = `case when late.lines is null then event.lines else event.lines || late.lines end`
const SAYS_REQUESTS = `(coalesce(event.meters ? 'requests', false) or (${LINES}) @> '[{"meter": "requests"}]')`
const EVENTS = `
  usage_event as event
  left join late_rating as late
    on late.organization_id = $1 and late.ts >= $2 and late.ts < $3
    and late.organization_id = event.organization_id and late.event_id = event.event_id`
const IN_RANGE = `event.organization_id = $1 and event.ts >= $2 and event.ts < $3`

/** Which sums are needed beside those of money: each costs time. */
export interface AskedSums {
  readonly floors: readonly Floor[]
  readonly requests: boolean
  readonly withoutRequests: boolean
}

/** Sums a slice by traits. What was not asked for is 0. */
export async function sumUsage(
  client: PoolClient,
  slice: Slice,
  traits: readonly Trait[],
  { floors, ...asked }: AskedSums,
): Promise<readonly UsageGroup[]> {
  const { select, groupBy, key, parameters } = groupSql([`(event.status = 'error')`], traits, 4)
  const first = 4 + parameters.length
  const floored = floors.map((_, index) => {
    const [factor, minimum] = [first + 2 * index, first + 2 * index + 1]
    const cost = `greatest($${factor}::numeric * (${LIST_COST}), $${minimum}::numeric * ${REQUESTS})`
    return `coalesce(sum(${signed(cost)}) filter (where ${IS_SOLD}), 0)::text`
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
         sum(${signed('1')})::int as events, sum(${signed(LIST_COST)}) as list, sum(${signed(SELL_COST)}) as sell,
         ${asked.requests ? `coalesce(sum(${signed(REQUESTS)}) filter (where ${IS_SOLD}), 0)` : '0'} as requests,
         ${asked.withoutRequests ? `coalesce(sum(${signed('1')}) filter (where ${IS_SOLD} and not ${SAYS_REQUESTS}), 0)::int` : '0'} as without_requests,
         array[${floored.join(', ')}]::text[] as floored
       from ${EVENTS}
       where ${IN_RANGE}
       group by ${groupBy}
     )
     select ${key} as key, events, list::text, sell::text, requests::text, without_requests, floored
     from usage`,
    [...rangeOf(slice), ...parameters, ...floors.flatMap(({ factor, minimum }) => [factor, minimum])],
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
 * Sums up each meter of a slice by traits; failed calls and what has no price are left out.
 *
 * @returns by `traitKey` of the traits' values
 */
export async function sumMeters(
  client: PoolClient,
  slice: Slice,
  traits: readonly Trait[],
): Promise<ReadonlyMap<string, readonly MeterSum[]>> {
  const { select, groupBy, key, parameters } = groupSql([`line ->> 'meter'`], traits, 4)
  const sum = (name: string) => `sum(${signed(`(line ->> '${name}')::numeric`)})`
  const { rows } = await client.query<{ key: string; quantity: string; cost_usd: string }>(
    `with used as (
       select ${select}, ${sum('quantity')} as quantity, ${sum('cost_usd')} as cost_usd
       from ${EVENTS}
       cross join lateral jsonb_array_elements(${LINES}) as line
       where ${IN_RANGE} and ${IS_SOLD} and line ->> 'cost_usd' is not null
       group by ${groupBy}
     )
     select ${key} as key, quantity::text, cost_usd::text
     from used`,
    [...rangeOf(slice), ...parameters],
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
  slice: Slice,
  traits: readonly Trait[],
  chosen: readonly ChosenRule[],
): Promise<readonly string[]> {
  const rules = [...new Set(chosen.map(({ rule }) => rule))]
  const indexOf = new Map(rules.map((rule, index) => [rule, index]))
  const { expressions, parameters } = traitsSql(traits, 11 + traits.length)
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
       from unnest(${['$4::int[]', '$5::int[]', ...names.map((_, index) => `$${11 + index}::text[]`)].join(', ')})
         as chosen (${['position', 'rule', ...names].join(', ')})
     ), rule as (
       select *
       from unnest($6::int[], $7::numeric[], $8::numeric[], $9::jsonb[], $10::numeric[])
         as rule (rule, factor, per_request, prices, minimum)
     ), sold as (
       select chosen.position, event.entry_kind, rule.minimum * ${REQUESTS} as least,
         case
           when rule.factor is not null then rule.factor * (${LIST_COST})
           when rule.per_request is not null then rule.per_request * ${REQUESTS}
           else (
             select sum(coalesce((rule.prices ->> line.meter)::numeric * line.quantity, line.cost_usd))
               + case
                   when event.meters ? 'requests' or bool_or(line.meter = 'requests') then 0
                   else coalesce((rule.prices ->> 'requests')::numeric, 0)
                 end
             from jsonb_to_recordset(${LINES})
               as line (meter text, quantity numeric, cost_usd numeric)
             where line.cost_usd is not null
           )
         end as cost_usd
       from ${EVENTS}
       join chosen on ${['true', ...isAlike].join(' and ')}
       join rule on rule.rule = chosen.rule
       where ${IN_RANGE} and ${IS_SOLD}
     )
     select position,
       sum(case entry_kind when 'reversal' then -greatest(cost_usd, least) else greatest(cost_usd, least) end)::text
         as sell_cost_usd
     from sold
     group by position`,
    [
      ...rangeOf(slice),
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

function rangeOf({ organizationId, startMs, endMs }: Slice): unknown[] {
  return [organizationId, new Date(startMs), new Date(endMs)]
}

/** What is grouped by: some expressions, then the traits; and the groups' values as JSON text. */
function groupSql(own: readonly string[], traits: readonly Trait[], from: number) {
  const { expressions, parameters } = traitsSql(traits, from)
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
