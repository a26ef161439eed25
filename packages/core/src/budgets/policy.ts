import { z } from 'zod'
import type { FieldIssue } from '../usage/usage-event.ts'
import type { BudgetScope } from './budget.ts'
import {
  BUDGET_DIMENSIONS,
  type BudgetDefinition,
  budgetDefinitionOf,
  budgetDefinitionSchema,
  isBudgetDimension,
} from './definition.ts'

/**
 * Policies: budgets and preferences of models as people write them in a file (`limit: $500/month`). A policy has
 * a limit, or a preference, or both. docs/reference/policies.md describes the language.
 */

/** Which models a scope should use. */
export interface ModelPreference {
  readonly scope: BudgetScope
  readonly prefer: readonly string[]
  readonly fallback: string | null
}

/** One checked policy. */
export interface Policy {
  readonly name: string
  /** As it was written. */
  readonly source: PolicyJson
  readonly budget: BudgetDefinition | null
  readonly preference: ModelPreference | null
}

export type ParsedPolicies =
  | { readonly ok: true; readonly policies: readonly Policy[] }
  | { readonly ok: false; readonly issues: readonly FieldIssue[] }

const text = z
  .string()
  .min(1)
  .max(512)
  .refine((value) => value.isWellFormed() && !value.includes('\0'), 'must be well-formed Unicode without NUL')
const models = z.array(text).min(1, 'must name at least one model').max(20)

/** The form of one policy, in YAML and in JSON. */
export const policySchema = z.strictObject({
  name: text.max(200).describe('Unique in the file; the name of its budget, too.'),
  scope: text.describe(
    '`organization`, or DIMENSION:VALUE such as team:engineering, team:* or tag.plan:pro.',
  ),
  limit: text.optional().describe('AMOUNT/PERIOD, such as $500/month.'),
  alerts: z
    .array(z.union([z.string(), z.number()]))
    .max(20)
    .optional()
    .describe('Percentages such as 50%.'),
  forecast_alerts: z
    .array(z.union([z.string(), z.number()]))
    .max(20)
    .optional()
    .describe('Percentages that the forecast reaches.'),
  enforcement: z.enum(['notify', 'rate_limit', 'downgrade', 'block']).optional(),
  requests_per_minute: z.number().int().optional(),
  downgrade_to: models.optional(),
  timezone: z.string().optional(),
  basis: z.enum(['list', 'sell']).optional(),
  rollover: z.boolean().optional(),
  starts_at: z.string().optional(),
  prefer: models.optional().describe('Models in order of preference.'),
  fallback: text.optional().describe('The model to fall back to.'),
})

export type PolicyJson = z.output<typeof policySchema>

/** Most policies in one file. */
export const POLICIES_MAX = 1_000

const fileSchema = z.strictObject({
  policies: z.array(z.unknown(), 'must be a list').max(POLICIES_MAX, `at most ${POLICIES_MAX} policies`),
})

/**
 * Reads policies and reports every problem at once, by paths such as `policies.0.limit`.
 *
 * @param input what the YAML or JSON of the file says, untrusted
 */
export function parsePolicies(input: unknown): ParsedPolicies {
  const file = fileSchema.safeParse(input)
  if (!file.success) return { ok: false, issues: issuesOf(file.error, '') }
  const issues: FieldIssue[] = []
  const policies: Policy[] = []
  const names = new Map<string, number>()
  file.data.policies.forEach((entry, index) => {
    const path = `policies.${index}`
    const parsed = policySchema.safeParse(entry)
    const found = parsed.success ? [] : issuesOf(parsed.error, path)
    // What is wrong with one field must not hide what is wrong with another.
    const source = parsed.success ? parsed.data : soundPartOf(entry)
    const { name } = source
    const first = name === '' ? undefined : names.get(name)
    if (first !== undefined)
      found.push({ path: `${path}.name`, message: `is the name of policies.${first}, too` })
    names.set(name, first ?? index)
    const read = readPolicy(source)
    if ('issues' in read) {
      const named = new Set(found.map((issue) => issue.path))
      const further = read.issues.map((issue) => ({ ...issue, path: `${path}.${issue.path}` }))
      found.push(...further.filter((issue) => !named.has(issue.path)))
    } else if (found.length === 0) policies.push(read)
    issues.push(...found)
  })
  return issues.length > 0 ? { ok: false, issues } : { ok: true, policies }
}

/** The fields of a policy that are sound by themselves, with stand-ins for what is required. */
function soundPartOf(entry: unknown): PolicyJson {
  const sound: Record<string, unknown> = { name: '', scope: 'organization' }
  if (typeof entry === 'object' && entry !== null) {
    for (const [field, value] of Object.entries(entry)) {
      const schema = Object.entries(policySchema.shape).find(([name]) => name === field)?.[1]
      if (schema?.safeParse(value).success === true) sound[field] = value
      // A field that is there but wrong is complained about already, not missed as well.
      else if (field === 'limit') sound[field] = '1/month'
      else if (field === 'prefer') sound[field] = ['-']
    }
  }
  const parsed = policySchema.safeParse({ ...sound, name: sound['name'] === '' ? '-' : sound['name'] })
  return parsed.success
    ? { ...parsed.data, name: String(sound['name']) }
    : { name: '', scope: 'organization', limit: '1/month' }
}

function readPolicy(source: PolicyJson): Policy | { readonly issues: readonly FieldIssue[] } {
  const issues: FieldIssue[] = []
  const scope = scopeOfText(source.scope)
  if (scope === undefined) {
    issues.push({
      path: 'scope',
      message: `must be organization or DIMENSION:VALUE with one of ${BUDGET_DIMENSIONS.slice(1).join(', ')}, tag.NAME`,
    })
  }
  if (source.limit === undefined && source.prefer === undefined)
    issues.push({ path: 'name', message: 'has neither a limit nor models to prefer' })
  for (const field of ONLY_WITH_LIMIT) {
    if (source.limit === undefined && source[field] !== undefined)
      issues.push({ path: field, message: 'needs a limit' })
  }
  if (source.prefer === undefined && source.fallback !== undefined)
    issues.push({ path: 'fallback', message: 'needs models to prefer' })
  const budget = source.limit === undefined ? null : readBudget(source, source.limit, scope, issues)
  if (issues.length > 0) return { issues }
  return {
    name: source.name,
    source,
    budget: budget ?? null,
    preference:
      source.prefer === undefined || scope === undefined
        ? null
        : { scope, prefer: source.prefer, fallback: source.fallback ?? null },
  }
}

const ONLY_WITH_LIMIT = [
  'alerts',
  'forecast_alerts',
  'enforcement',
  'requests_per_minute',
  'downgrade_to',
  'timezone',
  'basis',
  'rollover',
  'starts_at',
] as const

/** Reads a scope such as `team:engineering`; the value may contain colons. Undefined: it is none. */
export function scopeOfText(written: string): BudgetScope | undefined {
  if (written === 'organization') return { dimension: 'organization', value: null }
  const colon = written.indexOf(':')
  const dimension = written.slice(0, colon)
  const value = written.slice(colon + 1).trim()
  return colon < 1 || value === '' || dimension === 'organization' || !isBudgetDimension(dimension)
    ? undefined
    : { dimension, value }
}

const LIMIT = /^\$?\s*(\d+(?:[,_]\d{3})*(?:\.\d+)?)\s*(?:USD)?\s*\/\s*([a-z]+)$/i

/** The budget's own schema checks the values; what it complains about is named as it is written here. */
function readBudget(
  source: PolicyJson,
  limit: string,
  scope: BudgetScope | undefined,
  issues: FieldIssue[],
): BudgetDefinition | undefined {
  const [, amount, period] = LIMIT.exec(limit.trim()) ?? []
  if (amount === undefined || period === undefined) {
    issues.push({ path: 'limit', message: 'must be AMOUNT/PERIOD such as $500/month' })
  }
  const thresholds = source.alerts?.map((written, index) => readPercentage('alerts', written, index, issues))
  const expected = source.forecast_alerts?.map((written, index) =>
    readPercentage('forecast_alerts', written, index, issues),
  )
  const parsed = budgetDefinitionSchema.safeParse({
    name: source.name === '' ? '-' : source.name,
    amount: (amount ?? '1').replace(/[,_]/g, ''),
    period: (period ?? 'month').toLowerCase(),
    scope: scope ?? { dimension: 'organization', value: null },
    ...(thresholds !== undefined && { thresholds }),
    ...(expected !== undefined && { forecast_thresholds: expected }),
    enforcement: source.enforcement,
    requests_per_minute: source.requests_per_minute,
    downgrade_to: source.downgrade_to,
    timezone: source.timezone,
    basis: source.basis,
    rollover: source.rollover,
    starts_at: source.starts_at,
  })
  if (parsed.success) return budgetDefinitionOf(parsed.data)
  issues.push(
    ...issuesOf(parsed.error, '').map(({ path, message }) => {
      const [field = '', ...rest] = path.split('.')
      return { path: [WRITTEN_AS[field] ?? field, ...rest].join('.'), message }
    }),
  )
  return undefined
}

/** Fields of a budget that a policy writes under another name. */
const WRITTEN_AS: Readonly<Record<string, string>> = {
  amount: 'limit',
  period: 'limit',
  thresholds: 'alerts',
  forecast_thresholds: 'forecast_alerts',
}

function readPercentage(
  field: 'alerts' | 'forecast_alerts',
  written: string | number,
  index: number,
  issues: FieldIssue[],
): number {
  const [, digits] = /^(\d{1,6}(?:\.\d{1,4})?)\s*%$/.exec(String(written).trim()) ?? []
  if (digits !== undefined) return Number(digits)
  issues.push({ path: `${field}.${index}`, message: 'must be a percentage such as 75%' })
  // A stand-in that none of the other checks complains about.
  return (index + 1) / 1_000
}

function issuesOf(error: z.ZodError, parent: string): FieldIssue[] {
  return error.issues.flatMap((issue) => {
    const path = [...(parent === '' ? [] : [parent]), ...issue.path.map(String)].join('.')
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => ({
        path: path === '' ? key : `${path}.${key}`,
        message: 'is not a known field',
      }))
    }
    return [{ path, message: issue.message }]
  })
}
