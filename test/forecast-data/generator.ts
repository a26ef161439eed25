/** Twelve months of simulated spending by the hour, from a seed: the same series each time. */

export type SeriesKind = 'weekly' | 'growth' | 'shift' | 'spikes' | 'intermittent' | 'flat'
export const SERIES_KINDS = ['weekly', 'growth', 'shift', 'spikes', 'intermittent', 'flat'] as const

const DAY_HOURS = 24
const WEEK = 7

/** Uniform in [0, 1): mulberry32, public domain, by Tommy Ettinger. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** @returns spending of each hour, US dollars */
export function simulatedHours(kind: SeriesKind, seed: number, days = 365): readonly number[] {
  const random = randomOf(seed)
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
  const level = 10 ** (random() * 3)
  const weekend = kind === 'flat' ? 1 : 0.2 + 0.7 * random()
  const peakHour = 8 + 10 * random()
  const dayDepth = kind === 'flat' ? 0.1 : 0.5 + 0.45 * random()
  const noise = 0.05 + 0.2 * random()
  const hourNoise = 0.2 + 0.4 * random()
  const yearlyGrowth = kind === 'growth' ? 1 + 3 * random() : random() - 0.5
  const shifts =
    kind === 'shift'
      ? [0, 1, 2].map(() => ({ day: Math.floor(random() * days), by: 0.5 + 1.5 * random() }))
      : []
  let drift = 0
  const hours: number[] = []
  for (let day = 0; day < days; day++) {
    // Noise that lasts, too: what moves spending today moves it tomorrow.
    drift = 0.97 * drift + 0.03 * normal()
    let mean =
      level *
      (1 + yearlyGrowth) ** (day / 365) *
      (day % WEEK >= 5 ? weekend : 1) *
      Math.exp(drift + noise * normal())
    for (const shift of shifts) if (day >= shift.day) mean *= shift.by
    if (kind === 'spikes' && random() < 0.04) mean *= 3 + 5 * random()
    if (kind === 'intermittent' && random() < 0.6) mean = 0
    for (let hour = 0; hour < DAY_HOURS; hour++) {
      const wave = 1 + dayDepth * Math.cos(((hour - peakHour) / DAY_HOURS) * 2 * Math.PI)
      hours.push(
        Math.max(0, (mean / DAY_HOURS) * wave * Math.exp(hourNoise * normal() - (hourNoise * hourNoise) / 2)),
      )
    }
  }
  return hours
}
