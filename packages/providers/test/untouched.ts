import fc from 'fast-check'
import { expect } from 'vitest'
import type { UsageReader } from '../src/index.ts'
import { badCounts, cutsOf, type Exchange, everyCut, exchange, textOf, transcript } from './exchange.ts'

export const STREAM = 'text/event-stream; charset=utf-8'
export const JSON_TYPE = 'application/json'

export const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))

/** Lets a transcript pass, as the type that its name says. */
export function passTranscript(reader: UsageReader, name: string, status = 200): Exchange {
  return exchange(reader, { bytes: transcript(name), status, contentType: typeOf(name) })
}

/** A transcript reads the same and arrives byte for byte, whichever way the network cuts it. */
export function expectUntouched(makeReader: () => UsageReader, name: string, status = 200): void {
  const bytes = transcript(name)
  const whole = passTranscript(makeReader(), name, status)
  expect(whole.seen).toEqual(Buffer.from(bytes))
  const expected = textOf(whole)
  for (const cuts of everyCut(bytes.length)) {
    const cut = exchange(makeReader(), { bytes, status, contentType: typeOf(name), cuts })
    if (textOf(cut) !== expected) expect(textOf(cut), `cut at ${cuts.join()}`).toBe(expected)
  }
}

/** Whatever JSON comes, in a body or in an event, nothing is thrown, counts are good and no byte is lost. */
export function expectGoodCounts(makeReader: () => UsageReader, json: fc.Arbitrary<unknown>): void {
  fc.assert(
    fc.property(json, fc.integer({ min: 100, max: 599 }), (answer, status) => {
      const text = JSON.stringify(answer)
      const plain = exchange(makeReader(), { bytes: utf8(text), status, contentType: JSON_TYPE })
      expect(plain.seen.toString()).toBe(text)
      expect(badCounts(plain.result)).toEqual([])
      const event = `data: ${text}\n\n`
      const stream = exchange(makeReader(), { bytes: utf8(event), contentType: STREAM })
      expect(stream.seen.toString()).toBe(event)
      expect(badCounts(stream.result)).toEqual([])
    }),
    { numRuns: 1_000 },
  )
}

/** Whatever bytes come, as whatever type, nothing is thrown and no byte is lost. */
export function expectNoByteLost(readerOf: (bodyText: string | undefined) => UsageReader): void {
  const piece = fc.oneof(
    fc.constantFrom('data: ', '\n\n', '\r\n\r\n', '\r', '[DONE]', '{"usage":{"input_tokens":1}}').map(utf8),
    fc.uint8Array({ maxLength: 8 }),
  )
  const body = fc.array(piece, { maxLength: 20 }).map((pieces) => new Uint8Array(Buffer.concat(pieces)))
  const contentType = fc.constantFrom(STREAM, JSON_TYPE, 'audio/mpeg', 'text/plain', '')
  fc.assert(
    fc.property(
      body.chain((bytes) => fc.tuple(fc.constant(bytes), cutsOf(bytes.length))),
      contentType,
      fc.option(fc.oneof(fc.string(), fc.json()), { nil: undefined }),
      ([bytes, cuts], type, bodyText) => {
        const reader = readerOf(bodyText)
        expect(reader.promptText()).toBeTypeOf('string')
        expect(exchange(reader, { bytes, contentType: type, cuts }).seen).toEqual(Buffer.from(bytes))
      },
    ),
    { numRuns: 1_000 },
  )
}

function typeOf(name: string): string {
  return name.endsWith('.sse') ? STREAM : JSON_TYPE
}
