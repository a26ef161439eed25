import { ChatOpenAI } from '@langchain/openai'
import { TokenTallyCallbackHandler } from '@tokentally/meter/langchain'
import { expect, it, vi } from 'vitest'
import { waitFor } from '../harness/index.ts'
import { answering, baseUrl, startMeter } from './in-process-provider.ts'

it('a stream that nobody else sees, left, is counted when it has been silent for ten minutes', async () => {
  const meter = await startMeter()
  const fetch = answering('unseen', 'openai-chat/stream.with-usage.sse')
  const model = new ChatOpenAI({
    apiKey: 'k',
    model: 'gpt-4o-mini',
    callbacks: [new TokenTallyCallbackHandler()],
    configuration: { baseURL: baseUrl('openai'), fetch },
  })
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  try {
    for await (const chunk of await model.stream('Hi')) if (chunk.text !== '') break
    vi.advanceTimersByTime(590_000)
    expect(meter.events).toEqual([])
    vi.advanceTimersByTime(120_000)
  } finally {
    vi.useRealTimers()
  }
  await waitFor(() => meter.events.length > 0, 'no event came')
  expect(meter.events).toMatchObject([
    { status: 'aborted', reason: 'left_early', estimated: true, streamed: true, model: 'gpt-4o-mini' },
  ])
  await meter.stop()
})
