import { expect, it } from 'vitest'
import { readSnapshot } from './decision.ts'

const WHOLE = {
  action: 'rate_limit',
  scope: { team: 'engineering' },
  reason: 'budget_exceeded',
  budget: { id: 'b1', name: 'engineering-budget' },
  detail: 'Used up.',
  until: '2026-12-01T01:00:00.000+01:00',
  requests_per_minute: 10,
  models: ['gpt-4o-mini'],
}
const read = (...decisions: unknown[]) =>
  readSnapshot(JSON.stringify({ as_of: '…', decisions, preferences: [] }))

it('reads a decision as the service writes it', () => {
  expect(read(WHOLE, { ...WHOLE, scope: {}, budget: null, until: null, reason: 'credit_exhausted' })).toEqual(
    {
      decisions: [
        {
          action: 'rate_limit',
          scope: { team: 'engineering' },
          reason: 'budget_exceeded',
          budget: { id: 'b1', name: 'engineering-budget' },
          detail: 'Used up.',
          untilMs: Date.UTC(2026, 11, 1),
          requestsPerMinute: 10,
          models: ['gpt-4o-mini'],
        },
        expect.objectContaining({ scope: {}, budget: null, untilMs: null, reason: 'credit_exhausted' }),
      ],
      unknown: 0,
    },
  )
  const { requests_per_minute, models, budget, until, detail, ...least } = { ...WHOLE, action: 'block' }
  expect(read(least).decisions).toMatchObject([
    { budget: null, untilMs: null, models: [], requestsPerMinute: undefined },
  ])
})

it.each([
  null,
  [],
  'block',
  { ...WHOLE, action: 'applaud' },
  { ...WHOLE, reason: undefined },
  { ...WHOLE, scope: undefined },
  { ...WHOLE, scope: ['team'] },
  { ...WHOLE, scope: { team: 1 } },
  { ...WHOLE, budget: { id: 1, name: 'n' } },
  { ...WHOLE, until: 'soon' },
  { ...WHOLE, until: 7 },
  { ...WHOLE, requests_per_minute: undefined },
  { ...WHOLE, requests_per_minute: '10' },
  { ...WHOLE, requests_per_minute: -1 },
  { ...WHOLE, models: ['a', 1] },
  { ...WHOLE, detail: {} },
])('leaves out what it does not understand, and counts it: %j', (decision) => {
  expect(read(decision, WHOLE)).toMatchObject({ decisions: [{ detail: 'Used up.' }], unknown: 1 })
})

it.each(['', 'null', '[]', '{}', '{"decisions":{}}', '{"decisions":'])('%j is no snapshot', (json) => {
  expect(() => readSnapshot(json)).toThrow()
})
