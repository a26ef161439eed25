import {
  type Decimal,
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
const EVENTS = `
  usage_event as event
  left join late_rating as late
    on late.organization_id = $1 and late.ts >= $2 and late.ts < $3
    and late.organization_id = event.organization_id and late.event_id = event.event_id`
const IN_RANGE = `event.organization_id = $1 and event.ts >= $2 and event.ts < $3`

/** Sums a slice by traits. */
export async function sumUsage(
  client: PoolClient,
  slice: Slice,
  traits: readonly Trait[],
): Promise<readonly UsageGroup[]> {
  const { expressions: byTrait, parameters } = traitsSql(traits, 4)
  const expressions = [`(event.status = 'error')`, ...byTrait]
  const names = expressions.map((_, index) => `trait_${index}`)
  const { rows } = await client.query<{ key: string; events: number; list: string; sell: string }>(
    `with usage as (
       select ${expressions.map((expression, index) => `${expression} as ${names[index]}`).join(', ')},
         sum(${signed('1')})::int as events, sum(${signed(LIST_COST)}) as list, sum(${signed(SELL_COST)}) as sell
       from ${EVENTS}
       where ${IN_RANGE}
       group by ${names.map((_, index) => index + 1).join(', ')}
     )
     select jsonb_build_array(${names.join(', ')})::text as key, events, list::text, sell::text
     from usage`,
    [...rangeOf(slice), ...parameters],
  )
  return rows.map(({ key, events, list, sell }) => {
    const values: unknown = JSON.parse(key)
    const [isFailed, ...rest]: unknown[] = Array.isArray(values) ? values : []
    return {
      values: rest.map((value) => (typeof value === 'string' ? value : null)),
      isFailed: isFailed === true,
      events,
      listCostUsd: list,
      sellCostUsd: sell,
    }
  })
}

/** Usage with the rule that it would be sold by. */
export interface ChosenRule {
  readonly group: UsageGroup
  readonly rule: MarkupRule
}

/**
 * What usage would be sold for by rules that must look at each event: minima, and prices that are no multiple of
 * the list cost. As `sellPrice` of core does it: what has no priced line costs nothing.
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
             from jsonb_to_recordset(event.lines || coalesce(late.lines, '[]'))
               as line (meter text, quantity numeric, cost_usd numeric)
             where line.cost_usd is not null
           )
         end as cost_usd
       from ${EVENTS}
       join chosen on ${['true', ...isAlike].join(' and ')}
       join rule on rule.rule = chosen.rule
       where ${IN_RANGE}
         and event.status <> 'error' and (late.event_id is not null or event.price_version_id is not null)
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
