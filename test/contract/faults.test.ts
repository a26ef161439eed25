import { randomBytes, randomUUID } from 'node:crypto'
import { afterEach, describe, expect, inject, it } from 'vitest'
import { z } from 'zod'
import {
  createTestDatabase,
  type SpawnedService,
  spawnService,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'
import { type Answer, call, countEvents, problemOf, sendUsage, submissionOf } from './api-client.ts'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'

/** Servers that go away and come back: clear answers meanwhile, nothing lost, and the service heals by itself. */

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

/** A database of the test's own, reached by the service through a proxy. */
async function proxiedDatabase(): Promise<{ database: TestDatabase; proxy: TcpProxy }> {
  const database = await createTestDatabase()
  closers.push(() => database.drop())
  const proxy = await startTcpProxy(database.url, 5432)
  closers.push(() => proxy.close())
  return { database, proxy }
}

const usage = () => ({ event_id: randomUUID(), provider: 'openai', model: 'gpt-4o-mini', input_tokens: 1 })
const spanRequest = () => {
  const attribute = (key: string, stringValue: string) => ({ key, value: { stringValue } })
  const attributes = [
    attribute('gen_ai.provider.name', 'openai'),
    attribute('gen_ai.request.model', 'gpt-4o-mini'),
    attribute('gen_ai.usage.input_tokens', '1'),
  ]
  const span = {
    traceId: randomBytes(16).toString('hex'),
    spanId: randomBytes(8).toString('hex'),
    startTimeUnixNano: `${Date.now()}000000`,
    endTimeUnixNano: `${Date.now()}000000`,
    attributes,
  }
  return { resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] }
}

/** Senders that repeat every request, with the same ids, until it is acknowledged. */
class Senders {
  readonly refusals: Answer[] = []
  acknowledged = 0
  #isRunning = true
  #isAbandoned = false
  readonly #running: Promise<void>[] = []

  constructor(service: TestService) {
    const json = () => ({ path: '/api/v1/usage', body: [usage(), usage(), usage()], events: 3 })
    const otlp = () => ({ path: '/v1/traces', body: spanRequest(), events: 1 })
    for (const make of [json, json, otlp]) this.#running.push(this.#send(service, make))
    // A test that failed leaves them behind.
    closers.push(async () => {
      this.#isRunning = false
      this.#isAbandoned = true
      await Promise.allSettled(this.#running)
    })
  }

  async #send(
    service: TestService,
    make: () => { path: string; body: unknown; events: number },
  ): Promise<void> {
    while (this.#isRunning) {
      const { path, body, events } = make()
      for (;;) {
        const answer = await call(service, path, { body })
        if (answer.status === 200) break
        if (this.#isAbandoned) return
        this.refusals.push(answer)
      }
      this.acknowledged += events
    }
  }

  /** Resolves once that many more events are acknowledged. */
  async progress(): Promise<void> {
    const goal = this.acknowledged + 300
    await waitFor(() => this.acknowledged >= goal, 'events to be acknowledged')
  }

  async stop(): Promise<void> {
    this.#isRunning = false
    await Promise.all(this.#running)
  }
}

/** An answer to try again later. */
function expectUnavailable(answer: Answer): void {
  expect([answer.status, answer.text]).toEqual([503, expect.any(String)])
  expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
}

async function expectAllThere(service: TestService, database: TestDatabase, senders: Senders): Promise<void> {
  expect(await countEvents(database.pool)).toBe(senders.acknowledged)
  const { json } = await call(service, '/api/v1/costs/aggregate')
  expect(json).toMatchObject({ totals: { requests: senders.acknowledged } })
}

async function expectRunning(service: SpawnedService): Promise<void> {
  expect(service.output()).not.toMatch(/unhandled|uncaught/i)
  expect(await service.terminate()).toBe(0)
}

describe('a database that goes away', () => {
  it('is answered with 503 and Retry-After, and the service heals when it is back; nothing is lost or doubled', async () => {
    const { database, proxy } = await proxiedDatabase()
    const service = await spawnService({ databaseUrl: proxy.url })
    closers.push(() => service.kill())
    const senders = new Senders(service)
    for (let outage = 0; outage < 3; outage++) {
      await senders.progress()
      const { length } = senders.refusals
      await proxy.cut()
      await waitFor(() => senders.refusals.length >= length + 20, 'requests to be refused')

      for (const path of [
        '/api/v1/usage',
        '/api/v1/costs/aggregate',
        '/api/v1/usage.csv',
        '/tenant/acme/daily',
        '/api/v1/prices',
        '/api/v1/keys',
        '/api/v1/dead-letters',
      ]) {
        const answer = await call(service, path)
        expectUnavailable(answer)
        problemOf(answer, 503)
        expect(answer.headers.get('content-disposition')).toBeNull()
      }
      const notReady = await call(service, '/readyz', { key: null })
      expectUnavailable(notReady)
      expect(problemOf(notReady, 503).errors).toContainEqual(expect.objectContaining({ path: 'database' }))
      expect((await call(service, '/healthz', { key: null })).status).toBe(200)
      expect((await call(service, '/metrics', { key: null })).status).toBe(200)
      // A key that the service has not seen before cannot be judged.
      expectUnavailable(await call(service, '/api/v1/usage', { key: `tt_${randomUUID()}`, body: usage() }))
      // What is wrong in itself is said at once.
      problemOf(await sendUsage(service, '{'), 400)

      await proxy.restore()
      await senders.progress()
      await waitFor(async () => (await call(service, '/readyz')).status === 200, 'the service is ready')
    }
    await senders.stop()
    for (const refusal of senders.refusals) expectUnavailable(refusal)
    await expectAllThere(service, database, senders)
    await waitFor(
      async () => /^tokentally_open_batches 0$/m.test((await call(service, '/metrics')).text),
      'the rollups are made',
    )
    await expectAllThere(service, database, senders)
    await expectRunning(service)
  })

  it('may break connections in the middle of a commit, again and again', async () => {
    const { database, proxy } = await proxiedDatabase()
    const service = await spawnService({ databaseUrl: proxy.url })
    closers.push(() => service.kill())
    const senders = new Senders(service)
    for (let time = 0; time < 8; time++) {
      await senders.progress()
      if (time % 2 === 0) proxy.breakConnections()
      else {
        await database.pool.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'tokentally%' and application_name <> 'tokentally test'",
        )
      }
    }
    await senders.stop()
    for (const refusal of senders.refusals) expectUnavailable(refusal)
    await expectAllThere(service, database, senders)
    await expectRunning(service)
  })

  it('is waited for at the start', async () => {
    const { proxy } = await proxiedDatabase()
    await proxy.cut()
    const port = await freePort()
    const url = `http://127.0.0.1:${port}`
    const starting = spawnService({ databaseUrl: proxy.url, port })
    closers.push(async () => (await starting).kill())
    await waitFor(async () => (await fetch(`${url}/healthz`)).ok, 'the port is open')
    for (const path of ['/readyz', '/api/v1/usage']) {
      const answer = await fetch(url + path)
      expect([path, answer.status, answer.headers.get('retry-after')]).toEqual([path, 503, '1'])
      expect(await answer.json()).toMatchObject({ status: 503, errors: [{ path: 'migrations' }] })
    }
    await proxy.restore()
    const service = await starting
    expect(submissionOf(await sendUsage(service, usage())).accepted).toBe(1)
  })

  it('is not taken for one that refuses us: that ends the start with a line that names DATABASE_URL', async () => {
    const database = await createTestDatabase()
    closers.push(() => database.drop())
    const wrong = new URL(database.url)
    wrong.pathname = '/no_such_database'
    await expect(spawnService({ databaseUrl: wrong.href })).rejects.toThrow(
      /ended with 1:\nDATABASE_URL: .*no_such_database.*\n$/,
    )
  })
})

describe('more than the service can take', () => {
  it('is answered with 429 and Retry-After; what was acknowledged is there, what was refused is not', async () => {
    const database = await createTestDatabase()
    closers.push(() => database.drop())
    const service = await startService({ databaseUrl: database.url })
    closers.push(() => service.stop())
    const body = Array.from({ length: 10_000 }, () => ({
      provider: 'openai',
      model: 'gpt-4o-mini',
      input_tokens: 1,
    }))
    const lock = await database.pool.connect()
    await lock.query('begin; lock table event_key in access exclusive mode')
    const answers: Answer[] = []
    const sent = Array.from({ length: 10 }, async () => {
      answers.push(await sendUsage(service, body))
    })
    await waitFor(() => answers.length > 0, 'a request to be refused')
    const refused = [...answers]
    const single = await sendUsage(service, body.slice(0, 1))
    await lock.query('commit')
    lock.release()
    await Promise.all(sent)
    for (const answer of refused) {
      problemOf(answer, 429)
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
    }
    const taken = answers.filter(({ status }) => status === 200)
    expect(taken.length + answers.filter(({ status }) => status === 429).length).toBe(10)
    const accepted = [...taken, ...(single.status === 200 ? [single] : [])].map(
      (answer) => submissionOf(answer).accepted,
    )
    expect(await countEvents(database.pool)).toBe(accepted.reduce((sum, count) => sum + count, 0))
    expect(submissionOf(await sendUsage(service, body)).accepted).toBe(10_000)
  })
})

const redisUrl = inject('redisUrl')
describe.skipIf(redisUrl === undefined)('a Redis that goes away', () => {
  it('stops no event and no report, is named by readyz, and the jobs go on when it is back', async () => {
    const database = await createTestDatabase()
    closers.push(() => database.drop())
    const proxy = await startTcpProxy(redisUrlOfDatabase(11), 6379)
    closers.push(() => proxy.close())
    const service = await spawnService({ databaseUrl: database.url, redisUrl: proxy.url })
    closers.push(() => service.kill())
    const senders = new Senders(service)
    await senders.progress()
    await proxy.cut()
    await waitFor(async () => (await call(service, '/readyz')).status === 503, 'the queue is missed')
    const notReady = await call(service, '/readyz')
    expect(problemOf(notReady, 503).errors?.map(({ path }) => path)).toEqual(['queue'])
    await senders.progress()
    const { json } = await call(service, '/api/v1/costs/aggregate')
    const { totals } = z.object({ totals: z.object({ requests: z.number() }) }).parse(json)
    expect(totals.requests).toBeGreaterThanOrEqual(300)
    await proxy.restore()
    await waitFor(async () => (await call(service, '/readyz')).status === 200, 'the service is ready')
    await senders.progress()
    await senders.stop()
    expect(senders.refusals).toEqual([])
    await expectAllThere(service, database, senders)
    await waitFor(
      async () => /^tokentally_open_batches 0$/m.test((await call(service, '/metrics')).text),
      'the rollups are made',
    )
    await expectAllThere(service, database, senders)
    await expectRunning(service)
  })
})

/** A database of Redis that no other test uses: all services on one of them share their queues. */
function redisUrlOfDatabase(index: number): string {
  const url = new URL(redisUrl ?? '')
  url.pathname = `/${index}`
  return url.href
}

async function freePort(): Promise<number> {
  const proxy = await startTcpProxy('tcp://127.0.0.1:1', 1)
  await proxy.close()
  return Number(new URL(proxy.url).port)
}
