import fc from 'fast-check'
import { expect, it } from 'vitest'
import { EventStream } from './event-stream.ts'

const STREAM = [
  ': \n',
  ':heartbeat\n\n',
  'event: decisions\ndata: {"a":\ndata: 1}\n\n',
  'event: other\ndata: no\n\n',
  'data: without a name\n\n',
  'event:decisions\r\ndata:two\r\n\r\n',
  'id: 7\revent: decisions\rdata: three\r\r',
  'event: decisions\n\n',
  'event: decisions\ndata: never ended',
].join('')

it('finds the events of a name, however the text is cut', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(STREAM.length)), (cuts) => {
      const stream = new EventStream()
      const at = [0, ...cuts.toSorted((a, b) => a - b), STREAM.length]
      const found = at.flatMap((end, index) =>
        stream.push(STREAM.slice(at[index - 1] ?? 0, end), 'decisions'),
      )
      expect(found).toEqual(['{"a":\n1}', 'two', 'three'])
    }),
  )
})

it('keeps no heartbeats, and refuses an event without end', () => {
  const stream = new EventStream()
  const piece = `data: ${'x'.repeat(1_000_000)}\n`
  for (let index = 0; index < 20; index++) expect(stream.push(`: ${piece}`, 'decisions')).toEqual([])
  expect(() => {
    for (let index = 0; index < 20; index++) stream.push(piece, 'decisions')
  }).toThrow(RangeError)
})
