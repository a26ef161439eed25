import type { GpuInterval } from './attribution.ts'

/**
 * How long one GPU was busy, idle and unknown, from samples of its utilisation.
 *
 * A sample says how busy the GPU was until it was taken, so it counts for the time since the sample before it.
 * When that is too long ago (a scrape failed, the exporter was down, the GPU was gone), it counts for one scrape
 * interval only, and the time before is unknown. So is the time after the last sample. Unknown time is neither
 * busy nor idle, and nobody is charged for it.
 */

/** Samples are taken this often. */
export const GPU_SAMPLE_EVERY_MS = 15_000
/** Two samples this far apart have a gap between them: more than one scrape is missing, or two were very late. */
export const GPU_SAMPLE_GAP_MS = 40_000

/** One look at a GPU. */
export interface GpuSample {
  /** UTC milliseconds. */
  readonly atMs: number
  /** Parts per million of the time before it: 0 to 1,000,000. */
  readonly busyPpm: number
}

/** One GPU in one interval, in whole microseconds. Busy and idle add up to what was measured. */
export interface MeasuredGpuTime {
  readonly busyUs: bigint
  readonly idleUs: bigint
  readonly unknownUs: bigint
}

/**
 * @param samples of one GPU, in the order of time, no two at the same time; one sample before and one after the
 *   interval belong to it
 */
export function measureGpuTime(interval: GpuInterval, samples: readonly GpuSample[]): MeasuredGpuTime {
  let busyUs = 0n
  let measuredUs = 0n
  let previousMs = Number.NEGATIVE_INFINITY
  for (const { atMs, busyPpm } of samples) {
    const isAfterGap = atMs - previousMs > GPU_SAMPLE_GAP_MS
    const sinceMs = isAfterGap ? Math.max(previousMs, atMs - GPU_SAMPLE_EVERY_MS) : previousMs
    previousMs = atMs
    const spanMs = Math.min(atMs, interval.endMs) - Math.max(sinceMs, interval.startMs)
    if (spanMs <= 0) continue
    measuredUs += BigInt(spanMs) * 1000n
    // A millisecond at one part per million is a nanosecond; rounded half up to the microsecond.
    busyUs += (BigInt(spanMs) * BigInt(busyPpm) + 500n) / 1000n
  }
  const lengthUs = BigInt(interval.endMs - interval.startMs) * 1000n
  return { busyUs, idleUs: measuredUs - busyUs, unknownUs: lengthUs - measuredUs }
}
