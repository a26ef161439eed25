import type { UsageEvent } from '@tokentally/core'
import type { ReadUsage, SettledUsage } from '@tokentally/providers'
import { expect, it } from 'vitest'
import { appendSettled } from './batch-events.ts'

const USAGE: ReadUsage = {
  quantities: { input_tokens: 10, output_tokens: 5 },
  isComplete: true,
  isStreamed: false,
}

function settle(result: Partial<SettledUsage>, dimensionsOf?: (customId: string) => object) {
  const events: UsageEvent[] = []
  const errors: unknown[] = []
  appendSettled(
    {
      sink: { append: (event) => events.push(event), hold: () => () => undefined },
      now: () => 0,
      onError: (error) => errors.push(error),
      batchDimensions: dimensionsOf,
    },
    { provider: 'anthropic' },
    [{ id: 'r1', operation: 'chat', tsMs: 1, usage: USAGE, ...result }],
  )
  return { events, errors }
}

it('a result whose dimensions cannot be told is counted, and the failure told without its custom_id', () => {
  const { events, errors } = settle({ customId: 'alice@example.com' }, (customId) => {
    throw new Error(`nobody is called ${customId}`)
  })
  expect(events).toMatchObject([{ eventId: 'anthropic-r1', quantities: USAGE.quantities }])
  expect(errors).toHaveLength(1)
  expect(String(errors)).not.toContain('alice')
})

it('what other models did for a result has an id that the service takes, and counts no request', () => {
  const apart = [{ responseModel: 'a', quantities: { input_tokens: 1 } }]
  const { events } = settle({ id: 'x'.repeat(300), usage: { ...USAGE, apart } })
  const [result, other] = events.map(({ eventId }) => eventId)
  expect(result).toHaveLength(256)
  expect(other).toHaveLength(256)
  expect(other).not.toBe(result)
  expect(events[1]?.quantities).toEqual({ requests: 0, input_tokens: 1 })
})

it('a request that the provider counts apart stays counted', () => {
  const apart = [{ responseModel: 'a', quantities: { requests: 2 } }]
  expect(settle({ usage: { ...USAGE, apart } }).events[1]?.quantities).toEqual({ requests: 2 })
})
