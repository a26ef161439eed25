import { type Decimal, decimalText, listFactor, type MarkupRule, unitPrices } from '@tokentally/core'
import type { PoolClient } from 'pg'
import { ROLLED_UP_COLUMNS } from '../ledger/index.ts'

/** The ledger of a range, summed up as far as markup rules can tell events apart. */

/** Events that every rule treats alike: the same attribution, model that answered, and tags that rules ask for. */
export interface UsageGroup {
  readonly dimensionSetId: string
  readonly responseModel: string | null
  /** The values of the tags that were asked for, in their order, as JSON. */
  readonly tags: string
  readonly dimensions: Readonly<Record<string, string | null>>
  readonly events: number
  readonly listCostUsd: string
  readonly sellCostUsd: string
}

export interface Slice {
  readonly organizationId: string
  readonly startMs: number
  readonly endMs: number
}

// Reversals take back what they name: their amounts count negatively.
const SIGN = `case event.entry_kind when 'reversal' then -1 else 1 end`
const EVENTS = `
  usage_event as event
  left join late_rating as late
    on late.organization_id = $1 and late.ts >= $2 and late.ts < $3
    and late.organization_id = event.organization_id and late.event_id = event.event_id`
const IN_RANGE = `event.organization_id = $1 and event.ts >= $2 and event.ts < $3`

const GROUPS = `
  with usage as (
    select event.dimension_set_id, event.response_model, TAGS as tags, sum(${SIGN}) as events,
      sum(${SIGN} * (event.list_cost_usd + coalesce(late.list_cost_usd, 0))) as list_cost_usd,
      sum(${SIGN} * (event.sell_cost_usd + coalesce(late.sell_cost_usd, 0))) as sell_cost_usd
    from ${EVENTS}
    where ${IN_RANGE}
    group by 1, 2, 3
  )
  select usage.response_model, usage.tags, usage.events::int, usage.list_cost_usd::text, usage.sell_cost_usd::text,
    dimension.*
  from usage
  join dimension_set as dimension
    on dimension.organization_id = $1 and dimension.dimension_set_id = usage.dimension_set_id`

interface GroupRow {
  readonly response_model: string | null
  readonly tags: string
  readonly events: number
  readonly list_cost_usd: string
  readonly sell_cost_usd: string
  readonly dimension_set_id: string
  readonly [dimension: string]: string | number | null
}

/** Sums a slice by what rules can match on. */
export async function sumUsage(
  client: PoolClient,
  slice: Slice,
  tagNames: readonly string[],
): Promise<readonly UsageGroup[]> {
  const { rows } = await client.query<GroupRow>(GROUPS.replace('TAGS', tagsSql(tagNames, 4)), [
    ...rangeOf(slice),
    ...tagNames,
  ])
  return rows.map((row) => ({
    dimensionSetId: row.dimension_set_id,
    responseModel: row.response_model,
    tags: row.tags,
    dimensions: Object.fromEntries(
      ROLLED_UP_COLUMNS.map((column) => {
        const value = row[column]
        return [column, typeof value === 'string' ? value : null]
      }),
    ),
    events: row.events,
    listCostUsd: row.list_cost_usd,
    sellCostUsd: row.sell_cost_usd,
  }))
}

// Event by event, as `sellPrice` of core does it: what has no priced line costs nothing.
const SALES = `
  with chosen as (
    select *
    from unnest($4::int[], $5::uuid[], $6::text[], $7::text[], $8::int[])
      as chosen (position, dimension_set_id, response_model, tags, rule)
  ), rule as (
    select *
    from unnest($9::int[], $10::numeric[], $11::numeric[], $12::numeric[], $13::numeric[])
      as rule (rule, factor, per_request, per_counted_request, minimum)
  ), price as materialized (
    select * from unnest($14::int[], $15::text[], $16::numeric[]) as price (rule, meter, usd)
  ), sold as (
    select chosen.position, ${SIGN} as sign, rule.minimum,
      coalesce((event.meters ->> 'requests')::numeric, 1) as requests,
      case
        when rule.factor is not null then
          rule.factor * (event.list_cost_usd + coalesce(late.list_cost_usd, 0))
        when rule.per_request is not null then
          rule.per_request * coalesce((event.meters ->> 'requests')::numeric, 1)
        else (
          select sum(coalesce(price.usd * line.quantity, line.cost_usd))
            + case
                when event.meters ? 'requests' or bool_or(line.meter = 'requests') then 0
                else coalesce(rule.per_counted_request, 0)
              end
          from jsonb_to_recordset(event.lines || coalesce(late.lines, '[]'))
            as line (meter text, quantity numeric, cost_usd numeric)
          left join price on price.rule = rule.rule and price.meter = line.meter
          where line.cost_usd is not null
        )
      end as cost_usd
    from ${EVENTS}
    join chosen
      on chosen.dimension_set_id = event.dimension_set_id
      and chosen.response_model is not distinct from event.response_model
      and chosen.tags = TAGS
    join rule on rule.rule = chosen.rule
    where ${IN_RANGE}
      and (late.event_id is not null or (event.rating_status <> 'unpriced' and event.lines <> '[]'))
  )
  select position, sum(sign * greatest(cost_usd, minimum * requests))::text as sell_cost_usd
  from sold
  group by position`

/** Usage with the rule that it would be sold by. */
export interface ChosenRule {
  readonly group: UsageGroup
  readonly rule: MarkupRule
}

/**
 * What usage would be sold for by rules that must look at each event: minima, and prices that are no multiple of
 * the list cost.
 *
 * @returns sell costs in the order of `chosen`
 */
export async function sellEach(
  client: PoolClient,
  slice: Slice,
  tagNames: readonly string[],
  chosen: readonly ChosenRule[],
): Promise<readonly string[]> {
  const rules = [...new Set(chosen.map(({ rule }) => rule))]
  const indexOf = new Map(rules.map((rule, index) => [rule, index]))
  const fixed = rules.flatMap(({ terms: { basis } }, rule) =>
    basis.kind === 'prices'
      ? [...unitPrices(basis.prices)].map(([meter, usd]) => ({ rule, meter, usd }))
      : [],
  )
  const requestPrice = (rule: number) =>
    fixed.find((one) => one.rule === rule && one.meter === 'requests')?.usd
  const { rows } = await client.query<{ position: number; sell_cost_usd: string }>(
    SALES.replace('TAGS', tagsSql(tagNames, 17)),
    [
      ...rangeOf(slice),
      chosen.map((_, position) => position),
      chosen.map(({ group }) => group.dimensionSetId),
      chosen.map(({ group }) => group.responseModel),
      chosen.map(({ group }) => group.tags),
      chosen.map(({ rule }) => indexOf.get(rule)),
      rules.map((_, index) => index),
      rules.map(({ terms }) => textOrNull(listFactor(terms))),
      rules.map(({ terms: { basis } }) => (basis.kind === 'price_per_request' ? basis.price : null)),
      rules.map((_, index) => textOrNull(requestPrice(index))),
      rules.map(({ terms }) => terms.minimum),
      fixed.map(({ rule }) => rule),
      fixed.map(({ meter }) => meter),
      fixed.map(({ usd }) => decimalText(usd)),
      ...tagNames,
    ],
  )
  const sold = new Map(rows.map((row) => [row.position, row.sell_cost_usd]))
  return chosen.map((_, position) => sold.get(position) ?? '0')
}

function rangeOf({ organizationId, startMs, endMs }: Slice): unknown[] {
  return [organizationId, new Date(startMs), new Date(endMs)]
}

/** Names are parameters, from number `from` on. */
function tagsSql(names: readonly string[], from: number): string {
  if (names.length === 0) return `'[]'::text`
  return `jsonb_build_array(${names.map((_, index) => `event.tags ->> $${from + index}::text`).join(', ')})::text`
}

function textOrNull(amount: Decimal | undefined): string | null {
  return amount === undefined ? null : decimalText(amount)
}
