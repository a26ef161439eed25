import { HOUR_MS } from '@tokentally/core'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { evaluateAlerts } from '../../apps/server/src/alerts/evaluate-budgets.ts'
import { budgetStatuses } from '../../apps/server/src/budgets/index.ts'
import { ForecastThread, forecastAll } from '../../apps/server/src/forecast/index.ts'
import { rollUp } from '../../apps/server/src/rollups/index.ts'
import { createMetrics } from '../../apps/server/src/telemetry/metrics.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** Forecasts of 56 days of usage, on a clock that the tests move, by the thread that the service has. */

const DAY_MS = 24 * HOUR_MS
const FIRST_DAY_MS = Date.UTC(2026, 9, 1)
const HISTORY_DAYS = 56
/** 26 November, half an hour into an hour. */
let clockMs = FIRST_DAY_MS + HISTORY_DAYS * DAY_MS + HOUR_MS / 2
const now = () => new Date(clockMs)

let database: TestDatabase
let service: TestService
let budgetId: string
const thread = new ForecastThread()
const metrics = createMetrics()

/** A dollar an hour by day, nothing at night, a quarter of it at weekends. */
const dollarsAt = (ms: number) => {
  const at = new Date(ms)
  const isDay = at.getUTCHours() >= 8 && at.getUTCHours() < 20
  return isDay ? (at.getUTCDay() % 6 === 0 ? 0.25 : 1) : 0
}

async function useUntil(fromMs: number, toMs: number): Promise<void> {
  const events = []
  for (let ts = fromMs; ts < toMs; ts += HOUR_MS) {
    if (dollarsAt(ts) === 0) continue
    events.push({
      event_id: `e-${ts}`,
      ts: new Date(ts).toISOString(),
      provider: 'acme-llm',
      model: 'unit',
      customer_id: 'acme',
      tags: { plan: 'pro' },
      output_tokens: dollarsAt(ts) * 1_000,
    })
  }
  const answer = await sendUsage(service, events)
  expect(submissionOf(answer).accepted).toBe(events.length)
  await rollUp(database.pool, now)
}

const runJob = (scopesMax = 10) =>
  forecastAll({ pool: database.pool, now, thread, logger: pino({ level: 'silent' }), metrics, scopesMax })

beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, roles: 'api', now })
  await call(service, '/api/v1/prices', {
    body: { provider: 'acme-llm', model: 'unit', rates: { output_tokens: { price: '1', per: 1000 } } },
  })
  await useUntil(FIRST_DAY_MS, FIRST_DAY_MS + HISTORY_DAYS * DAY_MS)
  const budget = await call(service, '/api/v1/budgets', {
    body: {
      name: 'acme-november',
      amount: '270',
      period: 'month',
      scope: { dimension: 'customer', value: 'acme' },
      thresholds: [100],
      forecast_thresholds: [100],
    },
  })
  expect([budget.status, budget.text]).toEqual([201, expect.any(String)])
  budgetId = z.object({ id: z.string() }).parse(budget.json).id
})
afterAll(async () => {
  await thread.close()
  await service.stop()
  await database.drop()
})

const point = z.object({
  bucket: z.string(),
  mean: z.number(),
  lo80: z.number(),
  hi80: z.number(),
  lo95: z.number(),
  hi95: z.number(),
})
const forecastSchema = z.looseObject({
  scope: z.string(),
  method: z.string(),
  starts_at: z.string(),
  history: z.array(z.object({ bucket: z.string(), spent: z.number() })),
  points: z.array(point),
  total: point.omit({ bucket: true }).extend({ end: z.string() }),
  month_end: z.looseObject({ spent: z.string(), mean: z.string(), end: z.string(), lo95: z.string() }),
  budgets: z.array(
    z.looseObject({ budget_id: z.string(), end: z.string(), crossed_at: z.string().nullable() }),
  ),
})

async function forecastOf(query: string) {
  const answer = await call(service, `/api/v1/forecast?${query}`)
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return forecastSchema.parse(answer.json)
}

describe('a forecast', () => {
  it('knows days, nights and weekends, and is made where none is stored', async () => {
    const { points, starts_at, history, total } = await forecastOf('horizon=7d')
    expect(starts_at).toBe('2026-11-26T00:00:00Z')
    expect(points.map(({ bucket }) => bucket)).toEqual(
      ['26', '27', '28', '29', '30'].map((day) => `2026-11-${day}`).concat(['2026-12-01', '2026-12-02']),
    )
    expect(points.map(({ mean }) => Math.round(mean))).toEqual([12, 12, 3, 3, 12, 12, 12])
    expect(Math.round(total.mean)).toBe(66)
    expect(history).toHaveLength(28)
    const hours = (await forecastOf('horizon=24h&granularity=hour')).points
    expect(hours).toHaveLength(24)
    expect([hours[3]?.mean, Math.round(hours[12]?.mean ?? 0)]).toEqual([0, 1])
    for (const { lo95, lo80, mean, hi80, hi95 } of [...points, ...hours]) {
      expect(lo95 <= lo80 && lo80 <= mean && mean <= hi80 && hi80 <= hi95).toBe(true)
    }
  })

  it('adds what is forecast to what is spent exactly, for the month and its budgets', async () => {
    const { month_end, budgets, method } = await forecastOf('scope=customer:acme&horizon=month_end')
    expect(method).not.toBe('none')
    // 18 weekdays and 7 days of weekends have passed; 3 and 2 are to come.
    const report = await call(service, '/api/v1/costs/aggregate?start=2026-11-01&end=2026-12-01')
    const { totals } = z.object({ totals: z.object({ total_cost: z.string() }) }).parse(report.json)
    expect(month_end.spent).toBe(totals.total_cost)
    expect(month_end.end).toBe('2026-12-01T00:00:00Z')
    expect(Math.round(Number(month_end.mean) - Number(month_end.spent))).toBe(42)
    expect(budgets).toEqual([expect.objectContaining({ budget_id: budgetId, end: month_end.mean })])
    expect(budgets[0]?.crossed_at).toMatch(/^2026-11-30T/)
    const asBudget = await forecastOf(`scope=budget:${budgetId}&horizon=1d`)
    expect(asBudget.scope).toBe('customer:acme')
    expect(asBudget.budgets).toEqual(budgets)
  })

  it('works for what rollups do not keep, and for what nobody knows', async () => {
    expect((await forecastOf('scope=tag.plan:pro&horizon=7d')).total.mean).toBeGreaterThan(60)
    expect((await forecastOf('scope=customer:nobody')).method).toBe('none')
    const { rows } = await database.pool.query(
      "select from forecast_history where scope = 'customer:nobody' union all select from forecast where scope = 'customer:nobody'",
    )
    expect(rows).toEqual([])
  })

  it('says what is wrong with a question', async () => {
    for (const [query, path] of [
      ['scope=nonsense', 'scope'],
      ['scope=team:*', 'scope'],
      ['horizon=99d', 'horizon'],
      ['horizon=soon', 'horizon'],
      ['timezone=Mars/Base', 'timezone'],
    ]) {
      const answer = await call(service, `/api/v1/forecast?${query}`)
      expect([answer.status, pathsOf(problemOf(answer, 400))]).toEqual([400, [path]])
    }
    expect((await call(service, `/api/v1/forecast?scope=budget:${crypto.randomUUID()}`)).status).toBe(404)
  })
})

describe('the hourly job', () => {
  it('forecasts the organization, the biggest values, and budgets; twice is once', async () => {
    await runJob()
    await runJob()
    const { rows } = await database.pool.query<{ scope: string }>(
      "select scope from forecast where scope not like 'tag%' order by scope",
    )
    expect(rows.map(({ scope }) => scope)).toEqual(['customer:acme', 'model:unit', 'organization'])
    const { rows: kept } = await database.pool.query<{ count: string }>(
      "select count(*) from forecast_score where scope = 'organization'",
    )
    expect(kept[0]?.count).toBe('3')
  })

  it('asks the thread and computes nothing itself', async () => {
    const asked: number[] = []
    const refusing = {
      isClosed: false,
      forecast: (question: { readonly hours: Float64Array }) => {
        asked.push(question.hours.length)
        return Promise.reject(new Error('no forecast today'))
      },
    }
    await forecastAll({
      pool: database.pool,
      now,
      thread: refusing,
      logger: pino({ level: 'silent' }),
      metrics,
      scopesMax: 1,
    })
    // Each scope was asked for although those before it failed.
    expect(asked).toEqual([90 * 24, 90 * 24, 90 * 24])
  })

  it('scores when the truth is known, a day later', async () => {
    const accuracy = async () => {
      const answer = await call(service, '/api/v1/forecast/accuracy?scope=organization')
      const { targets } = z
        .object({
          targets: z.array(
            z.looseObject({ target: z.string(), scored: z.number(), weighted_error: z.number().nullable() }),
          ),
        })
        .parse(answer.json)
      return targets
    }
    expect((await accuracy()).map(({ scored }) => scored)).toEqual([0, 0, 0])
    const madeMs = clockMs
    clockMs = madeMs + 2 * DAY_MS
    await useUntil(FIRST_DAY_MS + HISTORY_DAYS * DAY_MS, clockMs - HOUR_MS)
    await runJob()
    const [day, week] = await accuracy()
    expect(day).toMatchObject({ target: 'day', scored: 1, coverage_95: 1 })
    expect(day?.weighted_error).toBeLessThan(0.1)
    expect(week?.scored).toBe(0)
  })
})

describe('a forecast threshold', () => {
  it('fires before the limit is reached, once, with the day', async () => {
    const evaluate = () =>
      evaluateAlerts({
        pool: database.pool,
        now,
        publicUrl: undefined,
        metrics,
        announce: () => undefined,
        budgetStatuses: (request) => budgetStatuses(database.pool, request),
      })
    await evaluate()
    await evaluate()
    const answer = await call(service, `/api/v1/alerts?budget_id=${budgetId}`)
    const { alerts } = z.object({ alerts: z.array(z.looseObject({})) }).parse(answer.json)
    expect(alerts).toEqual([
      expect.objectContaining({
        kind: 'budget_forecast',
        threshold: 100,
        scope: 'customer:acme',
        details: expect.objectContaining({
          limit_usd: '270',
          limit_reached_at: expect.stringMatching(/^2026-11-30T/),
        }),
      }),
    ])
    clockMs = Date.UTC(2026, 11, 1, 0, 1)
    await evaluate()
    const later = await call(service, `/api/v1/alerts?budget_id=${budgetId}&state=resolved`)
    expect(z.object({ alerts: z.array(z.unknown()) }).parse(later.json).alerts).toHaveLength(1)
  })
})
