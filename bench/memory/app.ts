import { start } from '@tokentally/meter'
import OpenAI from 'openai'
import { z } from 'zod'

/** An application that makes streamed calls, as many as it is told, and says how large its heap is then. */

const [providerUrl = '', sinkUrl = '', spool = ''] = process.argv.slice(2)
const CONCURRENCY = 8

const meter = start({
  url: sinkUrl,
  apiKey: 'tt_memory',
  spool,
  endpoints: `${providerUrl}/v1=openai`,
  onError: (error) => process.stderr.write(`${String(error)}\n`),
})
const client = new OpenAI({ apiKey: 'sk-memory', baseURL: `${providerUrl}/v1` })

async function call(): Promise<void> {
  const request = { model: 'gpt-4o-mini', messages: [{ role: 'user' as const, content: 'Say something.' }] }
  for await (const _ of await client.chat.completions.create({ ...request, stream: true })) {
    // The application reads; what it does with the text is not looked at.
  }
}

async function calls(count: number): Promise<void> {
  let left = count
  const oneAfterAnother = async () => {
    while (left-- > 0) await call()
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, oneAfterAnother))
  await meter.flush()
}

process.on('disconnect', () => process.exit())
process.on('message', (message) => {
  void calls(z.int().parse(message)).then(async () => {
    // Twice, with a turn in between: what finalizers let go of is collected too.
    for (let round = 0; round < 2; round++) {
      globalThis.gc?.()
      await new Promise((resolve) => setImmediate(resolve))
    }
    process.send?.({ heapBytes: process.memoryUsage().heapUsed })
  })
})
