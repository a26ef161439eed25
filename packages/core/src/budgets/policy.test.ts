import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parsePolicies } from './policy.ts'

const limitOf = (limit: string) => {
  const parsed = parsePolicies({ policies: [{ name: 'one', scope: 'team:a', limit }] })
  return parsed.ok
    ? [parsed.policies[0]?.budget?.amountUsd, parsed.policies[0]?.budget?.period]
    : parsed.issues.map((issue) => issue.path)
}
const scopeOf = (scope: string) => {
  const parsed = parsePolicies({ policies: [{ name: 'one', scope, limit: '$1/day' }] })
  return parsed.ok ? parsed.policies[0]?.budget?.scope : parsed.issues.map((issue) => issue.path)
}

describe('a limit', () => {
  const cases: readonly [string, readonly string[]][] = [
    ['$500/month', ['500', 'month']],
    ['$1,500.50 / week', ['1500.50', 'week']],
    ['20 USD/Day', ['20', 'day']],
    ['0.001/hour', ['0.001', 'hour']],
    ['$1_000_000/quarter', ['1000000', 'quarter']],
    ['500', ['policies.0.limit']],
    ['$-5/day', ['policies.0.limit']],
    ['$0/day', ['policies.0.limit']],
    ['$15,00/day', ['policies.0.limit']],
    ['€5/day', ['policies.0.limit']],
    ['$5/fortnight', ['policies.0.limit']],
    ['$9999999999999/day', ['policies.0.limit']],
  ]
  it.each(cases)('%s', (written, read) => {
    expect(limitOf(written)).toEqual(read)
  })
})

describe('forecast alerts', () => {
  const read = (policy: object) => {
    const parsed = parsePolicies({ policies: [{ name: 'one', scope: 'team:a', ...policy }] })
    return parsed.ok
      ? parsed.policies[0]?.budget?.forecastThresholds
      : parsed.issues.map((issue) => issue.path)
  }
  it('are percentages of a limit, and none unless they are asked for', () => {
    expect(read({ limit: '$5/day', forecast_alerts: ['120%', '100 %'] })).toEqual([100, 120])
    expect(read({ limit: '$5/day' })).toEqual([])
    expect(read({ limit: '$5/day', forecast_alerts: ['soon'] })).toEqual(['policies.0.forecast_alerts.0'])
    expect(read({ prefer: ['m'], forecast_alerts: ['100%'] })).toEqual(['policies.0.forecast_alerts'])
  })
})

describe('a scope', () => {
  const cases: readonly [string, unknown][] = [
    ['organization', { dimension: 'organization', value: null }],
    ['team:engineering', { dimension: 'team', value: 'engineering' }],
    ['customer:*', { dimension: 'customer', value: '*' }],
    ['model:us.anthropic:v2:0', { dimension: 'model', value: 'us.anthropic:v2:0' }],
    ['tag.plan:pro', { dimension: 'tag.plan', value: 'pro' }],
    ['team', ['policies.0.scope']],
    ['team:', ['policies.0.scope']],
    ['planet:mars', ['policies.0.scope']],
    ['organization:x', ['policies.0.scope']],
  ]
  it.each(cases)('%s', (written, read) => {
    expect(scopeOf(written)).toEqual(read)
  })
})

it('anything at all is read or complained about by paths of its own', () => {
  const field = fc.constantFrom('name', 'scope', 'limit', 'alerts', 'prefer', 'fallback', 'enforcement', 'x')
  const value = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom('team:a', '$1/day', 'block', 'downgrade'),
    fc.array(fc.constantFrom('50%', '75%', 'm')),
  )
  fc.assert(
    fc.property(fc.array(fc.dictionary(field, value)), (policies) => {
      const parsed = parsePolicies({ policies })
      if (parsed.ok) expect(parsed.policies).toHaveLength(policies.length)
      else {
        expect(parsed.issues.length).toBeGreaterThan(0)
        for (const { path } of parsed.issues) expect(path).toMatch(/^policies\.\d+(\.|$)/)
      }
    }),
  )
})
