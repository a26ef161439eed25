import { describe, expect, it } from 'vitest'
import { chunksOf, everyCut, transcript, transcriptNames } from '../test/exchange.ts'
import { utf8 } from '../test/untouched.ts'
import { readBatchResults } from './batch-results.ts'
import { readBatchStatus } from './batch-status.ts'
import type { SettledUsage, UsageReader } from './reader.ts'

const resultsOf = (resultsId = 'file-Out1') =>
  readBatchResults({ bodyText: undefined, injectStreamUsage: true, resultsId })
const statusOf = (resultsId: string) =>
  readBatchStatus({ bodyText: undefined, injectStreamUsage: true, resultsId })

/** Lets a body pass, and takes what was read after each piece, as the meter does. */
function pass(
  reader: UsageReader,
  bytes: Uint8Array,
  cuts: readonly number[] = [],
  status = 200,
  contentType = 'application/octet-stream',
) {
  reader.respond(status, () => contentType)
  const seen: Uint8Array[] = []
  const settled: SettledUsage[] = []
  for (const chunk of chunksOf(bytes, cuts)) {
    seen.push(new Uint8Array(reader.push(chunk)))
    settled.push(...(reader.takeSettled?.() ?? []))
  }
  seen.push(new Uint8Array(reader.end()))
  settled.push(...(reader.takeSettled?.() ?? []))
  return { seen: Buffer.concat(seen), settled }
}

const read = (name: string, resultsId?: string) =>
  pass(resultsOf(resultsId), transcript(`batches/${name}`)).settled

describe('each line of a batch’s results is a call at the batch’s price', () => {
  it('of OpenAI: chat, responses, embeddings, completions, and what failed; moderations are free', () => {
    const settled = read('openai.jsonl')
    expect(
      settled.map(({ id, operation, customId, tsMs }) => [id.slice(-5), operation, customId, tsMs]),
    ).toEqual([
      ['a0001', 'chat', 'acme:1', 1_795_000_123_000],
      ['a0002', 'chat', 'globex:2', 1_795_000_124_000],
      ['a0003', 'embeddings', 'acme:3', undefined],
      ['a0004', 'text_completion', 'acme:4', 1_795_000_125_000],
      ['a0006', 'chat', 'acme:6', undefined],
      ['a0007', 'chat', 'acme:7', undefined],
    ])
    expect(settled.map(({ usage }) => usage.quantities ?? usage.errorType)).toEqual([
      { input_tokens: 1200, cache_read_tokens: 1024, output_tokens: 300 },
      { input_tokens: 80, output_tokens: 200, reasoning_tokens: 128 },
      { input_tokens: 8 },
      { input_tokens: 5, output_tokens: 7 },
      'invalid_request_error',
      'batch_expired',
    ])
    expect(settled[0]).toMatchObject({
      id: 'batch_req_6923a1f00000000000000000000a0001',
      usage: {
        serviceTier: 'batch',
        responseModel: 'gpt-4o-mini-2024-07-18',
        vendorUsage: { prompt_tokens: 1200 },
      },
    })
  })

  it.each<[name: string, expected: Partial<SettledUsage>]>([
    ['azure.jsonl', { id: 'chatcmpl-AzB1', requestId: '1a2b3c4d-0000-0000-0000-000000000001' }],
    ['groq.jsonl', { id: 'batch_req_groq0001', tsMs: 1_795_000_123_000 }],
    ['mistral.jsonl', { id: 'cmplm0001', requestId: 'cmplm0001', tsMs: 1_795_000_126_000 }],
    ['together.jsonl', { id: 'oTg1', customId: 'request-1' }],
  ])('of hosts that speak as OpenAI does: %s', (name, expected) => {
    const [settled, ...others] = read(name)
    expect(others).toEqual([])
    expect(settled).toMatchObject({ ...expected, operation: 'chat', usage: { serviceTier: 'batch' } })
    expect(settled?.usage).not.toHaveProperty('reason')
  })

  it('of Anthropic, under the batch’s id and the message’s', () => {
    const settled = read('anthropic.jsonl', 'msgbatch_01')
    expect(settled.map(({ id }) => id)).toEqual([
      'msgbatch_01-msg_014VwiXbi91y3JMjcpyGBHX5',
      'msgbatch_01-msg_01FqfsLoHwgeFbguDgpz48m7',
      'msgbatch_01-2',
      'msgbatch_01-3',
    ])
    expect(settled.map(({ usage }) => usage.quantities ?? usage.errorType)).toEqual([
      { input_tokens: 110, cache_read_tokens: 100, output_tokens: 34 },
      { input_tokens: 111, cache_read_tokens: 100, output_tokens: 36 },
      'invalid_request_error',
      'expired',
    ])
    expect(settled[0]?.usage.serviceTier).toBe('batch')
  })

  it('of Gemini, as a file', () => {
    const settled = read('gemini.jsonl', 'files/f1')
    expect(settled.map(({ id }) => id)).toEqual(['files/f1-resp-a1', 'files/f1-1', 'files/f1-resp-a2'])
    expect(settled.map(({ usage }) => usage.quantities ?? usage.errorType)).toEqual([
      { input_tokens: 8, output_tokens: 32, reasoning_tokens: 12 },
      'INVALID_ARGUMENT',
      { input_tokens: 9, output_tokens: 34, reasoning_tokens: 13 },
    ])
    expect(settled[0]?.usage).toMatchObject({ responseModel: 'gemini-2.5-flash', serviceTier: 'batch' })
  })

  it('of Gemini, in the answer about the batch, where they stand twice and count once', () => {
    const reader = statusOf('batches/abc123')
    const { settled } = pass(reader, transcript('batches/gemini-inlined.json'), [], 200, 'application/json')
    expect(settled.map(({ id, customId, tsMs }) => [id, customId, tsMs])).toEqual([
      ['batches/abc123-resp-b1', 'acme:1', Date.UTC(2026, 10, 20, 10, 0, 0, 123)],
      ['batches/abc123-resp-b2', undefined, Date.UTC(2026, 10, 20, 10, 0, 0, 123)],
    ])
  })

  it('and is read the same whichever way the file is cut', () => {
    for (const name of transcriptNames('batches', '.jsonl')) {
      const bytes = transcript(name)
      const { settled } = pass(resultsOf(), bytes)
      for (const cuts of everyCut(bytes.length)) {
        const cut = pass(resultsOf(), bytes, cuts)
        expect(cut.seen.equals(bytes), `${name} cut at ${cuts.join()}`).toBe(true)
        expect(cut.settled).toEqual(settled)
      }
    }
  })
})

describe('what says when a batch was made', () => {
  it.each([
    ['openai-status.json', 'batch_6923a1e0', ['batch_6923a1e0', 'file-Out1', 'file-Err1'], 1_794_990_000_000],
    ['anthropic-status.json', 'msgbatch_01', ['msgbatch_01'], Date.UTC(2026, 10, 20, 10, 0, 0, 250)],
  ])('%s, whose totals are not counted', (name, id, resultIds, madeAtMs) => {
    const reader = statusOf(id)
    expect(pass(reader, transcript(`batches/${name}`), [], 200, 'application/json').settled).toEqual([])
    expect(reader.result()).toEqual({ isComplete: true, isStreamed: false, batch: { resultIds, madeAtMs } })
  })
})

describe('a file that is no batch’s results passes unread', () => {
  it.each([
    ['of training data', transcript('batches/no-batch-training.jsonl')],
    ['that a batch is made of', transcript('batches/no-batch-input.jsonl')],
    ['of bytes', new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0a, 0x7b])],
    ['that is empty', new Uint8Array(0)],
  ])('%s', (_, bytes) => {
    const { seen, settled } = pass(resultsOf(), bytes)
    expect(seen.equals(bytes)).toBe(true)
    expect(settled).toEqual([])
  })

  it('and so does a part of one, and a failure', () => {
    const bytes = transcript('batches/openai.jsonl')
    expect(pass(resultsOf(), bytes, [], 206).settled).toEqual([])
    expect(pass(resultsOf(), bytes, [], 404).settled).toEqual([])
  })
})

describe('lines', () => {
  it('that were cut are no result, and those before them are', () => {
    const bytes = transcript('batches/anthropic.jsonl')
    expect(pass(resultsOf(), bytes.subarray(0, bytes.length - 20)).settled).toHaveLength(3)
  })

  it('longer than 16 MiB count as a request without a price, also as the first of a file', () => {
    const long = `{"custom_id":"x","response":{"body":{"text":"${'a'.repeat(16 * 1024 * 1024)}"}}}\n`
    const line = Buffer.from(transcript('batches/groq.jsonl')).toString()
    const { settled } = pass(resultsOf(), utf8(long + line + long))
    expect(settled).toMatchObject([
      { id: 'file-Out1-0', usage: { quantities: { requests: 1 }, reason: 'body_too_large' } },
      { id: 'batch_req_groq0001' },
      { id: 'file-Out1-2', usage: { quantities: { requests: 1 }, reason: 'body_too_large' } },
    ])
  })

  it('by the hundred thousand are handed on as they pass, and nothing of them is kept', () => {
    const line = utf8(Buffer.from(transcript('batches/groq.jsonl')).toString())
    const reader = resultsOf()
    reader.respond(200, () => 'application/octet-stream')
    let most = 0
    let count = 0
    for (let sent = 0; sent < 100_000; sent += 100) {
      for (let index = 0; index < 100; index++) reader.push(line)
      const taken = reader.takeSettled?.() ?? []
      most = Math.max(most, taken.length)
      count += taken.length
    }
    expect(most).toBe(100)
    expect(count).toBe(100_000)
    expect(reader.takeSettled?.()).toEqual([])
  })

  it('without a usage count as a request without a price', () => {
    const body = { object: 'chat.completion', model: 'm', choices: [] }
    const { settled } = pass(resultsOf(), utf8(JSON.stringify({ custom_id: 'x', response: { body } })))
    expect(settled).toMatchObject([{ usage: { quantities: { requests: 1 }, reason: 'no_usage' } }])
  })
})
