import { type Decimal, decimal, parseUsageEvent, type RatingBook, rate, sell } from '@tokentally/core'
import type { Pool } from 'pg'
import { Problem } from '../../http/problem.ts'
import type { Bound } from './hold-store.ts'

/** What a call costs at most, as far as can be known before it. */
export interface UpperBound {
  readonly listUsd: Decimal
  readonly sellUsd: Decimal
  readonly bound: Bound
}

/** Tokens of a call whose caller said nothing, where nothing was learned either. */
export const DEFAULT_INPUT_TOKENS = 4_096
export const DEFAULT_OUTPUT_TOKENS = 4_096
/** A quantile of fewer calls says little. */
export const LEARNED_MIN_EVENTS = 30
const LEARNED_DAYS = 7
const LEARNED_MAX_EVENTS = 10_000
const DAY_MS = 24 * 3_600_000
/** What was learned of a model is asked for again after this time. */
const REMEMBER_MS = 600_000
const REMEMBERED_MAX = 10_000

interface Learned {
  readonly inputTokens: number
  readonly outputTokens: number
}

const LEARN = `
  select count(*)::int as events,
    percentile_disc(0.99) within group (order by coalesce(input_tokens, 0))::text as input_tokens,
    percentile_disc(0.99) within group (order by coalesce(output_tokens, 0))::text as output_tokens
  from (
    select input_tokens, output_tokens
    from usage_event
    where organization_id = $1 and ts >= $2 and ts <= $3 and provider = $4 and model = $5 and status = 'ok'
    order by ts desc
    limit ${LEARNED_MAX_EVENTS}
  ) as recent`

/** Remembers how large the calls of each model were in the last days. */
export class LearnedSizes {
  readonly #remembered = new Map<
    string,
    { readonly learned: Learned | undefined; readonly untilMs: number }
  >()

  /** The size that 99 of 100 calls of a model did not pass; undefined when there were too few. */
  async of(
    pool: Pool,
    organizationId: string,
    call: { readonly provider: string; readonly model: string },
    nowMs: number,
  ): Promise<Learned | undefined> {
    const key = JSON.stringify([organizationId, call.provider, call.model])
    const known = this.#remembered.get(key)
    if (known !== undefined && known.untilMs > nowMs) return known.learned
    const { rows } = await pool.query<{ events: number; input_tokens: string; output_tokens: string }>(
      LEARN,
      [organizationId, new Date(nowMs - LEARNED_DAYS * DAY_MS), new Date(nowMs), call.provider, call.model],
    )
    const [row] = rows
    const learned =
      row === undefined || row.events < LEARNED_MIN_EVENTS
        ? undefined
        : { inputTokens: Number(row.input_tokens), outputTokens: Number(row.output_tokens) }
    if (this.#remembered.size >= REMEMBERED_MAX) this.#remembered.clear()
    this.#remembered.set(key, { learned, untilMs: nowMs + REMEMBER_MS })
    return learned
  }
}

/** What a caller says about a call that is to be made. */
export interface PlannedCall {
  readonly organizationId: string
  /** The fields of its usage event that are known, as JSON. */
  readonly fields: { readonly provider: string; readonly model?: string | undefined }
  readonly inputTokens: number | undefined
  readonly maxOutputTokens: number | undefined
  readonly estimateUsd: string | undefined
}

/**
 * Prices a call at its largest: input as counted, output at its maximum. What the caller does not say is the 99th
 * percentile of the organization's own calls of that model in the last seven days, or a default.
 *
 * @throws Problem naming the fields that no usage event could have
 */
export async function upperBound(
  { pool, learnedSizes, book }: { pool: Pool; learnedSizes: LearnedSizes; book: RatingBook },
  call: PlannedCall,
  nowMs: number,
): Promise<UpperBound> {
  if (call.estimateUsd !== undefined) {
    const usd = decimal(call.estimateUsd)
    return { listUsd: usd, sellUsd: usd, bound: { from: 'estimate', ...NO_TOKENS } }
  }
  const { model, provider } = call.fields
  const isSaid = call.inputTokens !== undefined && call.maxOutputTokens !== undefined
  const learned =
    isSaid || model === undefined
      ? undefined
      : await learnedSizes.of(pool, call.organizationId, { provider, model }, nowMs)
  const input = sizeOf(call.inputTokens, learned?.inputTokens, DEFAULT_INPUT_TOKENS)
  const output = sizeOf(call.maxOutputTokens, learned?.outputTokens, DEFAULT_OUTPUT_TOKENS)
  const parsed = parseUsageEvent(
    { ...call.fields, input_tokens: input.tokens, output_tokens: output.tokens },
    { nowMs, newEventId: () => 'planned' },
  )
  if (!parsed.ok) {
    throw new Problem({ code: 'invalid-request', errors: parsed.issues })
  }
  const rating = rate(call.organizationId, parsed.event, book.prices)
  const sale = sell(call.organizationId, parsed.event, rating, book)
  return {
    listUsd: rating.listCostUsd,
    sellUsd: sale.sellCostUsd,
    bound: {
      from: rating.status === 'rated' ? 'prices' : 'unpriced',
      input_tokens: input.tokens,
      input_from: input.from,
      output_tokens: output.tokens,
      output_from: output.from,
    },
  }
}

const NO_TOKENS = { input_tokens: null, input_from: null, output_tokens: null, output_from: null }

function sizeOf(
  said: number | undefined,
  learned: number | undefined,
  byDefault: number,
): { readonly tokens: number; readonly from: 'request' | 'learned' | 'default' } {
  if (said !== undefined) return { tokens: said, from: 'request' }
  if (learned !== undefined) return { tokens: learned, from: 'learned' }
  return { tokens: byDefault, from: 'default' }
}
