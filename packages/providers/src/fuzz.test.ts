import { readdirSync } from 'node:fs'
import { isVendorUsage } from '@tokentally/core'
import fc from 'fast-check'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { badCounts, chunksOf, cutsOf, transcript, transcriptNames } from '../test/exchange.ts'
import { utf8 } from '../test/untouched.ts'
import { READERS, type WireFormat } from './formats.ts'
import type { ReadUsage, SettledUsage, UsageReader } from './reader.ts'

/** Every reader, on everything that may come over a wire. */

const FORMATS = Object.keys(READERS).filter((name): name is WireFormat => name in READERS)
const TYPES = [
  'application/json',
  'text/event-stream',
  'application/x-ndjson',
  'application/vnd.amazon.eventstream',
  'application/octet-stream',
  'text/plain',
  '',
]
const TRANSCRIPTS = readdirSync(new URL('../transcripts/', import.meta.url), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .flatMap(({ name }) => transcriptNames(name, ''))

const readerOf = (format: WireFormat, bodyText: string | undefined = '{"model":"m","stream":true}') =>
  READERS[format]({ model: 'm', resultsId: 'r', bodyText, injectStreamUsage: false })

interface Passing {
  readonly bytes: Uint8Array
  readonly cuts: readonly number[]
  readonly status: number
  readonly contentType: string
}

/** Lets bytes pass as the meter does, and asks everything of the reader that it asks. */
function pass(reader: UsageReader, { bytes, cuts, status, contentType }: Passing) {
  reader.respond(status, (name) => (name === 'content-type' ? contentType : null))
  const seen: Uint8Array[] = []
  const settled: SettledUsage[] = []
  for (const chunk of chunksOf(bytes, cuts)) {
    seen.push(new Uint8Array(reader.push(chunk)))
    settled.push(...(reader.takeSettled?.() ?? []))
  }
  seen.push(new Uint8Array(reader.end()))
  settled.push(...(reader.takeSettled?.() ?? []))
  return { seen: Buffer.concat(seen), result: reader.result(), settled, text: reader.outputText() }
}

function expectGood(usage: ReadUsage): void {
  const { quantities = {}, vendorUsage, mismatch, reason, apart = [] } = usage
  // Seconds of audio have decimals nowhere, but speech is counted in characters and requests: all are whole.
  expect(badCounts({ ...usage, quantities })).toEqual([])
  if (vendorUsage !== undefined) expect(isVendorUsage(vendorUsage)).toBe(true)
  if (mismatch !== undefined) expect(mismatch).toMatch(/^[\w .,;'()-]+$/)
  if (reason !== undefined) {
    expect(['unreadable_body', 'body_too_large', 'invalid_usage', 'no_usage']).toContain(reason)
  }
  for (const part of apart) expectGood({ ...part, isComplete: true, isStreamed: false })
}

function expectUntouchedAndGood(format: WireFormat, passing: Passing, bodyText?: string): void {
  const reader = readerOf(format, bodyText)
  expect(reader.promptText()).toBeTypeOf('string')
  const { seen, result, settled, text } = pass(reader, passing)
  expect(seen.equals(passing.bytes), 'the very bytes').toBe(true)
  expect(text).toBeTypeOf('string')
  expectGood(result)
  expect(reader.result()).toEqual(result)
  for (const { id, usage } of settled) {
    expect(id).not.toBe('')
    expectGood(usage)
  }
}

/** What stands where a number stood. */
const instead = fc.constantFrom(
  '"12"',
  '-7',
  '1e308',
  '-1e308',
  '9007199254740993',
  'NaN',
  '1e999',
  'null',
  '{}',
  '[]',
  '0.5',
  '""',
  'true',
)

/** A transcript with a few things done to it, each at a place of its own. */
const mutated: fc.Arbitrary<Uint8Array> = fc
  .tuple(
    fc.constantFrom(...TRANSCRIPTS),
    fc.array(
      fc.record({
        kind: fc.constantFrom('flip', 'cut', 'repeat', 'swap', 'number'),
        at: fc.double({ min: 0, max: 1, noNaN: true }),
        length: fc.double({ min: 0, max: 0.2, noNaN: true }),
        instead,
      }),
      { maxLength: 4 },
    ),
  )
  .map(([name, changes]) => {
    let text = Buffer.from(transcript(name)).toString('latin1')
    for (const change of changes) {
      const at = Math.floor(change.at * text.length)
      const end = Math.min(text.length, at + Math.ceil(change.length * text.length))
      if (change.kind === 'flip') {
        const flipped = String.fromCharCode((text.charCodeAt(at) ^ 0x11) & 0xff)
        text = text.slice(0, at) + flipped + text.slice(at + 1)
      } else if (change.kind === 'cut') text = text.slice(0, at) + text.slice(end)
      else if (change.kind === 'repeat') text = text.slice(0, end) + text.slice(at)
      else if (change.kind === 'swap') text = text.slice(end) + text.slice(0, end)
      else text = text.slice(0, at) + text.slice(at).replace(/(?<=:\s?)-?\d[\d.e+-]*/, change.instead)
    }
    return new Uint8Array(Buffer.from(text, 'latin1'))
  })

const passingOf = (bytes: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Passing> =>
  bytes.chain((body) =>
    fc.record({
      bytes: fc.constant(body),
      cuts: cutsOf(body.length),
      status: fc.constantFrom(200, 200, 200, 206, 400, 429, 500),
      contentType: fc.constantFrom(...TYPES),
    }),
  )

describe.each(FORMATS)('%s', (format) => {
  it('takes any bytes', () => {
    const bodyText = fc.option(fc.oneof(fc.string(), fc.json()), { nil: undefined })
    fc.assert(
      fc.property(passingOf(fc.uint8Array({ maxLength: 300 })), bodyText, (passing, body) =>
        expectUntouchedAndGood(format, passing, body),
      ),
      { numRuns: 100 },
    )
  })

  it('takes any JSON, as a body, an event and a line', () => {
    const json = fc
      .tuple(fc.json({ maxDepth: 4 }), fc.constantFrom('', 'data: '))
      .map(([text, before]) => utf8(`${before}${text}\n\n`))
    fc.assert(
      fc.property(passingOf(json), (passing) => expectUntouchedAndGood(format, passing)),
      { numRuns: 100 },
    )
  })

  it('takes the answers of all vendors, damaged', () => {
    fc.assert(
      fc.property(passingOf(mutated), (passing) => expectUntouchedAndGood(format, passing)),
      { numRuns: 300 },
    )
  })
})

describe('work and memory are bounded', () => {
  afterEach(() => vi.restoreAllMocks())

  const KIB = 64 * 1024
  /** What never ends: an event, a line, a body, a message. */
  const ENDLESS = utf8(`{"a":"${'x'.repeat(KIB - 6)}`)
  const EVENTS = utf8(`data: {"choices":[{"delta":{"content":"${'x'.repeat(900)}"}}]}\n\n`.repeat(64))

  const EVENTS_OF: Partial<Record<WireFormat, Uint8Array>> = {
    'openai-responses': utf8(
      `data: {"type":"response.output_text.delta","delta":"${'x'.repeat(900)}"}\n\n`.repeat(64),
    ),
    'anthropic-messages': utf8(
      `data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"${'x'.repeat(900)}"}}\n\n`.repeat(
        64,
      ),
    ),
  }

  it.each<[format: WireFormat, contentType: string, pushes: number]>([
    // A mebibyte beyond what is kept of a line, a message, an event.
    ['ollama', 'application/x-ndjson', 272],
    ['batch-results', 'application/octet-stream', 272],
    ['bedrock-converse', 'application/vnd.amazon.eventstream', 272],
    ['openai-chat', 'text/event-stream', 272],
    ...FORMATS.map((format) => [format, 'application/json', 32] as [WireFormat, string, number]),
    ...FORMATS.map((format) => [format, 'text/event-stream', 32] as [WireFormat, string, number]),
  ])('%s reads an endless %s at most once', (format, contentType, pushes) => {
    const reader = readerOf(format)
    const parse = vi.spyOn(JSON, 'parse')
    reader.respond(200, (name) => (name === 'content-type' ? contentType : null))
    let unseen = 0
    for (let sent = 0; sent < pushes; sent++) if (reader.push(ENDLESS) !== ENDLESS) unseen++
    reader.end()
    reader.result()
    expect(unseen).toBe(0)
    const parsed = parse.mock.calls.reduce((sum, [text]) => sum + String(text).length, 0)
    expect(parsed).toBeLessThanOrEqual(pushes * ENDLESS.length + 100)
  })

  it.each(['openai-chat', 'openai-responses', 'anthropic-messages'] as const)(
    '%s parses nothing more of a stream without end once it has enough for an estimate',
    (format) => {
      const reader = readerOf(format)
      reader.respond(200, (name) => (name === 'content-type' ? 'text/event-stream' : null))
      reader.push(utf8('data: {"model":"m","id":"i","choices":[]}\n\n'))
      const text = EVENTS_OF[format] ?? EVENTS
      for (let sent = 0; sent < 100; sent++) reader.push(text)
      const parse = vi.spyOn(JSON, 'parse')
      // A quarter of a gigabyte.
      for (let sent = 0; sent < 4_000; sent++) reader.push(text)
      expect(parse).not.toHaveBeenCalled()
      expect(reader.outputText()).toHaveLength(1024 * 1024)
    },
  )

  it('a line that comes byte by byte takes the memory of its bytes', () => {
    const reader = readerOf('ollama')
    reader.respond(200, () => 'application/x-ndjson')
    const byte = utf8('x')
    const before = process.memoryUsage()
    for (let sent = 0; sent < 2 * 1024 * 1024; sent++) reader.push(byte)
    const after = process.memoryUsage()
    const grown = after.arrayBuffers + after.heapUsed - before.arrayBuffers - before.heapUsed
    expect(grown).toBeLessThan(64 * 1024 * 1024)
  })
})
