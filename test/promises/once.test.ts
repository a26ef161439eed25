import { randomUUID } from 'node:crypto'
import { parseUsageEvent } from '@tokentally/core'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { compareRollups, resetRollups, rollUp } from '../../apps/server/src/rollups/index.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'

/** Promise 3: the same event sent a hundred times counts once, on whichever replica it arrives. */

let database: TestDatabase
let replicas: readonly TestService[]
const now = () => new Date()

beforeAll(async () => {
  database = await createTestDatabase()
  replicas = await Promise.all([
    startService({ databaseUrl: database.url }),
    startService({ databaseUrl: database.url }),
  ])
})
afterAll(async () => {
  for (const replica of replicas) await replica.stop()
  await database.drop()
})

const answerSchema = z.object({
  accepted: z.number(),
  duplicates: z.number(),
  rejected: z.array(z.object({ event_id: z.string() })),
})
const reportSchema = z.object({
  totals: z.object({ requests: z.number(), input_tokens: z.number(), total_cost: z.string() }),
})

interface Sent {
  readonly event_id: string
  readonly input_tokens: number
}

async function send(replica: number, customer: string, events: readonly Sent[]) {
  const service = replicas[replica]
  const response = await fetch(`${service?.url}/api/v1/usage`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service?.ownerKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(
      events.map((event) => ({
        ...event,
        ts: '2026-11-01T12:00:00Z',
        customer_id: customer,
        provider: 'openai',
        model: 'gpt-4o-mini',
      })),
    ),
  })
  expect([200, 409]).toContain(response.status)
  return answerSchema.parse(await response.json())
}

async function report(customer: string) {
  const [service] = replicas
  const response = await fetch(
    `${service?.url}/api/v1/costs/aggregate?start=2026-10-01&end=2026-12-01&customer=${customer}`,
    { headers: { authorization: `Bearer ${service?.ownerKey}` } },
  )
  return reportSchema.parse(await response.json()).totals
}

it('counts each event once, in whatever batches, repeats and order it comes to two replicas', async () => {
  const batch = fc.array(fc.integer({ min: 0, max: 30 }), { minLength: 1, maxLength: 20 })
  await fc.assert(
    fc.asyncProperty(fc.array(batch, { minLength: 1, maxLength: 8 }), async (batches) => {
      const customer = randomUUID()
      const answers = await Promise.all(
        batches.map((ids, index) =>
          send(
            index % 2,
            customer,
            ids.map((id) => ({ event_id: `${customer}-${id}`, input_tokens: id + 1 })),
          ),
        ),
      )
      const distinct = new Set(batches.flat())
      const sent = batches.flat().length
      const accepted = answers.reduce((sum, answer) => sum + answer.accepted, 0)
      const duplicates = answers.reduce((sum, answer) => sum + answer.duplicates, 0)
      expect({ accepted, duplicates }).toEqual({ accepted: distinct.size, duplicates: sent - distinct.size })
      const tokens = [...distinct].reduce((sum, id) => sum + id + 1, 0)
      const before = await report(customer)
      expect(before).toMatchObject({ requests: distinct.size, input_tokens: tokens })
      await rollUp(database.pool, now)
      expect(await report(customer)).toEqual(before)
    }),
    { numRuns: 25 },
  )
  await rollUp(database.pool, now)
  expect(await compareRollups(database.pool)).toEqual([])
  await resetRollups(database.pool)
  await rollUp(database.pool, now)
  expect(await compareRollups(database.pool)).toEqual([])
})

it('tells another event under the same id from a repeat: the first stands', async () => {
  const customer = randomUUID()
  const first = { event_id: `${customer}-x`, input_tokens: 10 }
  expect(await send(0, customer, [first])).toMatchObject({ accepted: 1 })
  const answer = await send(1, customer, [{ ...first, input_tokens: 11 }, first])
  expect(answer).toMatchObject({ accepted: 0, duplicates: 1, rejected: [{ event_id: first.event_id }] })
  expect(await report(customer)).toMatchObject({ requests: 1, input_tokens: 10 })
})

it('takes the same event for a repeat whichever way its time is written', () => {
  const hash = (ts: string) => {
    const parsed = parseUsageEvent(
      { event_id: 'a', ts, provider: 'openai', model: 'm', input_tokens: 1 },
      { nowMs: Date.UTC(2026, 10, 23), newEventId: () => '' },
    )
    return parsed.ok ? parsed.contentHash.toString('hex') : ''
  }
  expect(hash('2026-11-01T12:00:00Z')).toBe(hash('2026-11-01T13:00:00.000+01:00'))
})
