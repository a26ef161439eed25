import { backTest, type OriginErrors, weightedError } from './back-test.ts'
import { combined, type DailyMethod, seasonalNaive, sum } from './daily-methods.ts'
import { hourlyShape } from './hourly-shape.ts'
import { fitSpread, halfAt, type Spread, studentT } from './intervals.ts'

/**
 * The forecast of one hourly series. How much history there is decides what is tried:
 *
 * - nothing spent yet: zero.
 * - less than 2 days: the mean hour goes on (`average`); the interval is stated, not learned: ± 60 % and ± 100 %.
 * - less than 2 weeks: a smoothed daily level with the shape of the day (`daily`).
 * - less than 4 weeks: the combined method with the shape of the week, too.
 * - from 4 weeks on, methods compete: a back-test on the series itself chooses among `combined`, `seasonal_naive`
 *   and, from 6 weeks on, the further methods that are passed in, such as `arima`.
 */
export type ForecastMethod =
  | 'none'
  | 'average'
  | 'daily'
  | 'combined'
  | 'seasonal_naive'
  | 'arima'
  | 'auto_arima'

export interface ForecastRequest {
  /** Spending of each hour, oldest first, the last one being the newest that is complete. */
  readonly hours: readonly number[]
  readonly horizonHours: number
  /** Further methods by name; they compete on a few origins only, because they are slow. */
  readonly further?: Readonly<Partial<Record<'arima' | 'auto_arima', DailyMethod>>>
  /** The winner of an earlier contest; it is not held again then. */
  readonly chosen?: ForecastMethod | undefined
}

/** One method's error in the contest. */
export interface Contestant {
  readonly method: ForecastMethod
  /** Weighted absolute percentage error of sums over one to four weeks; null: nothing to say. */
  readonly error: number | null
}

export interface SeriesForecast {
  readonly method: ForecastMethod
  /** A sentence. */
  readonly why: string
  /** Empty where no contest was held. */
  readonly contest: readonly Contestant[]
  readonly historyHours: number
  /** Mean of each hour ahead. */
  readonly hours: readonly number[]
  /** Of single hours, by hour ahead. */
  readonly hourHalf95: readonly number[]
  /** Of single days, by how many days ahead they end. */
  readonly days: Spread
  /** Of the sum from now until so many days ahead. */
  readonly sums: Spread
}

const DAY_HOURS = 24
const WEEK = 7
const AVERAGE_BELOW_HOURS = 48
const DAILY_BELOW_DAYS = 14
const CONTEST_FROM_DAYS = 28
const FURTHER_FROM_DAYS = 42
/** A method sees this much at least in a contest. */
const SEEN_DAYS = 21
const BACK_TEST_DAYS = 28
/** The combined method gives way only to what is better by this much: a contest is noise, too. */
const BETTER_FACTOR = 0.8
const FURTHER_ORIGINS = 4
/** 80 % of 95 %, for normal scatter. */
const SHARE_80 = 0.6539

/** Forecasts a series. */
export function forecastSeries(request: ForecastRequest): SeriesForecast {
  const first = request.hours.findIndex((value) => value > 0)
  const { horizonHours } = request
  if (first === -1) {
    return flat('none', 'Nothing has been spent yet.', 0, 0, horizonHours)
  }
  const hours = request.hours.slice(first)
  if (hours.length < AVERAGE_BELOW_HOURS) {
    const mean = sum(hours) / hours.length
    const why = `Less than ${AVERAGE_BELOW_HOURS} hours of history: the mean hour goes on.`
    return flat('average', why, mean, hours.length, horizonHours)
  }
  const wholeHours = hours.slice(hours.length % DAY_HOURS)
  const days = daySums(wholeHours)
  const horizonDays = Math.ceil(horizonHours / DAY_HOURS)
  const choice = choose(days, request)
  const daily = forecastDays(choice.method, request)(days, horizonDays) ?? combined(days, horizonDays) ?? []
  const level = sum(days.slice(-BACK_TEST_DAYS)) / Math.min(days.length, BACK_TEST_DAYS)
  const errors = choice.errors
  const sums = scaled(fitSpread(errors, 'sums', level) ?? stated(level, 1), choice.factor)
  const ofDays = scaled(fitSpread(errors, 'days', level) ?? stated(level, 0.25), choice.factor)
  const shape = hourlyShape(wholeHours)
  const means: number[] = []
  const hourHalf95: number[] = []
  for (let ahead = 0; ahead < horizonHours; ahead++) {
    const day = Math.floor(ahead / DAY_HOURS)
    const share = shape.shares[ahead % shape.shares.length] ?? 0
    means.push(share * (daily[day] ?? 0))
    const own =
      studentT(0.975, Math.min(days.length, BACK_TEST_DAYS)) * (shape.scatter[ahead % DAY_HOURS] ?? 0)
    hourHalf95.push(Math.hypot(own, share * halfAt(ofDays, day + 1).half95))
  }
  return {
    method: choice.method,
    why: choice.why,
    contest: choice.contest,
    historyHours: hours.length,
    hours: means,
    hourHalf95,
    days: ofDays,
    sums,
  }
}

/** Half of the 80 % interval of an hour. */
export function hourHalf80(half95: number): number {
  return half95 * SHARE_80
}

interface Choice {
  readonly method: ForecastMethod
  readonly why: string
  readonly contest: readonly Contestant[]
  readonly errors: readonly OriginErrors[]
  /** What the errors are multiplied with: those of a further method are known on few origins alone. */
  readonly factor: number
}

function choose(days: readonly number[], { further = {}, chosen }: ForecastRequest): Choice {
  const shortOrigins = range(Math.min(2, days.length - 1), days.length)
  if (days.length < DAILY_BELOW_DAYS) {
    const errors = backTest(days, combined, { origins: shortOrigins, horizonDays: BACK_TEST_DAYS })
    const why = `Less than ${DAILY_BELOW_DAYS} days of history: a smoothed daily level with the shape of the day.`
    return { method: 'daily', why, contest: [], errors, factor: 1 }
  }
  const seen = Math.min(SEEN_DAYS, DAILY_BELOW_DAYS - WEEK + Math.floor((days.length - DAILY_BELOW_DAYS) / 2))
  const test = { origins: range(Math.max(WEEK, seen), days.length), horizonDays: BACK_TEST_DAYS }
  const own = backTest(days, combined, test)
  if (days.length < CONTEST_FROM_DAYS) {
    const why = `Less than ${CONTEST_FROM_DAYS} days of history: the combined method, without a contest.`
    return { method: 'combined', why, contest: [], errors: own, factor: 1 }
  }
  const naive = backTest(days, seasonalNaive, test)
  const ownError = weightedError(own) ?? null
  const naiveError = weightedError(naive) ?? null
  const contest: Contestant[] = [
    { method: 'combined', error: ownError },
    { method: 'seasonal_naive', error: naiveError },
  ]
  const isNaive =
    chosen === 'seasonal_naive' ||
    (chosen === undefined && naiveError !== null && naiveError < (ownError ?? Infinity) * BETTER_FACTOR)
  const simple = isNaive
    ? { method: 'seasonal_naive' as const, run: seasonalNaive, errors: naive }
    : { method: 'combined' as const, run: combined, errors: own }
  const origins = range(1, FURTHER_ORIGINS + 1).map((weeks) => days.length - weeks * WEEK)
  if (days.length >= FURTHER_FROM_DAYS && (chosen === undefined || chosen in further)) {
    const few = { origins, horizonDays: BACK_TEST_DAYS }
    const beside = weightedError(backTest(days, simple.run, few))
    let winner: { method: ForecastMethod; error: number } | undefined
    if (chosen === undefined) {
      for (const [method, run] of furtherOf(further)) {
        const error = weightedError(backTest(days, run, few))
        contest.push({ method, error: error ?? null })
        if (error === undefined || beside === undefined || error >= beside * BETTER_FACTOR) continue
        if (winner === undefined || error < winner.error) winner = { method, error }
      }
    } else winner = { method: chosen, error: beside ?? 0 }
    if (winner !== undefined) {
      const why = `It had the smallest error when it forecast the last ${FURTHER_ORIGINS} weeks from what was known before.`
      // Not narrower than by what it was better: few origins flatter.
      return { method: winner.method, why, contest, errors: simple.errors, factor: 1 }
    }
  }
  const why = `It had the smallest error when it forecast the days since ${test.origins.length} days ago from what was known before.`
  return { method: simple.method, why, contest, errors: simple.errors, factor: 1 }
}

function furtherOf(
  further: NonNullable<ForecastRequest['further']>,
): readonly (readonly ['arima' | 'auto_arima', DailyMethod])[] {
  const { arima, auto_arima } = further
  return [
    ...(arima === undefined ? [] : [['arima', arima] as const]),
    ...(auto_arima === undefined ? [] : [['auto_arima', auto_arima] as const]),
  ]
}

function forecastDays(method: ForecastMethod, { further = {} }: ForecastRequest): DailyMethod {
  switch (method) {
    case 'arima':
    case 'auto_arima':
      return further[method] ?? combined
    case 'seasonal_naive':
      return seasonalNaive
    default:
      return combined
  }
}

/** What is assumed where nothing can be learned. */
function stated(level: number, power: number): Spread {
  return { half80: 0.6 * level, half95: level, power }
}

function scaled(spread: Spread, factor: number): Spread {
  return { ...spread, half80: spread.half80 * factor, half95: spread.half95 * factor }
}

function flat(
  method: ForecastMethod,
  why: string,
  mean: number,
  historyHours: number,
  horizonHours: number,
): SeriesForecast {
  const spread = stated(mean * DAY_HOURS, 1)
  return {
    method,
    why,
    contest: [],
    historyHours,
    hours: new Array<number>(horizonHours).fill(mean),
    hourHalf95: new Array<number>(horizonHours).fill(2 * mean),
    days: { ...spread, power: 0 },
    sums: spread,
  }
}

function daySums(hours: readonly number[]): readonly number[] {
  return range(0, hours.length / DAY_HOURS).map((day) =>
    sum(hours.slice(day * DAY_HOURS, (day + 1) * DAY_HOURS)),
  )
}

function range(start: number, end: number): readonly number[] {
  return Array.from({ length: Math.max(0, end - start) }, (_, index) => start + index)
}
