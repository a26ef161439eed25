import { describe, expect, it } from 'vitest'
import { parseUsageEvent, type UsageEvent } from '../usage/usage-event.ts'
import { correctedEvent, type EventChanges, eventChangesSchema } from './corrected-event.ts'

const NOW = Date.UTC(2026, 10, 24)
const eventOf = (json: object): UsageEvent => {
  const parsed = parseUsageEvent(json, { nowMs: NOW, newEventId: () => 'x' })
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues))
  return parsed.event
}
const EVENT = eventOf({
  event_id: 'e1',
  ts: '2026-11-01T12:00:00Z',
  provider: 'openai',
  model: 'gpt-4o-mini',
  customer_id: 'acme',
  input_tokens: 1000,
  cache_read_tokens: 100,
  meters: { web_search_requests: 1, code_sessions: 2 },
  tags: { plan: 'pro', region: 'eu' },
})
const corrected = (changes: object) =>
  correctedEvent(EVENT, eventChangesSchema.parse(changes), { eventId: 'e2', nowMs: NOW })

describe('an event as it should have been', () => {
  const cases: readonly (readonly [string, EventChanges, Partial<UsageEvent>, boolean, boolean])[] = [
    ['another customer', { customer_id: 'beta' }, { customer: 'beta' }, true, false],
    ['the same customer', { customer_id: 'acme' }, { customer: 'acme' }, false, false],
    ['the same count', { input_tokens: 1000 }, {}, false, false],
    ['another model', { model: 'gpt-4o' }, { model: 'gpt-4o' }, true, true],
    [
      'a tag more and one less',
      { tags: { plan: null, a: 'b' } },
      { tags: { region: 'eu', a: 'b' } },
      true,
      false,
    ],
    [
      'a meter less',
      { meters: { code_sessions: null } },
      { quantities: { input_tokens: 1000, cache_read_tokens: 100, web_search_requests: 1 } },
      true,
      true,
    ],
    ['the same meter again', { meters: { code_sessions: 2 } }, {}, false, false],
    ['a failed call', { status: 'error' }, { status: 'error' }, true, true],
  ]
  it.each(cases)('with %s', (_name, changes, expected, isChanged, isPricedAnew) => {
    const result = corrected(changes)
    expect(result).toMatchObject({ ok: true, isChanged, isPricedAnew, event: { eventId: 'e2', ...expected } })
    expect(result.ok && result.event.tsMs).toBe(EVENT.tsMs)
  })

  it('loses what is set to null', () => {
    const result = corrected({ customer_id: null, tags: { plan: null, region: null } })
    expect(result.ok && Object.keys(result.event)).toEqual(expect.not.arrayContaining(['customer', 'tags']))
  })

  it.each([
    [{ cache_read_tokens: 1001 }, 'cache_read_tokens'],
    [{ model: null }, 'model'],
    [
      { input_tokens: 0, cache_read_tokens: 0, meters: { web_search_requests: null, code_sessions: null } },
      'input_tokens',
    ],
  ])('is refused with its field when %j makes it no event', (changes, path) => {
    expect(corrected(changes)).toMatchObject({ ok: false, issues: [{ path }] })
  })

  it.each([{}, { ts: '2026-11-01T12:00:00Z' }, { event_id: 'x' }, { provider: null }, { tags: { a: 1 } }])(
    'cannot be made by %j',
    (changes) => {
      expect(eventChangesSchema.safeParse(changes).success).toBe(false)
    },
  )
})
