import { type ChildProcess, spawn } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { putSettings, sealSystemSecret } from '../../apps/server/src/billing-systems/settings-store.ts'
import { insertOpenInvoice } from '../contract/invoices.ts'
import { type FakeStripe, type Fault, startFakeStripe } from '../fake-stripe/index.ts'
import { createTestDatabase, type TestDatabase, waitFor } from '../harness/index.ts'

/**
 * Invoices reach Stripe once and whole while it times out after success, fails and limits, and while workers are
 * killed. `STRIPE_RUNS=1000` for the full number.
 */

const RUNS = Number(process.env['STRIPE_RUNS'] ?? 100)
const WORKER = fileURLToPath(new URL('outbox-worker.ts', import.meta.url))
const ORGANIZATION = '00000000-0000-4000-8000-000000000001'
const START = new Date()

let database: TestDatabase
let fake: FakeStripe
beforeAll(async () => {
  database = await createTestDatabase()
  fake = await startFakeStripe()
  await putSettings(database.pool, {
    organizationId: ORGANIZATION,
    system: 'stripe',
    isEnabled: true,
    settings: {},
    sealedSecrets: {
      api_key: sealSystemSecret(
        Buffer.alloc(32, 7),
        { organizationId: ORGANIZATION, system: 'stripe' },
        'api_key',
        'sk_test_fake',
      ),
    },
    updatedAt: START,
  })
})
afterAll(async () => {
  await fake.stop()
  await database.drop()
})

function startWorker(): ChildProcess {
  return spawn(process.execPath, ['--conditions=source', WORKER], {
    env: {
      PATH: process.env['PATH'],
      DATABASE_URL: database.url,
      STRIPE_URL: fake.url,
      CLOCK_START_MS: String(START.getTime()),
    },
    stdio: 'ignore',
  })
}

async function kill(worker: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => worker.once('exit', resolve))
  worker.kill('SIGKILL')
  await ended
}

/** One in ten is not heard of after it was done; some fail with and without effect, or are too many. */
function randomFault(): Fault | undefined {
  const dice = Math.random()
  if (dice < 0.1) return 'timeout_after_commit'
  if (dice < 0.12) return 'timeout_before'
  if (dice < 0.14) return 'error_after_commit'
  if (dice < 0.16) return 'error'
  if (dice < 0.18) return 'rate_limit'
  return dice < 0.19 ? 'outage' : undefined
}

async function unfinished(): Promise<number> {
  const { rows } = await database.pool.query<{ n: number }>(
    `select (select count(*)::int from invoice where handed_over_at is null)
       + (select count(*)::int from outbox_step where status <> 'done') as n`,
  )
  return rows[0]?.n ?? 0
}

test(`${RUNS} invoices and their lines are at Stripe once each, whatever was killed or timed out`, {
  timeout: 60_000 + RUNS * 2_000,
}, async () => {
  const ours = new Map<string, readonly number[]>()
  for (let run = 0; run < RUNS; run += 1) {
    const customer = fake.objects.createCustomer({}).id
    const units = Array.from({ length: 1 + (run % 4) }, () => 1 + Math.floor(Math.random() * 1_000_000))
    const id = await insertOpenInvoice(database.pool, {
      organizationId: ORGANIZATION,
      customer,
      amounts: units.map((unit) => (unit / 100).toFixed(2)),
      profile: { system: 'stripe_invoices', stripe_customer_id: customer },
      now: START,
    })
    ours.set(id, units)
  }
  fake.fail(randomFault)
  const workers = [startWorker(), startWorker()]
  let kills = 0
  try {
    // Killed when something has happened since the last kill, so that the work ends some day.
    const killed = async (): Promise<void> => {
      const requests = fake.requests.length
      const more = 20 + Math.floor(Math.random() * RUNS)
      await waitFor(
        async () => fake.requests.length > requests + more || (await unfinished()) === 0,
        'the workers go on',
        60_000,
      )
      const [oldest] = workers.splice(0, 1)
      if (oldest !== undefined) await kill(oldest)
      workers.push(startWorker())
      kills += 1
    }
    while ((await unfinished()) > 0) {
      await killed()
      await delay(Math.random() * 100)
    }
  } finally {
    await Promise.all(workers.map(kill))
  }

  expect(kills).toBeGreaterThan(3)
  const theirs = [...fake.objects.invoices.values()]
  expect(theirs).toHaveLength(RUNS)
  for (const invoice of theirs) {
    const metadata = JSON.stringify(invoice['metadata'])
    const id = [...ours.keys()].find((one) => metadata.includes(one)) ?? ''
    const items = fake.objects.itemsOf(invoice.id)
    expect([id, invoice['status'], items.map((item) => item['amount'])]).toEqual([id, 'open', ours.get(id)])
    ours.delete(id)
  }
  expect(ours.size).toBe(0)
  const creations = fake.requests.filter(({ operation }) => operation === 'POST /v1/invoices')
  expect(creations.length).toBeGreaterThan(RUNS)
  expect(new Set(fake.requests.map(({ status }) => status))).toEqual(new Set([0, 200, 429, 500]))
})
