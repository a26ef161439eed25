import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { combined, seasonalNaive } from './daily-methods.ts'
import { forecastSeries } from './forecast.ts'
import { halfAt } from './intervals.ts'

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)
/** A shop that rests on its sixth and seventh day, and at night. */
const hoursOf = (days: number) =>
  Array.from(
    { length: days * 24 },
    (_, hour) => (Math.floor(hour / 24) % 7 < 5 ? 1 : 0.25) * (hour % 24 < 12 ? 2 : 0),
  )

describe('a forecast', () => {
  it('is zero where nothing was spent', () => {
    const { method, hours, sums } = forecastSeries({ hours: [0, 0, 0], horizonHours: 24 })
    expect([method, sum(hours), sums.half95]).toEqual(['none', 0, 0])
  })

  it.each([
    [1, 'average'],
    [5, 'daily'],
    [20, 'combined'],
    [90, 'seasonal_naive'],
  ])('of a week that repeats itself, %i days known, is by the method %s', (days, method) => {
    const forecast = forecastSeries({ hours: hoursOf(days), horizonHours: 48 })
    expect(forecast.method).toBe(method)
    expect(forecast.hours).toHaveLength(48)
  })

  it('does not count the time before the first spending as history', () => {
    const hours = [...new Array<number>(60 * 24).fill(0), ...hoursOf(1)]
    expect(forecastSeries({ hours, horizonHours: 24 })).toMatchObject({ method: 'average', historyHours: 24 })
  })

  it('knows nights and weekends', () => {
    const { hours } = forecastSeries({ hours: hoursOf(84), horizonHours: 7 * 24 })
    expect(hours[13]).toBeCloseTo(0, 6)
    const days = Array.from({ length: 7 }, (_, day) => sum(hours.slice(day * 24, day * 24 + 24)))
    expect(days.slice(0, 5).every((day) => Math.abs(day - 24) < 1)).toBe(true)
    expect(days.slice(5).every((day) => Math.abs(day - 6) < 1)).toBe(true)
  })

  it('lets a further method win only by a clear lead, and remembers the winner', () => {
    const oracle = (days: readonly number[], ahead: number) =>
      Array.from({ length: ahead }, (_, index) => 100 + ((days.length + index) % 11) * 30)
    const hours = oracle([], 90).flatMap((day) => new Array<number>(24).fill(day / 24))
    const won = forecastSeries({ hours, horizonHours: 240, further: { arima: oracle } })
    expect(won.method).toBe('arima')
    expect(won.contest.map(({ method }) => method)).toEqual(['combined', 'seasonal_naive', 'arima'])
    const again = forecastSeries({ hours, horizonHours: 240, further: { arima: oracle }, chosen: 'arima' })
    expect(again.method).toBe('arima')
    const same = forecastSeries({ hours, horizonHours: 240, further: { arima: combined } })
    expect(same.method).not.toBe('arima')
  })

  it('is finite and never below zero, whatever was spent', () => {
    const amount = fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1e6, noNaN: true }))
    fc.assert(
      fc.property(fc.array(amount, { maxLength: 1_500 }), (hours) => {
        const forecast = forecastSeries({ hours, horizonHours: 100 })
        const { half80, half95 } = halfAt(forecast.sums, 100 / 24)
        expect(forecast.hours.every((hour) => Number.isFinite(hour) && hour >= 0)).toBe(true)
        expect(forecast.hourHalf95.every((hour) => Number.isFinite(hour) && hour >= 0)).toBe(true)
        expect(half80 <= half95 && Number.isFinite(half95)).toBe(true)
      }),
      { numRuns: 40 },
    )
  })
})

describe('the baseline', () => {
  it('repeats the last week', () => {
    expect(seasonalNaive([1, 2, 3, 4, 5, 6, 7, 8], 9)).toEqual([2, 3, 4, 5, 6, 7, 8, 2, 3])
  })
})
