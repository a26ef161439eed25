import { type ForecastRequest, forecastSeries } from '@tokentally/core'
import { arima, autoArima } from '../../apps/server/src/forecast/worker/arima.ts'
import { SERIES_KINDS, simulatedHours } from '../../test/forecast-data/generator.ts'
import { type MonthEnds, monthEnds } from '../../test/forecast-data/month-ends.ts'
import { publicSeries } from '../../test/forecast-data/public-series.ts'
import { type Bench, type Comparison, compare } from '../figures.ts'

/** Series of each simulated kind. */
const EACH = { full: 4, quick: 1 }
/** Series that are timed; the figure is for 1,000. */
const TIMED = { full: 200, quick: 20 }

type Further = NonNullable<ForecastRequest['further']>
const WAYS: readonly (readonly [name: string, further: Further])[] = [
  ['no ARIMA', {}],
  ['ARIMA in the contest', { arima }],
  ['auto-ARIMA in the contest', { auto_arima: autoArima }],
]

/**
 * Month-end estimates held against what came, by what takes part in the contest, beside the repeated last week; and
 * how long 1,000 hourly series of 90 days take with the contest, beside without.
 */
export const forecastBench: Bench = async ({ isQuick, progress }) => {
  const size = isQuick ? 'quick' : 'full'
  const hourly = (days: readonly number[]) => days.flatMap((day) => new Array<number>(24).fill(day / 24))
  const sets: readonly (readonly [name: string, series: readonly (readonly number[])[]])[] = [
    [
      'simulated',
      SERIES_KINDS.flatMap((kind, index) =>
        Array.from({ length: EACH[size] }, (_, one) => simulatedHours(kind, 1_000 * one + index)),
      ),
    ],
    ['public', publicSeries().map(({ days }) => hourly(isQuick ? days.slice(0, 365) : days))],
  ]
  const comparisons: Comparison[] = []
  for (const [way, further] of WAYS) {
    // The search takes a minute for what the others do in seconds: on fewer series, and named so.
    const isSlow = 'auto_arima' in further
    for (const [set, all] of sets) {
      const series = isSlow
        ? all.filter((_, index) => index % 3 === 0).map((one) => one.slice(0, 240 * 24))
        : all
      progress(`${way}, ${series.length} ${set} series`)
      const results = series.map((hours) => monthEnds(hours, further))
      comparisons.push(
        compare(
          {
            name: `month-end error, ${set}, ${way}`,
            unit: '% of the month',
            rivalName: 'last week repeated',
            bar: 'below the rival',
            aim: 'ratio 0.8',
          },
          [{ ours: meanError(results, 'wrong'), rival: meanError(results, 'naiveWrong') }],
        ),
        compare(
          { name: `95 % interval, ${set}, ${way}`, unit: '% covered', rivalName: 'nominal', bar: '90–98' },
          [{ ours: coverage(results), rival: 95 }],
        ),
      )
    }
  }
  progress('time of 1,000 series')
  const timed = Array.from({ length: TIMED[size] }, (_, index) =>
    simulatedHours(SERIES_KINDS[index % SERIES_KINDS.length] ?? 'weekly', index, 90),
  )
  const seconds = (request: Omit<ForecastRequest, 'hours' | 'horizonHours'>) => {
    const began = performance.now()
    for (const hours of timed) forecastSeries({ hours, horizonHours: 93 * 24, ...request })
    return (performance.now() - began) / timed.length
  }
  seconds({ further: { arima } })
  comparisons.push(
    compare(
      {
        name: 'forecast 1,000 series of 90 days, with the contest',
        unit: 's',
        rivalName: 'method chosen before',
        bar: '600 s',
        aim: '120 s',
      },
      Array.from({ length: 3 }, () => ({
        ours: seconds({ further: { arima } }),
        rival: seconds({ further: { arima }, chosen: 'combined' }),
      })),
    ),
  )
  return comparisons
}

/** Of each series as percentage of what its months came to; each series counts the same. */
function meanError(results: readonly MonthEnds[], of: 'wrong' | 'naiveWrong'): number {
  return (100 * results.reduce((total, one) => total + one[of] / one.truth, 0)) / results.length
}

function coverage(results: readonly MonthEnds[]): number {
  const total = (of: 'inside95' | 'estimates') => results.reduce((sum, one) => sum + one[of], 0)
  return (100 * total('inside95')) / total('estimates')
}
