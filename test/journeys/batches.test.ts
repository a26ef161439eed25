import { readFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import Anthropic from '@anthropic-ai/sdk'
import { parseUsageEvent, type UsageEvent, usageEventToJson } from '@tokentally/core'
import OpenAI from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { CallContext, runInContext } from '../../packages/meter/src/index.ts'
import { tapFetch } from '../../packages/meter/src/tap/fetch.ts'
import { tapDependencies } from '../harness/tap.ts'

/** Results of batches, fetched by the official SDKs: each is an event, the same each time and for everybody. */

const transcript = (name: string) =>
  readFile(new URL(`../../packages/providers/transcripts/batches/${name}`, import.meta.url))

const BATCH = 'msgbatch_01HkcTjaV5uDC8jWR4ZsDv8d'
let server: Server
let url: string
let events: UsageEvent[]
let errors: unknown[]

beforeAll(async () => {
  const files = new Map([
    ['/v1/files/file-Out1/content', await transcript('openai.jsonl')],
    ['/v1/files/file-Train/content', await transcript('no-batch-training.jsonl')],
    ['/v1/batches/batch_6923a1e0', await transcript('openai-status.json')],
    [`/v1/messages/batches/${BATCH}/results`, await transcript('anthropic.jsonl')],
  ])
  server = createServer(async (request, response) => {
    const path = request.url ?? ''
    const isStatus = path === `/v1/messages/batches/${BATCH}`
    const body = isStatus
      ? Buffer.from(
          (await transcript('anthropic-status.json')).toString().replace('https://api.anthropic.com', url),
        )
      : files.get(path)
    const isJson = isStatus || path.startsWith('/v1/batches/')
    response.writeHead(body === undefined ? 404 : 200, {
      'content-type': isJson ? 'application/json' : 'application/octet-stream',
      'content-encoding': 'gzip',
      'x-request-id': `req_${Math.random()}`,
    })
    response.end(gzipSync(body ?? '{}'))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => server.close())
beforeEach(() => {
  events = []
  errors = []
})

/** A process of its own: it knows nothing of the others. */
function fetchOf(
  nowMs = Date.UTC(2026, 10, 24),
  batchDimensions?: (customId: string) => { customer: string },
) {
  const endpoints = [
    { origin: url, path: '/v1/messages', format: 'anthropic', provider: 'anthropic' },
    { origin: url, path: '', format: 'openai', provider: 'openai' },
    { origin: url, path: '', format: 'anthropic', provider: 'anthropic' },
  ] as const
  return tapFetch(fetch, () => ({
    ...tapDependencies(events, errors),
    endpoints,
    now: () => nowMs,
    defaults: () => ({ environment: `of ${nowMs}` }),
    host: { name: `host ${nowMs}` },
    ...(batchDimensions !== undefined && { batchDimensions }),
  }))
}

const openai = (fetch: typeof globalThis.fetch) => new OpenAI({ apiKey: 'k', baseURL: `${url}/v1`, fetch })
const anthropic = (fetch: typeof globalThis.fetch) => new Anthropic({ apiKey: 'k', baseURL: url, fetch })

async function fetchAnthropic(client: Anthropic): Promise<number> {
  let results = 0
  for await (const _ of await client.messages.batches.results(BATCH)) results++
  return results
}

/** What the service makes of events: content hashes by id. */
function accepted(): Map<string, string> {
  const contents = new Map<string, string>()
  for (const event of events) {
    const parsed = parseUsageEvent(usageEventToJson(event), {
      nowMs: Date.UTC(2026, 10, 24),
      newEventId: () => 'none',
    })
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues))
    const hash = parsed.contentHash.toString('hex')
    expect(contents.get(event.eventId) ?? hash, event.eventId).toBe(hash)
    contents.set(event.eventId, hash)
  }
  return contents
}

describe('results of a batch', () => {
  it('of OpenAI are events at the batch’s price, untouched for the app', async () => {
    const client = openai(fetchOf())
    const batch = await client.batches.retrieve('batch_6923a1e0')
    const content = await client.files.content(batch.output_file_id ?? '')
    expect(await content.text()).toBe((await transcript('openai.jsonl')).toString())
    expect(errors).toEqual([])
    expect(events).toHaveLength(6)
    expect(events[0]).toEqual({
      eventId: 'openai-batch_req_6923a1f00000000000000000000a0001',
      tsMs: 1_795_000_123_000,
      provider: 'openai',
      model: 'gpt-4o-mini-2024-07-18',
      responseModel: 'gpt-4o-mini-2024-07-18',
      operation: 'chat',
      serviceTier: 'batch',
      quantities: { input_tokens: 1200, cache_read_tokens: 1024, output_tokens: 300 },
      status: 'ok',
      streamed: false,
      estimated: false,
      vendorUsage: expect.objectContaining({ prompt_tokens: 1200, total_tokens: 1500 }),
      providerRequestId: 'req_000a0001',
    })
    // An embedding has no time of its own: that of the batch.
    expect(events[2]).toMatchObject({ operation: 'embeddings', tsMs: 1_794_990_000_000 })
    expect(events[4]).toMatchObject({ status: 'error', reason: 'invalid_request_error', quantities: {} })
    expect(JSON.stringify(events)).not.toContain('prompt may stand here')
  })

  it('are the same events for every process and whomever it fetches them for', async () => {
    for (const nowMs of [Date.UTC(2026, 10, 24), Date.UTC(2026, 10, 23)]) {
      const fetch = fetchOf(nowMs)
      await runInContext(new CallContext(undefined, () => ({ customer: `c${nowMs}` })), async () => {
        await openai(fetch).batches.retrieve('batch_6923a1e0')
        await (await openai(fetch).files.content('file-Out1')).text()
        expect(await fetchAnthropic(anthropic(fetch))).toBe(4)
      })
    }
    expect(errors).toEqual([])
    expect(events).toHaveLength(2 * (6 + 4))
    expect(accepted().size).toBe(6 + 4)
  })

  it('of Anthropic are named after batch and message, and dated by the batch', async () => {
    await fetchAnthropic(anthropic(fetchOf()))
    expect(events[0]).toMatchObject({
      eventId: `anthropic-${BATCH}-msg_014VwiXbi91y3JMjcpyGBHX5`,
      tsMs: Date.UTC(2026, 10, 20, 10, 0, 0, 250),
      serviceTier: 'batch',
      quantities: { input_tokens: 110, cache_read_tokens: 100, output_tokens: 34 },
    })
  })

  it('are for whom the app’s own name of the call says', async () => {
    const customerOf = (customId: string) => ({ customer: customId.split(':')[0] ?? '' })
    await fetchAnthropic(anthropic(fetchOf(undefined, customerOf)))
    expect(events.map(({ customer }) => customer)).toEqual(['acme', 'acme', 'acme', 'acme'])
    expect(JSON.stringify(events)).not.toContain('second')
  })

  it('are none where the file is another one', async () => {
    await (await openai(fetchOf()).files.content('file-Train')).text()
    expect(events).toEqual([])
    expect(errors).toEqual([])
  })
})
