import { CallContext, runInContext } from '../../packages/meter/src/context.ts'
import type { Decision } from '../../packages/meter/src/enforce/decision.ts'
import { Enforcer } from '../../packages/meter/src/enforce/enforcer.ts'

/**
 * What a decision before a call costs, by what the service has decided: the aim is 20 µs. Each figure is CPU time,
 * the median of rounds of calls, all in one context of three dimensions, inside of a request with three more.
 *
 *     node --conditions=source bench/decision/decision.ts
 */

const ROUNDS = 31
const CALLS = 20_000
const CALL = { format: 'openai-chat', operation: 'chat', provider: 'openai' } as const
const BODY = JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'word '.repeat(400) }] })
const MODEL_LAST = JSON.stringify({
  messages: [{ role: 'user', content: 'word '.repeat(400) }],
  model: 'gpt-4o',
})

function decision(action: Decision['action'], scope: Readonly<Record<string, string>>): Decision {
  return {
    action,
    scope,
    reason: 'budget_exceeded',
    budget: { id: `b-${JSON.stringify(scope)}`, name: 'budget' },
    detail: 'The budget is used up.',
    untilMs: Date.UTC(2099, 0, 1),
    requestsPerMinute: action === 'rate_limit' ? 1_000_000_000 : undefined,
    models: ['gpt-4o-mini'],
  }
}

const DIMENSIONS = [
  'customer',
  'user',
  'team',
  'project',
  'feature',
  'agent',
  'environment',
  'model',
  'provider',
  'tag.plan',
]
const many = (count: number) =>
  Array.from({ length: count }, (_, index) =>
    decision('block', { [DIMENSIONS[index % DIMENSIONS.length] ?? 'team']: `value-${index}` }),
  )

const CASES: Readonly<Record<string, { readonly decisions: readonly Decision[]; readonly body?: string }>> = {
  'nothing is decided': { decisions: [] },
  '10 budgets, none of this call': { decisions: many(10) },
  '10,000 budgets in ten dimensions, none of this call': { decisions: many(10_000) },
  'the same, the model at the end of the body': { decisions: many(10_000), body: MODEL_LAST },
  'a rate is kept': { decisions: [...many(1_000), decision('rate_limit', { team: 'search' })] },
  'a cheaper model': { decisions: [...many(1_000), decision('downgrade', { team: 'search' })] },
  'blocked (makes the error)': { decisions: [...many(1_000), decision('block', { customer: 'acme' })] },
}

function enforcerOf(decisions: readonly Decision[]): Enforcer {
  const enforcer = new Enforcer({
    whenUnavailable: 'closed',
    isFresh: () => true,
    now: () => Date.now(),
    elapsed: () => performance.now(),
    defaults: () => ({ environment: 'production' }),
    onError: (error) => {
      throw error
    },
  })
  enforcer.update({ decisions, unknown: 0 })
  return enforcer
}

const request = new CallContext(undefined, () => ({ customer: 'acme', user: 'u1', feature: '/chat' }))
const context = new CallContext(request, () => ({ team: 'search', agent: 'writer', tags: { plan: 'pro' } }))

runInContext(context, () => {
  for (const [name, { decisions, body = BODY }] of Object.entries(CASES)) {
    const enforcer = enforcerOf(decisions)
    const calls = name.startsWith('a rate') ? CALLS / 10 : CALLS
    const microseconds: number[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const start = process.cpuUsage()
      for (let call = 0; call < calls; call++) {
        enforcer.judge(CALL, enforcer.needsBody(CALL) ? body : undefined, true)
      }
      const { user, system } = process.cpuUsage(start)
      microseconds.push((user + system) / calls)
    }
    microseconds.sort((a, b) => a - b)
    const median = microseconds[ROUNDS >> 1] ?? Number.NaN
    process.stdout.write(`${median.toFixed(2).padStart(8)} µs  ${name}\n`)
  }
  const snapshot = many(10_000)
  const start = performance.now()
  enforcerOf(snapshot)
  process.stdout.write(
    `${(performance.now() - start).toFixed(2).padStart(8)} ms  taking a snapshot of 10,000\n`,
  )
})
