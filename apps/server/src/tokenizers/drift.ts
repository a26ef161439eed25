/** Beyond this share of the reported tokens a tokenizer counts another thing than the provider: 0.05 %. */
export const DRIFT_MAX_RATIO = 0.0005
/** Fewer events or tokens than these say nothing: one token of 10,000 is a fifth of the limit. */
export const SAMPLE_MIN_EVENTS = 30
export const SAMPLE_MIN_TOKENS = 10_000

/** What a provider reported, and what a tokenizer counted for the same texts. */
export interface DriftSums {
  readonly events: number
  readonly reportedTokens: number
  readonly countedTokens: number
}

/** `too_few`: the sample says nothing yet. */
export type DriftStatus = 'ok' | 'drifting' | 'too_few'

/** How much more a tokenizer counts than the provider, as a share of what was reported; less is negative. */
export function driftRatio({ reportedTokens, countedTokens }: DriftSums): number | undefined {
  return reportedTokens === 0 ? undefined : (countedTokens - reportedTokens) / reportedTokens
}

/** What a sample says about its tokenizer. */
export function driftStatus(sums: DriftSums): DriftStatus {
  const ratio = driftRatio(sums)
  if (ratio === undefined || sums.events < SAMPLE_MIN_EVENTS || sums.reportedTokens < SAMPLE_MIN_TOKENS) {
    return 'too_few'
  }
  return Math.abs(ratio) > DRIFT_MAX_RATIO ? 'drifting' : 'ok'
}

/** The sample that decides: that of the last day, or of the last week where a day has too few. */
export function decidingSums(day: DriftSums, week: DriftSums): DriftSums {
  return driftStatus(day) === 'too_few' ? week : day
}
