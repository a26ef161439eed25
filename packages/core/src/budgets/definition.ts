import { z } from 'zod'
import { isTimeZone } from '../calendar/time-zone.ts'
import type { BudgetDimension, BudgetScope, Enforcement } from './budget.ts'
import type { PeriodRule } from './period.ts'

/** What a budget says. Its JSON form is that of the API, and it is stored so. */

/** The largest budget; beyond it somebody mistyped. US dollars. */
export const BUDGET_MAX_USD = 1_000_000_000_000
/** Percentages of the limit that raise an alert, unless others are named. */
export const DEFAULT_THRESHOLDS: readonly number[] = [50, 75, 90, 100]
/** What is left of a scope over its budget under `rate_limit`, unless said otherwise. */
export const DEFAULT_REQUESTS_PER_MINUTE = 10

/** The dimensions that can have a budget, beside `tag.NAME`. */
export const BUDGET_DIMENSIONS = [
  'organization',
  'business_unit',
  'cost_center',
  'team',
  'project',
  'customer',
  'user',
  'feature',
  'agent',
  'environment',
  'provider',
  'model',
  'api_key',
] as const satisfies readonly BudgetDimension[]

/** A budget without its identity. */
export interface BudgetDefinition {
  readonly name: string
  /** US dollars, exact decimal text, above zero. */
  readonly amountUsd: string
  readonly period: PeriodRule
  /** IANA name. */
  readonly timeZone: string
  readonly scope: BudgetScope
  /** Percentages, ascending. */
  readonly thresholds: readonly number[]
  /** Percentages that raise an alert when they are expected by the period's end, ascending. */
  readonly forecastThresholds: readonly number[]
  readonly basis: 'list' | 'sell'
  readonly rollover: boolean
  readonly enforcement: Enforcement
  /** Cheaper models in order of preference; empty unless the enforcement is `downgrade`. */
  readonly downgradeTo: readonly string[]
  /** Only for `rate_limit`. */
  readonly requestsPerMinute: number
  /** Spending before this does not count; null: whole periods count. UTC milliseconds. */
  readonly startsAtMs: number | null
}

const text = z
  .string()
  .min(1)
  .max(512)
  .refine((value) => value.isWellFormed() && !value.includes('\0'), 'must be well-formed Unicode without NUL')

const amount = z
  .string()
  .regex(/^\d{1,15}(\.\d{1,18})?$/, 'must be US dollars as a decimal string such as "500" or "0.25"')
  .refine((value) => !/^[0.]*$/.test(value), 'must be above zero')
  .refine((value) => Number(value) <= BUDGET_MAX_USD, `must be at most ${BUDGET_MAX_USD}`)

const instant = z.iso.datetime({ offset: true, error: 'must be an RFC 3339 instant' })

const dimension = z
  .string()
  .refine(
    isBudgetDimension,
    `is no dimension that can have a budget; known: ${BUDGET_DIMENSIONS.join(', ')}, tag.NAME`,
  )

const scopeSchema = z
  .strictObject({
    dimension: dimension.describe(`One of ${BUDGET_DIMENSIONS.join(', ')}, or tag.NAME.`),
    value: text
      .nullish()
      .describe('`*`: every value has a budget of its own. Absent for `organization`. Of `api_key`: its id.'),
  })
  .superRefine((scope, context) => {
    const hasValue = scope.value !== undefined && scope.value !== null
    if (scope.dimension === 'organization' && hasValue)
      context.addIssue({ code: 'custom', path: ['value'], message: 'must be absent for organization' })
    if (scope.dimension !== 'organization' && !hasValue)
      context.addIssue({
        code: 'custom',
        path: ['value'],
        message: 'is required: a value, or * for a budget of each',
      })
  })

const periodSchema = z.union(
  [
    z.enum(['hour', 'day', 'week', 'month', 'quarter']),
    z
      .strictObject({ start: instant, end: instant })
      .refine(({ start, end }) => Date.parse(start) < Date.parse(end), {
        path: ['end'],
        message: 'must lie after start',
      }),
  ],
  'must be hour, day, week, month, quarter, or a custom range {"start", "end"}',
)

const percentages = z
  .array(z.number().positive('must be above zero').max(1000, 'must be at most 1000 percent'))
  .max(20)
  .refine((list) => new Set(list).size === list.length, 'must differ from each other')

/** The JSON form of a budget, as the API takes it. */
export const budgetDefinitionSchema = z
  .strictObject({
    name: text.max(200).describe('Unique in the organization.'),
    amount: amount.describe('US dollars for one period, a decimal string: exact.'),
    period: periodSchema.describe('A calendar period in `timezone`, or one range of your own.'),
    timezone: z
      .string()
      .max(64)
      .refine(
        (name) => /^[A-Za-z]/.test(name) && isTimeZone(name),
        'is no IANA time zone, such as Europe/Paris',
      )
      .default('UTC'),
    scope: scopeSchema.default({ dimension: 'organization', value: null }),
    thresholds: percentages
      .default([...DEFAULT_THRESHOLDS])
      .describe('Percentages of the limit that raise an alert; may exceed 100.'),
    forecast_thresholds: percentages
      .default([])
      .describe(
        "Percentages of the limit that raise an alert when the forecast reaches them by the period's end.",
      ),
    basis: z.enum(['list', 'sell']).default('sell').describe('Whether list or sell costs count.'),
    rollover: z
      .boolean()
      .default(false)
      .describe(
        'What the period before left unused is added; what that one got from its own predecessor is not.',
      ),
    enforcement: z.enum(['notify', 'rate_limit', 'downgrade', 'block']).default('notify'),
    downgrade_to: z
      .array(text)
      .max(20)
      .nullish()
      .describe('Cheaper models in order of preference; for `downgrade`.'),
    requests_per_minute: z
      .number()
      .int()
      .min(1)
      .max(1_000_000)
      .nullish()
      .describe(`For \`rate_limit\`; ${DEFAULT_REQUESTS_PER_MINUTE} when absent.`),
    starts_at: instant
      .nullish()
      .describe('Spending before this does not count. Absent: whole periods count.'),
  })
  .superRefine((budget, context) => {
    const complain = (path: string, message: string) =>
      context.addIssue({ code: 'custom', path: [path], message })
    const models = budget.downgrade_to ?? []
    if (budget.enforcement === 'downgrade' && models.length === 0)
      complain('downgrade_to', 'must name at least one model for the enforcement downgrade')
    if (budget.enforcement !== 'downgrade' && models.length > 0)
      complain('downgrade_to', 'is for the enforcement downgrade')
    if (new Set(models).size !== models.length) complain('downgrade_to', 'must differ from each other')
    const isRateLimit = budget.enforcement === 'rate_limit'
    if (!isRateLimit && budget.requests_per_minute !== undefined && budget.requests_per_minute !== null)
      complain('requests_per_minute', 'is for the enforcement rate_limit')
    if (budget.rollover && typeof budget.period === 'object')
      complain('rollover', 'must be false for a custom period: there is none before it')
  })

export type BudgetDefinitionJson = z.output<typeof budgetDefinitionSchema>

/** The budget that a checked JSON form describes. */
export function budgetDefinitionOf(json: BudgetDefinitionJson): BudgetDefinition {
  const { period, scope } = json
  return {
    name: json.name,
    amountUsd: json.amount,
    period:
      typeof period === 'string'
        ? period
        : { startMs: Date.parse(period.start), endMs: Date.parse(period.end) },
    timeZone: json.timezone,
    scope: {
      dimension: isBudgetDimension(scope.dimension) ? scope.dimension : 'organization',
      value: scope.value ?? null,
    },
    thresholds: json.thresholds.toSorted((a, b) => a - b),
    forecastThresholds: json.forecast_thresholds.toSorted((a, b) => a - b),
    basis: json.basis,
    rollover: json.rollover,
    enforcement: json.enforcement,
    downgradeTo: json.downgrade_to ?? [],
    requestsPerMinute: json.requests_per_minute ?? DEFAULT_REQUESTS_PER_MINUTE,
    startsAtMs: json.starts_at === undefined || json.starts_at === null ? null : Date.parse(json.starts_at),
  }
}

/** The JSON form of a budget, with everything said that has a default. */
export function budgetDefinitionToJson(definition: BudgetDefinition): BudgetDefinitionJson {
  const { period, enforcement } = definition
  return {
    name: definition.name,
    amount: definition.amountUsd,
    period:
      typeof period === 'string'
        ? period
        : { start: new Date(period.startMs).toISOString(), end: new Date(period.endMs).toISOString() },
    timezone: definition.timeZone,
    scope: { dimension: definition.scope.dimension, value: definition.scope.value },
    thresholds: [...definition.thresholds],
    forecast_thresholds: [...definition.forecastThresholds],
    basis: definition.basis,
    rollover: definition.rollover,
    enforcement,
    downgrade_to: enforcement === 'downgrade' ? [...definition.downgradeTo] : null,
    requests_per_minute: enforcement === 'rate_limit' ? definition.requestsPerMinute : null,
    starts_at: definition.startsAtMs === null ? null : new Date(definition.startsAtMs).toISOString(),
  }
}

/** Whether spending can be limited by it. */
export function isBudgetDimension(name: string): name is BudgetDimension {
  return BUDGET_DIMENSIONS.some((known) => known === name) || /^tag\.[^\0]{1,64}$/.test(name)
}
