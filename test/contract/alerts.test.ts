import { randomUUID } from 'node:crypto'
import { type BudgetStatus, HOUR_MS } from '@tokentally/core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { evaluateAlerts } from '../../apps/server/src/alerts/evaluate-budgets.ts'
import type { FireDependencies } from '../../apps/server/src/alerts/fire.ts'
import { watchFindings } from '../../apps/server/src/alerts/watch-findings.ts'
import { Baselines, watchSpending } from '../../apps/server/src/alerts/watch-spending.ts'
import { rollUp } from '../../apps/server/src/rollups/index.ts'
import { createMetrics } from '../../apps/server/src/telemetry/metrics.ts'
import {
  createTestDatabase,
  type Receiver,
  startReceiver,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'
import { call, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** Alerts: each fires once, is told of once, and can be followed to its end, on a clock that the tests move. */

const DAY_MS = 24 * HOUR_MS
const FIRST_DAY_MS = Date.UTC(2026, 9, 1)
let clockMs = FIRST_DAY_MS
const now = () => new Date(clockMs)

let database: TestDatabase
/** Answers requests on the tests' clock, and runs no jobs: the tests call them. */
let service: TestService
let organizationId: string
let slack: Receiver
/** Every test has a month of its own. */
let month = 0

beforeAll(async () => {
  database = await createTestDatabase()
  const environment = { TOKENTALLY_WEBHOOK_ALLOW: '127.0.0.0/8' }
  service = await startService({ databaseUrl: database.url, roles: 'api', now, environment })
  const { rows } = await database.pool.query<{ id: string }>('select id from organization')
  organizationId = rows[0]?.id ?? ''
  const price = await call(service, '/api/v1/prices', {
    body: { provider: 'acme-llm', model: 'unit', rates: { output_tokens: { price: '1', per: 1000 } } },
  })
  expect(price.status).toBe(201)
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})
beforeEach(async () => {
  slack = await startReceiver()
  clockMs = Date.UTC(2026, 9 + ++month, 10, 12)
  await database.pool.query('delete from notification_channel')
})
afterEach(() => slack.stop())

const alertSchema = z.looseObject({
  id: z.string(),
  kind: z.string(),
  state: z.string(),
  threshold: z.number().nullable(),
  snoozed_until: z.string().nullable(),
  resolved_at: z.string().nullable(),
  details: z.looseObject({}),
})

async function alerts(query = '') {
  const answer = await call(service, `/api/v1/alerts?${query}`)
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return z.object({ alerts: z.array(alertSchema), next_cursor: z.string().nullable() }).parse(answer.json)
}

async function addChannel(fields: object = {}): Promise<string> {
  const body = { kind: 'slack', name: randomUUID(), target: `${slack.url}/services/T0/B0/secret`, ...fields }
  const answer = await call(service, '/api/v1/channels', { body })
  expect([answer.status, answer.text]).toEqual([201, expect.any(String)])
  return z.object({ id: z.string() }).parse(answer.json).id
}

const deliverySchema = z.looseObject({ title: z.string(), cause: z.string(), state: z.string() })
async function deliveries(channelId: string) {
  const answer = await call(service, `/api/v1/channels/${channelId}/deliveries`)
  return z.object({ deliveries: z.array(deliverySchema) }).parse(answer.json).deliveries
}

const firing = (): FireDependencies => ({
  pool: database.pool,
  now,
  publicUrl: undefined,
  metrics: createMetrics(),
  announce: () => undefined,
})

/** A budget of 500 USD for the test's month. */
function status(spentUsd: string, fields: Partial<BudgetStatus> = {}): BudgetStatus {
  const at = new Date(clockMs)
  return {
    organizationId,
    budgetId: `budget-${month}`,
    budgetName: 'engineering-budget',
    scope: { dimension: 'team', value: 'engineering' },
    period: {
      startMs: Date.UTC(at.getUTCFullYear(), at.getUTCMonth()),
      endMs: Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + 1),
    },
    timeZone: 'UTC',
    basis: 'sell',
    limitUsd: '500',
    spentUsd,
    thresholds: [50, 75, 90, 100],
    forecastThresholds: [],
    enforcement: 'notify',
    ...fields,
  }
}

const evaluate = (...statuses: readonly BudgetStatus[]) =>
  evaluateAlerts({ ...firing(), budgetStatuses: async () => statuses })

const ofBudget = () => alerts(`budget_id=budget-${month}`)

describe('a threshold', () => {
  it('fires once however often it is evaluated, also by many at once, and is told of once', async () => {
    const channel = await addChannel()
    await Promise.all(Array.from({ length: 8 }, () => evaluate(status('380'))))
    await evaluate(status('381'))
    expect((await ofBudget()).alerts.map(({ threshold, state }) => [threshold, state])).toEqual(
      expect.arrayContaining([
        [50, 'fired'],
        [75, 'fired'],
      ]),
    )
    expect((await ofBudget()).alerts).toHaveLength(2)
    expect((await deliveries(channel)).map(({ title }) => title)).toEqual([
      'engineering-budget: 75 % reached',
    ])

    clockMs += 1000
    await evaluate(status('450'))
    await evaluate(status('200'))
    await evaluate(status('450'))
    expect((await ofBudget()).alerts).toHaveLength(3)
    expect((await deliveries(channel)).map(({ title }) => title)).toEqual([
      'engineering-budget: 90 % reached',
      'engineering-budget: 75 % reached',
    ])
  })

  it('is another one for another value and another period', async () => {
    const other = { scope: { dimension: 'team', value: 'sales' } } as const
    await evaluate(status('260'), status('260', other))
    expect((await ofBudget()).alerts).toHaveLength(2)
    const next = { startMs: status('0').period.endMs, endMs: status('0').period.endMs + 30 * DAY_MS }
    clockMs = next.startMs + DAY_MS
    await evaluate({ ...status('260', { budgetId: `budget-${month}` }), period: next })
    const { alerts: found } = await ofBudget()
    expect(found.map(({ state }) => state)).toEqual(['fired', 'resolved', 'resolved'])
  })

  it('that was reached in the last moments of a period fires after it', async () => {
    const channel = await addChannel()
    const hour = { startMs: clockMs, endMs: clockMs + HOUR_MS }
    const next = { startMs: hour.endMs, endMs: hour.endMs + HOUR_MS }
    const hourly = async ({ nowMs }: { readonly nowMs: number }) => [
      nowMs < hour.endMs ? status('501', { period: hour }) : status('0', { period: next }),
    ]
    clockMs = hour.endMs + 1000
    const evaluateHourly = (lookBackMs: number) =>
      evaluateAlerts({ ...firing(), budgetStatuses: hourly }, lookBackMs)
    await evaluateHourly(0)
    expect(await deliveries(channel)).toEqual([])
    await evaluateHourly(60_000)
    await evaluateHourly(60_000)
    expect((await ofBudget()).alerts.map(({ state }) => state)).toEqual(new Array(4).fill('resolved'))
    expect(await deliveries(channel)).toHaveLength(1)
  })

  it('tells a channel only what it asked for', async () => {
    const late = await addChannel({ min_threshold: 90 })
    const sales = await addChannel({ scopes: ['team:sales', 'customer:*'] })
    const everyTeam = await addChannel({ scopes: ['team:*'] })
    const findings = await addChannel({ alert_kinds: ['unpriced_usage', 'dead_letters'] })
    const disabled = await addChannel({ enabled: false })
    await evaluate(status('380'))
    const counts = async () =>
      Promise.all(
        [late, sales, everyTeam, findings, disabled].map(async (id) => (await deliveries(id)).length),
      )
    expect(await counts()).toEqual([0, 0, 1, 0, 0])
    await evaluate(status('480'))
    expect(await counts()).toEqual([1, 0, 2, 0, 0])
  })

  it('says what is spent, and extrapolates in a straight line', async () => {
    await evaluate(status('455.1234567'))
    const [alert] = (await ofBudget()).alerts.filter(({ threshold }) => threshold === 90)
    expect(alert?.details).toMatchObject({
      scope: 'team:engineering',
      spent_usd: '455.1234567',
      limit_usd: '500',
      percent: '91',
      forecast: { basis: 'straight_line', end_usd: expect.stringMatching(/^\d+\.\d\d$/) },
    })
  })
})

describe('an alert', () => {
  async function fired(): Promise<string> {
    await evaluate(status('260'))
    return (await ofBudget()).alerts[0]?.id ?? ''
  }
  const snooze = (id: string, until: string) =>
    call(service, `/api/v1/alerts/${id}/snooze`, { body: { until } })
  const at = (afterMs: number) => new Date(clockMs + afterMs).toISOString()

  it('is acknowledged by id or by budget, and a repeat changes nothing', async () => {
    const id = await fired()
    const ack = (body: object) => call(service, '/api/v1/alerts/ack', { body })
    expect((await ack({ alert_ids: [id, randomUUID()] })).json).toEqual({ acknowledged: [id] })
    const first = (await ofBudget()).alerts[0]
    clockMs += 1000
    expect((await ack({ budget_id: `budget-${month}` })).json).toEqual({ acknowledged: [id] })
    expect((await ofBudget()).alerts[0]).toEqual(first)
    expect(first).toMatchObject({ state: 'acknowledged' })
    problemOf(await snooze(id, at(1000)), 409)
    expect(pathsOf(problemOf(await ack({ alert_ids: ['x'] }), 400))).not.toEqual([])
    problemOf(await ack({}), 400)
  })

  it('comes back when a snooze ends, and reminds once', async () => {
    const channel = await addChannel()
    const id = await fired()
    expect((await snooze(id, at(HOUR_MS))).json).toMatchObject({
      state: 'snoozed',
      snoozed_until: at(HOUR_MS),
    })
    await evaluate(status('260'))
    expect((await ofBudget()).alerts[0]).toMatchObject({ state: 'snoozed' })
    clockMs += HOUR_MS
    await Promise.all([evaluate(status('260')), evaluate(status('260'))])
    expect((await ofBudget()).alerts[0]).toMatchObject({ state: 'fired', snoozed_until: null })
    expect((await deliveries(channel)).map(({ title }) => title)).toEqual([
      'Reminder: engineering-budget: 50 % reached',
      'engineering-budget: 50 % reached',
    ])
  })

  it('ends with its period', async () => {
    const id = await fired()
    clockMs = status('0').period.endMs
    await evaluate()
    expect((await call(service, `/api/v1/alerts/${id}`)).json).toMatchObject({
      state: 'resolved',
      resolved_at: now().toISOString(),
    })
    problemOf(await snooze(id, at(1000)), 409)
    expect((await call(service, '/api/v1/alerts/ack', { body: { alert_ids: [id] } })).json).toEqual({
      acknowledged: [],
    })
  })

  it('is put off neither into the past nor for ever', async () => {
    const id = await fired()
    for (const until of [at(0), at(-1000), at(400 * DAY_MS)]) {
      expect(pathsOf(problemOf(await snooze(id, until), 400))).toEqual(['until'])
    }
    problemOf(await snooze(randomUUID(), at(1000)), 404)
  })

  it('belongs to its organization', async () => {
    const stranger = randomUUID()
    await evaluate(status('260', { organizationId: stranger }))
    expect((await ofBudget()).alerts).toEqual([])
    const { rows } = await database.pool.query<{ alert_id: string }>(
      'select alert_id from alert where organization_id = $1',
      [stranger],
    )
    const id = rows[0]?.alert_id ?? ''
    problemOf(await call(service, `/api/v1/alerts/${id}`), 404)
    problemOf(await snooze(id, at(1000)), 404)
  })

  it('is listed by pages, newest first', async () => {
    for (const spent of ['260', '380', '460', '500']) {
      clockMs += 1000
      await evaluate(status(spent))
    }
    const query = `budget_id=budget-${month}&kind=budget_threshold&state=fired&limit=3`
    const first = await alerts(query)
    const second = await alerts(`${query}&cursor=${first.next_cursor}`)
    expect([...first.alerts, ...second.alerts].map(({ threshold }) => threshold)).toEqual([100, 90, 75, 50])
    expect(second.next_cursor).toBeNull()
    expect(pathsOf(problemOf(await call(service, '/api/v1/alerts?cursor=x'), 400))).toEqual(['cursor'])
  })
})

let events = 0
const event = (fields: object) => ({
  event_id: `alerts-${events++}`,
  ts: now().toISOString(),
  provider: 'acme-llm',
  model: 'unit',
  output_tokens: 1,
  ...fields,
})

describe('findings', () => {
  it('are told of once a day and model, together', async () => {
    const channel = await addChannel()
    const sent = await sendUsage(service, [
      event({ model: 'unheard-of' }),
      event({ model: 'unheard-of' }),
      event({ model: 'unknown' }),
      event({ output_tokens: -1 }),
      event({ mismatch: 'output_tokens: 1 is not 2' }),
    ])
    expect(submissionOf(sent)).toMatchObject({ accepted: 4, rejected: [{ index: 3 }] })
    await watchFindings(firing(), organizationId)
    await watchFindings(firing(), organizationId)
    const { rows } = await database.pool.query<{ kind: string; details: object }>(
      'select kind, details from alert where period_start = $1 order by kind, details->>$2',
      [new Date(Math.floor(clockMs / DAY_MS) * DAY_MS), 'model'],
    )
    expect(rows.filter(({ kind }) => kind === 'unpriced_usage').map(({ details }) => details)).toEqual([
      { kind: 'unpriced_usage', provider: 'acme-llm', model: 'unheard-of', events: 2 },
      { kind: 'unpriced_usage', provider: 'acme-llm', model: 'unknown', events: 1 },
    ])
    expect(rows.filter(({ kind }) => kind !== 'unpriced_usage').map(({ details }) => details)).toEqual([
      {
        kind: 'count_mismatch',
        provider: 'acme-llm',
        model: 'unit',
        mismatch: 'output_tokens: 1 is not 2',
        events: 1,
      },
      { kind: 'dead_letters', door: 'usage', letters: 1 },
    ])
    const titles = (await deliveries(channel)).map(({ title }) => title)
    expect(titles.toSorted()).toEqual([
      'Counts of acme-llm unit contradict each other',
      'No price for acme-llm unheard-of',
      'Usage could not be understood',
    ])
    clockMs += DAY_MS
    submissionOf(await sendUsage(service, [event({ model: 'unknown' })]))
    await watchFindings(firing(), organizationId)
    expect(await deliveries(channel)).toHaveLength(titles.length + 1)
  })
})

describe('unusual spending', () => {
  it('is found in the hour that it happens, told of once a day, and by settings', async () => {
    const channel = await addChannel({ alert_kinds: ['spend_anomaly'] })
    const customer = `spender-${month}`
    // Ten dollars an hour, for ten days.
    const nowMs = Math.floor(clockMs / HOUR_MS) * HOUR_MS
    const history = Array.from({ length: 240 }, (_, hour) =>
      event({
        customer_id: customer,
        ts: new Date(nowMs - (hour + 1) * HOUR_MS).toISOString(),
        output_tokens: 10_000,
      }),
    )
    submissionOf(await sendUsage(service, history))
    const watch = async () => {
      await rollUp(database.pool, now)
      await watchSpending({ ...firing(), baselines: new Baselines() }, organizationId)
    }
    await watch()
    expect(await deliveries(channel)).toEqual([])

    submissionOf(await sendUsage(service, [event({ customer_id: customer, output_tokens: 50_000 })]))
    const settings = (body: object) => call(service, '/api/v1/alert-settings', { body })
    expect((await settings({ anomaly_enabled: false })).status).toBe(200)
    await watch()
    expect(await deliveries(channel)).toEqual([])
    expect((await settings({ anomaly_enabled: true, anomaly_min_usd: '100' })).status).toBe(200)
    await watch()
    expect(await deliveries(channel)).toEqual([])
    expect((await settings({ anomaly_min_usd: '5' })).json).toEqual({
      anomaly_enabled: true,
      anomaly_sensitivity: 5,
      anomaly_min_factor: 2,
      anomaly_min_usd: '5',
    })
    await watch()
    await watch()
    expect(await deliveries(channel)).toHaveLength(1)
    const { alerts: found } = await alerts('kind=spend_anomaly')
    expect(found.map(({ details }) => details)).toContainEqual(
      expect.objectContaining({
        scope: `customer:${customer}`,
        spent_usd: '50',
        usual_usd: '10.00',
        method: 'daily',
      }),
    )
    expect(pathsOf(problemOf(await settings({ anomaly_min_usd: '-1' }), 400))).toEqual(['anomaly_min_usd'])
  })
})

describe('the whole way', () => {
  it('from an event over three thresholds to one message that lists the lower ones', async () => {
    const environment = {
      TOKENTALLY_WEBHOOK_ALLOW: '127.0.0.0/8',
      TOKENTALLY_PUBLIC_URL: 'https://tokens.example/',
    }
    const own = await createTestDatabase()
    const whole = await startService({ databaseUrl: own.url, environment })
    try {
      await call(whole, '/api/v1/prices', {
        body: { provider: 'acme-llm', model: 'unit', rates: { output_tokens: { price: '1', per: 1000 } } },
      })
      const target = `${slack.url}/services/T0/B0/secret`
      expect(
        (await call(whole, '/api/v1/channels', { body: { kind: 'slack', name: 'ops', target } })).status,
      ).toBe(201)
      const budget = {
        name: 'daily <b>',
        amount: '10',
        period: 'day',
        scope: { dimension: 'team', value: 'a&b' },
      }
      expect((await call(whole, '/api/v1/budgets', { body: budget })).status).toBe(201)
      const begun = performance.now()
      const spent = { ...event({}), ts: new Date().toISOString(), team_id: 'a&b', output_tokens: 9_250 }
      submissionOf(await sendUsage(whole, [spent]))
      await waitFor(() => slack.received.length > 0, 'Slack is told')
      process.stdout.write(`\nthreshold crossed → Slack: ${Math.round(performance.now() - begun)} ms\n`)
      expect(slack.received[0]?.path).toBe('/services/T0/B0/secret')
      const text = JSON.stringify(slack.received[0]?.json)
      for (const part of [
        'daily &lt;b&gt; has spent 92.5 %',
        'team:a&amp;b',
        '9.25 USD of 10.00 USD',
        '75 % reached',
      ]) {
        expect(text).toContain(part)
      }
      expect(text).toContain('https://tokens.example/api/v1/alerts/')
      const list = z
        .object({ alerts: z.array(alertSchema) })
        .parse((await call(whole, '/api/v1/alerts')).json)
      expect(list.alerts.map(({ threshold }) => threshold).toSorted()).toEqual([50, 75, 90])
      await waitFor(async () => {
        const { rows } = await own.pool.query("select from notification_delivery where state = 'delivered'")
        return rows.length === 1
      }, 'the delivery is noted')
      expect(slack.received).toHaveLength(1)
    } finally {
      await whole.stop()
      await own.drop()
    }
  })
})
