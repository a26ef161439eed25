import { randomUUID } from 'node:crypto'
import { type Decimal, decimal, decimalText, ZERO } from '@tokentally/core'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { compareRollups, resetRollups, rollUp } from '../../apps/server/src/rollups/index.ts'
import {
  createTestDatabase,
  spawnService,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'
import { call, createKey, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** Mistakes are mended by entries that refer to them; nothing is updated. */

let database: TestDatabase
let service: TestService
/** Another replica on the same database. */
let other: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url })
  other = await startService({ databaseUrl: database.url })
})
afterAll(async () => {
  await other.stop()
  await service.stop()
  await database.drop()
})

const sumsSchema = z.object({
  requests: z.number(),
  unpriced_requests: z.number(),
  input_tokens: z.number(),
  output_tokens: z.number(),
  list_cost: z.string(),
  total_cost: z.string(),
})
const effect = { before: sumsSchema, after: sumsSchema, difference: sumsSchema }
const correctionSchema = z.object({
  id: z.string(),
  reason: z.string(),
  api_key_id: z.string(),
  created_at: z.string(),
  events: z.number(),
  replacements: z.number(),
  unchanged: z.number(),
  ...effect,
})
const previewSchema = z.object({
  preview_token: z.string(),
  events: z.number(),
  unchanged: z.number(),
  ...effect,
  customers: z.array(z.object({ customer: z.string().nullable(), ...effect })),
  sample: z.array(z.object({ before: z.looseObject({}), after: z.looseObject({}).nullable() })),
})
const eventSchema = z.looseObject({
  event_id: z.string(),
  entry_kind: z.enum(['usage', 'reversal', 'replacement']),
  corrects_event_id: z.string().optional(),
  correction_id: z.string().optional(),
  corrected_by: z.string().optional(),
  input_tokens: z.number().optional(),
  rating: z.looseObject({
    status: z.string(),
    list_cost: z.string().nullable(),
    total_cost: z.string().nullable(),
    price_version_id: z.string().nullable(),
  }),
})

const correct = async (body: object) => {
  const answer = await call(service, '/api/v1/corrections', { body: { reason: 'a test', ...body } })
  expect([answer.status, answer.text]).toEqual([201, expect.any(String)])
  return correctionSchema.parse(answer.json)
}
const preview = async (body: object) => {
  const answer = await call(service, '/api/v1/corrections', {
    body: { reason: 'a test', preview: true, ...body },
  })
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return previewSchema.parse(answer.json)
}
const eventOf = async (id: string, from = service) =>
  eventSchema.parse((await call(from, `/api/v1/usage/${id}`)).json)
const aggregate = async (query: string, from = service) => {
  const answer = await call(from, `/api/v1/costs/aggregate?${query}`)
  expect([query, answer.status, answer.text]).toEqual([query, 200, expect.any(String)])
  return z.object({ groups: z.array(z.looseObject(sumsSchema.shape)), totals: sumsSchema }).parse(answer.json)
}
const listed = async (query: string) =>
  z
    .object({ events: z.array(eventSchema) })
    .parse((await call(service, `/api/v1/usage?limit=1000&${query}`)).json).events

/** Counts what the ledger holds, after making sure that each entry has its key, and its place in a batch. */
async function ledgerSize(): Promise<object> {
  const { rows } = await database.pool.query<Record<string, number>>(`
    select
      (select count(*)::int from usage_event) as events,
      (select count(*)::int from event_key) as keys,
      (select count(*)::int from usage_event join event_key using (organization_id, event_id, ts, batch_id)) as paired,
      (select coalesce(sum(event_count), 0)::int from ledger_batch)
        - (select count(*)::int from late_rating) as batched,
      (select count(*)::int from correction) as corrections,
      (select count(*)::int from correction_target) as targets`)
  const [size = {}] = rows
  expect(size).toMatchObject({ keys: size['events'], paired: size['events'], batched: size['events'] })
  return size
}

/** Runs what must leave nothing in the ledger. */
async function storesNothing<Result>(act: () => Promise<Result>): Promise<Result> {
  const before = await ledgerSize()
  const result = await act()
  expect(await ledgerSize()).toEqual(before)
  return result
}

/** gpt-4o-mini: 0.15 a million tokens in, 0.60 out. */
const event = (event_id: string, more: object = {}) => ({
  event_id,
  ts: '2026-03-10T12:00:00Z',
  provider: 'openai',
  model: 'gpt-4o-mini',
  customer_id: 'acme',
  feature: 'chat',
  input_tokens: 1000,
  output_tokens: 100,
  ...more,
})
/** A month of a test's own, so that tests do not meet. */
const month = (number: number) => {
  const start = `2025-${String(number).padStart(2, '0')}-01`
  const end = new Date(Date.UTC(2025, number, 1)).toISOString().slice(0, 10)
  return { ts: `${start.slice(0, 8)}10T12:00:00Z`, range: { start, end }, query: `start=${start}&end=${end}` }
}

describe('a change of attribution', () => {
  it('moves an event to another customer, at the amounts that it had', async () => {
    const { ts, query } = month(1)
    submissionOf(
      await sendUsage(service, [event('moved', { ts, tags: { plan: 'pro' } }), event('stays', { ts })]),
    )
    const correction = await correct({
      reason: 'booked on the wrong customer',
      select: { event_ids: ['moved'] },
      change: { set: { customer_id: 'beta', feature: null, tags: { plan: null, mended: 'yes' } } },
    })
    expect(correction).toMatchObject({
      reason: 'booked on the wrong customer',
      events: 1,
      replacements: 1,
      before: { requests: 1, list_cost: '0.00021' },
      after: { requests: 1, list_cost: '0.00021' },
      difference: { requests: 0, list_cost: '0', total_cost: '0' },
    })

    const original = await eventOf('moved', other)
    expect(original).toMatchObject({ entry_kind: 'usage', corrected_by: correction.id, customer_id: 'acme' })
    const entries = (await listed(query)).filter((one) => one.correction_id === correction.id)
    expect(entries.find((one) => one.entry_kind === 'reversal')).toMatchObject({
      corrects_event_id: 'moved',
      customer_id: 'acme',
      feature: 'chat',
      input_tokens: -1000,
      output_tokens: -100,
      ts: original['ts'],
      rating: {
        status: 'rated',
        list_cost: '-0.00021',
        total_cost: '-0.00021',
        lines: [{ quantity: '-1000', cost: '-0.00015' }, {}],
      },
    })
    const replacement = entries.find((one) => one.entry_kind === 'replacement')
    expect(replacement).toMatchObject({
      corrects_event_id: 'moved',
      customer_id: 'beta',
      tags: { mended: 'yes' },
      input_tokens: 1000,
      rating: { status: 'rated', list_cost: '0.00021', price_version_id: original.rating.price_version_id },
    })
    expect(replacement).not.toHaveProperty('feature')

    for (const from of [service, other]) {
      const { groups, totals } = await aggregate(`${query}&group_by=customer`, from)
      expect(groups).toMatchObject([
        { customer: 'acme', requests: 1, list_cost: '0.00021' },
        { customer: 'beta', requests: 1, list_cost: '0.00021' },
      ])
      expect(totals).toMatchObject({ requests: 2, input_tokens: 2000, list_cost: '0.00042' })
    }
    expect((await call(service, `/api/v1/usage.csv?${query}`)).text).toBe(
      'customer_id,feature,provider,model,tokens,cost\r\nacme,chat,openai,gpt-4o-mini,1100,0.00021\r\nbeta,,openai,gpt-4o-mini,1100,0.00021\r\n',
    )
    const { rows } = await database.pool.query<{ customer_id: string; cost: string }>(
      'select customer_id, trim_scale(sum(cost_usd))::text as cost from usage_ledger where ts = $1 group by 1 order by 1',
      [ts],
    )
    expect(rows).toEqual([
      { customer_id: 'acme', cost: '0.00021' },
      { customer_id: 'beta', cost: '0.00021' },
    ])
  })

  it('leaves no group of which nothing is left', async () => {
    const { ts, range, query } = month(2)
    submissionOf(await sendUsage(service, [event('only', { ts, user_id: 'u', customer_id: 'gone' })]))
    await correct({ select: range, change: { set: { customer_id: 'here' } } })
    for (const group of ['customer', 'customer,user']) {
      expect((await aggregate(`${query}&group_by=${group}`)).groups).toMatchObject([{ customer: 'here' }])
    }
  })
})

describe('a change of what the price depends on', () => {
  it('rates the replacement anew, by the price of the time of the event', async () => {
    const { ts, query } = month(3)
    submissionOf(await sendUsage(service, event('wrong-model', { ts })))
    const { difference } = await correct({
      select: { event_ids: ['wrong-model'] },
      change: { set: { model: 'gpt-4o', input_tokens: 2000 } },
    })
    // 2,000 × 2.50 + 100 × 10 millionths, less the 0.00021 of before
    expect(difference).toMatchObject({ input_tokens: 1000, list_cost: '0.00579' })
    expect((await aggregate(`${query}&group_by=model`)).groups).toMatchObject([
      { model: 'gpt-4o', requests: 1, input_tokens: 2000, list_cost: '0.006' },
    ])
  })

  it('takes an event back without replacement when it is void', async () => {
    const { ts, query } = month(4)
    submissionOf(await sendUsage(service, [event('void-1', { ts }), event('void-2', { ts })]))
    const correction = await correct({ select: { event_ids: ['void-1'] }, change: { void: true } })
    expect(correction).toMatchObject({
      events: 1,
      replacements: 0,
      difference: { requests: -1, total_cost: '-0.00021' },
    })
    expect((await aggregate(query)).totals).toMatchObject({ requests: 1, list_cost: '0.00021' })
  })

  it('happens wholly or not at all, however many events; what would be no valid event is named', async () => {
    const { ts, range, query } = month(5)
    // More than are written at once; the last of them is the one that does not fit.
    const many = Array.from({ length: 2_600 }, (_, index) => event(`many-${index}`, { ts }))
    const last = event('few', { ts: ts.replace('10T', '20T'), input_tokens: 10 })
    submissionOf(await sendUsage(service, [...many, last]))
    await storesNothing(async () => {
      const answer = await call(service, '/api/v1/corrections', {
        body: { reason: 'x', select: range, change: { set: { cache_read_tokens: 500 } } },
      })
      expect(pathsOf(problemOf(answer, 400))).toEqual(['change.set.cache_read_tokens'])
      expect(answer.text).toContain('few')
    })
    const change = { set: { input_tokens: 2000, cache_read_tokens: 500 } }
    expect(await correct({ select: range, change })).toMatchObject({ events: 2601, replacements: 2601 })
    expect((await aggregate(query)).totals).toMatchObject({ requests: 2601, input_tokens: 5_202_000 })
  })
})

describe('rerating', () => {
  it('applies what the book says now, and leaves alone what is as it should be', async () => {
    const { ts, range, query } = month(6)
    submissionOf(
      await sendUsage(service, [
        event('no-price', { ts, provider: 'own', model: 'six' }),
        event('priced', { ts }),
      ]),
    )
    expect((await aggregate(query)).totals).toMatchObject({ unpriced_requests: 1 })
    const price = {
      provider: 'own',
      model: 'six',
      rates: { input_tokens: { price: '1', per: 1_000_000 }, output_tokens: { price: '2', per: 1_000_000 } },
    }
    // The worker of either replica may rate it late first; then there is nothing to rerate.
    expect((await call(service, '/api/v1/prices', { body: price })).status).toBe(201)
    await waitFor(async () => (await aggregate(query)).totals.unpriced_requests === 0, 'the event is rated')
    const unchanged = await preview({ select: range, change: { rerate: true } })
    expect(unchanged).toMatchObject({ events: 0, unchanged: 2 })
    const answer = await call(service, '/api/v1/corrections', {
      body: { reason: 'x', select: range, change: { rerate: true } },
    })
    expect(pathsOf(problemOf(answer, 400))).toEqual(['select'])

    // Late amounts are taken back, too.
    await correct({ select: { event_ids: ['no-price'] }, change: { void: true } })
    expect((await aggregate(query)).totals).toMatchObject({
      requests: 1,
      unpriced_requests: 0,
      list_cost: '0.00021',
    })
  })

  it('an event without a price can be moved, and is rated where it stands once there is one', async () => {
    const { ts, query } = month(7)
    submissionOf(await sendUsage(service, event('unknown', { ts, provider: 'own', model: 'seven' })))
    await correct({ select: { event_ids: ['unknown'] }, change: { set: { customer_id: 'beta' } } })
    expect((await aggregate(`${query}&group_by=customer`)).groups).toMatchObject([
      { customer: 'beta', unpriced_requests: 1 },
    ])
    const unpriced = async () =>
      z
        .object({ unpriced: z.array(z.object({ model: z.string(), events: z.number() })) })
        .parse((await call(service, '/api/v1/prices/unpriced')).json)
        .unpriced.filter(({ model }) => model === 'seven')
    expect(await unpriced()).toEqual([{ model: 'seven', events: 1 }])
    const price = {
      provider: 'own',
      model: 'seven',
      rates: { input_tokens: { price: '1', per: 1_000_000 }, output_tokens: { price: '1', per: 1_000_000 } },
    }
    expect((await call(service, '/api/v1/prices', { body: price })).status).toBe(201)
    await waitFor(async () => (await unpriced()).length === 0, 'the replacement is rated')
    expect((await aggregate(`${query}&group_by=customer`)).groups).toMatchObject([
      { customer: 'beta', requests: 1, unpriced_requests: 0, list_cost: '0.0011' },
    ])
    expect((await eventOf('unknown')).rating.status).toBe('unpriced')
  })
})

describe('a preview', () => {
  it('shows what would happen and changes nothing; its token applies exactly that', async () => {
    const { ts, range, query } = month(8)
    const events = Array.from({ length: 30 }, (_, index) =>
      event(`preview-${index}`, { ts, customer_id: index % 2 === 0 ? 'acme' : 'beta' }),
    )
    submissionOf(await sendUsage(service, events))
    const body = { select: { ...range, customer_id: 'acme' }, change: { set: { customer_id: 'beta' } } }
    const before = await aggregate(`${query}&group_by=customer`)
    const shown = await storesNothing(() => preview(body))
    expect(await aggregate(`${query}&group_by=customer`)).toEqual(before)
    expect(shown).toMatchObject({
      events: 15,
      unchanged: 0,
      difference: { requests: 0, total_cost: '0' },
      customers: [
        { customer: 'acme', difference: { requests: -15, total_cost: '-0.00315' } },
        { customer: 'beta', difference: { requests: 15, total_cost: '0.00315' } },
      ],
    })
    expect(shown.sample).toHaveLength(10)
    expect((await preview(body)).preview_token).toBe(shown.preview_token)

    submissionOf(await sendUsage(service, event('newcomer', { ts })))
    await storesNothing(async () => {
      const stale = { reason: 'x', ...body, preview_token: shown.preview_token }
      problemOf(await call(service, '/api/v1/corrections', { body: stale }), 409)
    })
    const { preview_token } = await preview(body)
    expect(await correct({ ...body, preview_token })).toMatchObject({ events: 16 })
    expect((await aggregate(`${query}&group_by=customer`)).groups).toMatchObject([
      { customer: 'beta', requests: 31 },
    ])
  })
})

describe('once', () => {
  it('takes an event back once, whoever asks; what stands in for it can be corrected in turn', async () => {
    const { ts, query } = month(9)
    submissionOf(await sendUsage(service, event('once', { ts })))
    const select = { event_ids: ['once'] }
    const answers = await Promise.all(
      [service, other, service, other].map((from, index) =>
        call(from, '/api/v1/corrections', {
          body: { reason: 'race', select, change: { set: { feature: `f${index}` } } },
        }),
      ),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 400, 400, 400])
    for (const answer of answers) {
      if (answer.status === 400) expect(pathsOf(problemOf(answer, 400))).toEqual(['select.event_ids.0'])
    }
    const [reversal, replacement] = ['reversal', 'replacement'].map(
      async (kind) => (await listed(query)).find((one) => one.entry_kind === kind)?.event_id ?? '',
    )
    const again = await call(service, '/api/v1/corrections', {
      body: { reason: 'x', select: { event_ids: [await reversal] }, change: { void: true } },
    })
    expect(pathsOf(problemOf(again, 400))).toEqual(['select.event_ids.0'])
    await correct({ select: { event_ids: [await replacement] }, change: { set: { input_tokens: 0 } } })
    expect((await aggregate(query)).totals).toMatchObject({
      requests: 1,
      input_tokens: 0,
      list_cost: '0.00006',
    })
  })

  it('a repeat under the same id applies nothing again', async () => {
    const { ts, range, query } = month(10)
    submissionOf(await sendUsage(service, event('repeat', { ts })))
    const body = { id: randomUUID(), reason: 'twice', select: range, change: { set: { output_tokens: 200 } } }
    const first = await call(service, '/api/v1/corrections', { body })
    expect(first.status).toBe(201)
    const second = await call(other, '/api/v1/corrections', { body })
    expect([second.status, second.json]).toEqual([200, first.json])
    problemOf(await call(service, '/api/v1/corrections', { body: { ...body, reason: 'thrice' } }), 409)
    expect((await aggregate(query)).totals).toMatchObject({ requests: 1, output_tokens: 200 })
  })
})

describe('GET /api/v1/corrections', () => {
  it('lists corrections, newest first, and each with its entries, page by page', async () => {
    const { ts } = month(11)
    submissionOf(await sendUsage(service, [event('page-1', { ts }), event('page-2', { ts })]))
    const made = await correct({
      select: { event_ids: ['page-1', 'page-2'] },
      change: { set: { team_id: 't' } },
    })
    const listSchema = z.object({
      corrections: z.array(correctionSchema),
      next_cursor: z.string().nullable(),
    })
    const ids: string[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const answer = await call(
        service,
        `/api/v1/corrections?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`,
      )
      const page: z.infer<typeof listSchema> = listSchema.parse(answer.json)
      ids.push(...page.corrections.map(({ id }) => id))
      cursor = page.next_cursor
    }
    expect(ids[0]).toBe(made.id)
    expect(new Set(ids).size).toBe(ids.length)
    const { rows } = await database.pool.query<{ n: number }>('select count(*)::int as n from correction')
    expect(ids).toHaveLength(rows[0]?.n ?? -1)

    const oneSchema = correctionSchema.extend({
      entries: z.array(eventSchema),
      next_cursor: z.string().nullable(),
    })
    const first = oneSchema.parse((await call(service, `/api/v1/corrections/${made.id}?limit=3`)).json)
    const rest = oneSchema.parse(
      (await call(service, `/api/v1/corrections/${made.id}?limit=3&cursor=${first.next_cursor}`)).json,
    )
    expect(rest.next_cursor).toBeNull()
    expect(
      [...first.entries, ...rest.entries].map((one) => `${one.entry_kind} ${one.corrects_event_id}`).sort(),
    ).toEqual(['replacement page-1', 'replacement page-2', 'reversal page-1', 'reversal page-2'])
    problemOf(await call(service, `/api/v1/corrections/${randomUUID()}`), 404)
    problemOf(await call(service, '/api/v1/corrections/x'), 404)
  })
})

describe('bad input is refused with the field, and nothing happens', () => {
  const select = { event_ids: ['whatever'] }
  const change = { void: true }
  const cases: readonly (readonly [string, object, readonly string[]])[] = [
    ['no reason', { select, change }, ['reason']],
    ['an empty reason', { reason: '  ', select, change }, ['reason']],
    ['no selection', { reason: 'x', change }, ['select']],
    ['no range', { reason: 'x', select: { customer_id: 'acme' }, change }, ['select.start', 'select.end']],
    [
      'a range that ends before it begins',
      { reason: 'x', select: { start: '2026-02-01', end: '2026-01-01' }, change },
      ['select.end'],
    ],
    [
      'an unknown filter',
      { reason: 'x', select: { start: '2026-01-01', end: '2026-02-01', custmer: 'a' }, change },
      ['select.custmer'],
    ],
    [
      'ids and a filter',
      { reason: 'x', select: { ...select, customer_id: 'a' }, change },
      ['select.customer_id'],
    ],
    ['no ids', { reason: 'x', select: { event_ids: [] }, change }, ['select.event_ids']],
    ['an unknown event', { reason: 'x', select, change }, ['select.event_ids.0']],
    ['no change', { reason: 'x', select, change: {} }, ['change']],
    ['nothing to set', { reason: 'x', select, change: { set: {} } }, ['change.set']],
    ['void and set', { reason: 'x', select, change: { void: true, rerate: true } }, ['change.void']],
    [
      'a field that cannot be set',
      { reason: 'x', select, change: { set: { team_id: 't', ts: '2026-01-01T00:00:00Z' } } },
      ['change.set.ts'],
    ],
    [
      'a negative count',
      { reason: 'x', select, change: { set: { input_tokens: -1 } } },
      ['change.set.input_tokens'],
    ],
    ['an unknown field', { reason: 'x', select, change, force: true }, ['force']],
    ['an id that is none', { id: '7', reason: 'x', select, change }, ['id']],
  ]
  it.each(cases)('%s', async (_name, body, paths) => {
    await storesNothing(async () => {
      const problem = problemOf(await call(service, '/api/v1/corrections', { body }), 400)
      expect(pathsOf(problem)).toEqual(paths)
    })
  })

  it('a key without the scope', async () => {
    const { key } = await createKey(service, ['read', 'ingest'])
    problemOf(await call(service, '/api/v1/corrections', { key, body: { reason: 'x', select, change } }), 403)
  })

  it('another change of what was recorded', async () => {
    for (const statement of [
      'update correction set reason = $1',
      'update correction_target set event_id = $1',
    ]) {
      await expect(database.pool.query(statement, ['x'])).rejects.toMatchObject({ code: '23001' })
    }
  })
})

describe('a process that is killed', () => {
  it('in the middle of a correction leaves nothing of it, and the same request applies it later', async () => {
    const { ts, query } = month(12)
    const victim = await spawnService({ databaseUrl: database.url, roles: 'api' })
    submissionOf(await sendUsage(service, [event('kill-1', { ts }), event('kill-2', { ts })]))
    const id = randomUUID()
    const body = {
      id,
      reason: 'killed',
      select: { event_ids: ['kill-1', 'kill-2'] },
      change: { set: { customer_id: 'beta' } },
    }
    const waiting = async () => {
      const { rows } = await database.pool.query<{ pid: number }>(
        "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%insert into correction %'",
      )
      return rows.length
    }
    const blocker = await database.pool.connect()
    try {
      await storesNothing(async () => {
        // The last statement of the correction has to wait: its entries are written, and not committed.
        await blocker.query('begin; lock table correction in share row exclusive mode')
        const lost = call(victim, '/api/v1/corrections', { body }).catch((error: unknown) => error)
        await waitFor(async () => (await waiting()) === 1, 'the correction is under way')
        await victim.kill()
        expect(await lost).toBeInstanceOf(Error)
        await blocker.query('rollback')
        await waitFor(async () => (await waiting()) === 0, 'the database has noticed')
      })
    } finally {
      blocker.release()
    }
    expect((await aggregate(`${query}&group_by=customer`)).groups).toMatchObject([
      { customer: 'acme', requests: 2 },
    ])
    expect((await call(other, '/api/v1/corrections', { body })).status).toBe(201)
    expect((await aggregate(`${query}&group_by=customer`)).groups).toMatchObject([
      { customer: 'beta', requests: 2 },
    ])
  })
})

describe('a price that comes while an event is being taken back', () => {
  it('waits, and adds nothing to what was taken back', async () => {
    const query = 'start=2023-01-01&end=2023-02-01'
    const sent = event('late-race', { ts: '2023-01-10T12:00:00Z', provider: 'own', model: 'race' })
    submissionOf(await sendUsage(service, sent))
    const waiting = async (text: string) => {
      const { rows } = await database.pool.query(
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like $1",
        [text],
      )
      return rows.length > 0
    }
    const blocker = await database.pool.connect()
    try {
      await blocker.query('begin; lock table correction in share row exclusive mode')
      const body = { reason: 'x', select: { event_ids: ['late-race'] }, change: { void: true } }
      const correcting = call(service, '/api/v1/corrections', { body })
      await waitFor(() => waiting('%insert into correction %'), 'the correction is under way')
      const rates = {
        input_tokens: { price: '1', per: 1_000_000 },
        output_tokens: { price: '1', per: 1_000_000 },
      }
      await call(other, '/api/v1/prices', { body: { provider: 'own', model: 'race', rates } })
      await waitFor(() => waiting('%pg_advisory_xact_lock_shared(hashtext(%correction%'), 'late rating waits')
      await blocker.query('rollback')
      expect((await correcting).status).toBe(201)
      await waitFor(async () => !(await waiting('%pg_advisory%')), 'late rating goes on')
    } finally {
      blocker.release()
    }
    const marker = event('late-marker', {
      ts: '2023-03-10T12:00:00Z',
      provider: 'own',
      model: 'race-3',
      output_tokens: 0,
    })
    submissionOf(await sendUsage(service, marker))
    await call(other, '/api/v1/prices', {
      body: { provider: 'own', model: 'race-3', rates: { input_tokens: { price: '1', per: 1_000_000 } } },
    })
    await waitFor(
      async () => (await eventOf('late-marker')).rating.status === 'rated',
      'late rating has run again',
    )
    expect((await aggregate(query)).totals).toMatchObject({
      requests: 0,
      unpriced_requests: 0,
      list_cost: '0',
    })
    expect((await eventOf('late-race')).rating.status).toBe('unpriced')
  })
})

/** What may happen to the ledger, in the words of the test's own, much simpler ledger. */
type Step =
  | { readonly kind: 'use'; readonly model: number; readonly customer: number; readonly tokens: number }
  | { readonly kind: 'price'; readonly model: number }
  | { readonly kind: 'move'; readonly from: number; readonly to: number }
  | { readonly kind: 'recount'; readonly customer: number; readonly tokens: number }
  | { readonly kind: 'void'; readonly which: number }
  | { readonly kind: 'remodel'; readonly which: number; readonly model: number }

const small = fc.nat(2)
const tokens = fc.integer({ min: 1, max: 10_000 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('use'), model: small, customer: small, tokens }) },
  fc.record({ kind: fc.constant('price'), model: small }),
  fc.record({ kind: fc.constant('move'), from: small, to: small }),
  fc.record({ kind: fc.constant('recount'), customer: small, tokens }),
  fc.record({ kind: fc.constant('void'), which: fc.nat(20) }),
  fc.record({ kind: fc.constant('remodel'), which: fc.nat(20), model: small }),
)

describe('any sequence of usage, late prices and corrections', () => {
  it('adds up to what a simple ledger of what stands says', async () => {
    let run = 0
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 14 }), async (steps) => {
        run++
        const ts = `2024-${String(run).padStart(2, '0')}-05T10:00:00Z`
        const range = { start: ts.slice(0, 10), end: `${ts.slice(0, 8)}06` }
        const query = `start=${range.start}&end=${range.end}`
        const provider = `run-${run}`
        const standing: { model: number; customer: number; tokens: number }[] = []
        const priced = new Set<number>()
        const idsOfStanding = async () =>
          (await listed(query)).filter(
            (one) => one.entry_kind !== 'reversal' && one.corrected_by === undefined,
          )
        /** Finds an event of the oracle in the ledger, by what it says. */
        const idOf = async (which: (typeof standing)[number]) =>
          (await idsOfStanding()).find(
            (one) =>
              one['model'] === `m${which.model}` &&
              one['customer_id'] === `c${which.customer}` &&
              one.input_tokens === which.tokens,
          )?.event_id
        for (const action of steps) {
          if (action.kind === 'use') {
            const { model, customer } = action
            const sent = {
              ts,
              provider,
              model: `m${model}`,
              customer_id: `c${customer}`,
              input_tokens: action.tokens,
            }
            submissionOf(await sendUsage(service, sent))
            standing.push({ model, customer, tokens: action.tokens })
          } else if (action.kind === 'price') {
            if (priced.has(action.model)) continue
            priced.add(action.model)
            const rates = { input_tokens: { price: `${action.model + 1}`, per: 1_000_000 } }
            await call(other, '/api/v1/prices', { body: { provider, model: `m${action.model}`, rates } })
          } else if (action.kind === 'move' || action.kind === 'recount') {
            const from = action.kind === 'move' ? action.from : action.customer
            const set =
              action.kind === 'move' ? { customer_id: `c${action.to}` } : { input_tokens: action.tokens }
            const select = { ...range, customer_id: `c${from}`, provider }
            const answer = await call(service, '/api/v1/corrections', {
              body: { reason: 'r', select, change: { set } },
            })
            expect([201, 400]).toContain(answer.status)
            for (const one of standing) {
              if (one.customer !== from) continue
              if (action.kind === 'move') one.customer = action.to
              else one.tokens = action.tokens
            }
          } else {
            const one = standing[action.which % Math.max(1, standing.length)]
            if (one === undefined) continue
            const id = await idOf(one)
            const change = action.kind === 'void' ? { void: true } : { set: { model: `m${action.model}` } }
            const isSame = action.kind === 'remodel' && action.model === one.model
            const answer = await call(other, '/api/v1/corrections', {
              body: { reason: 'r', select: { event_ids: [id] }, change },
            })
            expect([answer.status, answer.text]).toEqual([isSame ? 400 : 201, expect.any(String)])
            if (action.kind === 'void') standing.splice(standing.indexOf(one), 1)
            else one.model = action.model
          }
        }

        const unpriced = standing.filter(({ model }) => !priced.has(model)).length
        await waitFor(
          async () => (await aggregate(query)).totals.unpriced_requests === unpriced,
          'what has a price is rated',
        )
        const expected = [...Map.groupBy(standing, ({ customer }) => customer)]
          .map(([customer, own]) => ({
            customer: `c${customer}`,
            requests: own.length,
            unpriced_requests: own.filter(({ model }) => !priced.has(model)).length,
            input_tokens: own.reduce((sum, one) => sum + one.tokens, 0),
            list_cost: decimalText(
              own
                .filter(({ model }) => priced.has(model))
                .reduce<Decimal>(
                  (sum, one) =>
                    sum.plus(decimal(String(one.tokens)).times(decimal(`0.00000${one.model + 1}`))),
                  ZERO,
                ),
            ),
          }))
          .sort((a, b) => (a.customer < b.customer ? -1 : 1))
        for (const grouping of ['customer', 'customer,user']) {
          const { groups } = await aggregate(`${query}&group_by=${grouping}`)
          expect(
            groups.map(({ customer, requests, unpriced_requests, input_tokens, list_cost, total_cost }) => ({
              customer,
              requests,
              unpriced_requests,
              input_tokens,
              list_cost,
              total_cost,
            })),
          ).toEqual(expected.map((group) => ({ ...group, total_cost: group.list_cost })))
        }
      }),
      { numRuns: 8 },
    )
  })

  it('leaves a ledger of which every entry has its key and batch, and rollups that agree with it', async () => {
    await ledgerSize()
    await rollUp(database.pool, () => new Date())
    expect(await compareRollups(database.pool)).toEqual([])
    await resetRollups(database.pool)
    await rollUp(database.pool, () => new Date())
    expect(await compareRollups(database.pool)).toEqual([])
  })
})
