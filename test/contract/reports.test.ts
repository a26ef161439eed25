import { randomUUID } from 'node:crypto'
import { type Decimal, decimal, decimalText, ZERO } from '@tokentally/core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import {
  createTestDatabase,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'
import { call, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** Reporting, as CONTRACT.md describes it. */

let database: TestDatabase
let service: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url })
  submissionOf(await sendUsage(service, SEED))
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const START_MS = Date.UTC(2025, 9, 1)
const instant = (ms: number) => new Date(ms).toISOString()
const RANGE = 'start=2025-10-01&end=2025-11-01'

/** An event for each of 600 steps of 73 minutes: a month, every dimension, several models, odd names. */
const SEED = Array.from({ length: 600 }, (_, index) => {
  const [provider, model] = [
    ['openai', 'gpt-4o-mini'],
    ['anthropic', 'claude-sonnet-4-5'],
    ['nobody', 'never-heard-of'],
  ][index % 3] ?? ['', '']
  return {
    event_id: `seed-${index}`,
    ts: instant(START_MS + index * 73 * MINUTE_MS),
    customer_id: ['acme', 'comma, "quoted"', 'new\nline', '=1+1', undefined][index % 5],
    user_id: `user-${index % 7}`,
    team_id: `team-${index % 2}`,
    project_id: `project-${index % 3}`,
    business_unit: `unit-${index % 2}`,
    cost_center: `center-${index % 4}`,
    feature: ['chat', 'search', undefined][index % 3],
    conversation_id: `conversation-${index % 11}`,
    agent: `agent-${index % 2}`,
    environment: ['production', 'staging'][index % 2],
    operation: index % 13 === 0 ? 'embeddings' : 'chat',
    status: index % 17 === 0 ? 'error' : 'ok',
    provider,
    model,
    tags: { plan: index % 2 === 0 ? 'pro' : 'free', 'a.b c': `é${index % 3}` },
    input_tokens: 1000 + index,
    cache_read_tokens: index,
    output_tokens: 10 * index,
    reasoning_tokens: index,
  }
})

const money = z.string().regex(/^\d+(\.\d*[1-9])?$/)
const sumsShape = {
  requests: z.number().int(),
  errors: z.number().int(),
  unpriced_requests: z.number().int(),
  input_tokens: z.number().int(),
  output_tokens: z.number().int(),
  cache_read_tokens: z.number().int(),
  total_tokens: z.number().int(),
  list_cost: money,
  total_cost: money,
  avg_cost_per_request: money,
}
const aggregateSchema = z.object({
  period: z.object({ start: z.iso.datetime(), end: z.iso.datetime() }),
  currency: z.literal('USD'),
  groups: z.array(z.looseObject(sumsShape)),
  totals: z.looseObject(sumsShape),
})
const aggregate = async (query: string) => {
  const answer = await call(service, `/api/v1/costs/aggregate?${query}`)
  expect([query, answer.status, answer.text]).toEqual([query, 200, expect.any(String)])
  return aggregateSchema.parse(answer.json)
}
const eventsSchema = z.object({
  events: z.array(z.looseObject({ event_id: z.string(), ts: z.iso.datetime() })),
  next_cursor: z.string().nullable(),
})
const list = async (query: string) => {
  const answer = await call(service, `/api/v1/usage?${query}`)
  expect([query, answer.status, answer.text]).toEqual([query, 200, expect.any(String)])
  return eventsSchema.parse(answer.json)
}
const sum = (amounts: readonly string[]) =>
  decimalText(amounts.reduce<Decimal>((total, amount) => total.plus(decimal(amount)), ZERO))

/** The dimensions of reports with the fields of the event that they stand for. */
const DIMENSIONS: Readonly<Record<string, (event: (typeof SEED)[number]) => string | undefined>> = {
  customer: (event) => event.customer_id,
  user: (event) => event.user_id,
  team: (event) => event.team_id,
  project: (event) => event.project_id,
  business_unit: (event) => event.business_unit,
  cost_center: (event) => event.cost_center,
  feature: (event) => event.feature,
  conversation: (event) => event.conversation_id,
  agent: (event) => event.agent,
  environment: (event) => event.environment,
  provider: (event) => event.provider,
  model: (event) => event.model,
  operation: (event) => event.operation,
  status: (event) => event.status,
  'tag.plan': (event) => event.tags.plan,
  'tag.a.b c': (event) => event.tags['a.b c'],
}

describe('GET /api/v1/usage', () => {
  it('shows events newest first, each once, over any number of pages', async () => {
    const seen: string[] = []
    let cursor: string | null = null
    do {
      const page: z.infer<typeof eventsSchema> = await list(
        `${RANGE}&limit=70${cursor === null ? '' : `&cursor=${cursor}`}`,
      )
      seen.push(...page.events.map(({ event_id }) => event_id))
      cursor = page.next_cursor
    } while (cursor !== null)
    expect(seen).toEqual(SEED.map(({ event_id }) => event_id).toReversed())
  })

  it('pages through events of the same instant', async () => {
    const ids = Array.from({ length: 25 }, () => randomUUID())
    const same = ids.map((event_id) => ({
      ...SEED[1],
      event_id,
      customer_id: 'same',
      ts: '2025-09-01T00:00:00Z',
    }))
    submissionOf(await sendUsage(service, same))
    const seen: string[] = []
    const query = 'start=2025-09-01&end=2025-09-02&customer_id=same&limit=5'
    for (let page = await list(query); ; page = await list(`${query}&cursor=${page.next_cursor}`)) {
      seen.push(...page.events.map(({ event_id }) => event_id))
      if (page.next_cursor === null) break
      // What arrives meanwhile does not shift the pages.
      const late = { ...same[0], event_id: randomUUID(), ts: '2025-09-01T01:00:00Z' }
      submissionOf(await sendUsage(service, late))
    }
    expect(seen.toSorted()).toEqual(ids.toSorted())
    expect((await list(`${query}0`)).events).toHaveLength(30)
    expect((await list(`${query}0`)).next_cursor).toBeNull()
  })

  it.each(Object.entries(DIMENSIONS))('filters by %s', async (name, fieldOf) => {
    const value = SEED.slice(7, 8).map(fieldOf)[0] ?? ''
    const expected = SEED.filter((event) => fieldOf(event) === value).map(({ event_id }) => event_id)
    expect(expected.length).toBeGreaterThan(0)
    const query = new URLSearchParams({ [name]: value, limit: '1000' })
    const { events } = await list(`${RANGE}&${query}`)
    expect(events.map(({ event_id }) => event_id)).toEqual(expected.toReversed())
  })

  it('filters by several dimensions, by several values of one, and by the names of the event', async () => {
    const query = `${RANGE}&limit=1000&customer_id=acme&customer_id=${encodeURIComponent('=1+1')}&status=ok&tag.plan=pro`
    const expected = SEED.filter(
      (event) =>
        ['acme', '=1+1'].includes(event.customer_id ?? '') &&
        event.status === 'ok' &&
        event.tags.plan === 'pro',
    )
    expect((await list(query)).events.map(({ event_id }) => event_id)).toEqual(
      expected.map(({ event_id }) => event_id).toReversed(),
    )
    expect((await list(`${RANGE}&customer_id=nobody-such`)).events).toEqual([])
  })

  it('includes the start and excludes the end', async () => {
    const [first, second] = [SEED[10], SEED[11]]
    const { events } = await list(`start=${first?.ts}&end=${second?.ts}`)
    expect(events.map(({ event_id }) => event_id)).toEqual([first?.event_id])
  })

  it('reaches from 30 days ago to now when nothing is said', async () => {
    const [now, old] = [randomUUID(), randomUUID()]
    const event = { ...SEED[0], customer_id: 'today' }
    await sendUsage(service, { ...event, event_id: now, ts: undefined })
    await sendUsage(service, { ...event, event_id: old, ts: instant(Date.now() - 31 * 24 * HOUR_MS) })
    expect((await list('customer=today')).events.map(({ event_id }) => event_id)).toEqual([now])
  })

  it('shows each event with its rating, also by its id', async () => {
    const { events } = await list(`${RANGE}&limit=1000&model=gpt-4o-mini&status=ok`)
    const ratingSchema = z.object({
      status: z.enum(['rated']),
      currency: z.literal('USD'),
      list_cost: money,
      total_cost: money,
      lines: z
        .array(z.object({ meter: z.string(), quantity: z.string(), unit_price: money, cost: money }))
        .min(1),
      price_version_id: z.uuid(),
    })
    for (const event of events) {
      const rating = ratingSchema.parse(event['rating'])
      expect(sum(rating.lines.map(({ cost }) => cost))).toBe(rating.total_cost)
    }
    const single = await call(service, `/api/v1/usage/${events[0]?.event_id}`)
    expect(single.json).toEqual({ ...events[0], invoice_lines: [] })
    problemOf(await call(service, '/api/v1/usage/no-such-event'), 404)
  })
})

describe('GET /api/v1/costs/aggregate', () => {
  it('answers in the shape of the contract', async () => {
    const answer = await call(
      service,
      `/api/v1/costs/aggregate?${RANGE}&group_by=customer,model&granularity=day&customer=acme`,
    )
    const report = aggregateSchema.parse(answer.json)
    expect(report.period).toEqual({ start: '2025-10-01T00:00:00.000Z', end: '2025-11-01T00:00:00.000Z' })
    expect(report.groups[0]).toMatchObject({ customer: 'acme', bucket: '2025-10-01' })
    expect(Object.keys(report.groups[0] ?? {})).toEqual(
      expect.arrayContaining(['customer', 'model', 'bucket', ...Object.keys(sumsShape)]),
    )
  })

  it.each(Object.entries(DIMENSIONS))('groups by %s', async (name, fieldOf) => {
    const report = await aggregate(`${RANGE}&group_by=${encodeURIComponent(name)}`)
    const shown = report.groups.map((group) => [group[name], group.requests, group.input_tokens])
    const expected = [...Map.groupBy(SEED, fieldOf)].map(([value, events]) => [
      value ?? null,
      events.length,
      events.reduce((total, event) => total + event.input_tokens, 0),
    ])
    expect(shown.toSorted()).toEqual(expected.toSorted())
    expect(report.totals.requests).toBe(SEED.length)
  })

  it.each([
    ['none', 'customer'],
    ['month', 'customer,model,feature'],
    ['week', 'user'],
    ['day', 'tag.plan,provider'],
    ['hour', ''],
    ['minute', 'status'],
  ])('adds up, to the last digit: by %s and %s', async (granularity, groupBy) => {
    const { groups, totals } = await aggregate(`${RANGE}&granularity=${granularity}&group_by=${groupBy}`)
    expect(sum(groups.map((group) => group.total_cost))).toBe(totals.total_cost)
    expect(sum(groups.map((group) => group.list_cost))).toBe(totals.list_cost)
    expect(totals).toMatchObject({
      requests: SEED.length,
      errors: SEED.filter(({ status }) => status === 'error').length,
      input_tokens: SEED.reduce((total, event) => total + event.input_tokens, 0),
      output_tokens: SEED.reduce((total, event) => total + event.output_tokens, 0),
      cache_read_tokens: SEED.reduce((total, event) => total + event.cache_read_tokens, 0),
      unpriced_requests: SEED.filter(({ status, provider }) => status === 'ok' && provider === 'nobody')
        .length,
    })
    const shown = await list(`${RANGE}&limit=1000`)
    const costs = shown.events.map(
      (event) => z.object({ total_cost: money.nullable() }).parse(event['rating']).total_cost ?? '0',
    )
    expect(totals.total_cost).toBe(sum(costs))
    for (const group of [...groups, totals]) {
      expect(group.total_tokens).toBe(group.input_tokens + group.output_tokens)
      const average = decimal(group.avg_cost_per_request).times(decimal(BigInt(group.requests)))
      const missing = decimal(group.total_cost).minus(average)
      expect(missing.gte(ZERO) && missing.lt(decimal('0.000000001'))).toBe(true)
    }
  })

  it('gives one group when none is named, and no group for a time without events', async () => {
    const whole = await aggregate(RANGE)
    expect(whole.groups).toEqual([whole.totals])
    const empty = await aggregate('start=2024-01-01&end=2024-02-01&group_by=customer&granularity=day')
    expect(empty.groups).toEqual([])
    expect(empty.totals).toMatchObject({ requests: 0, total_cost: '0', avg_cost_per_request: '0' })
  })

  it('filters as the list does', async () => {
    const query = `${RANGE}&customer_id=acme&tag.plan=pro&user=user-0&user=user-1`
    const { events } = await list(`${query}&limit=1000`)
    expect(events.length).toBeGreaterThan(0)
    expect((await aggregate(query)).totals.requests).toBe(events.length)
  })

  it('is complete up to the last acknowledged event', async () => {
    const customer = randomUUID()
    for (let count = 1; count <= 40; count++) {
      submissionOf(
        await sendUsage(service, {
          ...SEED[1],
          event_id: randomUUID(),
          customer_id: customer,
          ts: undefined,
        }),
      )
      expect((await aggregate(`customer=${customer}`)).totals.requests).toBe(count)
    }
  })

  it('says the same before and after the rollups are made', async () => {
    const queries = ['none', 'month', 'week', 'day', 'hour', 'minute'].flatMap((granularity) =>
      ['UTC', 'Asia/Kolkata', 'America/New_York'].map(
        (zone) =>
          `start=2025-10-01T00:07:00Z&end=2025-10-30T11:52:30Z&granularity=${granularity}&group_by=customer&timezone=${zone}`,
      ),
    )
    await waitFor(async () => {
      const { text } = await call(service, '/metrics')
      return /^tokentally_open_batches 0$/m.test(text)
    }, 'all batches are rolled up')
    const rolledUp = await Promise.all(queries.map(aggregate))
    // The same reports of the same events, from batches that nobody rolls up.
    const other = await createTestDatabase()
    const apiOnly = await startService({ databaseUrl: other.url, roles: 'api' })
    submissionOf(await sendUsage(apiOnly, SEED))
    for (const [index, query] of queries.entries()) {
      const { json } = await call(apiOnly, `/api/v1/costs/aggregate?${query}`)
      expect([query, json]).toEqual([query, rolledUp[index]])
    }
    expect((await call(apiOnly, '/metrics')).text).toMatch(/^tokentally_open_batches [1-9]/m)
    await apiOnly.stop()
    await other.drop()
  })
})

describe('time zones', () => {
  /** An event every quarter of an hour of a day in a zone, and one on either side. */
  async function seedDay(zone: string, startMs: number, endMs: number): Promise<string> {
    const customer = `${zone} ${startMs}`
    const times: number[] = []
    for (let ms = startMs - 15 * MINUTE_MS; ms <= endMs; ms += 15 * MINUTE_MS) times.push(ms)
    const events = times.map((ms) => ({
      event_id: `${customer} ${ms}`,
      ts: instant(ms),
      customer_id: customer,
      provider: 'openai',
      model: 'gpt-4o-mini',
      input_tokens: 1,
    }))
    submissionOf(await sendUsage(service, events))
    return customer
  }

  const days: readonly [zone: string, date: string, start: string, hours: number][] = [
    ['UTC', '2024-06-01', '2024-06-01T00:00:00Z', 24],
    ['Asia/Kolkata', '2024-06-02', '2024-06-02T00:00:00+05:30', 24],
    ['Asia/Kathmandu', '2024-06-03', '2024-06-03T00:00:00+05:45', 24],
    ['America/New_York', '2024-03-10', '2024-03-10T00:00:00-05:00', 23],
    ['America/New_York', '2024-11-03', '2024-11-03T00:00:00-04:00', 25],
    ['Europe/Paris', '2024-03-31', '2024-03-31T00:00:00+01:00', 23],
    ['Europe/Paris', '2024-10-27', '2024-10-27T00:00:00+02:00', 25],
    ['CET', '2024-07-01', '2024-07-01T00:00:00+02:00', 24],
    ['Australia/Lord_Howe', '2024-04-07', '2024-04-07T00:00:00+11:00', 24.5],
    ['Australia/Lord_Howe', '2024-10-06', '2024-10-06T00:00:00+10:30', 23.5],
    // Midnight is skipped; the clock reads it twice.
    ['America/Havana', '2024-03-10', '2024-03-10T01:00:00-04:00', 23],
    ['America/Havana', '2024-11-03', '2024-11-03T00:00:00-04:00', 25],
    ['Pacific/Apia', '2024-06-04', '2024-06-04T00:00:00+13:00', 24],
  ]
  it.each(days)('in %s the day %s begins at %s and has %d hours', async (timezone, date, start, hours) => {
    const [startMs, endMs] = [Date.parse(start), Date.parse(start) + hours * HOUR_MS]
    const customer = encodeURIComponent(await seedDay(timezone, startMs, endMs))
    const nextDate = instant(Date.parse(date) + 24 * HOUR_MS).slice(0, 10)
    const range = `start=${date}&end=${nextDate}&timezone=${timezone}&customer=${customer}`
    const whole = await aggregate(range)
    expect(whole.period).toEqual({ start: instant(startMs), end: instant(endMs) })
    expect(whole.totals.requests).toBe(hours * 4)
    expect((await list(`${range}&limit=1000`)).events).toHaveLength(hours * 4)

    // Also of a wider range, the day is one bucket.
    const wide = `start=${instant(startMs - HOUR_MS)}&end=${instant(endMs + HOUR_MS)}&timezone=${timezone}&customer=${customer}`
    const byDay = await aggregate(`${wide}&granularity=day`)
    const day = byDay.groups.find(({ bucket }) => bucket === date)
    expect(day?.requests).toBe(hours * 4)
    expect(byDay.groups.map(({ requests }) => requests)).toEqual([1, hours * 4, 1])

    // Hours begin where the clock on the wall shows a full hour, or where it jumped.
    const { groups } = await aggregate(`${range}&granularity=hour`)
    const begins = groups.map(({ bucket }) => Date.parse(String(bucket)))
    expect(begins[0]).toBe(startMs)
    for (const [index, beginMs] of begins.entries()) {
      const next = begins[index + 1] ?? endMs
      expect([groups[index]?.['bucket'], groups[index]?.requests]).toEqual([
        groups[index]?.['bucket'],
        (next - beginMs) / (15 * MINUTE_MS),
      ])
    }
    const minutes = await aggregate(`${range}&granularity=minute`)
    expect(minutes.groups).toHaveLength(hours * 4)
  })

  it('show buckets with the offset of their time: the repeated hour stands twice', async () => {
    const startMs = Date.parse('2024-11-03T00:00:00-04:00')
    const customer = encodeURIComponent(await seedDay('America/New_York', startMs, startMs + 4 * HOUR_MS))
    const { groups } = await aggregate(
      `start=2024-11-03&end=2024-11-04&timezone=America/New_York&granularity=hour&customer=${customer}`,
    )
    expect(groups.slice(0, 4).map(({ bucket }) => bucket)).toEqual([
      '2024-11-03T00:00:00-04:00',
      '2024-11-03T01:00:00-04:00',
      '2024-11-03T01:00:00-05:00',
      '2024-11-03T02:00:00-05:00',
    ])
    const week = await aggregate(`${RANGE}&granularity=week`)
    expect(week.groups.map(({ bucket }) => bucket)).toEqual([
      '2025-09-29',
      '2025-10-06',
      '2025-10-13',
      '2025-10-20',
      '2025-10-27',
    ])
    expect((await aggregate(`${RANGE}&granularity=month`)).groups.map(({ bucket }) => bucket)).toEqual([
      '2025-10-01',
    ])
  })

  it('are all those that the runtime knows, and the beginning of a day is where its bucket begins', async () => {
    const zones = [
      ...Intl.supportedValuesOf('timeZone'),
      'CET',
      'EET',
      'WET',
      'MET',
      'EST',
      'EST5EDT',
      'Japan',
      'utc',
    ]
    for (const timezone of zones) {
      const { groups } = await aggregate(
        `start=2025-10-10&end=2025-10-12&granularity=day&timezone=${encodeURIComponent(timezone)}`,
      )
      expect([timezone, groups.map(({ bucket }) => bucket)]).toEqual([timezone, ['2025-10-10', '2025-10-11']])
    }
  })
})

describe('a wrong parameter is a 400 that names it', () => {
  const REPORTS = [
    '/api/v1/usage',
    '/api/v1/costs/aggregate',
    '/api/v1/usage.csv',
    '/tenant/acme/summary',
    '/tenant/acme/daily',
  ]
  const common: readonly [query: string, name: string][] = [
    ['start=yesterday', 'start'],
    ['start=', 'start'],
    ['start=2026-02-30', 'start'],
    ['start=2026-02-30T00:00:00Z', 'start'],
    ['start=2026-11-01T00:00:00', 'start'],
    ['start=1793534400', 'start'],
    ['start=2026-11-01&start=2026-11-02', 'start'],
    ['end=2026-13-01', 'end'],
    ['start=2026-11-02&end=2026-11-01', 'end'],
    ['start=2026-11-01&end=2026-11-01', 'end'],
    ['start=1900-01-01&end=2026-01-01', 'start'],
    ['timezone=Mars/Olympus', 'timezone'],
    ['timezone=', 'timezone'],
    ['timezone=%2B05:30', 'timezone'],
    ['timezone=-03:00', 'timezone'],
    ['timezone=IST', 'timezone'],
    ['timezone=BST', 'timezone'],
    ['timezone=UTC%00', 'timezone'],
  ]
  it.each(REPORTS)('%s', async (path) => {
    for (const [query, name] of common) {
      const problem = problemOf(await call(service, `${path}?${query}`), 400)
      expect([query, pathsOf(problem)]).toEqual([query, [name]])
    }
  })

  const cursorOf = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  it.each([
    ['/api/v1/usage?limit=0', 'limit'],
    ['/api/v1/usage?limit=1001', 'limit'],
    ['/api/v1/usage?limit=ten', 'limit'],
    ['/api/v1/usage?limit=1.5', 'limit'],
    ['/api/v1/usage?limit=', 'limit'],
    ['/api/v1/usage?cursor=', 'cursor'],
    ['/api/v1/usage?cursor=abc', 'cursor'],
    [`/api/v1/usage?cursor=${cursorOf([1, 2])}`, 'cursor'],
    [`/api/v1/usage?cursor=${cursorOf([Number.MAX_SAFE_INTEGER, 'x'])}`, 'cursor'],
    [`/api/v1/usage?cursor=${cursorOf([-Number.MAX_SAFE_INTEGER, 'x'])}`, 'cursor'],
    [`/api/v1/usage?cursor=${cursorOf([-8.64e15, 'x'])}`, 'cursor'],
    [`/api/v1/usage?cursor=${cursorOf([1, 'a\0b'])}`, 'cursor'],
    ['/api/v1/usage?custmer=acme', 'custmer'],
    ['/api/v1/usage?tag.=x', 'tag.'],
    ['/api/v1/usage?tag.a%00=x', 'tag.a\0'],
    ['/api/v1/usage?customer=a%00', 'customer'],
    ['/api/v1/usage/a%00b', 'event_id'],
    ['/api/v1/costs/aggregate?group_by=colour', 'group_by'],
    ['/api/v1/costs/aggregate?group_by=tag.', 'group_by'],
    ['/api/v1/costs/aggregate?group_by=tag.%00', 'group_by'],
    ['/api/v1/costs/aggregate?group_by=customer;drop', 'group_by'],
    ['/api/v1/costs/aggregate?group_by=customer,user,team,project,agent,feature,model', 'group_by'],
    ['/api/v1/costs/aggregate?granularity=year', 'granularity'],
    ['/api/v1/costs/aggregate?granularity=day&granularity=hour', 'granularity'],
    ['/api/v1/costs/aggregate?groupby=customer', 'groupby'],
    ['/api/v1/usage.csv?group_by=customer', 'group_by'],
    ['/tenant/a%00b/summary', 'tenant_id'],
    ['/tenant/a%00b/daily', 'tenant_id'],
  ])('%s', async (path, name) => {
    expect(pathsOf(problemOf(await call(service, path), 400))).toEqual([name])
  })

  it('also several at once', async () => {
    const answer = await call(service, '/api/v1/costs/aggregate?start=x&end=y&timezone=z')
    expect(pathsOf(problemOf(answer, 400)).toSorted()).toEqual(['end', 'start', 'timezone'])
  })
})

describe('GET /api/v1/usage.csv', () => {
  const csv = async (query: string) => {
    const answer = await call(service, `/api/v1/usage.csv?${query}`)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toMatch(/^text\/csv\b/)
    return { answer, rows: parseCsv(answer.text) }
  }

  it('has the columns of the contract, and quotes as RFC 4180 says', async () => {
    const { rows } = await csv(RANGE)
    expect(rows[0]).toEqual(['customer_id', 'feature', 'provider', 'model', 'tokens', 'cost'])
    const expected = Map.groupBy(SEED, (event) =>
      [event.customer_id ?? '', event.feature ?? '', event.provider, event.model].join('\t'),
    )
    expect(
      rows
        .slice(1)
        .map((row) => row.slice(0, 4).join('\t'))
        .toSorted(),
    ).toEqual([...expected.keys()].toSorted())
    for (const [customer, feature, provider, model, tokens] of rows.slice(1)) {
      const events = expected.get([customer, feature, provider, model].join('\t')) ?? []
      expect(Number(tokens)).toBe(
        events.reduce((total, event) => total + event.input_tokens + event.output_tokens, 0),
      )
    }
  })

  it('adds up to the aggregate, and comes in the same order every time', async () => {
    const { rows, answer } = await csv(RANGE)
    const { totals } = await aggregate(RANGE)
    expect(sum(rows.slice(1).map((row) => row[5] ?? ''))).toBe(totals.total_cost)
    for (let time = 0; time < 3; time++) expect((await csv(RANGE)).answer.text).toBe(answer.text)
  })

  it('filters, and has no rows for a time without events', async () => {
    const { rows } = await csv(`${RANGE}&customer_id=acme&status=ok`)
    expect([...new Set(rows.slice(1).map(([customer]) => customer))]).toEqual(['acme'])
    expect((await csv('start=2024-01-01&end=2024-02-01')).rows).toHaveLength(1)
  })

  it('is streamed, whatever its length', async () => {
    const events = Array.from({ length: 5000 }, (_, index) => ({
      ts: '2025-08-01T00:00:00Z',
      customer_id: `customer-${String(index).padStart(5, '0')}`,
      provider: 'openai',
      model: 'gpt-4o-mini',
      input_tokens: 1,
    }))
    submissionOf(await sendUsage(service, events))
    const { rows, answer } = await csv('start=2025-08-01&end=2025-08-02')
    expect(answer.headers.get('content-length')).toBeNull()
    expect(rows.slice(1).map(([customer]) => customer)).toEqual(events.map(({ customer_id }) => customer_id))
  })
})

/** RFC 4180, strictly: quotes only around cells that need them, CRLF after every row. */
function parseCsv(text: string): readonly (readonly string[])[] {
  expect(text.endsWith('\r\n')).toBe(true)
  const rows: string[][] = [[]]
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/y
  while (cell.lastIndex < text.length) {
    const at = cell.lastIndex
    const match = cell.exec(text)
    if (match === null) throw new Error(`no CSV at ${at}: ${text.slice(at, at + 40)}`)
    const [, quoted, plain = '', end] = match
    rows.at(-1)?.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'))
    if (end === '\r\n') rows.push([])
  }
  return rows.slice(0, -1)
}

describe('the routes of old', () => {
  const old = {
    tenant_id: 'old tenant/1',
    provider: 'openai',
    model: 'gpt-4o-mini',
    prompt_tokens: 100,
    completion_tokens: 20,
    timestamp: '2025-05-01T10:00:00Z',
    latency_ms: 120,
    host: 'web-1',
  }
  const send = (fields: object) => call(service, '/usage', { body: { ...old, ...fields } })
  const tenant = encodeURIComponent(old.tenant_id)

  it('take events, where a tenant is a customer', async () => {
    for (const timestamp of [
      '2025-05-01T10:00:00',
      '2025-05-02T01:00:00+02:00',
      Date.UTC(2025, 4, 3) / 1000,
    ]) {
      expect(submissionOf(await send({ timestamp })).accepted).toBe(1)
    }
    expect(submissionOf(await send({ host: { pod: 'p' }, event_id: 'old-1' })).accepted).toBe(1)
    expect(submissionOf(await send({ host: { pod: 'p' }, event_id: 'old-1' })).duplicates).toBe(1)
    const { events } = await list(`start=2025-05-01&end=2025-06-01&customer=${tenant}`)
    expect(events.map(({ ts }) => ts)).toEqual([
      '2025-05-03T00:00:00.000Z',
      '2025-05-01T23:00:00.000Z',
      '2025-05-01T10:00:00.000Z',
      '2025-05-01T10:00:00.000Z',
    ])
    expect(events.at(-1)).toMatchObject({ input_tokens: 100, output_tokens: 20, latency_ms: 120 })
  })

  it('say what a tenant used and cost, in all and by day', async () => {
    const summary = await call(service, `/tenant/${tenant}/summary?start=2025-05-01&end=2025-06-01`)
    // 4 × (100 × 0.15 + 20 × 0.60) per million.
    const sums = {
      prompt_tokens: 400,
      completion_tokens: 80,
      total_tokens: 480,
      cost: '0.000108',
      list_cost: '0.000108',
      margin: '0',
      margin_percent: '0',
      currency: 'USD',
    }
    expect(summary.json).toEqual({
      tenant_id: old.tenant_id,
      requests: 4,
      ...sums,
      models: [{ provider: 'openai', model: 'gpt-4o-mini', requests: 4, ...sums }],
    })
    const daily = await call(service, `/tenant/${tenant}/daily?start=2025-05-01&end=2025-06-01`)
    expect(daily.json).toMatchObject({
      tenant_id: old.tenant_id,
      days: [
        { date: '2025-05-01', requests: 3, cost: '0.000081' },
        { date: '2025-05-03', requests: 1, cost: '0.000027' },
      ],
    })
    const nobody = await call(service, '/tenant/nobody-such/summary')
    expect(nobody.json).toMatchObject({ requests: 0, cost: '0', models: [] })
  })

  it('list the models of a provider', async () => {
    const answer = await call(service, '/provider/openai/models')
    expect(answer.json).toMatchObject({
      provider: 'openai',
      models: expect.arrayContaining([expect.objectContaining({ model: 'gpt-4o-mini' })]),
    })
    problemOf(await call(service, '/provider/nobody-such/models'), 404)
    problemOf(await call(service, '/provider/%00/models'), 404)
  })

  it.each([
    [{ tenant_id: undefined }, 'tenant_id'],
    [{ tenant_id: '' }, 'tenant_id'],
    [{ tenant_id: 'x'.repeat(600) }, 'tenant_id'],
    [{ provider: 7 }, 'provider'],
    [{ model: undefined }, 'model'],
    [{ prompt_tokens: -1 }, 'prompt_tokens'],
    [{ prompt_tokens: '1' }, 'prompt_tokens'],
    [{ prompt_tokens: 1e15 }, 'prompt_tokens'],
    [{ prompt_tokens: 0, completion_tokens: 0 }, 'prompt_tokens'],
    [{ completion_tokens: 1e15 }, 'completion_tokens'],
    [{ completion_tokens: 1.5 }, 'completion_tokens'],
    [{ timestamp: 'yesterday' }, 'timestamp'],
    [{ timestamp: '5' }, 'timestamp'],
    [{ timestamp: '2026-02-30T00:00:00' }, 'timestamp'],
    [{ timestamp: 1e300 }, 'timestamp'],
    [{ timestamp: 1_793_534_400_000 }, 'timestamp'],
    [{ timestamp: '9999-01-01T00:00:00Z' }, 'timestamp'],
    [{ latency_ms: 'fast' }, 'latency_ms'],
    [{ host: 7 }, 'host'],
    [{ prompt: 'x' }, 'prompt'],
    [{ customer_id: 'x' }, 'customer_id'],
  ])('refuse %j by the name that was sent', async (fields, path) => {
    expect([...new Set(pathsOf(problemOf(await send(fields), 400)))]).toEqual([path])
  })

  it('refuse what is no event, and other content under a known id', async () => {
    problemOf(await call(service, '/usage', { body: '{' }), 400)
    problemOf(await call(service, '/usage', { body: [old] }), 400)
    problemOf(await call(service, '/usage', { body: Buffer.from([0xff]) }), 400)
    expect(pathsOf(problemOf(await send({ event_id: 'old-1', prompt_tokens: 1 }), 409))).toEqual(['event_id'])
  })
})
