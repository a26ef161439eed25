import { expect, test } from 'vitest'
import { createServiceCost } from './cost.ts'

const NOW_MS = Date.UTC(2026, 10, 24, 12)

/** Answers as the service's report does. */
function serviceOf(groups: Readonly<Record<string, readonly object[]>>, asked: URL[] = []) {
  const totals = { requests: 3, input_tokens: 30, output_tokens: 3, list_cost: '0.3', unpriced_requests: 1 }
  return createServiceCost({
    url: 'http://service.example',
    apiKey: 'key',
    now: () => NOW_MS,
    fetch: async (input, init) => {
      const url = new URL(String(input))
      asked.push(url)
      expect(new Headers(init?.headers).get('authorization')).toBe('Bearer key')
      return Response.json({ groups: groups[url.searchParams.get('group_by') ?? ''] ?? [], totals })
    },
  })
}

const sums = (list_cost: string, requests = 1) => ({
  requests,
  input_tokens: 10 * requests,
  output_tokens: requests,
  list_cost,
  unpriced_requests: 0,
})

test('the service’s reports give the same parts as the file, the dearest first', async () => {
  const asked: URL[] = []
  const cost = serviceOf(
    {
      'provider,model': [
        { provider: 'anthropic', model: 'claude-sonnet-4-5', ...sums('0.1') },
        { provider: 'openai', model: 'gpt-4o', ...sums('0.1') },
        { provider: 'openai', model: 'gpt-4o-mini', ...sums('0.20000000000000000001', 2) },
      ],
      conversation: [
        { conversation: null, ...sums('0.1') },
        { conversation: 'c9', ...sums('0.2') },
      ],
      customer: [{ customer: 'acme', ...sums('0.3', 3) }],
      feature: [{ feature: null, ...sums('0.3', 3) }],
    },
    asked,
  )
  const summary = await cost.lastHour('openai')
  const part = (listCostUsd: string, requests = 1) => ({
    requests,
    inputTokens: 10 * requests,
    outputTokens: requests,
    listCostUsd,
    unpricedRequests: 0,
  })
  expect(summary).toEqual({
    requests: 3,
    inputTokens: 30,
    outputTokens: 3,
    listCostUsd: '0.3',
    unpricedRequests: 1,
    byProvider: [
      { provider: 'openai', ...part('0.30000000000000000001', 3) },
      { provider: 'anthropic', ...part('0.1') },
    ],
    byModel: [
      { provider: 'openai', model: 'gpt-4o-mini', ...part('0.20000000000000000001', 2) },
      { provider: 'anthropic', model: 'claude-sonnet-4-5', ...part('0.1') },
      { provider: 'openai', model: 'gpt-4o', ...part('0.1') },
    ],
    byExecution: [
      { execution: 'c9', ...part('0.2') },
      { execution: null, ...part('0.1') },
    ],
    byCustomer: [{ customer: 'acme', ...part('0.3', 3) }],
    byFeature: [{ feature: null, ...part('0.3', 3) }],
  })
  expect(asked.map((url) => url.searchParams.get('group_by')).sort()).toEqual([
    'conversation',
    'customer',
    'feature',
    'provider,model',
  ])
  for (const url of asked) {
    expect(url.searchParams.get('start')).toBe('2026-11-24T11:00:00.001Z')
    expect(url.searchParams.get('end')).toBe('2026-11-24T12:00:00.001Z')
    expect(url.searchParams.get('provider')).toBe('openai')
  }
})

test('of executions, customers and features the dearest thousand are told', async () => {
  const customers = Array.from({ length: 1_200 }, (_, index) => ({
    customer: `c${index}`,
    ...sums(`${index}`),
  }))
  const { byCustomer } = await serviceOf({ customer: customers }).between('2026-11-01', '2026-12-01')
  expect(byCustomer).toHaveLength(1_000)
  expect([byCustomer[0]?.customer, byCustomer.at(-1)?.customer]).toEqual(['c1199', 'c200'])
})

test('a range that is none is refused before anybody is asked', () => {
  expect(() => serviceOf({}).between('yesterday', '2026-12-01')).toThrow('cost.between takes dates')
})
