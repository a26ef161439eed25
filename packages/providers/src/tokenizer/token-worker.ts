import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { parentPort } from 'node:worker_threads'
import { get_encoding, type Tiktoken } from 'tiktoken'
import { z } from 'zod'
import type { CountAnswer, CountRequest, Encoding } from './token-counter.ts'

/** BPE is quadratic on long unbroken runs; cut here they stay harmless, and ordinary text changes by < 0.5 %. */
const PIECE_CHARS = 1_000

const require = createRequire(import.meta.url)
// tiktoken does not export its package.json, which lies beside its entry point.
const manifest: unknown = require(join(dirname(require.resolve('tiktoken')), 'package.json'))
const { version } = z.object({ version: z.string() }).parse(manifest)
const encoders = new Map<Encoding, Tiktoken>()

function encoderOf(encoding: Encoding): Tiktoken {
  let encoder = encoders.get(encoding)
  if (encoder === undefined) {
    encoder = get_encoding(encoding)
    encoders.set(encoding, encoder)
  }
  return encoder
}

parentPort?.on('message', ({ id, text, encoding }: CountRequest) => {
  const encoder = encoderOf(encoding)
  let tokens = 0
  for (let start = 0; start < text.length; start += PIECE_CHARS) {
    tokens += encoder.encode(text.slice(start, start + PIECE_CHARS), [], []).length
  }
  const answer: CountAnswer = { id, tokens, tokenizer: `tiktoken/${encoding}@${version}` }
  parentPort?.postMessage(answer)
})
