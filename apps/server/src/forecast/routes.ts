import {
  type BudgetScope,
  decimal,
  forecastUntil,
  formatInstant,
  HOUR_MS,
  halfAt,
  hourHalf80,
  type KnownForecast,
  offsetMinutes,
  periodAt,
  projectBudget,
  scopeOfText,
  scopeText,
  spentAnd,
} from '@tokentally/core'
import { z } from 'zod'
import { findBudget, listBudgets, standingsOf } from '../budgets/index.ts'
import type { App } from '../http/app.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { aggregate, dimensionOf, zoneOf } from '../reports/index.ts'
import { type Basis, refreshHistory } from './history.ts'
import { HORIZON_DAYS, type MadeForecast, type MakeDependencies, makeForecast, sum } from './make.ts'
import { methodSchema, readAccuracy } from './store.ts'

const DAY_MS = 24 * HOUR_MS
const TAIL_DAYS = 28
const TAIL_HOURS = 48

const scopeParameter = z
  .string()
  .min(1)
  .max(600)
  .default('organization')
  .describe('`organization`, DIMENSION:VALUE such as `customer:acme` or `team:growth`, or `budget:ID`.')
const basisParameter = z
  .enum(['list', 'sell'])
  .optional()
  .describe('Which costs; default sell, or what the budget counts.')

const estimate = z.number()
const interval = { lo80: estimate, hi80: estimate, lo95: estimate, hi95: estimate }
const money = z.string()
const forecastJson = z.object({
  scope: z.string(),
  basis: z.enum(['list', 'sell']),
  currency: z.literal('USD'),
  starts_at: z.string().describe('The first hour that is forecast.'),
  method: methodSchema,
  why: z.string(),
  contest: z
    .array(z.object({ method: methodSchema, error: z.number().nullable() }))
    .describe(
      'Weighted absolute percentage errors of sums over one to four weeks, in the back-test on this series.',
    ),
  history_hours: z.number().int(),
  history: z
    .array(z.object({ bucket: z.string(), spent: estimate }))
    .describe('The last 28 days, or 48 hours.'),
  points: z
    .array(z.object({ bucket: z.string(), mean: estimate, ...interval }))
    .describe('The first and the last may be parts of a day.'),
  total: z
    .object({ end: z.string(), mean: estimate, ...interval })
    .describe('The sum over the horizon. Its interval is not the sum of those of the points.'),
  month_end: z.object({
    start: z.string(),
    end: z.string(),
    spent: money.describe('So far; exact.'),
    mean: money.describe('Spent so far, and what is forecast, in cents.'),
    lo80: money,
    hi80: money,
    lo95: money,
    hi95: money,
  }),
  budgets: z
    .array(
      z.object({
        budget_id: z.string(),
        budget_name: z.string(),
        period: z.object({ start: z.string(), end: z.string() }),
        limit: money,
        spent: money,
        end: money.describe("Expected at the period's end."),
        end_lo95: money,
        end_hi95: money,
        crossed_at: z
          .string()
          .nullable()
          .describe('When the limit is expected to be reached; null: not in this period, or it is.'),
      }),
    )
    .describe('The budgets of this scope and basis.'),
})

const accuracyJson = z.object({
  scope: z.string(),
  basis: z.enum(['list', 'sell']),
  targets: z.array(
    z.object({
      target: z
        .enum(['day', 'week', 'month_end'])
        .describe('The next 24 hours, the next 7 days, or the rest of the month.'),
      scored: z.number().int(),
      waiting: z.number().int().describe('Forecasts whose truth is not known yet.'),
      weighted_error: z.number().nullable().describe('All absolute errors by all that was spent.'),
      naive_weighted_error: z
        .number()
        .nullable()
        .describe('The same of the seasonal-naive baseline, on the same spans.'),
      bias: z
        .number()
        .nullable()
        .describe('Forecast less truth, by what was spent: above zero forecasts too much.'),
      coverage_80: z.number().nullable().describe('Share of truths inside of the 80 % interval.'),
      coverage_95: z.number().nullable(),
    }),
  ),
})

/** Forecasts and how good they were. */
export function registerForecastRoutes(app: App, dependencies: MakeDependencies): void {
  const { pool, now } = dependencies
  app.get(
    '/api/v1/forecast',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['forecast'],
        summary: 'What will be spent, with intervals',
        description:
          'Made now, from the hours until now. Estimates are numbers; what is exact is a decimal string.',
        querystring: z.strictObject({
          scope: scopeParameter,
          horizon: z
            .string()
            .regex(
              /^([1-9]\d?d|[1-9]\d{0,3}h|month_end)$/,
              `must be days (30d), hours (48h) or month_end; at most ${HORIZON_DAYS}d`,
            )
            .default('30d'),
          granularity: z.enum(['hour', 'day']).default('day'),
          timezone: z.string().max(64).optional().describe("IANA name; default UTC, or the budget's."),
          basis: basisParameter,
        }),
        response: { 200: forecastJson, 400: problemSchema, 404: problemSchema, 503: problemSchema },
      },
    },
    async ({ organizationId, query }) => {
      const subject = await subjectOf(dependencies, organizationId, query)
      const timeZone = zoneOf(query.timezone ?? subject.timeZone)
      if (timeZone === undefined) throw invalid('timezone', 'is no IANA time zone, such as Europe/Paris')
      const nowMs = now().getTime()
      await refreshHistory(pool, organizationId, [subject.scope], nowMs)
      const made = await makeForecast(dependencies, organizationId, { ...subject, timeZone })
      const month = periodAt('month', timeZone, nowMs)
      if (month === undefined) throw new Error('no month holds the present')
      const hours = horizonHours(query.horizon, made.startMs, month.endMs)
      return {
        scope: made.scope,
        basis: made.basis,
        currency: 'USD' as const,
        starts_at: formatInstant(made.startMs, timeZone),
        method: made.forecast.method,
        why: made.forecast.why,
        contest: [...made.forecast.contest],
        history_hours: made.forecast.historyHours,
        ...pointsOf(made, hours, query.granularity, timeZone),
        month_end: await monthEndOf(dependencies, organizationId, subject, made, month, timeZone),
        budgets: await budgetsOf(dependencies, organizationId, subject, made),
      }
    },
  )

  app.get(
    '/api/v1/forecast/accuracy',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['forecast'],
        summary: 'How good forecasts were',
        description: 'Of the forecasts of the last 100 days, each scored a day after its span ended.',
        querystring: z.strictObject({ scope: scopeParameter, basis: basisParameter }),
        response: { 200: accuracyJson, 400: problemSchema, 404: problemSchema },
      },
    },
    async ({ organizationId, query }) => {
      const { scope, basis } = await subjectOf(dependencies, organizationId, query)
      const rows = await readAccuracy(pool, { organizationId, scope: scopeText(scope), basis })
      const share = (part: number, whole: number) => (whole > 0 ? Number((part / whole).toFixed(6)) : null)
      return {
        scope: scopeText(scope),
        basis,
        targets: (['day', 'week', 'month_end'] as const).map((target) => {
          const found = rows.find((row) => row.target === target)
          const [scored, actual] = [found?.scored ?? 0, found?.actualUsd ?? 0]
          return {
            target,
            scored,
            waiting: found?.waiting ?? 0,
            weighted_error: share(found?.wrongUsd ?? 0, actual),
            naive_weighted_error: share(found?.naiveWrongUsd ?? 0, actual),
            bias: share(found?.biasUsd ?? 0, actual),
            coverage_80: share(found?.inside80 ?? 0, scored),
            coverage_95: share(found?.inside95 ?? 0, scored),
          }
        }),
      }
    },
  )
}

interface AskedSubject {
  readonly scope: BudgetScope
  readonly basis: Basis
  readonly timeZone: string
}

/** @throws {Problem} when the scope cannot be read, or the budget is none */
async function subjectOf(
  { pool }: MakeDependencies,
  organizationId: string,
  query: { readonly scope: string; readonly basis?: Basis | undefined },
): Promise<AskedSubject> {
  if (!query.scope.startsWith('budget:')) {
    const scope = scopeOfText(query.scope)
    if (scope === undefined || scope.value === '*' || query.scope.includes('\0'))
      throw invalid('scope', 'must be organization, DIMENSION:VALUE such as customer:acme, or budget:ID')
    return { scope, basis: query.basis ?? 'sell', timeZone: 'UTC' }
  }
  const id = query.scope.slice('budget:'.length)
  const budget = z.uuid().safeParse(id).success ? await findBudget(pool, organizationId, id) : undefined
  if (budget === undefined) throw new Problem({ code: 'not-found', detail: `There is no budget ${id}.` })
  const { scope, basis, timeZone } = budget.definition
  if (scope.value === '*')
    throw invalid('scope', `names a budget of each ${scope.dimension}: ask for ${scope.dimension}:VALUE`)
  return { scope, basis: query.basis ?? basis, timeZone }
}

function horizonHours(horizon: string, startMs: number, monthEndMs: number): number {
  const hours =
    horizon === 'month_end'
      ? Math.ceil((monthEndMs - startMs) / HOUR_MS)
      : Number.parseInt(horizon, 10) * (horizon.endsWith('d') ? 24 : 1)
  if (hours > HORIZON_DAYS * 24) throw invalid('horizon', `must be at most ${HORIZON_DAYS}d`)
  return hours
}

/** The tail of the history and the points ahead, by hour or by day of the zone's calendar. */
function pointsOf(made: MadeForecast, hours: number, granularity: 'hour' | 'day', timeZone: string) {
  const { forecast, history, startMs } = made
  const bucketOf = (ms: number) =>
    granularity === 'hour'
      ? formatInstant(ms, timeZone)
      : new Date(ms + offsetMinutes(ms, timeZone) * 60_000).toISOString().slice(0, 10)
  const tail = granularity === 'hour' ? TAIL_HOURS : TAIL_DAYS * 24
  const spent = new Map<string, number>()
  for (let index = Math.max(0, history.length - tail); index < history.length; index++) {
    const bucket = bucketOf(startMs - (history.length - index) * HOUR_MS)
    spent.set(bucket, (spent.get(bucket) ?? 0) + (history[index] ?? 0))
  }
  const buckets = new Map<string, { mean: number; last: number; count: number }>()
  for (let ahead = 0; ahead < hours; ahead++) {
    const bucket = bucketOf(startMs + ahead * HOUR_MS)
    const known = buckets.get(bucket) ?? { mean: 0, last: ahead, count: 0 }
    known.mean += forecast.hours[ahead] ?? 0
    known.last = ahead
    known.count++
    buckets.set(bucket, known)
  }
  const points = [...buckets].map(([bucket, { mean, last, count }]) => {
    const ofDay = halfAt(forecast.days, Math.max(1, (last + 1) / 24))
    // Part of a day scatters less than all of it.
    const part = Math.sqrt(Math.min(1, count / 24))
    const hour95 = forecast.hourHalf95[last] ?? 0
    return {
      bucket,
      ...around(
        mean,
        granularity === 'hour' ? hourHalf80(hour95) : ofDay.half80 * part,
        granularity === 'hour' ? hour95 : ofDay.half95 * part,
      ),
    }
  })
  const { half80, half95 } = halfAt(forecast.sums, hours / 24)
  return {
    history: [...spent].map(([bucket, value]) => ({ bucket, spent: rounded(value) })),
    points,
    total: {
      end: formatInstant(startMs + hours * HOUR_MS, timeZone),
      ...around(sum(forecast.hours.slice(0, hours)), half80, half95),
    },
  }
}

function around(mean: number, half80: number, half95: number) {
  return {
    mean: rounded(mean),
    lo80: rounded(Math.max(0, mean - half80)),
    hi80: rounded(mean + half80),
    lo95: rounded(Math.max(0, mean - half95)),
    hi95: rounded(mean + half95),
  }
}

/** Estimates know nothing of smaller parts. */
function rounded(value: number): number {
  return Number(value.toFixed(6))
}

async function monthEndOf(
  { pool, now }: MakeDependencies,
  organizationId: string,
  { scope, basis }: AskedSubject,
  made: MadeForecast,
  month: { readonly startMs: number; readonly endMs: number },
  timeZone: string,
) {
  const nowMs = now().getTime()
  const reported = scope.value === null ? undefined : dimensionOf(scope.dimension)
  const { totals } = await aggregate(pool, {
    organizationId,
    ...month,
    groupBy: [],
    granularity: undefined,
    timeZone: 'UTC',
    filters:
      reported === undefined || scope.value === null ? [] : [{ dimension: reported, values: [scope.value] }],
    withTotals: true,
  })
  const spent = decimal(basis === 'list' ? totals.list_cost : totals.total_cost)
  const known = knownOf(made)
  const rest = forecastUntil(known, month.endMs) - forecastUntil(known, nowMs)
  const { half80, half95 } = halfAt(made.forecast.sums, (month.endMs - nowMs) / DAY_MS)
  const least = (half: number) => spentAnd(spent, Math.max(0, rest - half))
  return {
    start: formatInstant(month.startMs, timeZone),
    end: formatInstant(month.endMs, timeZone),
    spent: spent.toFixed(),
    mean: spentAnd(spent, rest),
    lo80: least(half80),
    hi80: spentAnd(spent, rest + half80),
    lo95: least(half95),
    hi95: spentAnd(spent, rest + half95),
  }
}

async function budgetsOf(
  { pool, now }: MakeDependencies,
  organizationId: string,
  { scope, basis }: AskedSubject,
  made: MadeForecast,
) {
  const nowMs = now().getTime()
  const budgets = (await listBudgets(pool, organizationId)).filter(
    ({ definition }) =>
      definition.basis === basis &&
      definition.scope.dimension === scope.dimension &&
      (definition.scope.value === scope.value || definition.scope.value === '*'),
  )
  const standings = await standingsOf(pool, organizationId, budgets, nowMs, () => [scope.value ?? ''])
  return standings.flatMap(({ status }) => {
    const projection = projectBudget(status, knownOf(made), nowMs)
    if (projection === undefined) return []
    const { limitReachedMs } = projection
    return [
      {
        budget_id: status.budgetId,
        budget_name: status.budgetName,
        period: {
          start: formatInstant(status.period.startMs, status.timeZone),
          end: formatInstant(status.period.endMs, status.timeZone),
        },
        limit: status.limitUsd,
        spent: status.spentUsd,
        end: projection.endUsd,
        end_lo95: projection.lo95Usd,
        end_hi95: projection.hi95Usd,
        crossed_at:
          limitReachedMs === null
            ? null
            : formatInstant(Math.floor(limitReachedMs / 1000) * 1000, status.timeZone),
      },
    ]
  })
}

function knownOf({ forecast, startMs, days }: MadeForecast): KnownForecast {
  return { method: forecast.method, startMs, days, sums: forecast.sums }
}

function invalid(path: string, message: string): Problem {
  return new Problem({
    code: 'invalid-request',
    detail: 'The query is not valid.',
    errors: [{ path, message }],
  })
}
