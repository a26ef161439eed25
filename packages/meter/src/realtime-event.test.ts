import { readFileSync } from 'node:fs'
import { parseUsageEvent } from '@tokentally/core'
import { describe, expect, it } from 'vitest'
import { realtimeEvent } from './realtime-event.ts'

const DONE: unknown = JSON.parse(
  readFileSync(
    new URL('../../providers/transcripts/openai-realtime/response-done.json', import.meta.url),
    'utf8',
  ),
)

describe('a realtime response', () => {
  it('is an event that the service takes, under the id of the response', () => {
    const json = realtimeEvent(DONE, { model: 'gpt-realtime' })
    const parsed = parseUsageEvent(json, { nowMs: Date.UTC(2026, 10, 24), newEventId: () => 'none' })
    expect(parsed).toMatchObject({
      ok: true,
      event: {
        eventId: 'openai-resp_R0001',
        model: 'gpt-realtime',
        quantities: { input_tokens: 132, audio_input_tokens: 13, audio_output_tokens: 91 },
        status: 'ok',
      },
    })
  })

  it('is nothing while it is made', () => {
    expect(realtimeEvent({ type: 'response.output_audio.delta' }, { model: 'm' })).toBeUndefined()
  })
})
