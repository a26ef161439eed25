import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { z } from 'zod'
import {
  createTestDatabase,
  type ServiceOptions,
  type SpawnedService,
  spawnService,
  type TestDatabase,
  waitFor,
} from '../harness/index.ts'

/**
 * Promise 6: two ways to run, one code. With its jobs on PostgreSQL in one process, and with its jobs on Redis
 * in the roles of production, the service makes the same of the same events, to the last digit.
 */

const redisUrl = inject('redisUrl')
/** A database of Redis that no other test uses: all services on one of them share their queues. */
const REDIS_DATABASE = 12

interface Way {
  readonly database: TestDatabase
  /** Where events are sent and reports are read. */
  readonly services: readonly SpawnedService[]
}

const ways: Way[] = []
let onPostgres: Way
let onRedis: Way

async function start(options: ServiceOptions, roles: readonly string[]): Promise<Way> {
  const database = await createTestDatabase()
  const services: SpawnedService[] = []
  const way = { database, services }
  ways.push(way)
  for (const role of roles) {
    services.push(await spawnService({ ...options, databaseUrl: database.url, roles: role }))
  }
  return way
}

describe.skipIf(redisUrl === undefined)(
  'a service with jobs on PostgreSQL, and one with jobs on Redis',
  () => {
    beforeAll(async () => {
      const url = new URL(redisUrl ?? '')
      url.pathname = `/${REDIS_DATABASE}`
      onPostgres = await start({}, ['api,worker'])
      onRedis = await start({ redisUrl: url.href }, ['api', 'worker'])
      await Promise.all([onPostgres, onRedis].map(ingest))
    })
    afterAll(async () => {
      for (const { database, services } of ways) {
        for (const service of services) await service.stop()
        await database.drop()
      }
    })

    const RANGE = 'start=2026-09-01&end=2026-10-01'
    it.each([
      `/api/v1/usage?${RANGE}&limit=1000`,
      `/api/v1/costs/aggregate?${RANGE}`,
      `/api/v1/costs/aggregate?${RANGE}&group_by=customer,model&granularity=day`,
      `/api/v1/costs/aggregate?${RANGE}&group_by=user&granularity=hour&timezone=Asia/Kolkata`,
      `/api/v1/costs/aggregate?${RANGE}&group_by=tag.plan&granularity=week&timezone=America/New_York`,
      `/api/v1/costs/aggregate?start=2026-09-01T00:07:00Z&end=2026-09-20T13:31:07Z&group_by=feature`,
      `/api/v1/usage.csv?${RANGE}`,
      `/tenant/customer-1/summary?${RANGE}`,
      `/tenant/customer-1/daily?${RANGE}`,
      '/provider/openai/models',
      '/api/v1/prices/unpriced',
    ])('say the same: %s', async (path) => {
      const [first, second] = await Promise.all([onPostgres, onRedis].map((way) => get(way, path)))
      expect(first?.length).toBeGreaterThan(100)
      expect(second).toBe(first)
    })

    it('end with 0', async () => {
      for (const { services } of ways) {
        for (const service of services) expect(await service.terminate()).toBe(0)
      }
    })
  },
)

/** The same to each: JSON and spans, repeats and conflicts, and usage whose price comes later. */
async function ingest(way: Way): Promise<void> {
  const events = Array.from({ length: 300 }, (_, index) => ({
    event_id: `event-${index}`,
    ts: new Date(Date.UTC(2026, 8, 1) + index * 97 * 60_000).toISOString(),
    customer_id: `customer-${index % 5}`,
    user_id: `user-${index % 7}`,
    feature: index % 3 === 0 ? 'chat' : 'search',
    provider: index % 4 === 0 ? 'nobody' : 'openai',
    model: index % 4 === 0 ? 'unheard-of' : 'gpt-4o-mini',
    input_tokens: 1000 + index,
    cache_read_tokens: index,
    output_tokens: 7 * index,
    tags: { plan: index % 2 === 0 ? 'pro' : 'free' },
  }))
  for (let start = 0; start < events.length; start += 50) {
    const batch = events.slice(start, start + 50)
    expect(await post(way, '/api/v1/usage', batch)).toMatchObject({ accepted: 50 })
  }
  const repeated = [...events.slice(0, 10), { ...events[11], input_tokens: 1, cache_read_tokens: 0 }]
  expect(await post(way, '/api/v1/usage', repeated)).toMatchObject({
    duplicates: 10,
    rejected: [{ event_id: 'event-11' }],
  })
  const attribute = (key: string, stringValue: string) => ({ key, value: { stringValue } })
  const span = {
    traceId: '0af7651916cd43dd8448eb211c80319c',
    spanId: 'b7ad6b7169203331',
    startTimeUnixNano: `${Date.UTC(2026, 8, 5)}000000`,
    endTimeUnixNano: `${Date.UTC(2026, 8, 5) + 812}000000`,
    attributes: [
      attribute('gen_ai.provider.name', 'anthropic'),
      attribute('gen_ai.request.model', 'claude-sonnet-4-5'),
      attribute('gen_ai.usage.input_tokens', '1200'),
      attribute('tokentally.customer_id', 'customer-1'),
    ],
  }
  expect(await post(way, '/v1/traces', { resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] })).toEqual({})
  await settle(way)
  const half = {
    provider: 'nobody',
    model: 'unheard-of',
    rates: { input_tokens: { price: '1.5', per: 1_000_000 } },
  }
  await post(way, '/api/v1/prices', half)
  // Of the usage without a price only the first event has nothing but input. The list of unpriced usage groups it
  // with events that stay unpriced, so it cannot tell when that one is rated.
  await waitFor(
    async () => (await get(way, FIRST_EVENT)).includes('"status":"rated"'),
    'the price that came later is applied',
  )
  await settle(way)
}

const FIRST_EVENT = '/api/v1/usage?start=2026-09-01&end=2026-09-01T00:01:00Z'

/** Waits until the jobs have done their work: late ratings, then rollups. */
async function settle(way: Way): Promise<void> {
  await waitFor(async () => {
    const unpriced = z
      .object({ unpriced: z.array(z.object({ reason: z.string() })) })
      .parse(JSON.parse(await get(way, '/api/v1/prices/unpriced')))
    const metrics = await get(way, '/metrics')
    return (
      unpriced.unpriced.every(({ reason }) => reason !== 'pending') &&
      /^tokentally_open_batches 0$/m.test(metrics)
    )
  }, 'the jobs are done')
}

async function post({ services: [service] }: Way, path: string, body: object): Promise<unknown> {
  const response = await fetch(`${service?.url}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service?.ownerKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  expect(response.ok).toBe(true)
  return response.json()
}

/** The text of an answer, without what tells two databases apart: times of receipt, and the ids of their prices. */
async function get({ services: [service] }: Way, path: string): Promise<string> {
  const response = await fetch(`${service?.url}${path}`, {
    headers: { authorization: `Bearer ${service?.ownerKey}` },
  })
  expect([path, response.status]).toEqual([path, 200])
  const text = await response.text()
  return text.replaceAll(/"(received_at|price_version_id|effective_from)":"[^"]+"/g, '"$1":"…"')
}
