import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runCommandLine } from '../../apps/cli/src/program.ts'
import { createServiceCost } from '../../packages/meter/src/cost.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'

/** What reads a service's reports from outside, against a real service. */

const TS_MS = Date.UTC(2026, 10, 20, 9, 30)
let database: TestDatabase
let service: TestService

beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url })
  const event = { provider: 'openai', model: 'gpt-4o-mini', input_tokens: 1000, output_tokens: 100 }
  const ts = new Date(TS_MS).toISOString()
  const events = [
    { ...event, event_id: '1', ts, customer_id: 'acme', feature: '/chat/:id', conversation_id: 'c9' },
    { ...event, event_id: '2', ts, customer_id: 'acme' },
    { ...event, event_id: '3', ts, model: 'nobody-knows' },
    {
      ...event,
      event_id: '4',
      ts: '2026-11-19T23:30:00Z',
      provider: 'anthropic',
      model: 'claude-sonnet-4-5',
    },
  ]
  const response = await fetch(`${service.url}/api/v1/usage`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.ownerKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(events),
  })
  expect(await response.json()).toMatchObject({ accepted: 4 })
})

afterAll(async () => {
  await service.stop()
  await database.drop()
})

async function run(...arguments_: string[]): Promise<{ code: number; out: string; err: string }> {
  const texts = { out: '', err: '' }
  const stream = (name: 'out' | 'err') =>
    new Writable({
      write(chunk, _encoding, done) {
        texts[name] += String(chunk)
        done()
      },
    })
  const code = await runCommandLine(arguments_, {
    stdout: stream('out'),
    stderr: stream('err'),
    environment: { TOKENTALLY_URL: service.url, TOKENTALLY_API_KEY: service.ownerKey },
    now: () => Date.UTC(2026, 10, 24),
    fetch,
  })
  return { code, ...texts }
}

test('the command line groups a service’s costs as it groups a file’s', async () => {
  const rows = async (by: string) => {
    const range = ['--from', '2026-11-01', '--to', '2026-12-01', '--time-zone', 'Europe/Paris']
    const { code, out, err } = await run('cost', '--by', by, '--format', 'csv', ...range)
    expect({ code, err }).toEqual({ code: 0, err: '' })
    return out.trimEnd().split('\r\n').slice(1)
  }
  expect(await rows('provider')).toEqual(['anthropic,1,1000,100,0.0045,0', 'openai,3,3000,300,0.00042,1'])
  expect(await rows('model')).toEqual([
    'anthropic,claude-sonnet-4-5,1,1000,100,0.0045,0',
    'openai,gpt-4o-mini,2,2000,200,0.00042,0',
    'openai,nobody-knows,1,1000,100,,1',
  ])
  expect(await rows('execution')).toEqual([',3,3000,300,0.00471,1', 'c9,1,1000,100,0.00021,0'])
  expect(await rows('customer')).toEqual([',2,2000,200,0.0045,1', 'acme,2,2000,200,0.00042,0'])
  expect(await rows('feature')).toEqual([',3,3000,300,0.00471,1', '/chat/:id,1,1000,100,0.00021,0'])
  // 23:30 in UTC is the next day in Paris.
  expect(await rows('day')).toEqual(['2026-11-20,4,4000,400,0.00492,1'])
})

test('the command line exports a service’s events', async () => {
  const { out } = await run('export', '--format', 'json', '--customer', 'acme')
  const events: readonly unknown[] = JSON.parse(out)
  expect(events).toHaveLength(2)
  expect(events).toContainEqual(
    expect.objectContaining({
      event_id: '1',
      conversation_id: 'c9',
      list_cost_usd: '0.00021',
      rating_status: 'rated',
    }),
  )
  const { out: unpriced } = await run('export', '--provider', 'openai')
  expect(unpriced).toMatch(/^3,.*,,unpriced\r$/m)
})

test('cost asks a service and tells the same parts', async () => {
  const cost = createServiceCost({ url: service.url, apiKey: service.ownerKey, fetch, now: () => TS_MS })
  expect(await cost.between('2026-11-01', '2026-12-01', 'openai')).toMatchObject({
    requests: 3,
    listCostUsd: '0.00042',
    unpricedRequests: 1,
    byProvider: [{ provider: 'openai', requests: 3 }],
    byModel: [{ model: 'gpt-4o-mini' }, { model: 'nobody-knows', unpricedRequests: 1 }],
    byExecution: [{ execution: null }, { execution: 'c9' }],
    byCustomer: [{ customer: 'acme', requests: 2 }, { customer: null }],
    byFeature: [{ feature: null }, { feature: '/chat/:id' }],
  })
})

test('a wrong key is told', async () => {
  expect(await run('cost', '--api-key', 'wrong')).toMatchObject({
    code: 1,
    err: expect.stringContaining('401'),
  })
})

test("shows a vendor's file beside the ledger, and names the line that is wrong", async () => {
  const directory = await mkdtemp(join(tmpdir(), 'reconcile-'))
  const path = join(directory, 'costs.csv')
  const header = 'SubscriptionId,Date,MeterCategory,MeterName,UnitOfMeasure,Quantity,CostInBillingCurrency'
  const line = 's,2026-11-20,Azure OpenAI,gpt-4o-mini-0718-Inp-glbl Tokens,1K'
  try {
    await writeFile(path, `${header}\n${line},2,0.0003\n`)
    const { code, out, err } = await run('reconcile', path)
    expect([code, err]).toEqual([0, ''])
    expect(out.split('\n')).toEqual([
      'azure_costs, 2026-11-20 to 2026-11-20',
      expect.stringMatching(/^MODEL +METER +VENDOR +METERED +VENDOR USD +LIST USD +CAUSES$/),
      expect.stringMatching(/^gpt-4o-mini-0718 +input_tokens +2000 +0 +0.0003 +0 +unmetered_key$/),
      expect.stringMatching(/^total +2000 +0 +0.0003 +0 +unmetered_key$/),
      'metered: 0 % of tokens, 0 % of costs',
      '',
    ])
    await writeFile(path, `${header}\n${line},many,0.0003\n`)
    const wrong = await run('reconcile', path)
    expect([wrong.code, wrong.out]).toEqual([1, ''])
    expect(wrong.err).toContain('line 2, quantity: "many" is no number')
  } finally {
    await rm(directory, { recursive: true })
  }
})
