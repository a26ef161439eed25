import { createHash } from 'node:crypto'
import { type Advice, type AdviceKind, decimalText, MONTH_DAYS } from '@tokentally/core'

/** How each kind's numbers come about, in words that stand beside them. */
const FORMULAS: Readonly<Record<AdviceKind, string>> = {
  cheaper_model: 'The small calls, each re-priced at the alternative’s prices.',
  prompt_caching:
    'Input of prompts that came again within 5 minutes: the first of a run at the price of writing it to the cache, the others at that of reading, instead of the price of input.',
  batch_eligible: 'The calls that nobody waited for, each re-priced at the price of the provider’s batches.',
  cheaper_provider: 'The calls, each re-priced at the other host’s prices for the same model.',
  service_tier: 'The calls that nobody waited for, each re-priced at the standard tier.',
  retries_and_errors:
    'What aborted calls, and attempts that were followed by another one, cost in the ledger.',
  idle_commitment:
    'Price of the units and list price of what exceeds them, in every quarter of an hour: with the owned units, less with the cheapest part of them.',
}
const INTERVAL =
  '30 times the mean day; the interval is that of 95 % for the next 30 days, from how days differ (docs/reference/recommendations.md).'
const WEEKLY_INTERVAL = 'The mean week, for 30 days; the interval is that of 95 %, from how weeks differ.'
const GUESS: Readonly<Partial<Record<AdviceKind, string>>> = {
  batch_eligible: 'No user, conversation or route is named, and nothing was streamed: taken for a job.',
  service_tier: 'No user, conversation or route is named, and nothing was streamed: taken for a job.',
  cheaper_provider: 'Two hosts of a model of this name are taken to serve the same quality.',
}

/** Where advice comes from. */
export interface AdviceWindow {
  readonly startMs: number
  readonly endMs: number
  /** Whose prices were compared. */
  readonly pricesAtMs: number
}

/** The id of a recommendation: the same whenever the same is found again. */
export function recommendationId(organizationId: string, { kind, scope, subject }: Advice): string {
  const key = JSON.stringify([
    organizationId,
    kind,
    scope.dimension,
    scope.value,
    subject.provider,
    subject.model,
    subject.serviceTier ?? null,
  ])
  const hex = createHash('sha256').update(key).digest('hex')
  // RFC 9562, version 8: made of a hash.
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

/** The computation as it is kept and shown: every number that the saving is made of. */
export function computationJson(advice: Advice, window: AdviceWindow): object {
  const { currentUsd, alternativeUsd, history } = advice
  const assumption = advice.isGuess ? GUESS[advice.kind] : undefined
  return {
    window: { start: new Date(window.startMs).toISOString(), end: new Date(window.endMs).toISOString() },
    prices_at: new Date(window.pricesAtMs).toISOString(),
    formula: FORMULAS[advice.kind],
    current_usd: decimalText(currentUsd),
    alternative_usd: decimalText(alternativeUsd),
    saved_usd: decimalText(currentUsd.minus(alternativeUsd)),
    month_days: MONTH_DAYS,
    interval: history.every === 'day' ? INTERVAL : WEEKLY_INTERVAL,
    history: { every: history.every, saved_usd: history.savedUsd.map(decimalText) },
    price_version_ids: advice.priceVersionIds,
    assumption: assumption ?? null,
    others: advice.others.map(({ alternative, saving }) => ({
      alternative: alternativeJson(alternative),
      saving_usd: decimalText(saving.usd),
    })),
    query: queryOf(advice, window),
  }
}

export function alternativeJson(alternative: Advice['alternative']): object {
  return {
    provider: alternative.provider ?? null,
    model: alternative.model ?? null,
    service_tier: alternative.serviceTier ?? null,
    note: alternative.note ?? null,
  }
}

const SCOPE_PARAMETERS = { feature: 'feature', team: 'team_id', customer: 'customer_id' } as const

/** The request that shows the calls of the scope with this model; the advice may rest on a part of them. */
function queryOf({ scope, calledAs }: Advice, { startMs, endMs }: AdviceWindow): string {
  const query = new URLSearchParams({
    start: new Date(startMs).toISOString(),
    end: new Date(endMs).toISOString(),
  })
  if (scope.dimension !== 'organization' && scope.value !== null) {
    query.set(SCOPE_PARAMETERS[scope.dimension], scope.value)
  }
  for (const provider of new Set(calledAs.map((one) => one.provider))) query.append('provider', provider)
  for (const model of new Set(calledAs.flatMap((one) => one.model ?? []))) query.append('model', model)
  return `/api/v1/usage?${query}`
}
