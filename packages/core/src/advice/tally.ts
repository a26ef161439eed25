import { type Decimal, decimal, ZERO } from '../money/decimal.ts'
import type { CalledAs, Finding } from './finding.ts'
import { MONTH_DAYS, type SavingInterval, savingInterval } from './saving-interval.ts'

/** How sure a saving is. Below `medium` nothing is proposed. */
export type AdviceConfidence = 'high' | 'medium'

/** What a proposal must reach. */
export interface AdviceMinimum {
  readonly days: number
  readonly events: number
  /** Half of the interval as a share of the saving. */
  readonly halfWidth: string
}
export const ADVICE_MINIMA: Readonly<Record<AdviceConfidence, AdviceMinimum>> = {
  high: { days: 21, events: 1_000, halfWidth: '0.25' },
  medium: { days: 14, events: 200, halfWidth: '0.6' },
}
/** Saving of 30 days below which nothing is proposed, US dollars. */
export const SAVING_MIN_USD = '1'

/** The mean is rounded before the saving is compared: what is that near goes the exact way. */
const ALMOST = decimal('0.999')
/** Proposals that are followed at once; those of the largest groups of each day come first. */
const SERIES_MAX = 50_000

/** Snapshots and aliases of one model. */
const NAMES_MAX = 20

/** A proposal, with everything that its saving was computed from. */
export interface Advice extends Pick<Finding, 'kind' | 'scope' | 'subject' | 'alternative' | 'isGuess'> {
  readonly saving: SavingInterval
  readonly confidence: AdviceConfidence
  readonly events: number
  readonly currentUsd: Decimal
  readonly alternativeUsd: Decimal
  readonly priceVersionIds: readonly string[]
  /** What each day or week of history would have saved, in order. */
  readonly history: { readonly every: 'day' | 'week'; readonly savedUsd: readonly Decimal[] }
  /** The providers and models of the calls as they name them, at most `NAMES_MAX`. */
  readonly calledAs: readonly CalledAs[]
  /** Other proposals for the same calls that save less. */
  readonly others: readonly Pick<Advice, 'alternative' | 'saving'>[]
}

interface Series {
  readonly first: Finding
  /** By day; days without such calls are left out. */
  readonly saved: Map<number, Decimal>
  readonly versions: Set<string>
  readonly names: Map<string, CalledAs>
  events: number
  currentUsd: Decimal
  alternativeUsd: Decimal
  isGuess: boolean
}

/** Adds up what was found day by day. */
export class AdviceTally {
  readonly #days: number
  readonly #series = new Map<string, Series>()

  /** @param days of history, all of them complete */
  constructor(days: number) {
    this.#days = days
  }

  /** @param day from 0 */
  add(day: number, findings: readonly Finding[]): void {
    for (const finding of findings) {
      const { kind, scope, subject, alternative } = finding
      const { note: _, ...terms } = alternative
      const key = JSON.stringify([kind, scope.dimension, scope.value, subject, terms])
      let series = this.#series.get(key)
      if (series === undefined) {
        if (this.#series.size >= SERIES_MAX) continue
        series = {
          first: finding,
          saved: new Map(),
          versions: new Set(),
          names: new Map(),
          events: 0,
          currentUsd: ZERO,
          alternativeUsd: ZERO,
          isGuess: false,
        }
        this.#series.set(key, series)
      }
      const { currentUsd, alternativeUsd } = finding
      series.saved.set(day, (series.saved.get(day) ?? ZERO).plus(currentUsd).minus(alternativeUsd))
      series.events += finding.events
      series.currentUsd = series.currentUsd.plus(currentUsd)
      series.alternativeUsd = series.alternativeUsd.plus(alternativeUsd)
      series.isGuess ||= finding.isGuess
      if (series.names.size < NAMES_MAX) {
        series.names.set(JSON.stringify(finding.calledAs), finding.calledAs)
      }
      for (const id of finding.priceVersionIds) series.versions.add(id)
    }
  }

  /** The best proposal for each kind, scope and subject, the largest saving first; none that is less than sure. */
  advice(): readonly Advice[] {
    const sure = this.#series.values().flatMap((series) => {
      const advice = adviceOf(series, this.#days)
      return advice === undefined ? [] : [advice]
    })
    const rivals = Map.groupBy(sure, ({ kind, scope, subject }) =>
      JSON.stringify([kind, scope.dimension, scope.value, subject]),
    )
    return [...rivals.values()]
      .flatMap((group) => {
        const [best, ...others] = group.toSorted(bySaving)
        return best === undefined
          ? []
          : { ...best, others: others.map(({ alternative, saving }) => ({ alternative, saving })) }
      })
      .sort(bySaving)
  }
}

function bySaving(a: Pick<Advice, 'saving'>, b: Pick<Advice, 'saving'>): number {
  return b.saving.usd.cmp(a.saving.usd)
}

function adviceOf(series: Series, days: number): Advice | undefined {
  const { first, events, isGuess } = series
  // Most series are too small, which the sums tell already.
  const scaled = series.currentUsd.minus(series.alternativeUsd).times(decimal(String(MONTH_DAYS)))
  if (
    scaled.lt(
      decimal(SAVING_MIN_USD)
        .times(decimal(String(days)))
        .times(ALMOST),
    )
  )
    return undefined
  const daily = Array.from({ length: days }, (_, day) => series.saved.get(day) ?? ZERO)
  const saving = savingInterval(daily)
  if (saving === undefined || saving.usd.lt(decimal(SAVING_MIN_USD))) return undefined
  const confidence = confidenceOf(saving, daily.length, events, isGuess)
  if (confidence === undefined) return undefined
  return {
    kind: first.kind,
    scope: first.scope,
    subject: first.subject,
    alternative: first.alternative,
    isGuess,
    saving,
    confidence,
    events,
    currentUsd: series.currentUsd,
    alternativeUsd: series.alternativeUsd,
    priceVersionIds: [...series.versions],
    history: { every: 'day', savedUsd: daily },
    calledAs: [...series.names.values()],
    others: [],
  }
}

/** How sure a saving is; undefined: not sure enough. */
export function confidenceOf(
  saving: SavingInterval,
  days: number,
  events: number,
  isGuess: boolean,
): AdviceConfidence | undefined {
  const reaches = ({ days: least, events: few, halfWidth }: AdviceMinimum) =>
    days >= least &&
    events >= few &&
    saving.highUsd.minus(saving.usd).lte(saving.usd.times(decimal(halfWidth)))
  if (!reaches(ADVICE_MINIMA.medium)) return undefined
  return !isGuess && reaches(ADVICE_MINIMA.high) ? 'high' : 'medium'
}
