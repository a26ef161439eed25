import fc from 'fast-check'
import { get_encoding } from 'tiktoken'
import { afterAll, describe, expect, it } from 'vitest'
import { COUNTED_CHARS_MAX, PIECE_CHARS, piecesOf, TextCounter } from './pieces.ts'

const encoders = [get_encoding('o200k_base'), get_encoding('cl100k_base')]
afterAll(() => {
  for (const encoder of encoders) encoder.free()
})

/** What texts are made of, and what stands in between. */
const word = fc.oneof(
  fc.constantFrom(
    'it',
    "it's",
    "we'LL",
    'naïve',
    'e\u0301a',
    '量子',
    'です。',
    'नमस्ते',
    '123456',
    '3.14',
    '_x',
    '$',
    '🙂',
  ),
  fc.string({ unit: 'binary', minLength: 1, maxLength: 6 }),
)
const gap = fc.constantFrom('', ' ', '  ', '\n', '\r\n\r\n', '\t', ' \n ', ', ', '. ', '(', '="', '/')
const text = fc
  .array(fc.tuple(word, gap), { minLength: 1, maxLength: 60 })
  .map((parts) => parts.flat().join('').repeat(30))

describe('pieces of a text', () => {
  it('are the text, none longer than the limit', () => {
    fc.assert(
      fc.property(text, (whole) => {
        const pieces = piecesOf(whole)
        expect(pieces.join('')).toBe(whole)
        expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThanOrEqual(PIECE_CHARS)
      }),
    )
  })

  it('have the tokens of the whole, wherever there is a place to cut', () => {
    const sentence = 'A price-list, "it\'s 12.5 %", für alle Wörter; 価格表。\n\n\tfoo(bar) === baz_12 '
    fc.assert(
      fc.property(fc.array(fc.tuple(word, gap), { minLength: 1, maxLength: 40 }), (parts) => {
        const whole = parts.map((part) => part.join('') + sentence).join('')
        for (const encoder of encoders) {
          const perPiece = piecesOf(whole).map((piece) => encoder.encode(piece, [], []).length)
          expect(perPiece.reduce((sum, tokens) => sum + tokens, 0)).toBe(encoder.encode(whole, [], []).length)
        }
      }),
      { numRuns: 200 },
    )
  })

  it('never part the two halves of a character', () => {
    for (const piece of piecesOf(`a${'🙂'.repeat(5_000)}`)) expect(piece.isWellFormed()).toBe(true)
  })
})

describe('a count of a long text', () => {
  it('is that of a sample, extrapolated', () => {
    const long = 'all work and no play. '.repeat(300_000)
    let looked = 0
    const counter = new TextCounter((piece) => {
      looked += piece.length
      return piece.length / 2
    }, long.length)
    expect(counter.count(long)).toBe(long.length / 2)
    expect(counter.isSampled).toBe(true)
    expect(looked).toBeLessThanOrEqual(COUNTED_CHARS_MAX)
  })

  it('looks at every text of a long request', () => {
    const counter = new TextCounter((piece) => piece.length, COUNTED_CHARS_MAX * 3)
    expect(counter.count('hello')).toBe(5)
  })
})
