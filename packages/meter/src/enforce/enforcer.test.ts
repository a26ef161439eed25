import { describe, expect, it } from 'vitest'
import { attribute } from '../context.ts'
import { type BudgetExceededError, budgetErrorOf } from './budget-exceeded-error.ts'
import type { Decision } from './decision.ts'
import { Enforcer, type Verdict, type WhenUnavailable } from './enforcer.ts'

const NOW = Date.UTC(2026, 10, 24, 18)
const CALL = { format: 'openai-chat', operation: 'chat', provider: 'openai' } as const

function decision(changes: Partial<Decision> = {}): Decision {
  return {
    action: 'block',
    scope: { team: 'a' },
    reason: 'budget_exceeded',
    budget: { id: 'b', name: 'budget' },
    detail: 'Used up.',
    untilMs: NOW + 90_500,
    requestsPerMinute: undefined,
    models: [],
    ...changes,
  }
}

function setUp(whenUnavailable: WhenUnavailable = 'open') {
  const state = { isFresh: true, nowMs: NOW, elapsed: 0, errors: [] as unknown[] }
  const enforcer = new Enforcer({
    whenUnavailable,
    isFresh: () => state.isFresh,
    now: () => state.nowMs,
    elapsed: () => state.elapsed,
    defaults: () => ({}),
    onError: (error) => state.errors.push(error),
  })
  const decide = (...decisions: Decision[]) => enforcer.update({ decisions, unknown: 0 })
  const ask = (team = 'a', body?: object): Verdict =>
    attribute({ team }, () => enforcer.judge(CALL, body && JSON.stringify(body), true))
  return { state, enforcer, decide, ask }
}

function errorOf(verdict: Verdict): BudgetExceededError | undefined {
  return verdict.kind === 'refused' ? verdict.error : undefined
}

describe('without the service', () => {
  it('calls go through, and what was blocked stays blocked until its end', () => {
    const { state, decide, ask } = setUp('open')
    state.isFresh = false
    expect(ask().kind).toBe('go')
    decide(decision())
    expect(errorOf(ask())).toMatchObject({ code: 'budget_exceeded', retryAfterS: 91 })
    expect(ask('b').kind).toBe('go')
    state.nowMs += 90_500
    expect(ask().kind).toBe('go')
  })

  it('or fail, where that is wished, and say of the blocked why', () => {
    const { state, enforcer, decide, ask } = setUp('closed')
    state.isFresh = false
    const unavailable = {
      code: 'decisions_unavailable',
      status: 503,
      budget: null,
      until: null,
      retryAfterS: 5,
    }
    expect(errorOf(ask())).toMatchObject(unavailable)
    expect(enforcer.refusalOf({ provider: 'openai', model: 'm' })).toMatchObject(unavailable)
    decide(decision(), decision({ action: 'downgrade', scope: { team: 'c' }, models: ['gpt-4o-mini'] }))
    expect(errorOf(ask('a'))).toMatchObject({ code: 'budget_exceeded', status: 429 })
    expect(errorOf(ask('b'))).toMatchObject(unavailable)
    expect(errorOf(ask('c', { model: 'gpt-4o' }))).toMatchObject(unavailable)
    state.isFresh = true
    expect(ask('b').kind).toBe('go')
  })
})

it('a block goes before all else, and a refused call uses up no rate', () => {
  const { decide, ask, state } = setUp()
  const rate = decision({ action: 'rate_limit', requestsPerMinute: 1 })
  decide(rate, decision())
  for (let calls = 0; calls < 5; calls++) expect(errorOf(ask())).toMatchObject({ action: 'block' })
  decide(
    rate,
    decision({ action: 'rate_limit', scope: {}, requestsPerMinute: 0, budget: { id: 'o', name: 'o' } }),
  )
  expect(errorOf(ask())).toMatchObject({ scope: {} })
  decide(rate)
  expect(ask().kind).toBe('go')
  expect(errorOf(ask())).toMatchObject({ action: 'rate_limit', retryAfterS: 60 })
  state.elapsed += 60_000
  expect(ask().kind).toBe('go')
})

it('each value of a wildcard has a rate of its own', () => {
  const { decide, ask } = setUp()
  decide(decision({ action: 'rate_limit', scope: { team: '*' }, requestsPerMinute: 1 }))
  expect([ask('a'), ask('b'), ask('a')].map(({ kind }) => kind)).toEqual(['go', 'go', 'refused'])
})

it('several downgrades leave the models that all of them name', () => {
  const { decide, ask } = setUp()
  const downgrade = (scope: Decision['scope'], ...models: string[]) =>
    decision({ action: 'downgrade', scope, models })
  decide(downgrade({ team: 'a' }, 'gpt-4.1-nano', 'gpt-4o-mini'), downgrade({}, 'gpt-4o-mini', 'gpt-5-nano'))
  expect(ask('a', { model: 'gpt-4o' })).toMatchObject({ kind: 'downgraded', body: '{"model":"gpt-4o-mini"}' })
  expect(ask('a', { model: 'gpt-4.1-nano' })).toMatchObject({ kind: 'downgraded' })
  expect(ask('a', { model: 'gpt-4o-mini' }).kind).toBe('go')
  expect(errorOf(ask('a'))).toMatchObject({ action: 'downgrade' })
  decide(downgrade({}, 'claude-haiku-4-5'))
  expect(errorOf(ask('a', { model: 'gpt-4o' }))).toMatchObject({ action: 'downgrade' })
})

it('what is free is never refused', () => {
  const { decide, enforcer } = setUp('closed')
  decide(decision({ scope: {} }))
  for (const operation of ['fetch_response', 'fetch_batch'] as const)
    expect(enforcer.judge({ ...CALL, operation }, undefined, false).kind).toBe('go')
})

it('a fault of ours lets the call through, and is reported', () => {
  const fault = new Error('ours')
  const errors: unknown[] = []
  const enforcer = new Enforcer({
    whenUnavailable: 'closed',
    isFresh: () => {
      throw fault
    },
    now: () => NOW,
    elapsed: () => 0,
    defaults: () => ({}),
    onError: (error) => errors.push(error),
  })
  expect(enforcer.judge(CALL, undefined, false).kind).toBe('go')
  expect(enforcer.refusalOf({ provider: 'openai', model: undefined })).toBeUndefined()
  expect(errors).toEqual([fault, fault])
})

describe('budgetErrorOf', () => {
  const { decide, ask } = setUp()
  decide(decision())
  const refused = errorOf(ask())
  const other = errorOf(ask())

  it('finds the refusal in what SDKs make of it', () => {
    const headers = { 'x-tokentally-refusal': refused?.refusalId }
    for (const error of [
      refused,
      new TypeError('fetch failed', { cause: refused }),
      new Error(`reason: ${refused?.message}`),
      new AggregateError([new Error('other'), refused]),
      Object.assign(new Error('429'), {
        headers: new Headers(Object.entries(headers).map(([k, v]) => [k, v ?? ''])),
      }),
      Object.assign(new Error('429'), { responseHeaders: headers }),
      { response: { headers } },
      { lastError: { cause: { body: JSON.stringify({ error: { message: refused?.message } }) } } },
      refused?.message,
    ])
      expect(budgetErrorOf(error)).toBe(refused)
    expect(other).not.toBe(refused)
  })

  it('and nothing in anything else', () => {
    const circle: { cause?: unknown } = {}
    circle.cause = circle
    const hostile = {
      get cause() {
        throw new Error('no')
      },
    }
    for (const error of [
      undefined,
      null,
      1,
      '',
      new Error('429'),
      circle,
      hostile,
      { headers: null },
      [[[]]],
    ])
      expect(budgetErrorOf(error)).toBeUndefined()
    expect(budgetErrorOf(new Error('[tokentally refusal 0123456789abcdef]'))).toBeUndefined()
  })
})
