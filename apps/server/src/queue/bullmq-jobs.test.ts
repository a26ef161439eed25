import { pino } from 'pino'
import { afterEach, describe, expect, inject, test } from 'vitest'
import { createTestDatabase } from '../../../../test/harness/database.ts'
import { waitFor } from '../../../../test/harness/wait-for.ts'
import { BullmqJobs } from './bullmq-jobs.ts'
import { createPostgresStore, createRedisStore, type JobStore } from './job-store.ts'

const logger = pino({ level: 'silent' })
const closers: (() => Promise<void>)[] = []
let nameCount = 0

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

/** A job name of its own, because all tests share one Redis. */
function jobName(): string {
  nameCount += 1
  return `job-${process.pid}-${Date.now()}-${nameCount}`
}

async function postgresStore(): Promise<() => JobStore> {
  const database = await createTestDatabase()
  closers.push(() => database.drop())
  return () => createPostgresStore({ url: database.url, maxWorkers: 4, logger })
}

async function redisStore(): Promise<() => JobStore> {
  const url = inject('redisUrl')
  if (url === undefined) throw new Error('no Redis')
  return () => createRedisStore(url)
}

const stores = [
  { store: 'PostgreSQL', open: postgresStore, isHere: true },
  { store: 'Redis', open: redisStore, isHere: inject('redisUrl') !== undefined },
]

for (const { store, open, isHere } of stores) {
  describe.skipIf(!isHere)(`jobs on ${store}`, () => {
    function jobsOn(openStore: () => JobStore): BullmqJobs {
      const jobs = new BullmqJobs(openStore(), { logger, stalledAfterMs: 1_000, backoffFirstMs: 20 })
      closers.push(() => jobs.stop())
      return jobs
    }

    test('a job that one process adds runs in another, with its data', async () => {
      const openStore = await open()
      const name = jobName()
      const seen: unknown[] = []
      const producer = jobsOn(openStore)
      producer.define(name, async () => undefined)
      await producer.add(name, { invoice: 'i-1', attempt: 2 })
      expect(await producer.depth()).toBe(1)
      const consumer = jobsOn(openStore)
      consumer.define(name, async (data) => void seen.push(data))
      await consumer.start()
      await waitFor(() => seen.length === 1, 'the job ran')
      expect(seen).toEqual([{ invoice: 'i-1', attempt: 2 }])
      await waitFor(async () => (await producer.depth()) === 0, 'the finished job is gone')
    })

    test('a job that fails is tried again until it succeeds', async () => {
      const name = jobName()
      let runs = 0
      const jobs = jobsOn(await open())
      jobs.define(name, async () => {
        runs += 1
        if (runs < 3) throw new Error('not yet')
      })
      await jobs.start()
      await jobs.add(name)
      await waitFor(() => runs === 3, 'the third attempt ran')
    })

    test('a job is given up after its attempts', async () => {
      const name = jobName()
      let runs = 0
      const jobs = jobsOn(await open())
      jobs.define(
        name,
        async () => {
          runs += 1
          throw new Error('never')
        },
        { attempts: 2 },
      )
      await jobs.start()
      await jobs.add(name)
      await waitFor(() => runs === 2, 'both attempts ran')
      await waitFor(async () => (await jobs.depth()) === 0, 'nothing waits any more')
      expect(runs).toBe(2)
    })

    test('jobs with the same dedupe id wait only once', async () => {
      const name = jobName()
      let runs = 0
      const jobs = jobsOn(await open())
      jobs.define(name, async () => {
        runs += 1
      })
      for (let i = 0; i < 5; i += 1) await jobs.add(name, {}, { dedupeId: 'customer:acme' })
      expect(await jobs.depth()).toBe(1)
      await jobs.start()
      await waitFor(() => runs === 1, 'the job ran')
      await waitFor(async () => (await jobs.depth()) === 0, 'nothing waits any more')
      expect(runs).toBe(1)
    })

    test('what is added while the same job runs is done after it', async () => {
      const name = jobName()
      const release = Promise.withResolvers<void>()
      let runs = 0
      const jobs = jobsOn(await open())
      jobs.define(name, async () => {
        runs += 1
        if (runs === 1) await release.promise
      })
      await jobs.start()
      await jobs.add(name, {}, { dedupeId: 'same' })
      await waitFor(() => runs === 1, 'the first run began')
      await jobs.add(name, {}, { dedupeId: 'same' })
      await jobs.add(name, {}, { dedupeId: 'same' })
      release.resolve()
      await waitFor(() => runs === 2, 'the second run happened')
    })

    test('a delayed job waits', async () => {
      const name = jobName()
      const order: string[] = []
      const jobs = jobsOn(await open())
      jobs.define(name, async (data) => void order.push(String(data['which'])))
      await jobs.start()
      await jobs.add(name, { which: 'later' }, { delayMs: 500 })
      await jobs.add(name, { which: 'now' })
      await waitFor(() => order.length === 2, 'both ran')
      expect(order).toEqual(['now', 'later'])
    })

    test('a schedule runs again and again, whichever replica announced it', async () => {
      const openStore = await open()
      const name = jobName()
      let runs = 0
      for (const jobs of [jobsOn(openStore), jobsOn(openStore)]) {
        jobs.define(name, async () => void runs++, { everyMs: 200 })
        await jobs.start()
      }
      await waitFor(() => runs >= 3, 'the schedule came by three times')
    })

    test('a running handler finishes before the stop ends', async () => {
      const name = jobName()
      const release = Promise.withResolvers<void>()
      const steps: string[] = []
      const jobs = jobsOn(await open())
      jobs.define(name, async () => {
        steps.push('begun')
        await release.promise
        steps.push('done')
      })
      await jobs.start()
      await jobs.add(name)
      await waitFor(() => steps.length === 1, 'the handler runs')
      const stopped = jobs.stop().then(() => steps.push('stopped'))
      release.resolve()
      await stopped
      expect(steps).toEqual(['begun', 'done', 'stopped'])
    })

    test('it says whether it answers', async () => {
      await expect(jobsOn(await open()).ping()).resolves.toBeUndefined()
    })
  })
}
