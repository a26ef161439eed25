import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type Answer,
  badCounts,
  cutsOf,
  everyCut,
  exchange,
  textOf,
  transcript,
  transcriptNames,
  usageLike,
} from '../test/exchange.ts'
import { expectNoByteLost, JSON_TYPE, utf8 } from '../test/untouched.ts'
import { readOllama } from './ollama.ts'

const NDJSON = 'application/x-ndjson'

const readerOf = (bodyText: string | undefined = '{"model":"llama3.2"}') =>
  readOllama({ bodyText, injectStreamUsage: true })
const read = (answer: Answer) => exchange(readerOf(), answer).result
const typeOf = (name: string) => (name.endsWith('.ndjson') ? NDJSON : JSON_TYPE)

describe('answers', () => {
  it.each<[name: string, quantities: Record<string, number> | undefined, rest: object]>([
    [
      'chat.ndjson',
      { input_tokens: 26, output_tokens: 282 },
      { isStreamed: true, responseModel: 'llama3.2', outputText: 'Counted – naïve, 数えた 🙂.' },
    ],
    [
      'chat.json',
      { input_tokens: 26, output_tokens: 282 },
      { isStreamed: false, outputText: 'Hello "done":true' },
    ],
    [
      'thinking-tools.ndjson',
      { input_tokens: 26, cache_read_tokens: 20, output_tokens: 282 },
      { outputText: 'Hm.get_weather{"city":"東京"}' },
    ],
    ['generate.ndjson', { input_tokens: 26, output_tokens: 282 }, { outputText: 'The sky "done":true' }],
    // An older server that had the prompt in its cache: the input is unknown, not zero.
    ['generate-prompt-cached.json', { output_tokens: 2 }, { outputText: 'Hi' }],
    ['load.json', { input_tokens: 0, output_tokens: 0 }, {}],
    ['embed.json', { input_tokens: 8 }, { responseModel: 'all-minilm' }],
    ['cut.ndjson', undefined, { isComplete: false, isStreamed: true, outputText: 'Counted half' }],
    ['stream-error.ndjson', undefined, { isComplete: false, errorType: 'error', outputText: 'Counted' }],
  ])('%s', (name, quantities, rest) => {
    const bytes = transcript(`ollama/${name}`)
    const result = read({ bytes, contentType: typeOf(name) })
    expect(result).toMatchObject({ isComplete: true, ...rest })
    expect(result.quantities).toEqual(quantities)
    if (!('errorType' in rest)) expect(result).not.toHaveProperty('errorType')
  })

  it.each<[what: string, body: string, status: number, contentType: string, expected: object]>([
    ['an unknown model', '{"error":"model not found"}', 404, JSON_TYPE, { errorType: 'http_404' }],
    ['a failure with status 200', '{"error":"no"}', 200, JSON_TYPE, { errorType: 'error' }],
    ['a failed stream', '', 500, NDJSON, { isComplete: false, isStreamed: true, errorType: 'http_500' }],
    ['half a body', '{"eval_count":5,', 200, JSON_TYPE, { isComplete: false, reason: 'unreadable_body' }],
    ['nothing', '', 200, JSON_TYPE, { isComplete: false, reason: 'unreadable_body' }],
  ])('%s', (_, body, status, contentType, expected) => {
    expect(read({ bytes: utf8(body), status, contentType })).toEqual({
      isComplete: true,
      isStreamed: false,
      outputText: '',
      ...expected,
    })
  })

  it.each([...transcriptNames('ollama', '.json'), ...transcriptNames('ollama', '.ndjson')])(
    '%s arrives byte for byte and reads the same, cut anywhere',
    (name) => {
      const bytes = transcript(name)
      const whole = exchange(readerOf(), { bytes, contentType: typeOf(name) })
      expect(whole.seen).toEqual(Buffer.from(bytes))
      for (const cuts of everyCut(bytes.length)) {
        expect(textOf(exchange(readerOf(), { bytes, contentType: typeOf(name), cuts }))).toBe(textOf(whole))
      }
    },
  )
})

it.each([
  ['{"model":"llama3.2","message":{"role":"assistant","content":"Half an ans', 'Half an ans'],
  ['{"response":"Half an', 'Half an'],
])('a plain answer that was cut gives the text that came: %s', (body, outputText) => {
  expect(read({ bytes: utf8(body), contentType: JSON_TYPE })).toMatchObject({
    outputText,
    isComplete: false,
    reason: 'unreadable_body',
  })
})

describe('the request', () => {
  it('names the model, is never rewritten, and gives its text for an estimate', () => {
    const reader = readerOf(
      '{"model":"llava","system":"Be brief","messages":[{"role":"user","content":"Look","images":["AAAA"]}]}',
    )
    expect(reader.requestedModel).toBe('llava')
    expect(reader.rewrittenBody).toBeUndefined()
    expect(reader.promptText().split('\n')).toEqual(['Be brief', 'user', 'Look', ''])
  })
})

describe('whatever a server sends', () => {
  const value = fc.jsonValue({ maxDepth: 3 })
  const line = fc
    .tuple(
      usageLike({
        prompt_eval_count: null,
        eval_count: null,
        prompt_eval_cached_count: null,
        eval_duration: null,
        prompt_eval_duration: null,
        done_reason: null,
      }),
      fc.record(
        { message: value, error: value, done: fc.constantFrom(true, false) },
        { requiredKeys: ['done'] },
      ),
    )
    .map(([counts, rest]) => (typeof counts === 'object' ? { ...rest, ...counts } : counts))

  it('as counts, they are whole, exact and not negative', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(line, value), { minLength: 1, maxLength: 3 }), (lines) => {
        const bytes = utf8(lines.map((json) => `${JSON.stringify(json)}\n`).join(''))
        for (const contentType of [NDJSON, JSON_TYPE]) {
          const { seen, result } = exchange(readerOf(), { bytes, contentType })
          expect(seen).toEqual(Buffer.from(bytes))
          expect(badCounts(result)).toEqual([])
        }
      }),
      { numRuns: 2_000 },
    )
  })

  it('as bytes, nothing is thrown and no byte is lost', () => {
    expectNoByteLost(readerOf)
    const piece = fc.oneof(
      fc.constantFrom('\n', '\r\n', '{"done":true}\n', '"error"').map(utf8),
      fc.uint8Array({ maxLength: 8 }),
    )
    const body = fc.array(piece, { maxLength: 20 }).map((pieces) => new Uint8Array(Buffer.concat(pieces)))
    fc.assert(
      fc.property(
        body.chain((bytes) => fc.tuple(fc.constant(bytes), cutsOf(bytes.length))),
        ([bytes, cuts]) => {
          expect(exchange(readerOf(), { bytes, contentType: NDJSON, cuts }).seen).toEqual(Buffer.from(bytes))
        },
      ),
    )
  })
})
