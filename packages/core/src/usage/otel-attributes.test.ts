import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { usageEventJsonFromSpan, usageEventToAttributes } from './otel-attributes.ts'
import { parseUsageEvent } from './usage-event.ts'

const NOW_MS = Date.UTC(2026, 10, 23)
const receipt = { nowMs: NOW_MS, newEventId: () => 'made-by-the-server' }
const span = {
  traceId: '0af7651916cd43dd8448eb211c80319c',
  spanId: 'b7ad6b7169203331',
  startTimeMs: NOW_MS - 1_000,
  endTimeMs: NOW_MS - 200,
  isError: false,
}

const id = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }).filter((text) => !text.includes('\0'))
const count = fc.integer({ min: 0, max: 1_000_000 })
const eventJson = fc.record(
  {
    event_id: id,
    ts: fc.integer({ min: Date.UTC(2024, 0, 1), max: NOW_MS }).map((ms) => new Date(ms).toISOString()),
    customer_id: id,
    user_id: id,
    team_id: id,
    feature: id,
    conversation_id: id,
    agent: id,
    environment: id,
    provider: id,
    model: id,
    response_model: id,
    operation: fc.constantFrom('chat', 'embeddings', 'invoke_agent'),
    service_tier: id,
    region: id,
    reasoning_tokens: fc.constant(0),
    latency_ms: fc.double({ min: 0, max: 1e6, noNaN: true }),
    time_to_first_token_ms: fc.double({ min: 0, max: 1e6, noNaN: true }),
    status: fc.constantFrom('ok', 'error', 'aborted'),
    streamed: fc.boolean(),
    estimated: fc.boolean(),
    provider_request_id: id,
    trace_id: fc.constant(span.traceId),
    attempt: fc.integer({ min: 0, max: 10 }),
    call_id: id,
    reason: fc.constantFrom('stream_cut', 'rate_limit_error'),
    mismatch: id,
    vendor_usage: fc.constant({ prompt_tokens: 7, details: { cached_tokens: 3 }, cost: 1e-7 }),
    reported_cost_usd: fc.constantFrom('0.00012', '3'),
    tokenizer: id,
    counted_input_tokens: count,
    counted_output_tokens: count,
    meters: fc.constant({ web_search_requests: 2, gpu_seconds: 1.5 }),
    tags: fc.dictionary(fc.constantFrom('plan', 'a.b', 'é'), id),
    host: fc.constant({ cloud_provider: 'aws', k8s: { pod: 'p' } }),
    input_tokens: fc.integer({ min: 1, max: 1_000_000 }),
    output_tokens: count,
  },
  { requiredKeys: ['event_id', 'ts', 'provider', 'model', 'input_tokens'] },
)

describe('usage events on spans', () => {
  it('come back as the same event with the same content hash', () => {
    fc.assert(
      fc.property(eventJson, (json) => {
        const sent = parseUsageEvent(json, receipt)
        if (!sent.ok) throw new Error(JSON.stringify(sent.issues))
        const attributes = usageEventToAttributes(sent.event)
        const received = parseUsageEvent(usageEventJsonFromSpan({ ...span, attributes }), receipt)
        if (!received.ok) throw new Error(JSON.stringify(received.issues))
        expect(received.event).toEqual(sent.event)
        expect(received.contentHash.equals(sent.contentHash)).toBe(true)
      }),
    )
  })

  it.each([
    [
      'the current names',
      { 'gen_ai.provider.name': 'openai', 'gen_ai.usage.input_tokens': 10, 'gen_ai.usage.output_tokens': 3 },
    ],
    [
      'the names of 2024',
      { 'gen_ai.system': 'openai', 'gen_ai.usage.prompt_tokens': 10, 'gen_ai.usage.completion_tokens': 3 },
    ],
    [
      'counts sent as text',
      { 'gen_ai.system': 'openai', 'gen_ai.usage.input_tokens': '10', 'gen_ai.usage.output_tokens': '3' },
    ],
  ])('are read from foreign spans: %s', (_, usage) => {
    const json = usageEventJsonFromSpan({
      ...span,
      attributes: { 'gen_ai.operation.name': 'chat', 'gen_ai.request.model': 'gpt-4o-mini', ...usage },
    })
    expect(json).toMatchObject({
      event_id: `otel-${span.traceId}-${span.spanId}`,
      provider: 'openai',
      model: 'gpt-4o-mini',
      input_tokens: 10,
      output_tokens: 3,
      latency_ms: 800,
      status: 'ok',
    })
  })

  it('take cached tokens for a part of the input unless they exceed it', () => {
    const read = (input: number) =>
      usageEventJsonFromSpan({
        ...span,
        attributes: {
          'gen_ai.system': 'anthropic',
          'gen_ai.request.model': 'claude-sonnet-4-5',
          'gen_ai.usage.input_tokens': input,
          'gen_ai.usage.cache_creation.input_tokens': 40,
          'gen_ai.usage.cache_read_input_tokens': 60,
        },
      })
    expect(read(150)).toMatchObject({ input_tokens: 150, cache_read_tokens: 60, cache_write_tokens: 40 })
    expect(read(7)).toMatchObject({ input_tokens: 107, cache_read_tokens: 60, cache_write_tokens: 40 })
  })

  it.each([
    ['no GenAI attributes', { 'http.request.method': 'GET' }],
    ['a tool', { 'gen_ai.operation.name': 'execute_tool', 'gen_ai.tool.name': 'search' }],
    [
      'an agent, which sums up its calls',
      { 'gen_ai.operation.name': 'invoke_agent', 'gen_ai.usage.input_tokens': 9 },
    ],
    ['no usage', { 'gen_ai.operation.name': 'chat', 'gen_ai.provider.name': 'openai' }],
  ])('are not made of a span with %s', (_, attributes) => {
    expect(usageEventJsonFromSpan({ ...span, attributes })).toBeUndefined()
  })

  it('take the cloud of the app for the region of the call, except at Google, where that has a price', () => {
    const region = (provider: string, more: Record<string, string> = {}) =>
      usageEventJsonFromSpan({
        traceId: 'a'.repeat(32),
        spanId: 'b'.repeat(16),
        startTimeMs: 0,
        endTimeMs: 1,
        isError: false,
        attributes: {
          'gen_ai.provider.name': provider,
          'gen_ai.usage.input_tokens': 1,
          'cloud.region': 'us-east5',
          ...more,
        },
      })?.['region']
    expect(region('openai')).toBe('us-east5')
    expect(region('gcp.vertex_ai')).toBeUndefined()
    expect(region('gcp.vertex_ai', { 'tokentally.region': 'us-east5' })).toBe('us-east5')
  })

  it('say that a failed call cost nothing', () => {
    const json = usageEventJsonFromSpan({
      ...span,
      isError: true,
      attributes: { 'gen_ai.provider.name': 'openai', 'gen_ai.request.model': 'gpt-4o-mini' },
    })
    expect(json).toMatchObject({ status: 'error' })
    expect(parseUsageEvent(json, receipt).ok).toBe(true)
  })
})
