import { type FieldIssue, parseUsageEvent } from '@tokentally/core'
import { Problem } from '../http/problem.ts'
import { type IncomingEvent, type Ledger, LedgerBusy } from '../ledger/index.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { Unreadable } from './unreadable.ts'

/** An event that was refused; its neighbours are not affected. */
export interface Rejected {
  readonly index: number
  readonly event_id?: string
  readonly errors: readonly FieldIssue[]
  /** Its id is taken by an event with other content. Not sent to callers. */
  readonly isConflict: boolean
}

export interface Submission {
  readonly accepted: number
  readonly duplicates: number
  readonly rejected: readonly Rejected[]
}

export interface SubmitDependencies {
  readonly ledger: Pick<Ledger, 'append'>
  readonly metrics: Metrics
  readonly now: () => Date
  readonly newEventId: () => string
}

/** Who sends events, by which key. */
export interface Sender {
  readonly organizationId: string
  readonly apiKeyId: string
}

/**
 * Checks events and appends the good ones; resolves after the commit.
 *
 * @throws Problem `too-many-requests` or `unavailable` when nothing could be stored; try again later
 */
export async function submit(
  { ledger, metrics, now, newEventId }: SubmitDependencies,
  { organizationId, apiKeyId }: Sender,
  inputs: readonly unknown[],
): Promise<Submission> {
  const receipt = { nowMs: now().getTime(), newEventId }
  const good: IncomingEvent[] = []
  const goodIndexes: number[] = []
  const rejected: Rejected[] = []
  inputs.forEach((input, index) => {
    if (input instanceof Unreadable) {
      rejected.push({ index, errors: input.issues, isConflict: false })
      return
    }
    const parsed = parseUsageEvent(input, receipt)
    if (parsed.ok) {
      good.push({ event: parsed.event, contentHash: parsed.contentHash, apiKeyId })
      goodIndexes.push(index)
    } else {
      rejected.push({
        index,
        ...(parsed.eventId !== undefined && { event_id: parsed.eventId }),
        errors: parsed.issues,
        isConflict: false,
      })
    }
  })
  metrics.rejectedEvents.inc({ reason: 'invalid' }, rejected.length)

  const outcomes = await append(ledger, organizationId, good)
  let accepted = 0
  let duplicates = 0
  outcomes.forEach((outcome, position) => {
    if (outcome === 'accepted') accepted++
    else if (outcome === 'duplicate') duplicates++
    else {
      const eventId = good[position]?.event.eventId
      rejected.push({
        index: goodIndexes[position] ?? 0,
        ...(eventId !== undefined && { event_id: eventId }),
        errors: [{ path: 'event_id', message: 'belongs to an event with other content, which stands' }],
        isConflict: true,
      })
    }
  })
  const conflicts = rejected.filter((event) => event.isConflict).length
  metrics.rejectedEvents.inc({ reason: 'conflict' }, conflicts)
  return { accepted, duplicates, rejected: rejected.sort((a, b) => a.index - b.index) }
}

/**
 * Appends to the ledger.
 *
 * @throws Problem `too-many-requests` or `unavailable` when nothing could be stored; try again later
 */
export async function append(
  ledger: Pick<Ledger, 'append'>,
  organizationId: string,
  events: readonly IncomingEvent[],
) {
  try {
    return await ledger.append(organizationId, events)
  } catch (error) {
    if (!(error instanceof LedgerBusy)) throw error
    throw new Problem({
      code: error.reason === 'full' ? 'too-many-requests' : 'unavailable',
      detail:
        'The ledger cannot take the events now. Send them again later: with the same event ids they count once.',
      retryAfterS: error.retryAfterS,
      cause: error,
    })
  }
}
