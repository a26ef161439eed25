import type { UsageEvent } from '@tokentally/core'
import type { TapDependencies } from '../../packages/meter/src/tap/tap.ts'
import { countTask } from '../../packages/providers/src/tokenizer/count-task.ts'

/** What a tap needs, with its events and errors in hand; every character counts as a token where it estimates. */
export function tapDependencies(events: UsageEvent[], errors: unknown[]): TapDependencies {
  return {
    sink: { append: (event) => events.push(event), hold: () => () => undefined },
    tokenCounter: {
      count: async (text) => ({ tokens: text.length, tokenizer: 'characters' }),
      countRequest: async ({ body = '', ...request }) => ({
        tokens: countTask({ kind: 'request', ...request }, body, (text) => text.length).tokens,
        tokenizer: 'characters',
      }),
      countAnswer: async ({ text, events, ...answer }) => ({
        tokens: countTask(
          { kind: 'answer', ...answer, eventsAt: text.length },
          text + events,
          (piece) => piece.length,
        ).tokens,
        tokenizer: 'characters',
      }),
      close: async () => undefined,
    },
    now: () => Date.now(),
    elapsed: () => performance.now(),
    onError: (error) => errors.push(error),
    promptHashKey: undefined,
    host: undefined,
    defaults: () => ({}),
    endpoints: [],
    injectStreamUsage: true,
    finishLeftStreams: { timeoutMs: 30_000, bytesMax: 64 * 1024 * 1024 },
  }
}
