import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bundledCatalogue, type CatalogueModel } from '@tokentally/prices'
import pg from 'pg'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEmbeddedDatabase } from '../database/embedded.ts'
import { migrate } from '../database/migrate.ts'
import type { App } from '../http/app.ts'
import { createApp } from '../http/server.ts'
import { createMetrics } from '../telemetry/metrics.ts'
import { createRatingBookCache, type RatingBookCache } from './rating-book-cache.ts'
import { importCatalogue } from './refresh.ts'
import { registerPricingRoutes } from './routes.ts'

const ACME = '0197a1b2-0000-7000-8000-00000000ac3e'
const OTHER = '0197a1b2-0000-7000-8000-0000000000e2'
const NOW = new Date('2026-06-01T12:00:00.000Z')
const logger = pino({ level: 'silent' })
const now = () => NOW
const source = 'test catalogue'

let pool: pg.Pool
let app: App
let ratingBooks: RatingBookCache
let organizationId = ACME
let pricesAdded = 0
const cleanUp: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  const url = await freshDatabase()
  await migrate(url)
  pool = new pg.Pool({ connectionString: url, max: 5 })
  pool.on('error', () => undefined)
  cleanUp.push(() => pool.end())
  ratingBooks = await createRatingBookCache(pool)
  const metrics = createMetrics()
  app = await createApp({ logger, metrics, bodyMaxBytes: 1_000_000, version: '0' })
  app.addHook('onRequest', async (request) => {
    request.organizationId = organizationId
  })
  registerPricingRoutes(app, {
    pool,
    ratingBooks,
    metrics,
    now,
    bodyMaxBytes: 1_000_000,
    priceAdded: async () => {
      pricesAdded++
    },
  })
  await app.ready()
  cleanUp.push(() => app.close())
})

afterAll(async () => {
  for (const step of cleanUp.toReversed()) await step()
})

/** A database of its own: on the server of TEST_DATABASE_URL, else on an embedded one. */
async function freshDatabase(): Promise<string> {
  const given = process.env['TEST_DATABASE_URL']
  if (given === undefined) {
    const dataDir = await mkdtemp(join(tmpdir(), 'tokentally-prices-'))
    cleanUp.push(() => rm(dataDir, { recursive: true, force: true }))
    const database = await startEmbeddedDatabase({ dataDir, logger })
    cleanUp.push(() => database.stop())
    return database.url
  }
  const name = `tokentally_prices_${process.pid}`
  const admin = new pg.Client({ connectionString: given })
  await admin.connect()
  await admin.query(`create database ${name}`)
  cleanUp.push(async () => {
    await admin.query(`drop database ${name} with (force)`)
    await admin.end()
  })
  const url = new URL(given)
  url.pathname = `/${name}`
  return url.href
}

async function get(url: string) {
  const response = await app.inject({ method: 'GET', url })
  return { status: response.statusCode, body: response.json() }
}

async function post(payload: object) {
  const response = await app.inject({ method: 'POST', url: '/api/v1/prices', payload })
  return { status: response.statusCode, body: response.json() }
}

async function revision(): Promise<string> {
  const { rows } = await pool.query<{ revision: string }>('select revision::text from price_book')
  return rows[0]?.revision ?? ''
}

describe('importing the catalogue', () => {
  it('adds every price once; a second import adds nothing and changes no revision', async () => {
    const catalogue = await bundledCatalogue()
    const added = await importCatalogue(pool, catalogue, { source, now })
    expect(added).toBeGreaterThan(1000)
    expect(await revision()).toBe('1')
    expect(await importCatalogue(pool, catalogue, { source, now })).toBe(0)
    expect(await revision()).toBe('1')
    const book = await ratingBooks.refreshIfChanged()
    expect(book.prices.find(ACME, 'openai', ['gpt-4o-mini'], NOW.getTime())?.rates['input_tokens']).toEqual({
      per: 1_000_000,
      price: '0.15',
    })
  })

  it('two replicas at once add it once', async () => {
    const catalogue = [model('race', '1', 'first')]
    const added = await Promise.all([
      importCatalogue(pool, catalogue, { source, now }),
      importCatalogue(pool, catalogue, { source, now }),
    ])
    expect(added.toSorted()).toEqual([0, 1])
  })

  it('a changed price applies from the import on and leaves the time before alone', async () => {
    await importCatalogue(pool, [model('moved', '1', 'first')], { source, now })
    await importCatalogue(pool, [model('moved', '1.5', 'second')], { source, now })
    const later = () => new Date(NOW.getTime() + 1000)
    await importCatalogue(pool, [model('moved', '1', 'first')], { source, now: later })
    const book = await ratingBooks.refresh()
    const priceAt = (ms: number) =>
      book.prices.find(ACME, 'acme-ai', ['moved'], NOW.getTime() + ms)?.rates['input_tokens']?.price
    expect([priceAt(-1), priceAt(0), priceAt(999), priceAt(1000)]).toEqual(['1', '1.5', '1.5', '1'])
  })
})

describe('the price book', () => {
  it('refuses to change or lose a version', async () => {
    await expect(pool.query(`update price_version set model = 'x'`)).rejects.toThrow(/append-only/)
    await expect(pool.query('delete from price_version')).rejects.toThrow(/append-only/)
    await expect(pool.query('truncate price_version')).rejects.toThrow(/append-only/)
  })
})

describe('POST /api/v1/prices', () => {
  const rates = { input_tokens: { price: '0.15', per: 1_000_000 } }

  it('prices an unknown model from the beginning, for this organization alone', async () => {
    const { status, body } = await post({ provider: 'acme', model: 'acme-1', rates })
    expect(status).toBe(201)
    expect(body).toMatchObject({
      scope: 'organization',
      provider: 'acme',
      effective_from: null,
      currency: 'USD',
      rates,
    })
    const book = ratingBooks.current()
    expect(book.prices.find(ACME, 'acme', ['acme-1'], 0)?.id).toBe(body.id)
    expect(book.prices.find(OTHER, 'acme', ['acme-1'], 0)).toBeUndefined()
    expect(pricesAdded).toBe(1)
  })

  it('begins now for a model that has a price', async () => {
    const { body } = await post({ provider: 'azure.ai.openai', model: 'gpt-4o', rates })
    expect(body).toMatchObject({ provider: 'azure', effective_from: NOW.toISOString() })
  })

  it('counts the revision up', async () => {
    const before = Number(await revision())
    await post({ provider: 'acme', model: 'acme-2', rates })
    expect(Number(await revision())).toBe(before + 1)
    expect(ratingBooks.current().revision).toBe(before + 1)
  })

  it('refuses a start in the past where the model had a price, and names the field', async () => {
    const { status, body } = await post({
      provider: 'openai',
      model: 'gpt-4o-mini',
      rates,
      effective_from: '2026-06-01T11:59:59Z',
    })
    expect(status).toBe(400)
    expect(body.errors[0].path).toBe('effective_from')
  })

  it('accepts a start in the past where there was none', async () => {
    const { status, body } = await post({
      provider: 'acme',
      model: 'acme-3',
      rates,
      effective_from: '2026-01-01',
    })
    expect([status, body.effective_from]).toEqual([201, '2026-01-01T00:00:00.000Z'])
  })

  it.each([
    ['a number as price', { input_tokens: { price: 0.15, per: 1_000_000 } }, 'rates.input_tokens.price'],
    ['a negative price', { input_tokens: { price: '-1', per: 1_000_000 } }, 'rates.input_tokens.price'],
    ['an exponent', { input_tokens: { price: '1e-7', per: 1_000_000 } }, 'rates.input_tokens.price'],
    ['another unit', { input_tokens: { price: '1', per: 7 } }, 'rates.input_tokens.per'],
    ['an unknown field', { input_tokens: { price: '1', per: 1, foo: 1 } }, 'rates.input_tokens.foo'],
    ['no rates', {}, 'rates'],
  ])('refuses %s and names it', async (_name, wrong, path) => {
    const { status, body } = await post({ provider: 'acme', model: 'acme-9', rates: wrong })
    expect(status).toBe(400)
    expect(body.errors.map((error: { path: string }) => error.path)).toContain(path)
  })
})

describe('GET /api/v1/prices', () => {
  it('shows the history of a model, also by the name of a snapshot', async () => {
    const { body } = await get('/api/v1/prices?provider=openai&model=o3-2025-04-16')
    const starts = body.prices.map((price: { effective_from: string; service_tier: string }) => [
      price.effective_from,
      price.service_tier,
    ])
    expect(starts).toEqual([
      [null, null],
      ['2025-06-10T00:00:00.000Z', null],
      [null, 'priority'],
    ])
    expect(body.prices[1].rates.input_tokens).toEqual({ price: '2', per: 1_000_000 })
  })

  it('gives every price once, page by page', async () => {
    const ids: string[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const page: { body: { prices: { id: string }[]; next_cursor: string | null } } = await get(
        `/api/v1/prices?provider=openai&limit=37${cursor === '' ? '' : `&cursor=${cursor}`}`,
      )
      ids.push(...page.body.prices.map(({ id }) => id))
      cursor = page.body.next_cursor
    }
    const { rows } = await pool.query<{ count: string }>(
      `select count(*)::text from price_version where provider = 'openai'`,
    )
    expect(new Set(ids).size).toBe(ids.length)
    expect(String(ids.length)).toBe(rows[0]?.count)
  })

  it("never shows another organization's prices", async () => {
    organizationId = OTHER
    const { body } = await get('/api/v1/prices?provider=acme')
    organizationId = ACME
    expect(body.prices).toEqual([])
  })

  it('refuses what is no cursor', async () => {
    expect(await get('/api/v1/prices?cursor=nonsense')).toMatchObject({
      status: 400,
      body: { errors: [{ path: 'cursor' }] },
    })
  })
})

describe('GET /provider/{provider}/models', () => {
  it('lists the models of a provider with what they cost now', async () => {
    const { body } = await get('/provider/openai/models')
    expect(body).toMatchObject({ provider: 'openai', currency: 'USD' })
    const o3 = body.models.find(({ model }: { model: string }) => model === 'o3')
    expect(o3.rates.input_tokens).toEqual({ price: '2', per: 1_000_000 })
  })

  it('answers 404 for a provider that nobody has heard of', async () => {
    expect(await get('/provider/nobody/models')).toMatchObject({ status: 404, body: { status: 404 } })
  })
})

describe('GET /api/v1/prices/unpriced', () => {
  it('lists what has no price and why, without what was rated late', async () => {
    await event('e1', 'acme', 'nameless', null, '2026-05-01T00:00:00Z', ['input_tokens'])
    await event('e2', 'acme', 'nameless', null, '2026-05-03T00:00:00Z', ['input_tokens', 'output_tokens'])
    await event('e3', 'openai', 'gpt-4o-mini', 'scale', '2026-05-02T00:00:00Z', ['input_tokens'])
    await event('e4', 'acme', 'late', null, '2026-05-02T00:00:00Z', ['input_tokens'])
    await pool.query(
      `insert into late_rating (organization_id, event_id, ts, batch_id, dimension_set_id, rated_at, lines,
         list_cost_usd, sell_cost_usd, price_version_id)
       values ($1, 'e4', now(), 1, $1, now(), '[]', 0, 0, $1)`,
      [ACME],
    )
    const { body } = await get('/api/v1/prices/unpriced')
    expect(body.unpriced).toEqual([
      {
        provider: 'acme',
        model: 'nameless',
        response_model: null,
        service_tier: null,
        meters: ['input_tokens', 'output_tokens'],
        reason: 'no_price',
        events: 2,
        first_seen: '2026-05-01T00:00:00.000Z',
        last_seen: '2026-05-03T00:00:00.000Z',
      },
      expect.objectContaining({
        model: 'gpt-4o-mini',
        service_tier: 'scale',
        reason: 'service_tier',
        events: 1,
      }),
    ])
  })
})

async function event(
  id: string,
  provider: string,
  model: string,
  serviceTier: string | null,
  ts: string,
  meters: readonly string[],
) {
  await pool.query('select ensure_usage_partition($1)', [ts])
  await pool.query(
    `insert into usage_event (organization_id, event_id, ts, batch_id, dimension_set_id, received_at, provider,
       model, operation, service_tier, status, streamed, estimated, rating_status, lines, list_cost_usd,
       sell_cost_usd, unpriced_meters)
     values ($1, $2, $3, 1, $1, now(), $4, $5, 'chat', $6, 'ok', false, false, 'unpriced', '[]', 0, 0, $7)`,
    [ACME, id, ts, provider, model, serviceTier, meters],
  )
}

function model(name: string, price: string, edition: string): CatalogueModel {
  return {
    provider: 'acme-ai',
    model: name,
    match: { equals: name },
    prices: [{ startMs: null, rates: { input_tokens: { per: 1_000_000, price } } }],
    edition: `${name} ${edition}`,
  }
}
