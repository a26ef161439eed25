import { type UsageEvent, usageEventToAttributes } from '@tokentally/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { spanJson } from './span-json.ts'
import { SpooledEvent } from './spooled-event.ts'

const EVENT: UsageEvent = {
  eventId: '01a20f50-bbda-7e50-bad1-f6413f7a5f8d',
  tsMs: 1_795_000_000_000,
  provider: 'openai',
  model: 'gpt-4o',
  operation: 'chat',
  quantities: { input_tokens: 12, output_tokens: 3 },
  status: 'ok',
  streamed: false,
  estimated: false,
}

describe('a line of the spool', () => {
  it('is the span that is sent', () => {
    const line = Buffer.from(spanJson(EVENT))
    expect(new SpooledEvent(line, 0).span).toEqual(line)
  })

  it('that is an event of the form of old is still sent, as the same span', () => {
    const { span } = new SpooledEvent(Buffer.from(JSON.stringify(EVENT)), 0)
    expect(span).toEqual(Buffer.from(spanJson(EVENT)))
  })

  it.each(['', '{', '{"a":1}', '{"traceId":"half a li', 'null'])('that is neither says so: %s', (text) => {
    expect(new SpooledEvent(Buffer.from(text), 0).span).toHaveProperty('unreadable')
  })
})

const anyValue = z.union([
  z.object({ stringValue: z.string() }).transform(({ stringValue }) => stringValue),
  z.object({ boolValue: z.boolean() }).transform(({ boolValue }) => boolValue),
  z.object({ intValue: z.string() }).transform(({ intValue }) => Number(intValue)),
  z.object({ doubleValue: z.number() }).transform(({ doubleValue }) => doubleValue),
])
const spanSchema = z.object({ attributes: z.array(z.object({ key: z.string(), value: anyValue })) })

it('a span has the attributes of its event, whatever events came before it', () => {
  const text = fc.constantFrom('a', 'b', 'naïve "数"\n', '\u2028')
  const event = fc.record(
    {
      customer: text,
      user: text,
      feature: text,
      model: text,
      status: fc.constantFrom('ok' as const, 'error' as const),
      streamed: fc.boolean(),
      latencyMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
      tags: fc.dictionary(text, text, { maxKeys: 2 }),
      quantities: fc.record({ input_tokens: fc.nat(), output_tokens: fc.nat() }),
    },
    { requiredKeys: ['status', 'streamed', 'quantities'] },
  )
  fc.assert(
    fc.property(fc.array(event, { minLength: 1, maxLength: 40 }), (events) => {
      for (const fields of events) {
        const { model: _, ...base } = EVENT
        const made = { ...base, ...fields }
        const { attributes } = spanSchema.parse(JSON.parse(spanJson(made)))
        const sent = Object.fromEntries(attributes.map(({ key, value }) => [key, value]))
        expect(sent).toEqual(usageEventToAttributes(made))
      }
    }),
    { numRuns: 50 },
  )
})
