import type { UsageEvent } from '@tokentally/core'
import { createTokenCounter } from '@tokentally/providers'
import { expect, it } from 'vitest'
import { AdaptedCall } from './adapted-call.ts'

it('what is decided after the answer takes none of the call’s time', () => {
  const events: UsageEvent[] = []
  let clockMs = 0
  const call = new AdaptedCall(
    {
      sink: { append: (event) => events.push(event), hold: () => () => undefined },
      now: () => 0,
      elapsed: () => clockMs,
      onError: (error) => {
        throw error
      },
      tokenCounter: createTokenCounter(),
      promptHashKey: undefined,
      host: undefined,
      defaults: () => ({}),
    },
    { provider: 'openai', model: 'gpt-4o-mini', operation: 'chat', promptText: () => '' },
  )
  call.report({ quantities: { input_tokens: 1, output_tokens: 1 } })
  clockMs = 20
  call.ended()
  clockMs = 60_000
  call.meter('complete')
  expect(events).toMatchObject([{ latencyMs: 20 }])
})
