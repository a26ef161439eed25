import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** What was found out about an event beside its counts, as docs/reference/usage-event.md describes it. */

let database: TestDatabase
let service: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url })
  submissionOf(await sendUsage(service, [FOUND, ESTIMATED, PLAIN]))
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

const common = { ts: '2025-10-01T10:00:00.000Z', provider: 'openrouter', model: 'gpt-4o-mini' }
const FOUND = {
  ...common,
  event_id: 'found',
  input_tokens: 100,
  output_tokens: 20,
  mismatch: 'total_tokens is 130, input and output add up to 120',
  vendor_usage: { prompt_tokens: 100, completion_tokens: 20, total_tokens: 130, cost: 0.0000271 },
  reported_cost_usd: '0.0000271',
  tokenizer: 'tiktoken/o200k_base@1.0.22',
  counted_input_tokens: 99,
  counted_output_tokens: 20,
}
const ESTIMATED = {
  ...common,
  event_id: 'estimated',
  input_tokens: 7,
  estimated: true,
  status: 'aborted',
  reason: 'stream_cut',
}
const PLAIN = { ...common, event_id: 'plain', input_tokens: 1 }

describe('what was found out about an event', () => {
  it('is reported as it was sent', async () => {
    const answer = await call(service, '/api/v1/usage/found')
    expect(answer.json).toMatchObject(FOUND)
  })

  it.each([
    ['mismatch=true', ['found']],
    ['mismatch=false', ['estimated', 'plain']],
    ['estimated=true', ['estimated']],
    ['reason=stream_cut', ['estimated']],
    ['mismatch=true&estimated=true', []],
  ])('is a filter of events: %s', async (filter, expected) => {
    const answer = await call(service, `/api/v1/usage?start=2025-10-01&end=2025-10-02&${filter}`)
    const { events } = answer.json as { events: { event_id: string }[] }
    expect(events.map((event) => event.event_id).toSorted()).toEqual(expected)
  })

  it('is counted in the metrics', async () => {
    const { text } = await call(service, '/metrics')
    expect(text).toContain('tokentally_mismatched_events_total 1')
    expect(text).toContain('tokentally_estimated_events_total 1')
  })

  it('changes no price: what the provider charged is not our rating', async () => {
    const answer = await call(service, '/api/v1/usage/found')
    expect(answer.json).not.toMatchObject({ rating: { list_cost: '0.0000271' } })
  })

  it.each([
    ['vendor_usage', { prompt: 'text of a prompt' }],
    ['vendor_usage', { 'a whole sentence as a name': 1 }],
    ['vendor_usage', [1, 2]],
    ['reason', 'The prompt "tell me" was refused'],
    ['reported_cost_usd', '1e-7'],
    ['reported_cost_usd', '-1'],
    ['counted_input_tokens', -1],
  ])('is refused by the name of its field: %s', async (field, value) => {
    const answer = await sendUsage(service, { ...PLAIN, event_id: 'bad', [field]: value })
    expect(pathsOf(problemOf(answer, 400))).toEqual([field])
  })

  it('must be asked for as true or false', async () => {
    const answer = await call(service, '/api/v1/usage?mismatch=perhaps')
    expect(pathsOf(problemOf(answer, 400))).toContain('mismatch')
  })
})
