import type { MarkupRuleVersion } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { z } from 'zod'

const decimalString = z.string()
const termsJson = z.object({
  basis: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('list') }),
    z.object({ kind: z.literal('markup'), markup: decimalString }),
    z.object({ kind: z.literal('discount'), discount: decimalString }),
    z.object({
      kind: z.literal('prices'),
      prices: z.record(
        z.string(),
        z.object({
          price: decimalString,
          per: z.union([z.literal(1), z.literal(1000), z.literal(1_000_000)]),
        }),
      ),
    }),
    z.object({ kind: z.literal('price_per_request'), price: decimalString }),
  ]),
  minimum: decimalString.nullable(),
})

const versionRow = z.object({
  id: z.string(),
  organization_id: z.string(),
  rule_id: z.string(),
  version: z.number(),
  entered_at: z.date(),
  effective_from: z.date(),
  effective_until: z.date().nullable(),
  is_removal: z.boolean(),
  provider: z.string().nullable(),
  model: z.string().nullable(),
  customer_id: z.string().nullable(),
  feature: z.string().nullable(),
  tags: z.record(z.string(), z.string()).nullable(),
  terms: termsJson,
})

const LOAD = 'select * from markup_rule order by sequence'

/** Reads the markup rules of all organizations, in order of entry. */
export async function loadMarkupRules(database: Pool | PoolClient): Promise<readonly MarkupRuleVersion[]> {
  const { rows } = await database.query<Record<string, unknown>>(LOAD)
  return rows.map(ruleVersion)
}

const LOAD_OF_ORGANIZATION = `
  select *
  from markup_rule
  where organization_id = $1 and ($2::text is null or rule_id = $2)
  order by sequence`

/** Reads all versions of an organization's rules, or of one of them, in order of entry. */
export async function listMarkupRules(
  database: Pool | PoolClient,
  organizationId: string,
  ruleId?: string,
): Promise<readonly MarkupRuleVersion[]> {
  const { rows } = await database.query<Record<string, unknown>>(LOAD_OF_ORGANIZATION, [
    organizationId,
    ruleId ?? null,
  ])
  return rows.map(ruleVersion)
}

const INSERT = `
  insert into markup_rule
    (id, organization_id, rule_id, version, entered_at, effective_from, effective_until, is_removal, provider, model,
     customer_id, feature, tags, terms)
  select id, organization_id, rule_id, version, entered_at, effective_from, effective_until, is_removal, provider, model,
    customer_id, feature, tags, terms
  from unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[], $8::boolean[],
    $9::text[], $10::text[], $11::text[], $12::text[], $13::jsonb[], $14::jsonb[]
  ) with ordinality as rule (
    id, organization_id, rule_id, version, entered_at, effective_from, effective_until, is_removal, provider, model,
    customer_id, feature, tags, terms, position
  )
  order by position`

/** Enters versions and counts the revision up. To be called within `changePriceBook`. */
export async function insertMarkupRules(
  client: PoolClient,
  versions: readonly MarkupRuleVersion[],
): Promise<void> {
  await client.query(INSERT, [
    versions.map(({ versionId }) => versionId),
    versions.map(({ organizationId }) => organizationId),
    versions.map(({ id }) => id),
    versions.map(({ version }) => version),
    versions.map(({ enteredMs }) => new Date(enteredMs)),
    versions.map(({ fromMs }) => new Date(fromMs)),
    versions.map(({ untilMs }) => (untilMs === null ? null : new Date(untilMs))),
    versions.map(({ isRemoval }) => isRemoval),
    versions.map(({ match }) => match.provider ?? null),
    versions.map(({ match }) => match.model ?? null),
    versions.map(({ match }) => match.customer ?? null),
    versions.map(({ match }) => match.feature ?? null),
    versions.map(({ match }) => (match.tags === undefined ? null : JSON.stringify(match.tags))),
    versions.map(({ terms }) => JSON.stringify(terms)),
  ])
  await client.query('update price_book set revision = revision + 1')
}

function ruleVersion(row: unknown): MarkupRuleVersion {
  const { provider, model, customer_id, feature, tags, ...rest } = versionRow.parse(row)
  return {
    versionId: rest.id,
    organizationId: rest.organization_id,
    id: rest.rule_id,
    version: rest.version,
    enteredMs: rest.entered_at.getTime(),
    fromMs: rest.effective_from.getTime(),
    untilMs: rest.effective_until?.getTime() ?? null,
    isRemoval: rest.is_removal,
    match: {
      ...(provider !== null && { provider }),
      ...(model !== null && { model }),
      ...(customer_id !== null && { customer: customer_id }),
      ...(feature !== null && { feature }),
      ...(tags !== null && { tags: Object.fromEntries(Object.entries(tags).sort(byName)) }),
    },
    terms: sortedTerms(rest.terms),
  }
}

/** jsonb keeps members in an order of its own. */
function sortedTerms(terms: z.output<typeof termsJson>): MarkupRuleVersion['terms'] {
  const { basis } = terms
  if (basis.kind !== 'prices') return terms
  return {
    ...terms,
    basis: {
      kind: 'prices',
      prices: Object.fromEntries(
        Object.entries(basis.prices)
          .map(([meter, { price, per }]) => [meter, { price, per }] as const)
          .sort(byName),
      ),
    },
  }
}

function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1
}
