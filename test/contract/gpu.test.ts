import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { readConfig } from '../../apps/server/src/config.ts'
import { closeIntervals } from '../../apps/server/src/gpu/close-intervals.ts'
import { type ScrapeDependencies, scrapeTargets } from '../../apps/server/src/gpu/scrape.ts'
import type { GpuTarget } from '../../apps/server/src/gpu-targets.ts'
import { Ledger, rateLate } from '../../apps/server/src/ledger/index.ts'
import { createRatingBookCache } from '../../apps/server/src/pricing/index.ts'
import { createMetrics, type Metrics } from '../../apps/server/src/telemetry/metrics.ts'
import {
  dcgmText,
  type FakeExporter,
  type FakeGpu,
  startFakeExporter,
  vllmText,
} from '../fake-provider/gpu-exporters.ts'
import {
  createTestDatabase,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'
import { call, sendUsage, submissionOf } from './api-client.ts'

/** GPU time from the exporters' text to the report, on a clock that the tests move. */

const logger = pino({ level: 'silent' })
const MINUTE_MS = 60_000
const FIRST_DAY_MS = Date.UTC(2026, 9, 1, 12)
let clockMs = FIRST_DAY_MS
const now = () => new Date(clockMs)

let database: TestDatabase
let service: TestService
let ledger: Ledger
let metrics: Metrics
let organizationId: string
let dcgm: FakeExporter
let vllm: FakeExporter
/** Every test has a day and a model of its own. */
let day = 0
let startMs = 0
let model = ''
let target: GpuTarget

beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, roles: 'api', now })
  metrics = createMetrics()
  const ratingBooks = await createRatingBookCache(database.pool)
  ledger = new Ledger({ pool: database.pool, ratingBooks, metrics, now, onAppended: () => undefined })
  const { rows } = await database.pool.query<{ id: string }>('select id from organization')
  organizationId = rows[0]?.id ?? ''
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

beforeEach(async () => {
  dcgm = await startFakeExporter()
  vllm = await startFakeExporter()
  day++
  startMs = FIRST_DAY_MS + day * 24 * 60 * MINUTE_MS
  clockMs = startMs
  model = `llama-${day}`
  target = configured({ model })
})
afterEach(async () => {
  await dcgm.stop()
  await vllm.stop()
})

/** The target of the test as the service reads it from its environment. */
function configured(serving: object): GpuTarget {
  const json = [{ name: `node-${day}`, dcgm: dcgm.url, vllm: vllm.url, ...serving }]
  const [target] = readConfig({ TOKENTALLY_GPU_TARGETS: JSON.stringify(json) }, false).gpuTargets
  if (target === undefined) throw new Error('there is no target')
  return target
}

const scrape = (overrides: Partial<ScrapeDependencies> = {}) =>
  scrapeTargets({ pool: database.pool, metrics, logger, now, ...overrides }, organizationId, [target])

const close = (overrides: Partial<Parameters<typeof closeIntervals>[0]> = {}) =>
  closeIntervals({ pool: database.pool, ledger, metrics, logger, now, ...overrides })

/** Looks at GPUs that stay as they are: at `from` and every 15 seconds until `to`, both in seconds of the test. */
async function watch(gpus: readonly FakeGpu[], from: number, to: number): Promise<void> {
  dcgm.say(dcgmText(gpus))
  for (let second = from; second <= to; second += 15) {
    clockMs = startMs + second * 1000
    await scrape()
  }
}

/** Everything until now is due. */
async function closeAll(): Promise<void> {
  clockMs = startMs + 3 * 3_600_000
  await close()
}

const at = (second: number) => new Date(startMs + second * 1000).toISOString()
let calls = 0
const llmCall = (fields: object) => ({
  event_id: `call-${calls++}`,
  provider: 'vllm',
  model,
  input_tokens: 0,
  output_tokens: 100,
  ...fields,
})
async function ingest(...events: readonly object[]): Promise<void> {
  expect(submissionOf(await sendUsage(service, events))).toMatchObject({ accepted: events.length })
}

async function price(rates: object): Promise<void> {
  const answer = await call(service, '/api/v1/prices', { body: { provider: 'vllm', model, rates } })
  expect(answer.status).toBe(201)
}

/** What the ledger holds of the model's GPU time, summed by SQL. */
async function ledgerRows(): Promise<unknown[]> {
  const { rows } = await database.pool.query(
    `select event.operation, event.customer_id, line.meter, sum(line.quantity)::text as units,
       sum(line.cost_usd)::text as cost
     from usage_event as event
     cross join lateral jsonb_to_recordset(event.lines) as line (meter text, quantity numeric, cost_usd numeric)
     where event.model = $1 and event.operation like 'gpu%'
     group by 1, 2, 3
     order by 1, 2 nulls first, 3`,
    [model],
  )
  return rows
}

async function intervalSums() {
  const { rows } = await database.pool.query(
    `select sum(attributed_us)::text as attributed, sum(unattributed_us)::text as unattributed,
       sum(idle_us)::text as idle, sum(unknown_us)::text as unknown, count(*)::int as minutes
     from gpu_interval where model = $1`,
    [model],
  )
  return rows[0]
}

const reportSchema = z.looseObject({
  currency: z.literal('USD'),
  models: z.array(z.looseObject({ model: z.string() })),
  totals: z.looseObject({}),
})
async function report(query = ''): Promise<z.infer<typeof reportSchema>> {
  const range = `start=${at(-3600)}&end=${at(3 * 3600)}`
  const answer = await call(service, `/api/v1/gpu?${range}${query}`)
  expect(answer.text).toContain('"currency"')
  return reportSchema.parse(answer.json)
}

const BUSY = [
  { uuid: 'GPU-1', active: 0.75, util: 80, watts: 600 },
  { uuid: 'GPU-2', active: 0.333333, util: 30 },
]

describe('from scrape to report', () => {
  it('shows what a million tokens cost on one’s own GPUs, to the last digit', async () => {
    await price({
      input_tokens: { price: '0', per: 1000000 },
      output_tokens: { price: '0', per: 1000000 },
      gpu_seconds: { price: '0.0007', per: 1 },
      gpu_idle_seconds: { price: '0.7', per: 1000 },
      requests: { price: '5', per: 1000 },
    })
    await watch(BUSY, 0, 120)
    await ingest(
      llmCall({ ts: at(5), latency_ms: 50_000, customer_id: 'acme', feature: 'chat' }),
      llmCall({ ts: at(5), latency_ms: 50_000, customer_id: 'globex', input_tokens: 800 }),
      llmCall({ ts: at(60), latency_ms: 60_000, customer_id: 'acme', feature: 'chat', user_id: 'u1' }),
    )
    await closeAll()

    // Busy: 60 s of 1.083333 GPUs a minute. Weights of the first minute: 4000 and 12000.
    const minuteUs = 64_999_980n
    const acmeUs = minuteUs / 4n + minuteUs
    const globexUs = (minuteUs * 3n) / 4n
    expect(await ledgerRows()).toEqual([
      {
        operation: 'gpu',
        customer_id: 'acme',
        meter: 'gpu_seconds',
        units: '81.249975',
        cost: '0.0568749825',
      },
      {
        operation: 'gpu',
        customer_id: 'globex',
        meter: 'gpu_seconds',
        units: '48.749985',
        cost: '0.0341249895',
      },
      {
        operation: 'gpu_idle',
        customer_id: null,
        meter: 'gpu_idle_seconds',
        units: '110.00004',
        cost: '0.077000028',
      },
    ])
    expect([acmeUs, globexUs]).toEqual([81_249_975n, 48_749_985n])
    expect(await intervalSums()).toMatchObject({
      attributed: '129999960',
      unattributed: '0',
      idle: '110000040',
      minutes: 63,
    })

    const { models, totals, currency } = await report()
    expect(currency).toBe('USD')
    expect(models).toEqual([
      {
        provider: 'vllm',
        model,
        gpu_seconds: 129.99996,
        gpu_unattributed_seconds: 0,
        gpu_idle_seconds: 110.00004,
        gpu_unknown_seconds: 7320,
        utilization: 0.541666,
        input_tokens: 800,
        output_tokens: 300,
        total_tokens: 1100,
        served_input_tokens: null,
        served_output_tokens: null,
        unpriced_events: 0,
        gpu_cost: '0.090999972',
        gpu_unattributed_cost: '0',
        gpu_idle_cost: '0.077000028',
        total_cost: '0.168',
        cost_per_million_tokens: '82.727247272727',
        total_cost_per_million_tokens: '152.727272727273',
      },
    ])
    expect(totals).toMatchObject({ gpu_seconds: 129.99996, total_cost: '0.168' })
  })

  it('shows buckets, where the zone cuts them', async () => {
    await watch(BUSY, 0, 75)
    await closeAll()
    const byHour = await report('&granularity=hour&timezone=Asia/Kolkata')
    expect(byHour.models.map((line) => [line['bucket'], line['gpu_idle_seconds']])).toEqual([
      [expect.stringMatching(/T17:00:00\+05:30$/), 68.750025],
      [expect.stringMatching(/T18:00:00\+05:30$/), 0],
    ])
    const byDay = await report('&granularity=day')
    expect(byDay.models).toHaveLength(1)
    expect(byDay.models[0]).toMatchObject({ bucket: at(0).slice(0, 10) })
  })

  it('needs a key that may read, and a range', async () => {
    expect((await call(service, '/api/v1/gpu', { key: null })).status).toBe(401)
    expect((await call(service, '/api/v1/gpu?start=tomorrow')).status).toBe(400)
    expect((await call(service, '/api/v1/gpu?granularity=second')).status).toBe(400)
  })
})

describe('money of GPU time', () => {
  it('is unknown without a price, not zero, and known once a price is there', async () => {
    await watch([{ uuid: 'GPU-1', active: 0.5 }], 0, 60)
    await ingest(llmCall({ ts: at(1), latency_ms: 30_000, customer_id: 'acme' }))
    await closeAll()
    expect((await report()).models).toMatchObject([
      {
        gpu_seconds: 30,
        gpu_idle_seconds: 30,
        unpriced_events: 2,
        gpu_cost: null,
        gpu_idle_cost: null,
        total_cost: null,
        cost_per_million_tokens: null,
        total_cost_per_million_tokens: null,
      },
    ])
    const unpriced = await call(service, '/api/v1/prices/unpriced')
    expect(unpriced.text).toContain('gpu_idle_seconds')

    // 2.50 dollars an hour, as the price of a million seconds with all the digits that a price may have.
    await price({ gpu_seconds: { price: '694.444444444444444444', per: 1000000 } })
    await rateLate(database.pool, await (await createRatingBookCache(database.pool)).refresh(), now)
    expect((await report()).models).toMatchObject([
      { gpu_cost: '0.02083333333333333333332', gpu_idle_cost: null, total_cost: null, unpriced_events: 1 },
    ])
  })
})

describe('busy time without a call', () => {
  it('is shown apart: neither idle nor anybody’s', async () => {
    await watch([{ uuid: 'GPU-1', active: 0.25 }], 0, 60)
    await ingest(
      llmCall({ ts: at(10), status: 'error', customer_id: 'acme', output_tokens: 0 }),
      llmCall({ ts: at(10), model: 'another', customer_id: 'acme' }),
      llmCall({ ts: at(10), provider: 'another', customer_id: 'acme' }),
    )
    await closeAll()
    expect(await ledgerRows()).toMatchObject([
      { operation: 'gpu_idle', customer_id: null, meter: 'gpu_idle_seconds', units: '45' },
      { operation: 'gpu_unattributed', customer_id: null, meter: 'gpu_seconds', units: '15' },
    ])
    expect((await report()).models).toMatchObject([
      { gpu_seconds: 0, gpu_unattributed_seconds: 15, gpu_idle_seconds: 45, utilization: 0.25 },
    ])
  })
})

describe('once', () => {
  const prepare = async () => {
    await watch(BUSY, 0, 180)
    await ingest(
      llmCall({ ts: at(2), latency_ms: 170_000, customer_id: 'acme' }),
      llmCall({ ts: at(2), latency_ms: 170_000, customer_id: 'globex', output_tokens: 271 }),
    )
  }
  const late = () => llmCall({ ts: at(30), latency_ms: 60_000, customer_id: 'late', output_tokens: 5000 })

  it('a second run, and one beside it, add nothing', async () => {
    await prepare()
    await closeAll()
    const first = await ledgerRows()
    expect(first).toHaveLength(3)
    await Promise.all([close(), close()])
    expect(await ledgerRows()).toEqual(first)
  })

  it.each([
    ['before the ledger had the events', false],
    ['after the ledger had the events, before that was noted', true],
  ])('killed %s, what was decided stands, whatever arrived since', async (_name, isAppended) => {
    await prepare()
    clockMs = startMs + 3 * 3_600_000
    const dies: Pick<Ledger, 'append'> = {
      async append(organization, events) {
        if (isAppended) await ledger.append(organization, events)
        throw new Error('killed')
      },
    }
    await expect(close({ ledger: dies })).rejects.toThrow('killed')
    await ingest(late())
    await close()
    await close()
    const rows = await ledgerRows()
    expect(rows).toMatchObject([{ customer_id: 'acme' }, { customer_id: 'globex' }, { customer_id: null }])
    const sums = await intervalSums()
    const units = z.array(z.object({ units: z.string() })).parse(rows)
    const ledgerUs = units.reduce((sum, row) => sum + BigInt(Math.round(Number(row.units) * 1e6)), 0n)
    expect(ledgerUs).toBe(BigInt(sums?.attributed) + BigInt(sums?.idle))
    // Three minutes of two GPUs, all of it.
    expect(ledgerUs).toBe(360_000_000n)
    const { rows: open } = await database.pool.query(
      'select 1 from gpu_interval where model = $1 and appended_at is null',
      [model],
    )
    expect(open).toEqual([])
  })

  it('killed before anything was decided, a minute is closed by the next run', async () => {
    await prepare()
    clockMs = startMs + 3 * 3_600_000
    await ingest(late())
    await close()
    expect(await ledgerRows()).toMatchObject([
      { customer_id: 'acme' },
      { customer_id: 'globex' },
      { customer_id: 'late' },
      { customer_id: null },
    ])
  })

  it('two looks within the same quarter of a minute count as one', async () => {
    await watch(BUSY, 0, 60)
    clockMs = startMs + 61_000
    dcgm.say(dcgmText([{ uuid: 'GPU-1', active: 1 }]))
    await scrape()
    await closeAll()
    expect(await intervalSums()).toMatchObject({ unattributed: '64999980', idle: '55000020' })
  })

  it('waits five minutes for the calls of a minute', async () => {
    await watch(BUSY, 0, 75)
    clockMs = startMs + 6 * MINUTE_MS - 1
    await close()
    expect((await intervalSums())?.minutes).toBe(0)
    clockMs++
    await close()
    expect((await intervalSums())?.minutes).toBe(1)
  })
})

describe('what is not known', () => {
  it('a target that is down leaves a gap that is neither busy nor idle', async () => {
    await watch([{ uuid: 'GPU-1', active: 1 }], 0, 60)
    dcgm.answer((_request, response) => response.writeHead(500).end())
    for (const second of [75, 90, 105, 120, 135, 150, 165]) {
      clockMs = startMs + second * 1000
      await scrape()
    }
    await watch([{ uuid: 'GPU-1', active: 1 }], 180, 240)
    await closeAll()
    const { rows } = await database.pool.query(
      `select unattributed_us::int as busy, idle_us::int as idle, unknown_us::int as unknown
       from gpu_interval where model = $1 order by started_at limit 5`,
      [model],
    )
    expect(rows).toEqual([
      { busy: 60_000_000, idle: 0, unknown: 0 },
      { busy: 0, idle: 0, unknown: 60_000_000 },
      // The look at 180 s speaks for the 15 seconds before it.
      { busy: 15_000_000, idle: 0, unknown: 45_000_000 },
      { busy: 60_000_000, idle: 0, unknown: 0 },
      { busy: 0, idle: 0, unknown: 60_000_000 },
    ])
  })

  it('a GPU that vanishes is unknown for an hour, then gone; one that comes back goes on', async () => {
    await watch(BUSY, 0, 60)
    clockMs = startMs + 2 * 3_600_000 + 20_000
    dcgm.say(dcgmText([BUSY[0] ?? { uuid: '' }]))
    await scrape()
    await closeAll()
    const { rows } = await database.pool.query(
      `select sum(unknown_us)::text as unknown, max(started_at) as last
       from gpu_interval where model = $1 and started_at < $2`,
      [model, at(90 * 60)],
    )
    // Both GPUs, from the second minute to the one that begins an hour after the last look.
    expect(rows[0]).toEqual({ unknown: String(61 * 2 * 60_000_000), last: new Date(at(61 * 60)) })
    const back = await database.pool.query(
      'select gpus, idle_us::int as idle from gpu_interval where model = $1 and started_at > $2 order by started_at limit 1',
      [model, at(90 * 60)],
    )
    expect(back.rows).toEqual([{ gpus: 1, idle: 3_750_000 }])
  })

  it('a MIG instance counts as a GPU of its own', async () => {
    target = configured({
      gpus: { 'GPU-1/7': { model }, 'GPU-2': { model: `${model}-other` } },
    })
    const mig = (id: string, active: number) => ({
      uuid: 'GPU-1',
      active,
      mig: { id, profile: '1g.10gb' },
    })
    await watch([mig('7', 0.5), mig('8', 1), { uuid: 'GPU-2', active: 1 }], 0, 60)
    await closeAll()
    expect(await intervalSums()).toMatchObject({ unattributed: '30000000', idle: '30000000' })
  })
})

describe('tokens that vLLM counted', () => {
  it('stand beside those of the ledger, across a restart', async () => {
    const counters = [
      [0, 1000, 500],
      [15, 1400, 600],
      [30, 30, 10],
      [45, 130, 60],
    ] as const
    dcgm.say(dcgmText(BUSY))
    for (const [second, promptTokens, generationTokens] of counters) {
      clockMs = startMs + second * 1000
      vllm.say(
        vllmText([
          { model: 'served under another name', promptTokens, generationTokens, running: 2 },
          { model: 'served under another name', engine: 1, promptTokens: 5, generationTokens: 5 },
        ]),
      )
      await scrape()
    }
    await closeAll()
    expect((await report()).models).toMatchObject([
      { served_input_tokens: 400 + 30 + 100, served_output_tokens: 100 + 10 + 50 },
    ])
  })
})

describe('a scrape', () => {
  const failures = async (exporter: string) => {
    const { values } = await metrics.gpuScrapeFailures.get()
    return Object.fromEntries(
      values
        .filter(({ labels }) => labels.target === target.name && labels.exporter === exporter)
        .map(({ labels, value }) => [labels.reason, value]),
    )
  }

  it('that fails is counted by its reason, and stores nothing', async () => {
    const elsewhere = await startFakeExporter()
    elsewhere.say(dcgmText(BUSY))
    dcgm.answer((_request, response) => response.writeHead(302, { location: elsewhere.url }).end())
    await scrape()
    // Not followed: nobody can point the service at somebody else.
    expect(elsewhere.asked()).toBe(0)
    await elsewhere.stop()
    expect(await failures('dcgm')).toEqual({ status: 1 })

    dcgm.say('<!doctype html>')
    await scrape()
    dcgm.say('# HELP up\nup 1\n')
    await scrape()
    dcgm.say(dcgmText(BUSY))
    await scrape({ bytesMax: 1000 })
    const both = target
    target = { ...target, vllmUrls: [] }
    dcgm.answer(() => undefined)
    await scrape({ timeoutMs: 50 })
    dcgm.answer((_request, response) => response.writeHead(200).write('a 1\n'))
    await scrape({ timeoutMs: 50 })
    target = both
    dcgm.answer((request) => request.socket.destroy())
    await scrape()
    expect(await failures('dcgm')).toEqual({
      status: 1,
      unreadable: 1,
      empty: 1,
      too_large: 1,
      timeout: 2,
      unreachable: 1,
    })
    // vLLM answered 503 all the while; the two have nothing to do with each other.
    expect(await failures('vllm')).toEqual({ status: 5 })
    const { rows } = await database.pool.query('select 1 from gpu_sample where target = $1', [target.name])
    expect(rows).toEqual([])
  })

  it('of a target that hangs holds up no other', async () => {
    const hangs = target
    let release = () => undefined as unknown
    dcgm.answer((_request, response) => {
      release = () => response.writeHead(503).end()
    })
    const other = await startFakeExporter()
    other.say(dcgmText(BUSY))
    const fine = { ...configured({ model }), name: `other-${day}`, dcgmUrl: other.url }
    const looking = scrapeTargets({ pool: database.pool, metrics, logger, now }, organizationId, [
      hangs,
      fine,
    ])
    let rows: unknown[] = []
    await waitFor(async () => {
      const result = await database.pool.query(
        'select target, gpu, busy_ppm, source, power_watts from gpu_sample where model = $1 order by gpu',
        [model],
      )
      rows = result.rows
      return rows.length > 0
    }, 'the other target is looked at')
    release()
    await looking
    await other.stop()
    expect(rows).toEqual([
      {
        target: fine.name,
        gpu: 'GPU-1',
        busy_ppm: 750_000,
        source: 'gr_engine_active',
        power_watts: 600,
      },
      {
        target: fine.name,
        gpu: 'GPU-2',
        busy_ppm: 333_333,
        source: 'gr_engine_active',
        power_watts: null,
      },
    ])
  })
})
