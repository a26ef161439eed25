import { crc32 as zlibCrc32 } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { eventHeaders, message } from '../../test/aws-event-stream.ts'
import { chunksOf, cutsOf, everyCut } from '../../test/exchange.ts'
import { crc32, EventStreamParser } from './aws-event-stream.ts'

/** Reads a stream in the given pieces; payloads are copied, because their memory is lent. */
function read(bytes: Uint8Array, cuts: readonly number[] = []) {
  const parser = new EventStreamParser()
  const messages: { headers: Record<string, string>; payload: string }[] = []
  for (const chunk of chunksOf(bytes, cuts)) {
    for (const { headers, payload } of parser.push(chunk)) {
      messages.push({ headers: Object.fromEntries(headers), payload: Buffer.from(payload).toString() })
    }
  }
  return { messages, isDamaged: parser.isDamaged }
}

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'))
const said = (payload: string) => ({ headers: eventHeaders('said'), payload })
const say = (payload: string) => message(eventHeaders('said'), payload)

describe('messages', () => {
  // The vectors of the AWS SDKs' event stream test suites.
  it.each<[what: string, bytes: string, headers: Record<string, string>, payload: string]>([
    ['empty_message', '000000100000000005c248eb7d98c8ff', {}, ''],
    ['payload_no_headers', '0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936', {}, "{'foo':'bar'}"],
    [
      'payload_one_str_header',
      '0000003d0000002007fd83960c636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e7b27666f6f273a27626172277d8d9c08b1',
      { 'content-type': 'application/json' },
      "{'foo':'bar'}",
    ],
  ])('%s', (_, bytes, headers, payload) => {
    expect(read(hex(bytes))).toEqual({ messages: [{ headers, payload }], isDamaged: false })
  })

  it('headers of every type are stepped over, and those of type string read', () => {
    const others = [
      [0],
      [1],
      [2, 9],
      [3, 9, 9],
      [4, 9, 9, 9, 9],
      [5, 9, 9, 9, 9, 9, 9, 9, 9],
      [6, 0, 2, 9, 9],
      [8, 9, 9, 9, 9, 9, 9, 9, 9],
      [9, ...Array.from({ length: 16 }, () => 9)],
      [7, 0, 2, 0x68, 0x69],
    ].flatMap((value, index) => [1, 0x61 + index, ...value])
    expect(read(message(Uint8Array.from(others), 'x')).messages).toEqual([
      { headers: { j: 'hi' }, payload: 'x' },
    ])
  })

  it('are the same whichever way the stream is cut', () => {
    const bytes = Buffer.concat([say('one'), say(''), say('dé東'), message({}, 'x'.repeat(600))])
    const whole = read(bytes)
    expect(whole.messages).toHaveLength(4)
    for (const cuts of everyCut(bytes.length)) expect(read(bytes, cuts)).toEqual(whole)
  })

  it('are found again in random streams in random pieces', () => {
    const random = fc.array(
      fc.record({
        headers: fc.dictionary(fc.string({ minLength: 1, maxLength: 20 }), fc.string({ maxLength: 300 })),
        payload: fc.string({ maxLength: 2000, unit: 'binary' }),
      }),
      { maxLength: 8 },
    )
    fc.assert(
      fc.property(random, fc.infiniteStream(fc.nat(5000)), (messages, at) => {
        const bytes = Buffer.concat(messages.map(({ headers, payload }) => message(headers, payload)))
        const cuts = [...at.take(20)].map((cut) => cut % (bytes.length + 1))
        expect(read(bytes, cuts)).toEqual({
          messages: messages.map(({ headers, payload }) => ({ headers: { ...headers }, payload })),
          isDamaged: false,
        })
      }),
      { numRuns: 200 },
    )
  })
})

describe('damage', () => {
  it('a message with a wrong checksum is left out, and the next one read', () => {
    const wrong = say('two')
    wrong[wrong.length - 6] = 0
    const bytes = Buffer.concat([say('one'), wrong, say('three')])
    expect(read(bytes)).toEqual({ messages: [said('one'), said('three')], isDamaged: true })
  })

  it('behind a wrong length nothing is read', () => {
    const wrong = say('two')
    wrong[3] = 99
    const bytes = Buffer.concat([say('one'), wrong, say('three')])
    for (const cuts of everyCut(bytes.length)) {
      expect(read(bytes, cuts)).toEqual({ messages: [said('one')], isDamaged: true })
    }
  })

  it('no changed bit goes unnoticed', () => {
    const bytes = Buffer.concat([say('one'), say('two')])
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes)
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      const { messages, isDamaged } = read(changed)
      expect(isDamaged).toBe(true)
      expect(messages.every(({ payload }) => payload === 'one' || payload === 'two')).toBe(true)
    }
  })

  it('headers that run over their end are no headers', () => {
    for (const headers of [
      [5, 0x61],
      [1, 0x61, 7, 0, 9],
      [1, 0x61, 10],
      [1, 0x61, 5, 0],
    ]) {
      expect(read(message(Uint8Array.from(headers), ''))).toEqual({ messages: [], isDamaged: true })
    }
  })

  it('a message that is too large passes without being kept', () => {
    const mebibyte = Buffer.alloc(1024 * 1024)
    const prelude = message({}, '').subarray(0, 12)
    prelude.writeUInt32BE(30 * mebibyte.length, 0)
    prelude.writeUInt32BE(zlibCrc32(prelude.subarray(0, 8)), 8)
    const parser = new EventStreamParser()
    const push = (bytes: Uint8Array) =>
      parser.push(bytes).map(({ payload }) => Buffer.from(payload).toString())
    expect(push(prelude.subarray(0, 7))).toEqual([])
    expect(push(prelude.subarray(7))).toEqual([])
    for (let count = 0; count < 29; count++) expect(push(mebibyte)).toEqual([])
    expect(push(Buffer.concat([mebibyte.subarray(12), say('after')]))).toEqual(['after'])
    expect(parser.isDamaged).toBe(true)
  })

  it('random bytes never throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), cutsOf(400), (bytes, cuts) => {
        const at = cuts.map((cut) => Math.min(cut, bytes.length))
        expect(read(bytes, at)).toEqual(read(bytes))
      }),
    )
  })
})

it('the checksum is that of zlib', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      expect(crc32(bytes, bytes.length)).toBe(zlibCrc32(bytes))
    }),
  )
})
