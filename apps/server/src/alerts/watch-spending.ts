import { HOUR_MS, type SpendBaseline, scopeText, spendBaseline } from '@tokentally/core'
import type { Pool } from 'pg'
import { type AlertCandidate, dayOf } from './alert.ts'
import { withoutFired } from './alert-store.ts'
import { type FireDependencies, fire } from './fire.ts'
import { type AlertSettings, readSettings } from './settings-store.ts'
import { type HourOfScope, listSpending, spendingHistory } from './spend-store.ts'

/** Scopes of one organization that are looked at: those that spend most. */
const SCOPES_MAX = 200
/** Baselines that one process remembers. */
const REMEMBERED_MAX = 5_000

/** What is usual for an hour does not change while it runs, so it is worked out once an hour and process. */
export class Baselines {
  #hourMs = 0
  readonly #known = new Map<string, Promise<SpendBaseline | undefined>>()

  /** @returns undefined while there is too little history for a verdict */
  of(
    pool: Pool,
    organizationId: string,
    { scope, hourMs }: HourOfScope,
    settings: AlertSettings,
  ): Promise<SpendBaseline | undefined> {
    if (hourMs > this.#hourMs || this.#known.size >= REMEMBERED_MAX) {
      this.#known.clear()
      this.#hourMs = hourMs
    }
    const key = JSON.stringify([organizationId, scopeText(scope), hourMs, settings])
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const baseline = spendingHistory(pool, organizationId, scope, hourMs).then((history) =>
      spendBaseline(history, {
        sensitivity: settings.anomalySensitivity,
        minFactor: settings.anomalyMinFactor,
        minUsd: Number(settings.anomalyMinUsd),
      }),
    )
    this.#known.set(key, baseline)
    baseline.catch(() => this.#known.delete(key))
    return baseline
  }
}

/**
 * Looks at the hour that runs and the one before it. What an hour has spent so far is held against what is unusual
 * for all of it, so that a spike is told of before its hour ends, and nothing is extrapolated. A scope is told of
 * once a UTC day.
 */
export async function watchSpending(
  dependencies: FireDependencies & { readonly baselines: Baselines },
  organizationId: string,
): Promise<void> {
  const { pool, now, baselines } = dependencies
  const settings = await readSettings(pool, organizationId)
  if (!settings.anomalyEnabled) return
  const nowMs = now().getTime()
  const hourMs = Math.floor(nowMs / HOUR_MS) * HOUR_MS
  const hours = await listSpending(pool, {
    organizationId,
    fromMs: hourMs - HOUR_MS,
    toMs: hourMs + HOUR_MS,
    minUsd: settings.anomalyMinUsd,
    limit: SCOPES_MAX,
  })
  const candidates: AlertCandidate[] = []
  for (const hour of hours) {
    const baseline = await baselines.of(pool, organizationId, hour, settings)
    if (baseline === undefined || Number(hour.spentUsd) < baseline.limitUsd) continue
    candidates.push(candidateOf(hour, baseline))
  }
  // Ascending: the message is about what spent most, and lists the rest.
  await fire(
    dependencies,
    organizationId,
    (await withoutFired(pool, organizationId, candidates)).toReversed(),
  )
}

function candidateOf({ scope, hourMs, spentUsd }: HourOfScope, baseline: SpendBaseline): AlertCandidate {
  return {
    subjectKey: scopeText(scope),
    period: dayOf(hourMs),
    threshold: 0,
    budgetId: null,
    details: {
      kind: 'spend_anomaly',
      scope: scopeText(scope),
      hour: new Date(hourMs).toISOString(),
      spent_usd: spentUsd,
      usual_usd: baseline.usualUsd.toFixed(2),
      limit_usd: baseline.limitUsd.toFixed(2),
      method: baseline.method,
      history_hours: baseline.hours,
    },
  }
}
