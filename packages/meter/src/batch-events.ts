import type { Dimensions, UsageEvent } from '@tokentally/core'
import type { ReadUsage, RecognizedCall, SettledUsage } from '@tokentally/providers'
import { appendApart, EVENT_ID_MAX } from './apart-events.ts'
import type { EventSink } from './event-sink.ts'

/** What of a recognized call matters when it fetches results. */
type FetchOfBatch = Pick<RecognizedCall, 'provider' | 'region' | 'resultsId'>

/**
 * Events of a batch's results. Results may be fetched any number of times, by any process: the event of a result
 * is made of the result alone, so that it is the same each time and counts once. Nothing of the fetching is in it,
 * neither its time nor its request nor whom it was for; `batchDimensions` says whom a result is for, by the name
 * that the application gave the call. See docs/decisions/2026-11-24-batch-results.md.
 */

/** What making these events needs. */
export interface BatchDependencies {
  readonly sink: EventSink
  /** UTC milliseconds. */
  readonly now: () => number
  readonly onError: (error: unknown) => void
  /** Whom a result is for, by its `custom_id`; the same in every process that may fetch it. */
  readonly batchDimensions?: ((customId: string) => Dimensions) | undefined
}

/** Appends the events of results that were just read. */
export function appendSettled(
  dependencies: BatchDependencies,
  call: FetchOfBatch,
  settled: readonly SettledUsage[],
): void {
  for (const result of settled) {
    try {
      const event = settledEvent(dependencies, call, result)
      dependencies.sink.append(event)
      if (result.usage.apart !== undefined) appendApart(dependencies.sink, event, result.usage.apart)
    } catch (error) {
      dependencies.onError(error)
    }
  }
}

function settledEvent(
  dependencies: BatchDependencies,
  call: FetchOfBatch,
  { id, operation, tsMs, customId, requestId, usage }: SettledUsage,
): UsageEvent {
  const isFailed = usage.errorType !== undefined
  const reason = isFailed ? errorCode(usage.errorType) : usage.reason
  return {
    ...(customId !== undefined && dimensionsOf(dependencies, customId)),
    eventId: `${call.provider}-${id}`.slice(0, EVENT_ID_MAX),
    tsMs: tsMs ?? batchTimes.of(call, dependencies.now()),
    provider: call.provider,
    operation,
    ...(usage.responseModel !== undefined && {
      model: usage.responseModel,
      responseModel: usage.responseModel,
    }),
    ...(usage.serviceTier !== undefined && { serviceTier: usage.serviceTier }),
    ...(call.region !== undefined && { region: call.region }),
    quantities: isFailed ? {} : (usage.quantities ?? {}),
    status: isFailed ? 'error' : 'ok',
    streamed: false,
    estimated: false,
    ...(reason !== undefined && { reason }),
    ...(usage.mismatch !== undefined && { mismatch: usage.mismatch.slice(0, MISMATCH_MAX) }),
    ...(usage.vendorUsage !== undefined && { vendorUsage: usage.vendorUsage }),
    ...(usage.reportedCostUsd !== undefined && { reportedCostUsd: usage.reportedCostUsd }),
    ...(requestId !== undefined && { providerRequestId: requestId }),
  }
}

/** The application's function may throw, and quote a `custom_id` in doing so; the result is counted all the same. */
function dimensionsOf({ batchDimensions, onError }: BatchDependencies, customId: string): Dimensions {
  try {
    return batchDimensions?.(customId) ?? {}
  } catch {
    onError(new Error('batchDimensions failed: a result of a batch is counted without dimensions'))
    return {}
  }
}

const MISMATCH_MAX = 512

/** A provider's name for a failure; whatever else stands there may be text of a prompt. */
function errorCode(errorType: string | undefined): string {
  return errorType !== undefined && /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/.test(errorType) ? errorType : 'error'
}

/** Batches whose time is remembered; beyond this many, that of the oldest is forgotten. */
const TIMES_MAX = 10_000

/**
 * When batches were made, for results that have no time of their own (Anthropic's, embeddings). Clients ask how a
 * batch stands before they fetch its results, and that answer tells. Where nobody asked, the time of the first
 * fetch stands for it.
 */
class BatchTimes {
  readonly #times = new Map<string, number>()

  /** An answer told when a batch was made. */
  add({ provider }: FetchOfBatch, { resultIds, madeAtMs }: NonNullable<ReadUsage['batch']>): void {
    for (const id of resultIds) this.#set(`${provider} ${id}`, madeAtMs)
  }

  of({ provider, resultsId }: FetchOfBatch, nowMs: number): number {
    const key = `${provider} ${resultsId ?? ''}`
    const known = this.#times.get(key)
    if (known === undefined) this.#set(key, nowMs)
    return known ?? nowMs
  }

  #set(key: string, ms: number): void {
    this.#times.set(key, ms)
    if (this.#times.size <= TIMES_MAX) return
    for (const oldest of this.#times.keys()) {
      this.#times.delete(oldest)
      return
    }
  }
}

/** Shared by all taps, as the results may be fetched through another one than how the batch stands. */
export const batchTimes = new BatchTimes()
