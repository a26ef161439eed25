import { createHash } from 'node:crypto'
import type { GpuAttribution, UsageEventJson } from '@tokentally/core'
import type { Series } from './series.ts'

/** Operations of the events that GPU time becomes; one each, so that every report can tell them apart. */
export const GPU_OPERATION = 'gpu'
/** Busy without a call that is known: somebody used the GPU who is not metered. */
export const GPU_UNATTRIBUTED_OPERATION = 'gpu_unattributed'
export const GPU_IDLE_OPERATION = 'gpu_idle'
export const GPU_OPERATIONS: readonly string[] = [
  GPU_OPERATION,
  GPU_UNATTRIBUTED_OPERATION,
  GPU_IDLE_OPERATION,
]

/**
 * Whom GPU time is attributed to: the dimensions that rollups keep. Users, conversations and tags have so many
 * values that there would be about as many events of GPU time as there are calls.
 */
export const ATTRIBUTED_COLUMNS = [
  'customer_id',
  'team_id',
  'project_id',
  'business_unit',
  'cost_center',
  'feature',
  'agent',
  'environment',
] as const

/** Values of those columns, in their order. */
export type Attribution = readonly (string | null)[]

/** The key of an attribution, as the hand-out takes it. */
export function attributionKey(attribution: Attribution): string {
  return JSON.stringify(attribution)
}

/**
 * The usage events of a closed interval. Their ids follow from the series, the minute and the attribution, so
 * that the same interval can never count twice.
 */
export function intervalEvents(
  series: Series,
  startedAt: Date,
  { shares, unattributedUs }: GpuAttribution,
  idleUs: bigint,
): readonly UsageEventJson[] {
  const event = (
    operation: string,
    meter: string,
    us: bigint,
    key: string,
    attribution: Partial<UsageEventJson> = {},
  ): UsageEventJson => ({
    event_id: eventId(series, startedAt, operation, key),
    ts: startedAt.toISOString(),
    ...attribution,
    provider: series.provider,
    model: series.model,
    operation,
    // No request: the price of a call, where the model has one, is not due for its GPU time.
    meters: { [meter]: seconds(us), requests: 0 },
  })
  const events = shares.map(({ key, busyUs }) =>
    event(GPU_OPERATION, 'gpu_seconds', busyUs, key, attributionOf(key)),
  )
  if (unattributedUs > 0n) {
    events.push(event(GPU_UNATTRIBUTED_OPERATION, 'gpu_seconds', unattributedUs, ''))
  }
  if (idleUs > 0n) events.push(event(GPU_IDLE_OPERATION, 'gpu_idle_seconds', idleUs, ''))
  return events
}

/**
 * Whole microseconds as seconds. The nearest double of up to 15 digits prints as the decimal it stands for, and
 * a minute of a million GPUs in microseconds has 14.
 */
export function seconds(us: bigint): number {
  return Number(us) / 1_000_000
}

function eventId(series: Series, startedAt: Date, operation: string, key: string): string {
  const minute = startedAt.toISOString().slice(0, 16).replaceAll(/[-:]/g, '')
  const what = JSON.stringify([series.provider, series.model, operation, key])
  const digest = createHash('sha256').update(what).digest('hex').slice(0, 32)
  return `gpu-${series.target}-${minute}Z-${digest}`
}

function attributionOf(key: string): Partial<UsageEventJson> {
  const values: unknown = JSON.parse(key)
  if (!Array.isArray(values)) throw new Error('an attribution is an array of values')
  return Object.fromEntries(
    ATTRIBUTED_COLUMNS.flatMap((column, index) => {
      const value: unknown = values[index]
      return typeof value === 'string' ? [[column, value]] : []
    }),
  )
}
