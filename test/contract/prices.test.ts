import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pino } from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import {
  createRatingBookCache,
  importCatalogue,
  type RatingBookCache,
} from '../../apps/server/src/pricing/index.ts'
import { refreshFrom } from '../../apps/server/src/pricing/jobs.ts'
import { createMetrics } from '../../apps/server/src/telemetry/metrics.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, createKey, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** The price book as docs/reference/prices.md describes it. */

let database: TestDatabase
let service: TestService
let vendor: Server
/** What the price file at the URL says. */
let file = ''
let fileStatus = 200
let url = ''

beforeAll(async () => {
  vendor = createServer((_request, response) => response.writeHead(fileStatus).end(file))
  await new Promise<void>((resolve) => vendor.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${portOf(vendor)}/data.json?token=secret`
  database = await createTestDatabase()
  // Without the worker's own schedule: the test says when the file is looked at.
  service = await startService({
    databaseUrl: database.url,
    roles: 'api',
    environment: { TOKENTALLY_PRICES_URL: url },
  })
})
afterAll(async () => {
  await service.stop()
  await database.drop()
  await new Promise((resolve) => vendor.close(resolve))
})
beforeEach(() => {
  fileStatus = 200
})

function portOf(server: Server): number {
  const address: AddressInfo | string | null = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  return address.port
}

const PER_MILLION = 1_000_000
const perMillion = (price: string) => ({ price, per: PER_MILLION })

async function setPrice(body: object): Promise<{ id: string; effective_from: string | null }> {
  const answer = await call(service, '/api/v1/prices', { body })
  expect([answer.status, answer.text]).toEqual([201, expect.any(String)])
  return z.object({ id: z.string(), effective_from: z.string().nullable() }).parse(answer.json)
}

const lineSchema = z.looseObject({
  meter: z.string(),
  quantity: z.string(),
  unit_price: z.string().nullable(),
  cost: z.string().nullable(),
})
const ratedSchema = z.object({
  events: z.array(
    z.looseObject({
      event_id: z.string(),
      rating: z.looseObject({
        status: z.string(),
        list_cost: z.string().nullable(),
        price_version_id: z.string().nullable(),
        lines: z.array(lineSchema),
      }),
    }),
  ),
})

let sent = 0

/** Sends an event and gives back how it was rated. */
async function rated(event: object) {
  const id = `price-${++sent}`
  expect(submissionOf(await sendUsage(service, { event_id: id, ...event })).accepted).toBe(1)
  const all = await call(service, '/api/v1/usage?start=2020-01-01&end=2030-01-01&limit=1000')
  const listed = ratedSchema.parse(all.json).events.find(({ event_id }) => event_id === id)
  if (listed === undefined) throw new Error(`the event ${id} is not listed`)
  return listed.rating
}

const linesOf = (rating: Awaited<ReturnType<typeof rated>>) =>
  rating.lines.map(({ meter, quantity, unit_price, cost }) => [meter, quantity, unit_price, cost])

describe('own prices, from POST /api/v1/prices to the lines of GET /api/v1/usage', () => {
  it('count images, seconds, requests and cache writes by duration, each in its unit', async () => {
    await setPrice({
      provider: 'acme',
      model: 'units',
      rates: {
        input_tokens: perMillion('2'),
        cache_write_tokens: perMillion('2.5'),
        cache_write_1h_tokens: perMillion('4'),
        images: { price: '0.04', per: 1 },
        audio_seconds: { price: '0.1', per: 1000 },
        requests: { price: '5', per: 1000 },
      },
    })
    const rating = await rated({
      provider: 'acme',
      model: 'units',
      input_tokens: 1000,
      cache_write_tokens: 300,
      meters: { cache_write_1h_tokens: 100, images: 2, audio_seconds: 12.5 },
    })
    expect(linesOf(rating).toSorted()).toEqual([
      ['audio_seconds', '12.5', '0.0001', '0.00125'],
      ['cache_write_1h_tokens', '100', '0.000004', '0.0004'],
      ['cache_write_tokens', '200', '0.0000025', '0.0005'],
      ['images', '2', '0.04', '0.08'],
      ['input_tokens', '700', '0.000002', '0.0014'],
      ['requests', '1', '0.005', '0.005'],
    ])
    expect(rating.list_cost).toBe('0.08855')
  })

  it('have tiers for the whole request or for what lies beyond', async () => {
    const tiers = [{ above_input_tokens: 1000, price: '2' }]
    await setPrice({
      provider: 'acme',
      model: 'tiers',
      rates: {
        input_tokens: { ...perMillion('1'), tiers, tier_mode: 'marginal' },
        output_tokens: { ...perMillion('1'), tiers },
      },
    })
    const rating = await rated({ provider: 'acme', model: 'tiers', input_tokens: 1500, output_tokens: 10 })
    expect(linesOf(rating)).toEqual([
      ['input_tokens', '1000', '0.000001', '0.001'],
      ['input_tokens', '500', '0.000002', '0.001'],
      ['output_tokens', '10', '0.000002', '0.00002'],
    ])
  })

  it('hold at hours of the day', async () => {
    const effective_from = '2026-01-01'
    await setPrice({
      provider: 'acme',
      model: 'hours',
      rates: { input_tokens: perMillion('2') },
      effective_from,
    })
    // Beginning where another price already was it would hold in its place: the past stays as it is.
    const night = { start_utc: '22:00', end_utc: '06:00' }
    const late = await call(service, '/api/v1/prices', {
      body: {
        provider: 'acme',
        model: 'hours',
        rates: { input_tokens: perMillion('1') },
        time_of_day: night,
        effective_from,
      },
    })
    expect(pathsOf(problemOf(late, 400))).toEqual(['effective_from'])
    const added = await call(service, '/api/v1/prices', {
      body: {
        provider: 'acme',
        model: 'nights',
        rates: { input_tokens: perMillion('1') },
        time_of_day: night,
      },
    })
    expect(added.json).toMatchObject({ time_of_day: { start_utc: '22:00:00', end_utc: '06:00:00' } })
    const at = (ts: string) => rated({ provider: 'acme', model: 'nights', input_tokens: 1, ts })
    expect((await at('2026-02-01T23:00:00Z')).list_cost).toBe('0.000001')
    expect((await at('2026-02-01T06:00:00Z')).status).toBe('unpriced')
  })

  it('are for a tier, a region or a customer alone, and for the tier as they stand', async () => {
    const price = (of: string, more: object) =>
      setPrice({ provider: 'acme', model: 'some', rates: { input_tokens: { price: of, per: 1 } }, ...more })
    await price('1', {})
    const batch = await price('2', { service_tier: 'Batch' })
    await price('3', { region: 'EU-West' })
    await price('4', { customer_id: 'globex' })
    // Nothing could price such a call before.
    expect(batch.effective_from).toBeNull()
    const cost = async (more: object) =>
      (await rated({ provider: 'acme', model: 'some', input_tokens: 1, ...more })).list_cost
    expect(await cost({})).toBe('1')
    expect(await cost({ service_tier: 'batch' })).toBe('2')
    expect(await cost({ region: 'eu-west' })).toBe('3')
    expect(await cost({ region: 'eu-west', customer_id: 'globex' })).toBe('4')
    expect(await cost({ customer_id: 'initech' })).toBe('1')
  })

  it('may be a discount off the catalogue for a pattern of models, and for a customer', async () => {
    const before = await rated({ provider: 'openai', model: 'gpt-4o-mini', input_tokens: 1000 })
    const ten = await setPrice({ provider: 'openai', model: 'gpt-4o*', discount: '0.1' })
    await setPrice({ provider: 'openai', model: '*', discount: '0.5', customer_id: 'globex' })
    const event = { provider: 'openai', model: 'gpt-4o-mini-2024-07-18', input_tokens: 1000 }
    expect(before.list_cost).toBe('0.00015')
    expect(await rated(event)).toMatchObject({ list_cost: '0.000135', price_version_id: ten.id })
    expect((await rated({ ...event, customer_id: 'globex' })).list_cost).toBe('0.000075')
    expect((await rated({ ...event, service_tier: 'batch' })).list_cost).toBe('0.0000675')
    const models = await call(service, '/provider/openai/models')
    expect(JSON.stringify(models.json)).toContain('"input_tokens":{"price":"0.135"')
    // Back to the list price.
    await setPrice({ provider: 'openai', model: 'gpt-4o*', discount: '0' })
    expect((await rated(event)).list_cost).toBe('0.00015')
  })

  it.each<[string, object, string]>([
    ['neither rates nor a discount', {}, 'rates'],
    ['both', { rates: { input_tokens: perMillion('1') }, discount: '0.1' }, 'discount'],
    ['a discount above one', { discount: '1.01' }, 'discount'],
    ['a negative discount', { discount: '-0.1' }, 'discount'],
    ['a discount in the past', { discount: '0.1', effective_from: '2026-01-01' }, 'effective_from'],
    ['a pattern with rates', { model: 'a*', rates: { input_tokens: perMillion('1') } }, 'model'],
    [
      'marginal tiers of the output',
      { rates: { output_tokens: { ...perMillion('1'), tier_mode: 'marginal', tiers: [] } } },
      'rates.output_tokens.tier_mode',
    ],
    [
      'a threshold twice',
      {
        rates: {
          input_tokens: {
            ...perMillion('1'),
            tiers: [1, 2].map((price) => ({ above_input_tokens: 5, price: String(price) })),
          },
        },
      },
      'rates.input_tokens.tiers',
    ],
    [
      'hours of no day',
      { rates: { input_tokens: perMillion('1') }, time_of_day: { start_utc: '24:00', end_utc: '06:00' } },
      'time_of_day.start_utc',
    ],
  ])('are refused with %s, by the field', async (_name, more, path) => {
    const answer = await call(service, '/api/v1/prices', { body: { provider: 'acme', model: 'm', ...more } })
    expect(pathsOf(problemOf(answer, 400))).toContain(path)
  })
})

describe('list prices', () => {
  it('of a service tier are those that its vendor publishes, each with its source', async () => {
    const event = {
      provider: 'openai',
      model: 'gpt-5',
      input_tokens: 1000,
      output_tokens: 100,
      service_tier: 'priority',
    }
    // 1000 × 2.5 + 100 × 20, per million
    const rating = await rated(event)
    expect(rating.list_cost).toBe('0.0045')
    const { json } = await call(service, '/api/v1/prices?provider=openai&model=gpt-5')
    const { prices } = z.object({ prices: z.array(z.looseObject({ id: z.string() })) }).parse(json)
    expect(prices.find(({ id }) => id === rating.price_version_id)).toMatchObject({
      service_tier: 'priority',
      input_tokens_max: 128_000,
      source: expect.stringContaining('openai.com/api-priority-processing'),
    })
    expect((await rated({ ...event, input_tokens: 128_001 })).status).toBe('unpriced')
    expect((await rated({ ...event, provider: 'azure' })).status).toBe('unpriced')
  })

  it('of a region have its premium', async () => {
    const cost = async (region: string) =>
      (await rated({ provider: 'gcp.vertex_ai', model: 'claude-haiku-4-5', input_tokens: 1_000_000, region }))
        .list_cost
    expect([await cost('global'), await cost('europe-west1')]).toEqual(['1', '1.1'])
  })
})

const modelOf = (id: string, prices: object) => ({ id, match: { equals: id }, prices })
const fileOf = (models: object[]) => JSON.stringify([{ id: 'vendor', name: 'Vendor', models }])

const refreshSchema = z.looseObject({
  id: z.string(),
  status: z.string(),
  source: z.string(),
  models: z.record(z.string(), z.number()),
  diff: z.array(
    z.looseObject({
      model: z.string(),
      is_new: z.boolean(),
      status: z.string(),
      changes: z.array(z.looseObject({})),
    }),
  ),
})
const refreshOf = (answer: { status: number; text: string; json: unknown }, status: number) => {
  expect([answer.status, answer.text]).toEqual([status, expect.any(String)])
  return refreshSchema.parse(answer.json)
}
const post = (path = '', options = {}) =>
  call(service, `/api/v1/prices/refreshes${path}`, { method: 'POST', ...options })
const vendorCost = async (model: string) =>
  (await rated({ provider: 'vendor', model, input_tokens: 1_000_000 })).list_cost

describe('a refresh of the catalogue', () => {
  it('brings new models and small changes at once, and lets large ones wait, model by model', async () => {
    // Written by hand: no float has these digits.
    const output = '0.123456789012345678'
    file = fileOf(['a', 'b', 'c', 'd'].map((id) => modelOf(id, { input_mtok: 2, output_mtok: 0.5 })))
    file = file.replaceAll('0.5', output)
    const first = refreshOf(await post(), 201)
    expect(first).toMatchObject({ status: 'applied', models: { applied: 4, waiting: 0 } })
    expect(first.source).toBe(url.replace('?token=secret', ''))
    expect(first.diff[0]).toMatchObject({ model: 'a', is_new: true, status: 'applied' })
    expect(await vendorCost('a')).toBe('2')

    file = fileOf([
      modelOf('a', { input_mtok: 3, output_mtok: 1 }),
      modelOf('b', { input_mtok: 3 }),
      modelOf('c', { input_mtok: 0.5, output_mtok: 0.13 }),
      modelOf('d', { input_mtok: 2.2, output_mtok: 0.13 }),
      modelOf('e', { input_mtok: 7 }),
    ])
    const second = refreshOf(await post(), 201)
    expect(second).toMatchObject({ status: 'waiting', models: { applied: 2, waiting: 3 } })
    expect(second.diff.map(({ model, status }) => [model, status])).toEqual([
      ['a', 'waiting'],
      ['b', 'waiting'],
      ['c', 'waiting'],
      ['d', 'applied'],
      ['e', 'applied'],
    ])
    expect(second.diff[0]?.changes).toEqual([
      expect.objectContaining({
        meter: 'input_tokens',
        per: PER_MILLION,
        old_price: '2',
        new_price: '3',
        change_percent: '50',
      }),
      expect.objectContaining({
        meter: 'output_tokens',
        old_price: output,
        new_price: '1',
        change_percent: '710',
      }),
    ])
    expect(await Promise.all(['a', 'd', 'e'].map(vendorCost))).toEqual(['2', '2.2', '7'])
    const metrics = await fetch(`${service.url}/metrics`)
    expect(await metrics.text()).toMatch(/^tokentally_price_refreshes_waiting 1$/m)

    // Looked at again, the same file asks nothing twice.
    expect(refreshOf(await post(), 201)).toMatchObject({ status: 'applied', diff: [] })

    const models = [{ provider: 'vendor', model: 'a' }]
    expect(refreshOf(await post(`/${second.id}/approve`, { body: { models } }), 200).status).toBe('waiting')
    expect(await Promise.all(['a', 'b'].map(vendorCost))).toEqual(['3', '2'])
    expect(problemOf(await post(`/${second.id}/approve`, { body: { models } }), 409).detail).toMatch(
      /none was/,
    )
    const rejected = refreshOf(
      await post(`/${second.id}/reject`, { body: { models: [{ provider: 'vendor', model: 'b' }] } }),
      200,
    )
    expect(rejected.diff.find(({ model }) => model === 'b')).toMatchObject({
      status: 'rejected',
      decided_by: expect.any(String),
    })
    expect(refreshOf(await post(), 201).diff).toEqual([])

    // A later file overtakes what waits.
    file = fileOf([modelOf('c', { input_mtok: 1.5, output_mtok: 0.13 })])
    expect(refreshOf(await post(), 201)).toMatchObject({ status: 'applied', models: { applied: 1 } })
    const overtaken = await call(service, `/api/v1/prices/refreshes/${second.id}`)
    expect(refreshOf(overtaken, 200)).toMatchObject({ status: 'applied', models: { superseded: 1 } })
    expect(problemOf(await post(`/${second.id}/approve`), 409).detail).toMatch(/Nothing/)
    expect(await vendorCost('c')).toBe('1.5')

    const history = await call(service, '/api/v1/prices?provider=vendor&model=a')
    expect(history.json).toMatchObject({
      prices: [
        { effective_from: null, rates: { input_tokens: { price: '2' } } },
        { effective_from: expect.any(String), rates: { input_tokens: { price: '3' } } },
      ],
    })
  })

  it('refuses a broken file as a whole, by the path of what is wrong', async () => {
    const broken = fileOf([modelOf('x', { input_mtok: 1 }), modelOf('y', { input_mtok: -1 })])
    const problem = problemOf(await post('', { body: broken }), 400)
    expect(pathsOf(problem)).toEqual(['[0].models[1].prices.input_mtok'])
    expect(pathsOf(problemOf(await post('', { body: '[{' }), 400))).toEqual([''])
    file = 'not JSON'
    expect(problemOf(await post(), 400).detail).toMatch(/nothing of it/)
    fileStatus = 500
    expect(problemOf(await post(), 503).detail).not.toContain('secret')
    expect((await rated({ provider: 'vendor', model: 'x', input_tokens: 1 })).status).toBe('unpriced')
  })

  it('is for keys with the scope admin, and rates what waited for a price', async () => {
    const { key } = await createKey(service, ['read', 'write'])
    const body = fileOf([modelOf('x', { input_mtok: 1 })])
    expect((await post('', { body, key })).status).toBe(403)
    expect((await post(`/${crypto.randomUUID()}/approve`)).status).toBe(404)
    expect(refreshOf(await post('', { body }), 201).diff).toMatchObject([{ model: 'x', is_new: true }])
    const listed = await call(service, '/api/v1/prices/refreshes?limit=2', { key })
    expect(listed.json).toMatchObject({
      refreshes: [{ source: 'POST /api/v1/prices/refreshes', status: 'applied' }, {}],
      next_cursor: expect.any(String),
    })
  })

  it('is for the organization that runs the service', async () => {
    await database.pool.query(`update organization set name = 'renamed' where name = 'default'`)
    const refused = problemOf(await post('', { body: fileOf([modelOf('z', { input_mtok: 1 })]) }), 403)
    await database.pool.query(`update organization set name = 'default' where name = 'renamed'`)
    expect(refused.detail).toMatch(/default/)
  })
})

describe('the daily job and the catalogue of a release', () => {
  let ratingBooks: RatingBookCache
  const metrics = createMetrics()
  const now = () => new Date()
  const job = async () =>
    refreshFrom(
      {
        pool: database.pool,
        ratingBooks,
        metrics,
        logger: pino({ level: 'silent' }),
        now,
        priceAdded: async () => undefined,
        url,
      },
      url,
    )
  const refreshes = async () =>
    (await database.pool.query<{ count: number }>('select count(*)::int as count from price_refresh')).rows[0]
      ?.count
  beforeAll(async () => {
    ratingBooks = await createRatingBookCache(database.pool)
  })

  it('records only what changed, and counts what fails', async () => {
    file = fileOf([modelOf('job', { input_mtok: 1 })])
    await job()
    const before = await refreshes()
    await job()
    expect(await refreshes()).toBe(before)
    file = '{}'
    await job()
    fileStatus = 404
    await expect(job()).rejects.toThrow(/answered 404/)
    expect(await metrics.registry.getSingleMetricAsString('tokentally_price_refresh_failures_total')).toMatch(
      / 2$/,
    )
    expect(await vendorCost('job')).toBe('1')
  })

  it('two at once record a change once', async () => {
    file = fileOf([modelOf('race', { input_mtok: 1 })])
    const before = (await refreshes()) ?? 0
    await Promise.all([job(), job(), job()])
    expect(await refreshes()).toBe(before + 1)
    const { rows } = await database.pool.query(`select 1 from price_version where model = 'race'`)
    expect(rows).toHaveLength(1)
  })

  it('a release waits with large changes too, and leaves what a newer file brought', async () => {
    const release = (model: string, price: string, edition: string) => ({
      provider: 'vendor',
      model,
      match: { equals: model },
      prices: [{ startMs: null, rates: { input_tokens: { per: 1_000_000 as const, price } } }],
      edition,
    })
    const source = 'release 1'
    await importCatalogue(database.pool, [release('rel', '1', 'r1')], { source, now })
    expect(
      await importCatalogue(database.pool, [release('rel', '2', 'r2')], { source: 'release 2', now }),
    ).toBe(0)
    expect(
      await importCatalogue(database.pool, [release('rel', '2', 'r2')], { source: 'release 2', now }),
    ).toBe(0)
    await importCatalogue(database.pool, [release('job', '1.1', 'r2')], { source: 'release 2', now })
    const waiting = await call(service, '/api/v1/prices/refreshes?status=waiting')
    expect(waiting.json).toMatchObject({ refreshes: [{ source: 'release 2', models: { waiting: 1 } }] })
    expect(await Promise.all(['rel', 'job'].map(vendorCost))).toEqual(['1', '1'])
  })

  it('what was recorded before a crash takes effect at the next start', async () => {
    await database.pool.query(
      `with refresh as (
         insert into price_refresh (id, fetched_at, source, status)
         values (gen_random_uuid(), now(), 'crashed', 'pending') returning id
       )
       insert into price_refresh_model
         (refresh_id, provider, model, service_tier, is_new, status, changes, entry)
       select id, 'vendor', 'crashed', '', true, 'pending', '[]', $1 from refresh`,
      [
        JSON.stringify({
          provider: 'vendor',
          model: 'crashed',
          match: { equals: 'crashed' },
          prices: [{ startMs: null, rates: { input_tokens: { per: 1_000_000, price: '4' } } }],
          edition: 'c1',
        }),
      ],
    )
    expect(await importCatalogue(database.pool, [], { source: 'release 2', now })).toBe(1)
    expect(await vendorCost('crashed')).toBe('4')
  })
})
