import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { get_encoding } from 'tiktoken'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { type CountRequest, countByBytes, createTokenCounter, type TokenCounter } from './token-counter.ts'

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
    ['The quick brown fox jumps over the lazy dog', 'unknown-model', 'o200k_base', 9],
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
  ['gpt-3.5-turbo', 'tiktoken/cl100k_base'],
  ['gpt-4', 'tiktoken/cl100k_base'],
  ['gpt-4-turbo', 'tiktoken/cl100k_base'],
  ['gpt-4-0613', 'tiktoken/cl100k_base'],
  ['openai/gpt-4', 'tiktoken/cl100k_base'],
  ['text-embedding-3-small', 'tiktoken/cl100k_base'],
  ['gpt-4o-mini', 'tiktoken/o200k_base'],
  ['gpt-4.1', 'tiktoken/o200k_base'],
  ['gpt-5.6-sol', 'tiktoken/o200k_base'],
  ['openai/gpt-oss-120b', 'tiktoken/o200k_base'],
  ['o3', 'tiktoken/o200k_base'],
  ['grok-4', 'tiktoken/o200k_base'],
  ['', 'tiktoken/o200k_base'],
  ['meta-llama/Llama-3.3-70B-Instruct-Turbo', 'llama3-tokenizer-js'],
  ['us.meta.llama3-1-70b-instruct-v1:0', 'llama3-tokenizer-js'],
  ['claude-sonnet-4-5', '@anthropic-ai/tokenizer'],
  ['anthropic.claude-3-haiku-20240307-v1:0', '@anthropic-ai/tokenizer'],
  // Their packages are the application's to install.
  ['deepseek-chat', 'tiktoken/o200k_base'],
  ['gemini-2.5-pro', 'tiktoken/o200k_base'],
  ['mistral-large-latest', 'tiktoken/o200k_base'],
])('%s is counted with %s', async (model, tokenizer) => {
  const counted = await counter.count('hello world', model)
  expect(counted.tokenizer.slice(0, counted.tokenizer.lastIndexOf('@'))).toBe(tokenizer)
  expect(counted.tokens).toBe(2)
})

const CALL = { provider: 'openai', model: 'gpt-4o', format: 'openai-chat' } as const
const bodyOf = (content: unknown) =>
  JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content }] })

describe('a request', () => {
  it('is counted with all that surrounds its text, and says that it is exact', async () => {
    expect(await counter.countRequest({ ...CALL, body: bodyOf('hello world') })).toEqual({
      tokens: 9,
      tokenizer: `tiktoken/o200k_base@${VERSION}`,
      isExact: true,
    })
  })

  it.each([
    ['an image', { body: bodyOf([{ type: 'image_url', image_url: { url: 'data:image/png;base64,aaaa' } }]) }],
    [
      'tools',
      { body: JSON.stringify({ messages: [], tools: [{ type: 'function', function: { name: 'f' } }] }) },
    ],
    ['a schema', { body: JSON.stringify({ messages: [], response_format: { type: 'json_schema' } }) }],
    ['another provider', { provider: 'together_ai', body: bodyOf('hello') }],
    ['another model', { model: 'claude-sonnet-4-5', body: bodyOf('hello') }],
  ])('does not claim to be exact with %s', async (_, other) => {
    expect((await counter.countRequest({ ...CALL, ...other })).isExact).toBeUndefined()
  })

  it('does not count what is no text', async () => {
    const image = { type: 'image_url', image_url: { url: `data:image/png;base64,${'a'.repeat(100_000)}` } }
    const text = { type: 'text', text: 'hello world' }
    expect((await counter.countRequest({ ...CALL, body: bodyOf([image, text]) })).tokens).toBe(9)
  })

  it.each([
    ['no JSON', 'hello'],
    ['JSON of another shape', '[1]'],
    ['messages of another shape', '{"messages":{"a":1},"tools":5,"input":[[[1]],null]}'],
    ['a deep nest', `{"messages":[{"content":${'['.repeat(50_000)}${']'.repeat(50_000)}}]}`],
  ])('of %s is counted without a failure', async (_, body) => {
    const counted = await counter.countRequest({ ...CALL, body })
    expect(counted.tokenizer).toBe(`tiktoken/o200k_base@${VERSION}`)
    expect(counted.tokens).toBeLessThan(20)
  })

  it('of many megabytes is neither read nor copied at once by the thread that asks', async () => {
    const parse = vi.spyOn(JSON, 'parse')
    const post = vi.spyOn(Worker.prototype, 'postMessage')
    try {
      const body = bodyOf('word '.repeat(2_000_000))
      const counted = await counter.countRequest({ ...CALL, body })
      expect(counted).toEqual({ tokens: 2_000_008, tokenizer: `tiktoken/o200k_base@${VERSION}+sampled` })
      expect(parse).not.toHaveBeenCalled()
      const lengths = post.mock.calls.map(([request]: CountRequest[]) => request?.slice.length ?? 0)
      expect(lengths.length).toBeGreaterThan(10)
      expect(Math.max(...lengths)).toBeLessThanOrEqual(512 * 1024)
      expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(body.length)
    } finally {
      vi.restoreAllMocks()
    }
  })
})

describe('without its worker', () => {
  const worker = (code: string) => new URL(`data:text/javascript,${encodeURIComponent(code)}`)

  it.each([
    ['whose file is missing', new URL('./no-such-worker.ts', import.meta.url)],
    ['that cannot load its tokenizer', worker("import './missing.wasm'")],
    ['that throws', worker("throw new Error('no')")],
    ['that ends', worker('process.exit(0)')],
    ['that runs out of memory', worker('const a = []; for (;;) a.push(new Array(1e5).fill(0.5))')],
    [
      'that dies at work',
      worker(
        "import { parentPort } from 'node:worker_threads'; parentPort.on('message', () => process.exit(1))",
      ),
    ],
  ])('bytes are counted: one %s', async (_, workerUrl) => {
    const own = createTokenCounter({ workerUrl, workerHeapMaxMb: 16 })
    // Its texts are read, because the body is small: 11 bytes, and what surrounds them.
    expect(await own.countRequest({ ...CALL, body: bodyOf('hello world') })).toEqual({
      tokens: 10,
      tokenizer: 'bytes/4',
    })
    expect(await own.count('abcdefgh', 'gpt-4o')).toEqual({ tokens: 2, tokenizer: 'bytes/4' })
    await own.close()
  })

  it('the app does not start anew in the worker: its preloads run once', async () => {
    const counter = new URL('./token-counter.ts', import.meta.url).href
    const { stdout } = await promisify(execFile)(process.execPath, [
      '--conditions=source',
      '--import',
      `data:text/javascript,${encodeURIComponent("console.log('preloaded')")}`,
      '--input-type=module',
      '--eval',
      `import { createTokenCounter } from ${JSON.stringify(counter)}
       // The worker does not keep the process alive.
       const alive = setInterval(() => undefined, 1_000)
       console.log((await createTokenCounter().count('hello world', 'gpt-4o')).tokenizer)
       clearInterval(alive)`,
    ])
    expect(stdout).toMatch(/^preloaded\ntiktoken\/o200k_base@[\d.]+\n$/)
  })

  it('it is not started for ever', async () => {
    const own = createTokenCounter({ workerUrl: new URL('./no-such-worker.ts', import.meta.url) })
    for (let index = 0; index < 3; index++) await own.count('a', 'gpt-4o')
    const post = vi.spyOn(Worker.prototype, 'postMessage')
    expect(await own.count('a', 'gpt-4o')).toEqual({ tokens: 1, tokenizer: 'bytes/4' })
    expect(post).not.toHaveBeenCalled()
    post.mockRestore()
    await own.close()
  })
})
