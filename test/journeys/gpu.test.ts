import { pino } from 'pino'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { readConfig } from '../../apps/server/src/config.ts'
import { scrapeTargets } from '../../apps/server/src/gpu/scrape.ts'
import { createMetrics } from '../../apps/server/src/telemetry/metrics.ts'
import { call, sendUsage, submissionOf } from '../contract/api-client.ts'
import { dcgmText, type FakeExporter, startFakeExporter, vllmText } from '../fake-provider/gpu-exporters.ts'
import { createTestDatabase, spawnService, type TestDatabase, waitFor } from '../harness/index.ts'

/**
 * A host of open models: its exporters, the service in its two roles, calls of two customers, and at the end what
 * a million tokens cost. The worker is killed on the way.
 */

let database: TestDatabase
let dcgm: FakeExporter
let vllm: FakeExporter
const closers: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  database = await createTestDatabase()
  dcgm = await startFakeExporter()
  vllm = await startFakeExporter()
  closers.push(
    () => database.drop(),
    () => vllm.stop(),
    () => dcgm.stop(),
  )
})
afterAll(async () => {
  for (const close of closers.toReversed()) await close()
})

const MODEL = 'meta-llama/Llama-3.1-8B-Instruct'
const MINUTE_MS = 60_000
const WATCHED_MINUTES = 3

it('a worker that is killed and started again bills each GPU second once', async () => {
  const environment = {
    TOKENTALLY_GPU_TARGETS: JSON.stringify([
      { name: 'node-1', dcgm: dcgm.url, vllm: vllm.url, model: MODEL },
    ]),
  }
  const api = await spawnService({ databaseUrl: database.url, roles: 'api' })
  closers.push(() => api.stop())

  // Three minutes that ended a while ago: the same looks as the worker's, at their own times.
  const { gpuTargets } = readConfig(environment, false)
  const metrics = createMetrics()
  const logger = pino({ level: 'silent' })
  const { rows: organizations } = await database.pool.query<{ id: string }>('select id from organization')
  const startMs = Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS - 30 * MINUTE_MS
  dcgm.say(
    dcgmText([{ uuid: 'GPU-58e8f5ea-13cc-013a-d88f-2bcf5ae8bc77', active: 0.5, util: 50, watts: 400 }]),
  )
  for (let ms = startMs; ms <= startMs + WATCHED_MINUTES * MINUTE_MS; ms += 15_000) {
    const tokens = (ms - startMs) / 100
    vllm.say(vllmText([{ model: MODEL, promptTokens: tokens, generationTokens: tokens / 2, running: 1 }]))
    const now = () => new Date(ms)
    await scrapeTargets({ pool: database.pool, metrics, logger, now }, organizations[0]?.id ?? '', gpuTargets)
  }
  const prices = {
    provider: 'vllm',
    model: MODEL,
    rates: {
      input_tokens: { price: '0', per: 1000000 },
      output_tokens: { price: '0', per: 1000000 },
      gpu_seconds: { price: '0.001', per: 1 },
      gpu_idle_seconds: { price: '0.001', per: 1 },
    },
  }
  expect((await call(api, '/api/v1/prices', { body: prices })).status).toBe(201)
  const usage = ['acme', 'globex'].map((customer, index) => ({
    event_id: `call-${index}`,
    ts: new Date(startMs + 1000).toISOString(),
    provider: 'vllm',
    model: MODEL,
    customer_id: customer,
    input_tokens: 0,
    output_tokens: 450,
    latency_ms: WATCHED_MINUTES * MINUTE_MS - 1000,
  }))
  expect(submissionOf(await sendUsage(api, usage))).toMatchObject({ accepted: 2 })

  // The first worker dies as soon as something is decided, wherever that leaves it.
  const first = await spawnService({ databaseUrl: database.url, roles: 'worker', environment })
  const closed = async () => {
    const { rows } = await database.pool.query<{ count: number }>(
      'select count(*)::int as count from gpu_interval',
    )
    return rows[0]?.count ?? 0
  }
  await waitFor(async () => (await closed()) > 0, 'a minute is closed')
  await first.kill()

  const second = await spawnService({ databaseUrl: database.url, roles: 'worker', environment })
  closers.push(() => second.stop())
  const asked = dcgm.asked()
  await waitFor(
    async () => {
      const { rows } = await database.pool.query<{ done: boolean }>(
        `select count(*) filter (where appended_at is null) = 0 and count(*) >= 5 as done from gpu_interval`,
      )
      return rows[0]?.done === true
    },
    'the next worker has closed and appended what was left',
    90_000,
  )
  await waitFor(() => dcgm.asked() > asked, 'the next worker looks at the GPUs')

  const end = new Date(startMs + 10 * MINUTE_MS).toISOString()
  const answer = await call(api, `/api/v1/gpu?start=${new Date(startMs).toISOString()}&end=${end}`)
  expect(z.looseObject({ models: z.array(z.unknown()) }).parse(answer.json).models).toMatchObject([
    {
      provider: 'vllm',
      model: MODEL,
      gpu_seconds: 90,
      gpu_unattributed_seconds: 0,
      gpu_idle_seconds: 90,
      utilization: 0.5,
      output_tokens: 900,
      served_input_tokens: 1800,
      served_output_tokens: 900,
      gpu_cost: '0.09',
      total_cost: '0.18',
      cost_per_million_tokens: '100',
      total_cost_per_million_tokens: '200',
    },
  ])
  // The same in the ordinary report, by customer.
  const costs = await call(
    api,
    `/api/v1/costs/aggregate?group_by=operation,customer&start=${new Date(startMs).toISOString()}&end=${end}`,
  )
  expect(z.looseObject({ groups: z.array(z.unknown()) }).parse(costs.json).groups).toMatchObject([
    { operation: 'chat', customer: 'acme', total_cost: '0' },
    { operation: 'chat', customer: 'globex', total_cost: '0' },
    { operation: 'gpu', customer: 'acme', total_cost: '0.045' },
    { operation: 'gpu', customer: 'globex', total_cost: '0.045' },
    { operation: 'gpu_idle', customer: null, total_cost: '0.09' },
  ])
  const metricsText = await (await fetch(`${second.url}/metrics`)).text()
  expect(metricsText).toContain('tokentally_gpu_scrapes_total{target="node-1",exporter="dcgm"}')
}, 120_000)
