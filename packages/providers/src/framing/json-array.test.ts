import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chunksOf, cutsOf } from '../../test/exchange.ts'
import { JsonArrayParser } from './json-array.ts'

const utf8 = (text: string) => new Uint8Array(Buffer.from(text))

/** What a body in such pieces is cut into. */
function cut(text: string, cuts: readonly number[] = []) {
  const parser = new JsonArrayParser()
  const elements: string[] = []
  for (const chunk of chunksOf(utf8(text), cuts))
    for (const element of parser.push(chunk)) elements.push(Buffer.from(element).toString('utf8'))
  return { elements, isArray: parser.isArray, isWhole: parser.isWhole }
}

describe('a JSON array', () => {
  it.each<[what: string, text: string, expected: object]>([
    ['of objects', '[{"a":1},\r\n{"b":[2]}\n]\n', { elements: ['{"a":1}', '{"b":[2]}'] }],
    ['with brackets in texts', '[{"a":"]}[{"},{"b":"}"}]', { elements: ['{"a":"]}[{"}', '{"b":"}"}'] }],
    ['with escaped quotes', '[{"a":"\\"}\\\\"},{"b":1}]', { elements: ['{"a":"\\"}\\\\"}', '{"b":1}'] }],
    ['behind a byte order mark', '\uFEFF [{"a":1}]', { elements: ['{"a":1}'] }],
    ['that is empty', ' [ ] ', { elements: [] }],
    ['that is cut', '[{"a":1},{"b"', { elements: ['{"a":1}'], isWhole: false }],
    ['that is one object', ' {"a":{"b":1}}\n', { elements: ['{"a":{"b":1}}'], isArray: false }],
    ['that is followed by another', '[{"a":1}][{"b":1}]', { elements: ['{"a":1}'] }],
    ['that is a page', '<p>[{"a":1}]', { elements: [], isArray: false, isWhole: false }],
    ['that is nothing', '', { elements: [], isArray: false, isWhole: false }],
  ])('%s', (_, text, expected) => {
    expect(cut(text)).toEqual({ isArray: true, isWhole: true, ...expected })
  })

  it('is cut into its elements, whichever way it comes', () => {
    const object = fc.dictionary(fc.string(), fc.jsonValue())
    fc.assert(
      fc.property(
        fc.array(object),
        fc.constantFrom(undefined, 2),
        fc.array(fc.nat(500)),
        (objects, indent, positions) => {
          const text = JSON.stringify(objects, null, indent)
          const cuts = positions.map((position) => position % (utf8(text).length + 1))
          const { elements, isWhole } = cut(text, cuts)
          expect(elements.map((element): unknown => JSON.parse(element))).toEqual(JSON.parse(text))
          expect(isWhole).toBe(true)
        },
      ),
    )
  })

  it('of whatever bytes throws nothing', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('{', '}', '[', ']', '"', '\\', ',', 'a', '\n') }),
        cutsOf(20),
        (text, cuts) => {
          const inside = cuts.map((position) => Math.min(position, text.length))
          expect(cut(text, inside)).toEqual(cut(text))
        },
      ),
    )
  })

  it('holds no element above 64 MiB, and reads on behind it', () => {
    const parser = new JsonArrayParser()
    const megabyte = utf8('x'.repeat(1024 * 1024))
    parser.push(utf8('[{"data":"'))
    for (let count = 0; count < 65; count++) expect(parser.push(megabyte)).toEqual([])
    expect(parser.push(utf8('"},{"a":1}]')).map((element) => Buffer.from(element).toString())).toEqual([
      '{"a":1}',
    ])
    expect(parser.isWhole).toBe(true)
  })
})
