import type { MetricSample } from './prometheus-text.ts'

/**
 * What a vLLM server says of the tokens that it served.
 *
 * Source: "Production Metrics", docs.vllm.ai/en/latest/usage/metrics.html, read 2026-11-24. Since version 1 of the
 * engine a row has the labels `engine` (index, more than one with data parallelism) and `model_name`. Counters begin
 * at zero when the server starts.
 */

const PROMPT_TOKENS = 'vllm:prompt_tokens_total'
const GENERATION_TOKENS = 'vllm:generation_tokens_total'
const RUNNING = 'vllm:num_requests_running'

export const VLLM_METRICS: ReadonlySet<string> = new Set([PROMPT_TOKENS, GENERATION_TOKENS, RUNNING])

/** The counters of one engine. */
export interface EngineReading {
  /** Index of the engine in its server. */
  readonly engine: string
  readonly modelName: string
  /** Prompt tokens since the server started. */
  readonly inputTokensTotal: number
  /** Generated tokens since the server started. */
  readonly outputTokensTotal: number
  readonly runningRequests: number | undefined
}

/** Reads every engine that has both counters. */
export function readEngines(samples: readonly MetricSample[]): readonly EngineReading[] {
  const rows = new Map<
    string,
    { engine: string; modelName: string; input?: number; output?: number; running?: number }
  >()
  for (const { name, labels, value } of samples) {
    if (!Number.isFinite(value) || value < 0 || value > Number.MAX_SAFE_INTEGER) continue
    const engine = labels.get('engine') ?? '0'
    const modelName = labels.get('model_name') ?? ''
    const key = JSON.stringify([engine, modelName])
    const row = rows.get(key) ?? { engine, modelName }
    rows.set(key, row)
    if (name === PROMPT_TOKENS) row.input = Math.round(value)
    if (name === GENERATION_TOKENS) row.output = Math.round(value)
    if (name === RUNNING) row.running = Math.round(value)
  }
  return [...rows.values()].flatMap(({ engine, modelName, input, output, running }) =>
    input === undefined || output === undefined
      ? []
      : [{ engine, modelName, inputTokensTotal: input, outputTokensTotal: output, runningRequests: running }],
  )
}
