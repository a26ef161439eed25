import { readFileSync } from 'node:fs'
import { get_encoding } from 'tiktoken'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { countByBytes, createTokenCounter, encodingOf, type TokenCounter } from './token-counter.ts'

/** The tokenizer's version, as it names itself. */
const VERSION = /"version": "([^"]+)"/.exec(
  readFileSync(new URL('package.json', import.meta.resolve('tiktoken')), 'utf8'),
)?.[1]

let counter: TokenCounter
beforeAll(() => {
  counter = createTokenCounter()
})
afterAll(() => counter.close())

describe('tokens', () => {
  // Published counts: OpenAI cookbook, "How to count tokens with tiktoken", read 2026-11.
  it.each([
    ['tiktoken is great!', 'gpt-4', 'cl100k_base', 6],
    ['antidisestablishmentarianism', 'gpt-4', 'cl100k_base', 6],
    ['antidisestablishmentarianism', 'gpt-4o', 'o200k_base', 6],
    ['2 + 2 = 4', 'gpt-4', 'cl100k_base', 7],
    ['2 + 2 = 4', 'gpt-4o', 'o200k_base', 7],
    ['お誕生日おめでとう', 'gpt-4', 'cl100k_base', 9],
    ['お誕生日おめでとう', 'gpt-4o', 'o200k_base', 8],
    ['The quick brown fox jumps over the lazy dog', 'claude-sonnet-4-5', 'o200k_base', 9],
  ])('of "%s" for %s are those of %s', async (text, model, encoding, tokens) => {
    expect(await counter.count(text, model)).toEqual({ tokens, tokenizer: `tiktoken/${encoding}@${VERSION}` })
  })

  it.each([
    ['a special token, as the text that it is', '<|endoftext|>'],
    ['half a character', '\uD83D'],
    ['white space', ' \n\t '],
  ])('are counted in any text: %s', async (_, text) => {
    const encoder = get_encoding('o200k_base')
    expect((await counter.count(text, 'gpt-4o')).tokens).toBe(encoder.encode(text, [], []).length)
    encoder.free()
  })

  it('of an empty text are none, and nothing counts them', async () => {
    expect(await counter.count('', 'gpt-4o')).toEqual({ tokens: 0, tokenizer: 'none' })
  })

  it.each(['a', '量', ' ', '🙂'])(
    'of 200,000 times "%s" without a break are those of its pieces',
    async (unit) => {
      const encoder = get_encoding('o200k_base')
      const perPiece = encoder.encode(unit.repeat(1_000 / unit.length), [], []).length
      encoder.free()
      const { tokens, tokenizer } = await counter.count(unit.repeat(200_000), 'gpt-4o')
      expect(tokens).toBe(200 * unit.length * perPiece)
      expect(tokenizer).toContain('tiktoken/')
    },
  )

  it('are counted beside the event loop, which turns on meanwhile', async () => {
    let turns = 0
    let isCounting = true
    const turn = () => {
      turns++
      if (isCounting) setImmediate(turn)
    }
    setImmediate(turn)
    // Pieces of 1,000 that do not repeat: a quarter of a million tokens of work.
    const text = Array.from({ length: 50_000 }, (_, index) => `w${index}`).join(' ')
    await counter.count(text, 'gpt-4o')
    isCounting = false
    expect(turns).toBeGreaterThan(100)
  })

  it('of many texts at once are each its own', async () => {
    const texts = Array.from({ length: 50 }, (_, index) => 'one '.repeat(index + 1).trim())
    const found = await Promise.all(texts.map((text) => counter.count(text, 'gpt-4o')))
    expect(found.map(({ tokens }) => tokens)).toEqual(texts.map((_, index) => index + 1))
  })
})

describe('a counter that was closed', () => {
  it('counts on', async () => {
    const own = createTokenCounter()
    const before = await own.count('hello world', 'gpt-4o')
    await own.close()
    expect(await own.count('hello world', 'gpt-4o')).toEqual(before)
    await own.close()
  })

  it('counts on even before it has closed', async () => {
    const own = createTokenCounter()
    const before = await own.count('hello world', 'gpt-4o')
    const closing = own.close()
    const counting = own.count('hello world', 'gpt-4o')
    await closing
    expect(await counting).toEqual(before)
    await own.close()
  })

  it('answers by bytes what it was counting', async () => {
    const own = createTokenCounter()
    const counting = own.count('hello world', 'gpt-4o')
    await own.close()
    expect(await counting).toEqual({ tokens: 3, tokenizer: 'bytes/4' })
  })

  it('may never have counted, and may be closed twice', async () => {
    const own = createTokenCounter()
    await own.close()
    await own.close()
  })
})

it.each([
  ['', 0],
  ['abcd', 1],
  ['abcde', 2],
  ['数えた', 3],
])('a token is four bytes of "%s", rounded up: %i', (text, tokens) => {
  expect(countByBytes(text)).toEqual({ tokens, tokenizer: 'bytes/4' })
})

it.each([
  ['gpt-3.5-turbo', 'cl100k_base'],
  ['gpt-4', 'cl100k_base'],
  ['gpt-4-turbo', 'cl100k_base'],
  ['gpt-4-0613', 'cl100k_base'],
  ['text-embedding-3-small', 'cl100k_base'],
  ['gpt-4o-mini', 'o200k_base'],
  ['gpt-4.1', 'o200k_base'],
  ['gpt-5.6-sol', 'o200k_base'],
  ['o3', 'o200k_base'],
  ['', 'o200k_base'],
])('%s is counted with %s', (model, encoding) => {
  expect(encodingOf(model)).toBe(encoding)
})
