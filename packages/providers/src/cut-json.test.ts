import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseCutJson } from './cut-json.ts'

describe('JSON that was cut', () => {
  it.each<[cut: string, read: unknown]>([
    ['{"a":"half a te', { a: 'half a te' }],
    ['{"a":"x","b":[{"c":"y"},{"d":"z', { a: 'x', b: [{ c: 'y' }, { d: 'z' }] }],
    ['{"a":"x","b', { a: 'x' }],
    ['{"a":"x","b":', { a: 'x' }],
    ['{"a":"x","b":tr', { a: 'x' }],
    ['{"a":["x",', { a: ['x'] }],
    ['{"a":{"b":"x"}', { a: { b: 'x' } }],
    ['{', {}],
    ['{"a":"line\\', { a: 'line' }],
    ['{"a":"line\\u00e', { a: 'line' }],
    ['{"a":"path\\\\', { a: 'path\\' }],
    ['{"a":"path\\\\\\', { a: 'path\\' }],
    ['{"a":"brackets ]}', { a: 'brackets ]}' }],
    ['{"a":"数\ufffd', { a: '数' }],
  ])('%s', (cut, read) => {
    expect(parseCutJson(cut)).toEqual(read)
  })

  it.each([undefined, '', 'half', '[1,', '"te', '<html>', '{]', '{"a":1}}'])('is no object: %s', (text) => {
    expect(parseCutJson(text)).toBeUndefined()
  })

  it('gives every text as far as it came, wherever it is cut', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), fc.json(), fc.nat(), (text, other, at) => {
        const whole = `{"other":${other},"message":{"content":${JSON.stringify(text)}},"usage":{"total":12}}`
        const read: unknown = parseCutJson(whole.slice(0, 1 + (at % (whole.length - 1))))
        expect(read).toBeTypeOf('object')
        const message: unknown = Object(read).message
        const content: unknown = Object(message).content
        if (typeof content === 'string') expect(text.startsWith(content)).toBe(true)
        const isWhole = 1 + (at % (whole.length - 1)) > whole.indexOf('"usage"')
        if (isWhole) expect(content).toBe(text)
      }),
      { numRuns: 1_000 },
    )
  })
})
