import { attributeGpuTime, type GpuInterval, measureGpuTime, parseUsageEvent } from '@tokentally/core'
import type { Pool } from 'pg'
import type { IncomingEvent, Ledger } from '../ledger/index.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { intervalEvents, seconds } from './interval-events.ts'
import {
  type ClosedInterval,
  callsOf,
  closeInterval,
  markAppended,
  nextSampleMs,
  type OpenSeries,
  openSeries,
  samplesOf,
  servedTokens,
  skipTo,
  type UnappendedInterval,
  unappendedIntervals,
} from './interval-store.ts'
import { INTERVAL_MS } from './series.ts'

/**
 * From samples to usage events. An interval is a minute of one series, and goes through three states:
 *
 * - open: its samples and calls may still arrive. Five minutes after its end it is closed, and never opens again.
 * - closed: measured and handed out; the row holds the events that follow, down to the digit. Closing reads the
 *   calls that are in the ledger then; a call that arrives later changes nothing.
 * - appended: the ledger has the events, and the row has let go of them.
 *
 * A process that dies before the row is written leaves the interval open; one that dies after it leaves it closed,
 * and the next run appends the same events, of which the ledger takes each id once.
 */

/** Events come when a call is over, and after retries: this long an interval waits for them. */
const CLOSE_AFTER_MS = 5 * 60_000
/** Intervals that one run closes of one series; the next run goes on. */
const INTERVALS_PER_RUN_MAX = 240
const APPEND_PAGE = 100

export interface CloseDependencies {
  readonly pool: Pool
  readonly ledger: Pick<Ledger, 'append'>
  readonly metrics: Metrics
  readonly logger: Pick<Logger, 'error'>
  readonly now: () => Date
}

/** Closes what is due and appends what is closed; safe to run twice and beside itself. */
export async function closeIntervals(dependencies: CloseDependencies): Promise<void> {
  const { pool, now } = dependencies
  const untilMs = now().getTime() - CLOSE_AFTER_MS
  for (const series of await openSeries(pool, untilMs)) await closeSeries(dependencies, series, untilMs)
  for (;;) {
    const intervals = await unappendedIntervals(pool, APPEND_PAGE)
    for (const interval of intervals) await appendInterval(dependencies, interval)
    if (intervals.length < APPEND_PAGE) return
  }
}

async function closeSeries(
  { pool, metrics, now }: CloseDependencies,
  series: OpenSeries,
  untilMs: number,
): Promise<void> {
  let startMs = series.nextIntervalMs
  for (let count = 0; count < INTERVALS_PER_RUN_MAX && startMs + INTERVAL_MS <= untilMs; count++) {
    const closed = await decide(pool, series, { startMs, endMs: startMs + INTERVAL_MS })
    if (closed === undefined) {
      const nextMs = await nextSampleMs(pool, series, startMs)
      if (nextMs === undefined) return
      // A series begins again as it began: with the minute of its first look.
      startMs = Math.max(startMs + INTERVAL_MS, Math.floor(nextMs / INTERVAL_MS) * INTERVAL_MS)
      await skipTo(pool, series, startMs)
      continue
    }
    if (await closeInterval(pool, closed, now())) {
      const { target } = series
      metrics.gpuSeconds.inc({ target, kind: 'attributed' }, seconds(closed.attributedUs))
      metrics.gpuSeconds.inc({ target, kind: 'unattributed' }, seconds(closed.unattributedUs))
      metrics.gpuSeconds.inc({ target, kind: 'idle' }, seconds(closed.idleUs))
      metrics.gpuSeconds.inc({ target, kind: 'unknown' }, seconds(closed.unknownUs))
    }
    startMs += INTERVAL_MS
  }
}

/** Measures an interval and hands it out; undefined when no GPU was expected in it. */
async function decide(
  pool: Pool,
  series: OpenSeries,
  interval: GpuInterval,
): Promise<ClosedInterval | undefined> {
  const samples = await samplesOf(pool, series, interval)
  let gpus = 0
  let busyUs = 0n
  let idleUs = 0n
  let unknownUs = 0n
  for (const ofGpu of samples.values()) {
    const measured = measureGpuTime(interval, ofGpu)
    const isNew = (ofGpu[0]?.atMs ?? 0) >= interval.endMs
    // Of a GPU that shows up after the interval nothing was expected in it.
    if (isNew && measured.busyUs + measured.idleUs === 0n) continue
    gpus++
    busyUs += measured.busyUs
    idleUs += measured.idleUs
    unknownUs += measured.unknownUs
  }
  if (gpus === 0) return undefined
  const calls = await callsOf(pool, series, interval)
  const attribution = attributeGpuTime(interval, busyUs, calls)
  const startedAt = new Date(interval.startMs)
  return {
    organizationId: series.organizationId,
    target: series.target,
    provider: series.provider,
    model: series.model,
    startedAt,
    gpus,
    calls: calls.length,
    attributedUs: busyUs - attribution.unattributedUs,
    unattributedUs: attribution.unattributedUs,
    idleUs,
    unknownUs,
    served: await servedTokens(pool, series, interval),
    events: intervalEvents(series, startedAt, attribution, idleUs),
  }
}

async function appendInterval(
  { pool, ledger, logger, now }: CloseDependencies,
  interval: UnappendedInterval,
): Promise<void> {
  const receipt = { nowMs: now().getTime(), newEventId: () => '' }
  const events = interval.events.map((json): IncomingEvent => {
    const parsed = parseUsageEvent(json, receipt)
    if (parsed.ok) return parsed
    throw new Error(
      `GPU time became an event that is none: ${parsed.issues.map(({ path, message }) => `${path} ${message}`).join('; ')}`,
    )
  })
  const outcomes = await ledger.append(interval.organizationId, events)
  const conflicts = outcomes.filter((outcome) => outcome === 'conflict').length
  if (conflicts > 0) {
    // Nobody but this file makes these ids. Trying again would not help, and hold up all that follows.
    logger.error(
      { target: interval.target, startedAt: interval.startedAt, conflicts },
      'ids of GPU time are taken by other events, which stand',
    )
  }
  await markAppended(pool, interval, now())
}
