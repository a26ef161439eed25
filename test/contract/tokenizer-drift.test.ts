import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { watchDrift } from '../../apps/server/src/tokenizers/index.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, sendUsage, submissionOf } from './api-client.ts'

/** Tokenizers against what providers reported, as docs/reference/tokenizers.md describes it. */

const HOUR_MS = 3_600_000
const O200K = 'tiktoken/o200k_base@1.0.22'

let database: TestDatabase
let service: TestService
const logged: Record<string, unknown>[] = []
const logger = pino({ level: 'info' }, { write: (line: string) => void logged.push(JSON.parse(line)) })

beforeAll(async () => {
  database = await createTestDatabase()
  // Without the worker's own schedule: the test says when the job runs.
  service = await startService({ databaseUrl: database.url, roles: 'api' })
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

/** Sends sampled calls; each has 1,000 tokens of input and 200 of output. */
async function sample(
  model: string,
  events: number,
  counted: { input?: number; output?: number },
  ageHours = 1,
): Promise<void> {
  const ts = new Date(Date.now() - ageHours * HOUR_MS).toISOString()
  const usage = Array.from({ length: events }, () => ({
    ts,
    provider: 'openai',
    model,
    input_tokens: 1000,
    output_tokens: 200,
    tokenizer: O200K,
    ...(counted.input !== undefined && { counted_input_tokens: counted.input }),
    ...(counted.output !== undefined && { counted_output_tokens: counted.output }),
  }))
  expect(submissionOf(await sendUsage(service, usage)).accepted).toBe(events)
}

const watch = () => watchDrift({ pool: database.pool, logger, now: () => new Date() })

it('a tokenizer is compared with its provider, by model', async () => {
  await sample('exact', 40, { input: 1000, output: 200 })
  await sample('off', 40, { input: 1001, output: 200 })
  await sample('fewer', 40, { input: 1000, output: 199 })
  // What was not counted is not in the sums.
  await sample('input-only', 40, { input: 1000 })
  await sample('seldom', 20, { input: 2000 })
  await sample('last-week', 40, { input: 1001 }, 72)
  await sample('long-ago', 40, { input: 5000 }, 24 * 8)
  // Events that were not sampled, and estimates, say nothing about a tokenizer.
  const estimate = {
    provider: 'openai',
    model: 'estimate',
    input_tokens: 7,
    estimated: true,
    tokenizer: O200K,
  }
  await sendUsage(service, [estimate, { provider: 'openai', model: 'plain', input_tokens: 9 }])

  const { json } = await call(service, '/api/v1/tokenizers/drift')
  const day = (events: number, reported: number, counted: number) => ({
    events,
    reported_tokens: reported,
    counted_tokens: counted,
    drift_ratio: (counted - reported) / reported,
  })
  const none = { events: 0, reported_tokens: 0, counted_tokens: 0, drift_ratio: null }
  const of = (model: string, status: string, today: object, week = today) => ({
    tokenizer: O200K,
    provider: 'openai',
    model,
    status,
    day: today,
    week,
  })
  expect(json).toEqual({
    drift_max_ratio: 0.0005,
    sample_min_events: 30,
    sample_min_tokens: 10_000,
    tokenizers: [
      of('exact', 'ok', day(40, 48_000, 48_000)),
      of('fewer', 'drifting', day(40, 48_000, 47_960)),
      of('input-only', 'ok', day(40, 40_000, 40_000)),
      of('last-week', 'drifting', none, day(40, 40_000, 40_040)),
      of('off', 'drifting', day(40, 48_000, 48_040)),
      of('seldom', 'too_few', day(20, 20_000, 40_000)),
    ],
  })
})

describe('a drift', () => {
  const warnings = () => logged.map(({ level, model, msg }) => `${level} ${model}: ${msg}`).toSorted()
  const BEGINS = 'a tokenizer drifts from what its provider reports'

  it('is warned about once', async () => {
    await watch()
    expect(warnings()).toEqual([`40 fewer: ${BEGINS}`, `40 last-week: ${BEGINS}`, `40 off: ${BEGINS}`])
    await watch()
    expect(logged).toHaveLength(3)
    expect(logged[0]).toMatchObject({ tokenizer: O200K, provider: 'openai', events: 40 })
  })

  it('is in the metrics, with its sign', async () => {
    const { text } = await call(service, '/metrics')
    const ratioOf = (model: string) =>
      Number(
        new RegExp(
          `^tokentally_tokenizer_drift_ratio\\{tokenizer="${O200K}",model="${model}"\\} (\\S+)$`,
          'm',
        ).exec(text)?.[1],
      )
    expect(ratioOf('exact')).toBe(0)
    expect(ratioOf('off')).toBeCloseTo(40 / 48_000, 12)
    expect(ratioOf('fewer')).toBeCloseTo(-40 / 48_000, 12)
  })

  it('that ends is told once too', async () => {
    logged.length = 0
    await sample('off', 400, { input: 1000, output: 200 })
    await watch()
    await watch()
    expect(warnings()).toEqual(['30 off: a tokenizer counts again what its provider reports'])
  })

  it('of another organization is not shown', async () => {
    const measured = await database.pool.query('select distinct organization_id from tokenizer_drift')
    expect(measured.rowCount).toBe(1)
    await database.pool.query(
      `insert into usage_event (organization_id, event_id, ts, batch_id, dimension_set_id, received_at, provider, model,
        operation, status, streamed, estimated, input_tokens, rating_status, lines, list_cost_usd, sell_cost_usd,
        tokenizer, counted_input_tokens)
      select gen_random_uuid(), 'foreign', now(), 1, gen_random_uuid(), now(), 'openai', 'foreign', 'chat', 'ok', false,
        false, 10, 'rated', '[]', 0, 0, 'tiktoken', 10`,
    )
    const { text } = await call(service, '/api/v1/tokenizers/drift')
    expect(text).not.toContain('foreign')
  })
})
