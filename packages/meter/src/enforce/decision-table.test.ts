import { catalogueProvider } from '@tokentally/core'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { Decision } from './decision.ts'
import { type CallSubject, DecisionTable } from './decision-table.ts'

const NOW = Date.UTC(2026, 10, 24, 18)

const value = fc.constantFrom('a', 'b', 'c')
const provider = fc.constantFrom('openai', 'aws.bedrock', 'bedrock', 'aws', 'gcp.gemini', 'google')
const scopedValue = fc.oneof(value, provider, fc.constant('*'))
const dimension = fc.constantFrom(
  'customer',
  'user',
  'team',
  'project',
  'business_unit',
  'cost_center',
  'feature',
  'agent',
  'environment',
  'provider',
  'model',
  'tag.plan',
  'tag.__proto__',
  'constructor',
  'region',
)
const decision: fc.Arbitrary<Decision> = fc.record({
  action: fc.constantFrom('block', 'rate_limit', 'downgrade'),
  scope: fc.dictionary(dimension, scopedValue, { maxKeys: 2 }),
  reason: fc.constantFrom('budget_exceeded', 'credit_exhausted'),
  budget: fc.constant(null),
  detail: fc.constant(''),
  untilMs: fc.constantFrom(null, NOW - 1, NOW, NOW + 1),
  requestsPerMinute: fc.constant(undefined),
  models: fc.constant([]),
})
const dimensions = fc.record(
  {
    customer: value,
    user: value,
    team: value,
    project: value,
    businessUnit: value,
    costCenter: value,
    feature: value,
    agent: value,
    environment: value,
    tags: fc.dictionary(fc.constantFrom('plan', 'other'), value),
  },
  { requiredKeys: [] },
)
const subject: fc.Arbitrary<CallSubject> = fc.record({
  dimensions,
  provider,
  model: fc.option(value, { nil: undefined }),
})

/** The rule as it is written down, without anything made for speed. */
function holds({ scope, untilMs }: Decision, call: CallSubject): boolean {
  if (untilMs !== null && untilMs <= NOW) return false
  const { dimensions: own } = call
  return Object.entries(scope).every(([name, wanted]) => {
    const values: Record<string, (string | undefined)[]> = {
      customer: [own.customer],
      user: [own.user],
      team: [own.team],
      project: [own.project],
      business_unit: [own.businessUnit],
      cost_center: [own.costCenter],
      feature: [own.feature],
      agent: [own.agent],
      environment: [own.environment],
      provider: [call.provider, catalogueProvider(call.provider)],
      model: [call.model],
      'tag.plan': [own.tags?.['plan']],
    }
    const known = Object.hasOwn(values, name) ? (values[name] ?? []) : []
    return known.some((one) => one !== undefined && (wanted === '*' || wanted === one))
  })
}

it('finds exactly the decisions that hold for a call', () => {
  fc.assert(
    fc.property(fc.array(decision, { maxLength: 12 }), subject, (decisions, call) => {
      const found = new DecisionTable(decisions).matching(call, NOW)
      expect(new Set(found)).toEqual(new Set(decisions.filter((one) => holds(one, call))))
      expect(found).toHaveLength(new Set(found).size)
    }),
    { numRuns: 2_000 },
  )
})

it('says when no call can be concerned, and when the model matters', () => {
  const block = (scope: Readonly<Record<string, string>>): Decision => ({
    action: 'block',
    scope,
    reason: 'budget_exceeded',
    budget: null,
    detail: '',
    untilMs: null,
    requestsPerMinute: undefined,
    models: [],
  })
  expect(new DecisionTable([]).isEmpty).toBe(true)
  expect(new DecisionTable([block({ moon_phase: 'full' })]).isEmpty).toBe(true)
  expect(new DecisionTable([block({})]).isEmpty).toBe(false)
  expect(new DecisionTable([block({ team: 'a' })]).looksAtModel).toBe(false)
  expect(new DecisionTable([block({ team: 'a', model: 'b' })]).looksAtModel).toBe(true)
  expect(new DecisionTable([{ ...block({}), action: 'downgrade' }]).looksAtModel).toBe(true)
})
