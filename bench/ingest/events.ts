import { randomUUID } from 'node:crypto'
import type { UsageEventJson } from '@tokentally/core'

/** Prices of all of them are known, so rating is part of the work. */
export const MODELS = [
  ['openai', 'gpt-4o-mini'],
  ['openai', 'gpt-4o'],
  ['openai', 'gpt-4.1'],
  ['anthropic', 'claude-sonnet-4-5'],
  ['anthropic', 'claude-haiku-4-5'],
] as const
export const CUSTOMERS = 200
const FEATURES = [
  'chat',
  'summarize',
  'search',
  'translate',
  'extract',
  'agents',
  'tests',
  'mail',
  'docs',
  'sql',
]

/** A usage event as the meter sends it: attribution, counts with a cached part, latencies and ids. */
export function newEvent(index: number, nowMs: number): UsageEventJson {
  const [provider, model] = MODELS[index % MODELS.length] ?? MODELS[0]
  return {
    event_id: randomUUID(),
    ts: new Date(nowMs - (index % 3_600_000)).toISOString(),
    provider,
    model,
    response_model: model,
    operation: 'chat',
    customer_id: `customer-${(index * 7) % CUSTOMERS}`,
    user_id: `user-${index % 5_000}`,
    feature: FEATURES[index % FEATURES.length] ?? 'chat',
    environment: 'production',
    input_tokens: 500 + (index % 3_000),
    cache_read_tokens: index % 400,
    output_tokens: 20 + (index % 700),
    status: 'ok',
    streamed: index % 2 === 0,
    latency_ms: 400 + (index % 1_000) / 8,
    time_to_first_token_ms: 90 + (index % 200) / 8,
    provider_request_id: `req_${randomUUID()}`,
    attempt: 0,
    call_id: randomUUID(),
  }
}
