import { mod, sum } from './daily-methods.ts'

/** How a day's sum is spread over its hours. */
export interface HourlyShape {
  /** Share of its day, by hour of the week; each day's 24 add up to one. Hour 0 is the first that is forecast. */
  readonly shares: readonly number[]
  /** By hour of the day: how far hours lie from their share, as root mean square. */
  readonly scatter: readonly number[]
}

const DAY_HOURS = 24
const WEEK_HOURS = 7 * DAY_HOURS
/** Weeks that it is learned from. */
const WEEKS = 8
/** So many weeks of the same day speak as loud as all days together. */
const OWN_WEEKS = 3

/** @param hours whole days, the last hour being the newest */
export function hourlyShape(hours: readonly number[]): HourlyShape {
  const recent = hours.slice(-WEEKS * WEEK_HOURS)
  const slots = new Array<number>(WEEK_HOURS).fill(0)
  const daily = new Array<number>(DAY_HOURS).fill(0)
  recent.forEach((value, index) => {
    const slot = mod(index - recent.length, WEEK_HOURS)
    slots[slot] = (slots[slot] ?? 0) + value
    daily[slot % DAY_HOURS] = (daily[slot % DAY_HOURS] ?? 0) + value
  })
  const all = sum(daily)
  const common = daily.map((value) => (all > 0 ? value / all : 1 / DAY_HOURS))
  const weeks = recent.length / WEEK_HOURS
  const own = weeks < 2 ? 0 : weeks / (weeks + OWN_WEEKS)
  const shares = Array.from({ length: 7 }, (_, day) => {
    const ofDay = slots.slice(day * DAY_HOURS, (day + 1) * DAY_HOURS)
    const total = sum(ofDay)
    return common.map((share, hour) =>
      total > 0 ? (1 - own) * share + (own * (ofDay[hour] ?? 0)) / total : share,
    )
  }).flat()
  return { shares, scatter: scatterOf(recent.slice(-4 * WEEK_HOURS), shares) }
}

function scatterOf(hours: readonly number[], shares: readonly number[]): readonly number[] {
  const squares = new Array<number>(DAY_HOURS).fill(0)
  for (let start = 0; start + DAY_HOURS <= hours.length; start += DAY_HOURS) {
    const day = hours.slice(start, start + DAY_HOURS)
    const total = sum(day)
    day.forEach((value, hour) => {
      const share = shares[mod(start + hour - hours.length, WEEK_HOURS)] ?? 0
      squares[hour] = (squares[hour] ?? 0) + (value - total * share) ** 2
    })
  }
  const days = Math.max(1, Math.floor(hours.length / DAY_HOURS))
  return squares.map((square) => Math.sqrt(square / days))
}
