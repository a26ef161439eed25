import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { UsageEvent } from '@tokentally/core'
import { start, unmeteredCalls } from '@tokentally/meter'
import { vi } from 'vitest'
import { tap } from '../../packages/meter/src/start.ts'

/** A meter that runs, with its events in hand, and transports that answer with transcripts inside the process. */

const TRANSCRIPTS = new URL('../../packages/providers/transcripts/', import.meta.url)

/** The ways that a framework's calls go: through a transport that a tap sees, or one that none does. */
export const TRANSPORTS = ['metered', 'unseen'] as const
export type Transport = (typeof TRANSPORTS)[number]

export interface RunningMeter {
  readonly events: UsageEvent[]
  readonly errors: unknown[]
  stop(): Promise<void>
}

/** Base URL of a wire format, where the meter knows it spoken. */
export function baseUrl(format: string): string {
  return `http://${format}.example`
}

/** @param further endpoints, as the option takes them */
export async function startMeter(further = ''): Promise<RunningMeter> {
  const directory = await mkdtemp(join(tmpdir(), 'tokentally-adapters-'))
  const errors: unknown[] = []
  const formats = ['openai', 'anthropic', 'gemini/gcp.gemini']
  const endpoints = formats
    .map((format) => `${baseUrl(format.split('/')[0] ?? '')}=${format}`)
    .concat(further)
    .join()
  const meter = start({ spool: join(directory, 'spool'), endpoints, onError: (error) => errors.push(error) })
  const events: UsageEvent[] = []
  const append = meter.tap.sink.append.bind(meter.tap.sink)
  vi.spyOn(meter.tap.sink, 'append').mockImplementation((event) => {
    events.push(event)
    append(event)
  })
  return {
    events,
    errors,
    async stop() {
      await meter.shutdown()
      await rm(directory, { recursive: true })
      if (unmeteredCalls().size > 0) throw new Error('a test called a provider')
    },
  }
}

/** A `fetch` that answers each call with the next transcript, and with the last one from then on. */
export function answering(transport: Transport, ...transcripts: readonly string[]): typeof fetch {
  let calls = 0
  const answer: typeof fetch = async () => {
    const name = transcripts[Math.min(calls++, transcripts.length - 1)] ?? ''
    return new Response(readFileSync(new URL(name, TRANSCRIPTS)), {
      status: Number(/error-(\d{3})/.exec(name)?.[1] ?? 200),
      headers: {
        'content-type': name.endsWith('.sse') ? 'text/event-stream' : 'application/json',
        'x-request-id': `req_${calls}`,
      },
    })
  }
  return transport === 'metered' ? tap(answer) : answer
}
