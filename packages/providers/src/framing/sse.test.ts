import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chunksOf, cutsOf, everyCut, transcript, transcriptNames } from '../../test/exchange.ts'
import { type SseEvent, SseParser } from './sse.ts'

/** Events of a stream that is cut at these places. */
function eventsOf(bytes: Uint8Array, cuts: readonly number[] = []): SseEvent[] {
  const parser = new SseParser()
  const events: SseEvent[] = []
  for (const chunk of chunksOf(bytes, cuts)) {
    for (const { data, raw } of parser.push(chunk)) events.push({ data, raw: new Uint8Array(raw) })
  }
  const last = parser.end()
  return last === undefined ? events : [...events, last]
}

/** What the standard says, the slow way: all of the text at once, line by line. */
function naiveEventsOf(bytes: Uint8Array): { data: string; raw: string }[] {
  const events: { data: string; raw: string }[] = []
  let raw = ''
  let data: string[] = []
  const dispatch = () => {
    if (raw !== '') events.push({ data: data.join('\n'), raw })
    raw = ''
    data = []
  }
  // One character per byte, so that lines can be found before anything is decoded.
  for (const [line] of Buffer.from(bytes)
    .toString('latin1')
    .matchAll(/[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$/g)) {
    raw += line
    const text = Buffer.from(line.replace(/[\r\n]+$/, ''), 'latin1').toString('utf8')
    if (text === '') dispatch()
    const [, value] = /^\uFEFF?data(?:: ?(.*))?$/s.exec(text) ?? []
    if (/^\uFEFF?data(:|$)/.test(text)) data.push(value ?? '')
  }
  dispatch()
  return events
}

const comparable = (events: readonly SseEvent[]) =>
  events.map(({ data, raw }) => ({ data, raw: Buffer.from(raw).toString('latin1') }))
const utf8 = (text: string) => new Uint8Array(Buffer.from(text))

describe('server-sent events', () => {
  it.each<[name: string, stream: string, data: string[]]>([
    ['one line', 'data: one\n\n', ['one']],
    ['no space behind the colon', 'data:one\n\n', ['one']],
    ['only one space is taken away', 'data:  one \n\n', [' one ']],
    ['several data lines are joined', 'data: one\ndata: two\ndata\n\n', ['one\ntwo\n']],
    ['other fields are left out', 'event: x\nid: 7\nretry: 10\ndata: one\nother: 2\n\n', ['one']],
    ['a field that only begins like data', 'database: one\n\n', ['']],
    ['comments', ': PROCESSING\n\n: \n\ndata: one\n\n', ['', '', 'one']],
    ['empty data', 'data:\n\ndata: \n\ndata\n\n', ['', '', '']],
    ['empty lines between events', 'data: one\n\n\n\ndata: two\n\n', ['one', '', '', 'two']],
    ['CRLF', 'data: one\r\n\r\ndata: two\r\n\r\n', ['one', 'two']],
    ['CR', 'data: one\r\rdata: two\r\r', ['one', 'two']],
    ['CR that ends a line inside an event', 'data: one\rdata: two\n\ndata: three\n\n', ['one\ntwo', 'three']],
    [
      'line ends of all kinds',
      'data: one\r\n\ndata: two\n\rdata: three\r\r\ndata: four\n\r\n',
      ['one', 'two', 'three', 'four'],
    ],
    ['a byte order mark', '\uFEFFdata: one\n\ndata: two\n\n', ['one', 'two']],
    ['a line that never ended', 'data: one\n\ndata: tw', ['one', 'tw']],
    ['an event without its empty line', 'data: one\n\ndata: two\n', ['one', 'two']],
    ['characters of several bytes', 'data: é数🙂\n\n', ['é数🙂']],
    ['nothing', '', []],
  ])('%s', (_, stream, data) => {
    const bytes = utf8(stream)
    expect(naiveEventsOf(bytes).map((event) => event.data)).toEqual(data)
    for (const cuts of [[], ...everyCut(bytes.length)]) {
      const events = eventsOf(bytes, cuts)
      expect(events.map((event) => event.data)).toEqual(data)
      expect(Buffer.concat(events.map((event) => event.raw))).toEqual(Buffer.from(bytes))
    }
  })

  it.each([...transcriptNames('openai-chat', '.sse'), ...transcriptNames('anthropic-messages', '.sse')])(
    'are the same whichever way %s is cut',
    (name) => {
      const bytes = transcript(name)
      const expected = naiveEventsOf(bytes)
      fc.assert(
        fc.property(cutsOf(bytes.length), (cuts) => {
          expect(comparable(eventsOf(bytes, cuts))).toEqual(expected)
        }),
        { numRuns: 30 },
      )
    },
  )

  it('of any bytes are those of a naive splitter, and every byte is in exactly one', () => {
    const piece = fc.oneof(
      fc.constantFrom('\n', '\r', '\r\n').map(utf8),
      fc.constantFrom('data: ', 'data:', 'data', ':', ' ', 'event: x', '{"a":1}', 'é🙂').map(utf8),
      fc.uint8Array({ maxLength: 4 }),
    )
    const stream = fc
      .tuple(fc.constantFrom('', '\uFEFF'), fc.array(piece, { maxLength: 30 }))
      .map(([mark, pieces]) => new Uint8Array(Buffer.concat([utf8(mark), ...pieces])))
      // A mark in front of an empty line, or elsewhere, is no case that a provider can produce.
      .filter(
        (bytes) =>
          !/^\u00EF\u00BB\u00BF[\r\n]|[\s\S]\u00EF\u00BB\u00BF/.test(Buffer.from(bytes).toString('latin1')),
      )
    fc.assert(
      fc.property(
        stream.chain((bytes) => fc.tuple(fc.constant(bytes), cutsOf(bytes.length))),
        ([bytes, cuts]) => {
          expect(comparable(eventsOf(bytes, cuts))).toEqual(naiveEventsOf(bytes))
        },
      ),
      { numRuns: 3_000 },
    )
  })

  it('that are too large to look into pass unread without being held back', () => {
    const parser = new SseParser()
    const mebibyte = new Uint8Array(1_048_576).fill(0x78)
    const passed: SseEvent[] = parser.push(utf8('data: "'))
    for (let sent = 0; sent < 40; sent++) passed.push(...parser.push(mebibyte))
    const bytesPassed = passed.reduce((sum, event) => sum + event.raw.length, 0)
    expect(41 * mebibyte.length - bytesPassed).toBeLessThan(18 * mebibyte.length)
    passed.push(...parser.push(utf8('\ndata: tail\n\ndata: next\n\n')))
    expect(passed.map((event) => event.data).filter((data) => data !== '')).toEqual(['next'])
    expect(passed.reduce((sum, event) => sum + event.raw.length, 0)).toBe(40 * mebibyte.length + 7 + 13 + 12)
  })
})
