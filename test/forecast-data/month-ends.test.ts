import { describe, expect, it } from 'vitest'
import { arima } from '../../apps/server/src/forecast/worker/arima.ts'
import { SERIES_KINDS, simulatedHours } from './generator.ts'
import { type MonthEnds, monthEnds } from './month-ends.ts'
import { publicSeries } from './public-series.ts'

/** Estimates of month ends on a year of simulated and four years of public data; a larger run is bench/forecast. */

const hourly = (days: readonly number[]) => days.flatMap((day) => new Array<number>(24).fill(day / 24))

describe('month-end estimates', () => {
  const results: MonthEnds[] = [
    ...SERIES_KINDS.map((kind, index) => monthEnds(simulatedHours(kind, 77 + index), { arima })),
    ...publicSeries().map(({ days }) => monthEnds(hourly(days.slice(0, 365)), { arima })),
  ]
  const total = (of: (one: MonthEnds) => number) => results.reduce((sum, one) => sum + of(one), 0)

  it('are nearer than the repeated last week', () => {
    // Each series counts the same, however much it spends.
    expect(total(({ wrong, truth }) => wrong / truth)).toBeLessThan(
      total(({ naiveWrong, truth }) => naiveWrong / truth),
    )
  })

  it('have intervals that hold the truth about as often as they say', () => {
    const estimates = total((one) => one.estimates)
    const covered95 = total((one) => one.inside95) / estimates
    expect(covered95).toBeGreaterThan(0.9)
    expect(covered95).toBeLessThan(0.98)
    const covered80 = total((one) => one.inside80) / estimates
    expect(covered80).toBeGreaterThan(0.74)
    expect(covered80).toBeLessThan(0.88)
  })
})
