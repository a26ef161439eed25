import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chunksOf, cutsOf } from '../../test/exchange.ts'
import { NdjsonParser } from './ndjson.ts'

/** The lines of a body in such pieces. */
function linesOf(bytes: Uint8Array, cuts: readonly number[] = []): string[] {
  const parser = new NdjsonParser()
  const lines: string[] = []
  for (const chunk of chunksOf(bytes, cuts))
    for (const line of parser.push(chunk)) lines.push(Buffer.from(line).toString('utf8'))
  const last = parser.end()
  if (last !== undefined) lines.push(Buffer.from(last).toString('utf8'))
  return lines
}

describe('lines', () => {
  it('are those of the body, whichever way it comes, without empty ones', () => {
    const text = fc.string({ unit: fc.constantFrom('\n', '{', '数', 'a', '🙂') })
    fc.assert(
      fc.property(
        text
          .map((body) => new Uint8Array(Buffer.from(body)))
          .chain((body) => fc.tuple(fc.constant(body), cutsOf(body.length))),
        ([body, cuts]) => {
          const expected = Buffer.from(body).toString('utf8').split('\n')
          expect(linesOf(body, cuts)).toEqual(expected.filter((line) => line !== ''))
        },
      ),
    )
  })

  it('above 16 MiB stand as empty ones, and the next is read', () => {
    const parser = new NdjsonParser()
    const megabyte = new Uint8Array(1024 * 1024).fill(120)
    for (let count = 0; count < 17; count++) expect(parser.push(megabyte)).toEqual([])
    expect(parser.push(new Uint8Array(Buffer.from('x\n{}\n'))).map((line) => line.length)).toEqual([0, 2])
    expect(parser.end()).toBeUndefined()
  })
})
