import type { AlertKind, AlertState, BudgetPeriod } from '@tokentally/core'
import { z } from 'zod'

/** What was known when an alert fired, by kind; stored and shown as it stands here. Money: US dollars, exact. */
const forecast = z.object({
  basis: z
    .enum(['forecast', 'straight_line'])
    .describe(
      'The forecast of the scope; until there is one, an extrapolation: spending goes on as it went.',
    ),
  end_usd: z.string().describe('At the end of the period.'),
  limit_reached_at: z.string().nullable(),
})

/** What alerts about a budget say of it. */
const ofBudget = {
  budget_name: z.string(),
  scope: z.string().describe('Such as `team:engineering`.'),
  time_zone: z.string(),
  basis: z.enum(['list', 'sell']),
  enforcement: z.enum(['notify', 'rate_limit', 'downgrade', 'block']),
  limit_usd: z.string(),
  spent_usd: z.string(),
  percent: z.string().nullable().describe('Spent, of the limit; null for a limit of zero.'),
}

export const alertDetailsSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('budget_threshold'),
    ...ofBudget,
    forecast: forecast.nullable(),
  }),
  z.object({
    kind: z.literal('budget_forecast'),
    ...ofBudget,
    method: z.string().describe('Of the forecast; see `GET /api/v1/forecast`.'),
    end_usd: z.string().describe("Expected at the period's end."),
    end_lo95_usd: z.string().describe('The 95 % interval.'),
    end_hi95_usd: z.string(),
    limit_reached_at: z
      .string()
      .nullable()
      .describe('Null: a threshold below the limit is reached, the limit is not.'),
  }),
  z.object({
    kind: z.literal('spend_anomaly'),
    scope: z.string(),
    hour: z.string().describe('The hour that stands out, UTC.'),
    spent_usd: z.string().describe('In this hour until then, list cost.'),
    usual_usd: z.string().describe('The median of such hours.'),
    limit_usd: z.string().describe('What would have been an anomaly at the least.'),
    method: z.enum(['weekly', 'daily']).describe('Compared with the same hour of the week, or of the day.'),
    history_hours: z.number().int(),
  }),
  z.object({
    kind: z.literal('unpriced_usage'),
    provider: z.string(),
    model: z.string().nullable(),
    events: z.number().int().describe('Of the day until then.'),
  }),
  z.object({
    kind: z.literal('count_mismatch'),
    provider: z.string(),
    model: z.string().nullable(),
    mismatch: z.string(),
    events: z.number().int(),
  }),
  z.object({
    kind: z.literal('dead_letters'),
    door: z.string().describe('`usage` or `traces`.'),
    letters: z.number().int(),
  }),
])

export type AlertDetails = z.infer<typeof alertDetailsSchema>
export type DetailsOf<Kind extends AlertKind> = Extract<AlertDetails, { kind: Kind }>

/** What may become an alert, if it is not one already. */
export interface AlertCandidate {
  /** Within the organization and kind: what it is about. */
  readonly subjectKey: string
  readonly period: BudgetPeriod
  /** Percent; 0 for what has no threshold. */
  readonly threshold: number
  readonly budgetId: string | null
  readonly details: AlertDetails
}

/** Something that somebody should know. */
export interface Alert extends AlertCandidate {
  readonly organizationId: string
  readonly id: string
  readonly state: AlertState
  readonly firedAt: Date
  readonly acknowledgedAt: Date | null
  /** The API key that did. */
  readonly acknowledgedBy: string | null
  readonly snoozedUntil: Date | null
  readonly resolvedAt: Date | null
}

/** The scope that an alert is about, as text; undefined where it is about none. */
export function scopeOf(details: AlertDetails): string | undefined {
  return 'scope' in details ? details.scope : undefined
}

/** Whether an alert is about a threshold of a budget, reached or expected. */
export function isOfBudget({ kind }: Pick<AlertDetails, 'kind'>): boolean {
  return kind === 'budget_threshold' || kind === 'budget_forecast'
}

/** The UTC day of an instant: the period of alerts that have no budget. */
export function dayOf(atMs: number): BudgetPeriod {
  const day = 24 * 3_600_000
  const startMs = Math.floor(atMs / day) * day
  return { startMs, endMs: startMs + day }
}
