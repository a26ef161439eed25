import { type Decimal, decimal, decimalText, ZERO } from '../money/decimal.ts'
import { METERS } from '../usage/meters.ts'
import type { Rate, TimeOfDay } from './price-version.ts'

/** A price of a model with the time from which it applies, as catalogues list them: of several the last wins. */
export interface DatedRates {
  /** UTC milliseconds; null: as far back as one can ask. */
  readonly startMs: number | null
  readonly timeOfDay?: TimeOfDay | undefined
  readonly rates: Readonly<Record<string, Rate>>
}

/** One meter of a model that would cost something else. */
export interface PriceChange {
  readonly meter: string
  /** Above this much input; null: the price without tiers, or below all of them. */
  readonly aboveInputTokens: number | null
  /** When both prices would next apply, UTC milliseconds: the present, unless the price is dated or has hours. */
  readonly atMs: number
  /** How many units the prices are for. */
  readonly per: Rate['per']
  /** US dollars; null: without a price. */
  readonly oldPrice: string | null
  readonly newPrice: string | null
  /** By how much the price grows, rounded to a tenth; null when there was none, or none but zero. */
  readonly percent: string | null
}

const HALF = decimal('0.5')
const DAY_S = 86_400

/**
 * What would change for a model, from the present on: at the present, at every start to come, and at each of the
 * hours that have a price of their own. A meter without a price of its own is compared by the price that applies to
 * it (`METERS[…].pricedAs`).
 *
 * @param before in order of entry @param after in the order of the catalogue
 */
export function priceChanges(
  before: readonly DatedRates[],
  after: readonly DatedRates[],
  nowMs: number,
): readonly PriceChange[] {
  const changes = new Map<string, PriceChange>()
  for (const atMs of momentsOf([...before, ...after], nowMs)) {
    const [old, next] = [ratesAt(before, atMs), ratesAt(after, atMs)]
    for (const meter of new Set([...Object.keys(old), ...Object.keys(next)])) {
      for (const change of meterChanges(meter, old, next, atMs)) {
        const { aboveInputTokens, oldPrice, newPrice } = change
        const key = [meter, aboveInputTokens, oldPrice, newPrice].join('\n')
        if (!changes.has(key)) changes.set(key, change)
      }
    }
  }
  return [...changes.values()]
}

/**
 * Whether a change needs a person: a price that moves by more than half of what it was, up or down, that was zero,
 * or that is taken away.
 */
export function isLargeChange({ oldPrice, newPrice }: PriceChange): boolean {
  if (oldPrice === null) return false
  if (newPrice === null) return true
  const old = decimal(oldPrice)
  return decimal(newPrice).minus(old).abs().gt(old.times(HALF))
}

function meterChanges(
  meter: string,
  old: DatedRates['rates'],
  next: DatedRates['rates'],
  atMs: number,
): readonly PriceChange[] {
  const [oldRate, newRate] = [rateOf(meter, old), rateOf(meter, next)]
  const per = newRate?.per ?? oldRate?.per ?? 1
  const thresholds = new Set(
    [...(oldRate?.tiers ?? []), ...(newRate?.tiers ?? [])].map((tier) => tier.aboveInputTokens),
  )
  return [null, ...[...thresholds].sort((a, b) => a - b)].flatMap((aboveInputTokens) => {
    const [oldPrice, newPrice] = [oldRate, newRate].map(
      (rate) => rate && priceOf(rate, aboveInputTokens).times(quotient(per, rate.per)),
    )
    if (oldPrice === undefined ? newPrice === undefined : newPrice?.eq(oldPrice) === true) return []
    return [
      {
        meter,
        aboveInputTokens,
        atMs,
        per,
        oldPrice: oldPrice === undefined ? null : decimalText(oldPrice),
        newPrice: newPrice === undefined ? null : decimalText(newPrice),
        percent: oldPrice && newPrice ? percentOf(oldPrice, newPrice) : null,
      },
    ]
  })
}

function rateOf(meter: string, rates: DatedRates['rates']): Rate | undefined {
  let name: string | undefined = meter
  while (name !== undefined && !Object.hasOwn(rates, name)) name = METERS[name]?.pricedAs
  return name === undefined ? undefined : rates[name]
}

function priceOf(rate: Rate, aboveInputTokens: number | null): Decimal {
  const tier = (rate.tiers ?? [])
    .filter((candidate) => candidate.aboveInputTokens <= (aboveInputTokens ?? -1))
    .toSorted((a, b) => b.aboveInputTokens - a.aboveInputTokens)[0]
  return decimal(tier?.price ?? rate.price)
}

const POWERS: Readonly<Record<Rate['per'], number>> = { 1: 0, 1000: 3, 1000000: 6 }

/** `per` over `other`, both powers of a thousand: exact. */
function quotient(per: Rate['per'], other: Rate['per']): Decimal {
  return decimal(`1e${POWERS[per] - POWERS[other]}`)
}

function percentOf(old: Decimal, next: Decimal): string | null {
  if (old.eq(ZERO)) return null
  // In whole numbers, as decimals of this kind do not divide.
  const places = Math.max(placesOf(old), placesOf(next))
  const scaled = (value: Decimal) => BigInt(decimalText(value.times(decimal(`1e${places}`))))
  const [from, to] = [scaled(old), scaled(next)]
  const doubled = (to - from) * 2000n
  const tenths = (doubled + (doubled < 0n ? -from : from)) / (2n * from)
  return decimalText(decimal(tenths).times(decimal('0.1')))
}

function placesOf(value: Decimal): number {
  return Math.max(0, value.c.length - 1 - value.e)
}

function ratesAt(dated: readonly DatedRates[], atMs: number): DatedRates['rates'] {
  const second = Math.floor(atMs / 1000) % DAY_S
  return (
    dated.findLast(({ startMs, timeOfDay }) => (startMs ?? -Infinity) <= atMs && holds(timeOfDay, second))
      ?.rates ?? {}
  )
}

function holds(timeOfDay: TimeOfDay | undefined, second: number): boolean {
  if (timeOfDay === undefined) return true
  const [start, end] = [secondOfDay(timeOfDay.startUtc), secondOfDay(timeOfDay.endUtc)]
  return end < start ? second >= start || second < end : second >= start && second < end
}

function momentsOf(dated: readonly DatedRates[], nowMs: number): readonly number[] {
  const starts = [
    nowMs,
    ...dated.flatMap(({ startMs }) => (startMs !== null && startMs > nowMs ? [startMs] : [])),
  ]
  const seconds = new Set(
    dated.flatMap(({ timeOfDay }) =>
      timeOfDay === undefined ? [] : [secondOfDay(timeOfDay.startUtc), secondOfDay(timeOfDay.endUtc)],
    ),
  )
  const moments = starts.flatMap((start) => [start, ...[...seconds].map((second) => nextAt(start, second))])
  return [...new Set(moments)].sort((a, b) => a - b)
}

/** The first moment from `ms` on at a second of the day. */
function nextAt(ms: number, second: number): number {
  const dayMs = DAY_S * 1000
  const at = Math.floor(ms / dayMs) * dayMs + second * 1000
  return at >= ms ? at : at + dayMs
}

function secondOfDay(time: string): number {
  const [hour = 0, minute = 0, second = 0] = time.split(':').map(Number)
  return hour * 3600 + minute * 60 + second
}
