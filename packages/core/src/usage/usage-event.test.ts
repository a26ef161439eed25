import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  parseUsageEvent,
  QUANTITY_MAX,
  type UsageEventJson,
  usageEventSchema,
  usageEventToJson,
} from './usage-event.ts'
import { usualEventCheck } from './usual-event.ts'

const NOW_MS = Date.UTC(2026, 10, 24)
const receipt = { nowMs: NOW_MS, newEventId: () => 'made' }
const usual = usualEventCheck(QUANTITY_MAX)

/** Values of which some are right for some field. */
const anyValue: fc.Arbitrary<unknown> = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary', maxLength: 600 }),
  fc.string({ minLength: 500, maxLength: 520 }),
  fc.integer({ min: -5, max: 2000 }),
  fc.double(),
  fc.constantFrom<unknown>(
    null,
    undefined,
    true,
    '',
    'a\0b',
    '\ud800',
    0,
    -0,
    QUANTITY_MAX,
    QUANTITY_MAX + 1,
    Number.NaN,
    'ok',
    'error',
    '2026-11-03T10:15:00.123Z',
    '2026-11-03T10:15:00Z',
    '2026-02-30T10:15:00.123Z',
    '2026-11-03T10:15:00.123+05:30',
    '+012026-11-03T10:15:00.1Z',
    'a'.repeat(32),
    'a'.repeat(16),
    `hmac-sha256:${'0'.repeat(64)}`,
    [],
    {},
    ['x'],
    JSON.parse('{"__proto__":"x"}'),
  ),
  fc.dictionary(
    fc.oneof(fc.string(), fc.constantFrom('searches', 'k8s')),
    fc.oneof(fc.string(), fc.integer()),
  ),
  fc.dictionary(fc.string(), fc.dictionary(fc.string(), fc.string())),
)
const fields = Object.keys(usageEventSchema.shape)
const anyEvent = fc
  .dictionary(fc.oneof({ weight: 20, arbitrary: fc.constantFrom(...fields) }, fc.string()), anyValue)
  .map((event) => ({ provider: 'openai', ...event }))

/** A valid event in any shape. */
const id = (max: number) =>
  fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 40 })
    .map((text) => text.slice(0, max).toWellFormed())
const validEvent: fc.Arbitrary<UsageEventJson> = fc
  .record(
    {
      event_id: id(256),
      ts: fc
        .date({ min: new Date('2020-01-01'), max: new Date(NOW_MS), noInvalidDate: true })
        .map((date) => date.toISOString()),
      customer_id: id(512),
      user_id: id(512),
      team_id: id(512),
      project_id: id(512),
      business_unit: id(512),
      cost_center: id(512),
      feature: id(512),
      conversation_id: id(512),
      agent: id(512),
      environment: id(512),
      provider: id(128),
      model: id(512),
      response_model: id(512),
      operation: id(64),
      service_tier: id(64),
      region: id(64),
      input_tokens: fc.integer({ min: 10, max: 1e6 }),
      cache_read_tokens: fc.nat(5),
      cache_write_tokens: fc.nat(5),
      output_tokens: fc.integer({ min: 10, max: 1e6 }),
      reasoning_tokens: fc.nat(10),
      meters: fc.dictionary(
        fc.constantFrom('searches', 'seconds'),
        fc.double({ min: 0, max: 1e6, noNaN: true }),
      ),
      latency_ms: fc.double({ min: 0, max: 1e6, noNaN: true }),
      time_to_first_token_ms: fc.double({ min: 0, max: 1e6, noNaN: true }),
      status: fc.constantFrom('ok', 'error', 'aborted'),
      streamed: fc.boolean(),
      estimated: fc.boolean(),
      provider_request_id: id(512),
      trace_id: fc.constantFrom('a'.repeat(32), 'b'.repeat(32)),
      span_id: fc.constantFrom('a'.repeat(16), 'b'.repeat(16)),
      prompt_hash: fc.constantFrom(`hmac-sha256:${'0'.repeat(64)}`, `hmac-sha256:${'1'.repeat(64)}`),
      attempt: fc.nat(1000),
      call_id: id(256),
      tags: fc.dictionary(fc.constantFrom('plan', 'tier'), id(512)),
      host: fc.dictionary(fc.constantFrom('name', 'zone'), fc.oneof(id(64), fc.dictionary(id(8), id(8)))),
    },
    { requiredKeys: ['event_id', 'ts', 'provider', 'model', 'input_tokens', 'output_tokens'] },
  )
  // Generated text may hold what no event may.
  .filter((event) => usageEventSchema.safeParse(event).success)

describe('the quick check', () => {
  it('takes nothing that the schema refuses, and leaves it as it is', () => {
    fc.assert(
      fc.property(fc.oneof(anyEvent, validEvent, fc.anything()), (input) => {
        if (!usual(input)) return
        expect(usageEventSchema.parse(input)).toEqual(input)
      }),
      { numRuns: 5_000 },
    )
  })

  it('takes events as meters send them', () => {
    fc.assert(fc.property(validEvent, (event) => usual(event)))
  })
})

describe('parseUsageEvent', () => {
  it('is undone by usageEventToJson', () => {
    fc.assert(
      fc.property(validEvent, (json) => {
        const parsed = parseUsageEvent(json, receipt)
        if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues))
        const again = parseUsageEvent(usageEventToJson(parsed.event), receipt)
        expect(again).toEqual(parsed)
      }),
    )
  })

  it('hashes the same content alike, and any other content otherwise', () => {
    fc.assert(
      fc.property(validEvent, validEvent, (one, other) => {
        const first = parseUsageEvent(one, receipt)
        // Each field of the other event in turn, in an event that is the first one else.
        for (const field of Object.keys(other).filter((name) => name !== 'event_id')) {
          const changed = parseUsageEvent({ ...one, [field]: Reflect.get(other, field) }, receipt)
          if (!first.ok || !changed.ok) continue
          const { eventId: _, ...before } = first.event
          const { eventId: __, ...after } = changed.event
          const isSame = JSON.stringify(sorted(before)) === JSON.stringify(sorted(after))
          expect({ field, isEqual: first.contentHash.equals(changed.contentHash) }).toEqual({
            field,
            isEqual: isSame,
          })
        }
      }),
    )
  })

  it('hashes an event without a time alike whenever it is received', () => {
    const event = { event_id: 'a', provider: 'openai', model: 'm', input_tokens: 1 }
    const hashes = [NOW_MS, NOW_MS + 1000].map((nowMs) => {
      const parsed = parseUsageEvent(event, { ...receipt, nowMs })
      return parsed.ok ? parsed.contentHash.toString('hex') : ''
    })
    expect(hashes[0]).toBe(hashes[1])
  })

  it.each<[what: string, event: object, issues: object]>([
    ['an unknown field', { tokens: 5 }, [{ path: 'tokens', message: 'is not a known field' }]],
    ['a negative count', { input_tokens: -1 }, [{ path: 'input_tokens' }]],
    ['a count with a fraction', { input_tokens: 1.5 }, [{ path: 'input_tokens' }]],
    ['an enormous count', { input_tokens: 1e11 }, [{ path: 'input_tokens' }]],
    ['a time in seconds', { ts: '1970-01-21T00:00:00Z' }, [{ path: 'ts', message: /2020/ }]],
    ['a time far ahead', { ts: '2027-01-01T00:00:00Z' }, [{ path: 'ts', message: /24 hours/ }]],
    ['parts above their whole', { input_tokens: 5, cache_read_tokens: 6 }, [{ path: 'cache_read_tokens' }]],
    ['a meter said twice', { meters: { input_tokens: 9 } }, [{ path: 'meters.input_tokens' }]],
    ['tokens without a model', { model: undefined }, [{ path: 'model' }]],
    ['nothing used', { input_tokens: 0 }, [{ path: 'input_tokens' }]],
  ])('names the field of %s', (_, change, issues) => {
    const event = { event_id: 'a', provider: 'openai', model: 'm', input_tokens: 10, ...change }
    const parsed = parseUsageEvent(event, receipt)
    expect(parsed).toMatchObject({
      ok: false,
      eventId: 'a',
      issues: Object.values(issues).map((issue) =>
        issue.message instanceof RegExp ? { ...issue, message: expect.stringMatching(issue.message) } : issue,
      ),
    })
  })
})

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.entries(value)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, entry]) => [key, sorted(entry)])
}
