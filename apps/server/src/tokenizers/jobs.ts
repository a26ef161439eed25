import type { Pool } from 'pg'
import type { Jobs } from '../queue/jobs.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { decidingSums, driftRatio, driftStatus } from './drift.ts'
import { listDriftRatios, measureDrift, replaceStates, type TokenizerUse } from './store.ts'

const MEASURE_DRIFT = 'measure-tokenizer-drift'
const EVERY_MS = 5 * 60_000
/** Tokenizers and models that a metric shows. */
const METRIC_LABELS_MAX = 50

export interface DriftJobDependencies {
  readonly pool: Pool
  readonly logger: Logger
  readonly now: () => Date
}

/** Names the job that compares tokenizers with providers. */
export function defineDriftJob(jobs: Jobs, dependencies: DriftJobDependencies): void {
  jobs.define(MEASURE_DRIFT, () => watchDrift(dependencies), { everyMs: EVERY_MS, isChore: true })
}

/** Measures all tokenizers, and warns of each that begins to drift or no longer does: once, not each time. */
export async function watchDrift({ pool, logger, now }: DriftJobDependencies): Promise<void> {
  const at = now()
  const states = (await measureDrift(pool, undefined, at.getTime())).map(({ day, week, ...use }) => {
    const sums = decidingSums(day, week)
    return { ...use, sums, isDrifting: driftStatus(sums) === 'drifting' }
  })
  const before = new Set((await replaceStates(pool, states, at)).map(keyOf))
  for (const { sums, isDrifting, ...use } of states) {
    if (isDrifting === before.has(keyOf(use))) continue
    const details = { ...use, ...sums, driftRatio: driftRatio(sums) }
    if (isDrifting) logger.warn(details, 'a tokenizer drifts from what its provider reports')
    else logger.info(details, 'a tokenizer counts again what its provider reports')
  }
}

/** Shows in the metrics what was last measured. */
export async function refreshDriftMetric(pool: Pool, { tokenizerDriftRatio }: Metrics): Promise<void> {
  const ratios = await listDriftRatios(pool, METRIC_LABELS_MAX)
  tokenizerDriftRatio.reset()
  for (const { tokenizer, model, ratio } of ratios) tokenizerDriftRatio.set({ tokenizer, model }, ratio)
}

function keyOf({ organizationId, tokenizer, provider, model }: TokenizerUse): string {
  return JSON.stringify([organizationId, tokenizer, provider, model])
}
