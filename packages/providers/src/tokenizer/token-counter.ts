import { Worker } from 'node:worker_threads'

/** A count and what made it. */
export interface TokenCount {
  readonly tokens: number
  /** Tokenizer and version, such as `tiktoken/o200k_base@1.0.22`. */
  readonly tokenizer: string
}

/**
 * Counts tokens where the provider reported none. The work is done in a worker thread that starts with the
 * first count and never keeps the process alive.
 */
export interface TokenCounter {
  /** Never rejects: without the tokenizer it counts bytes. */
  count(text: string, model: string): Promise<TokenCount>
  close(): Promise<void>
}

/** What the worker is asked and what it answers. */
export interface CountRequest {
  readonly id: number
  readonly text: string
  readonly encoding: Encoding
}
export interface CountAnswer {
  readonly id: number
  readonly tokens: number
  readonly tokenizer: string
}
export type Encoding = 'o200k_base' | 'cl100k_base'

/**
 * Where no tokenizer is at hand: a token is about four bytes of UTF-8. Measured against o200k: 27 % too few
 * on dense English, 12 % too many on code, 1 % too few on CJK.
 */
export function countByBytes(text: string): TokenCount {
  return { tokens: Math.ceil(Buffer.byteLength(text) / 4), tokenizer: 'bytes/4' }
}

/** OpenAI's models before gpt-4o use cl100k; all others, and other vendors' models, are counted with o200k. */
export function encodingOf(model: string): Encoding {
  return /^(gpt-3\.5|gpt-4(?!o|\.)|text-embedding)/.test(model) ? 'cl100k_base' : 'o200k_base'
}

export function createTokenCounter(): TokenCounter {
  let worker: Worker | undefined
  let nextId = 0
  const waiting = new Map<number, { text: string; resolve: (count: TokenCount) => void }>()

  const giveUp = () => {
    worker = undefined
    for (const { text, resolve } of waiting.values()) resolve(countByBytes(text))
    waiting.clear()
  }
  const start = (): Worker => {
    // The worker stands beside this file under the same extension, as source and as what is published.
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    const started = new Worker(new URL(`./token-worker.${extension}`, import.meta.url))
    started.unref()
    started.on('message', (answer: CountAnswer) => {
      const request = waiting.get(answer.id)
      waiting.delete(answer.id)
      request?.resolve({ tokens: answer.tokens, tokenizer: answer.tokenizer })
    })
    // One that was closed ends later, when another may be at work.
    const lost = () => {
      if (worker === started) giveUp()
    }
    started.on('error', lost)
    started.on('exit', lost)
    return started
  }

  return {
    count(text, model) {
      if (text === '') return Promise.resolve({ tokens: 0, tokenizer: 'none' })
      const { promise, resolve } = Promise.withResolvers<TokenCount>()
      const id = nextId++
      waiting.set(id, { text, resolve })
      try {
        worker ??= start()
        const request: CountRequest = { id, text, encoding: encodingOf(model) }
        worker.postMessage(request)
      } catch {
        giveUp()
      }
      return promise
    },
    async close() {
      const running = worker
      giveUp()
      await running?.terminate()
    },
  }
}
