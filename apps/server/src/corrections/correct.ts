import { createHash, type Hash } from 'node:crypto'
import {
  type CorrectionSums,
  CorrectionTally,
  correctionEntryId,
  type FieldIssue,
  type RatedEvent,
  type RatingBook,
} from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { inOneSnapshot, inTransaction } from '../database/transaction.ts'
import { Problem } from '../http/problem.ts'
import {
  appendWithin,
  DimensionSets,
  dimensionValuesOf,
  type LedgerEntry,
  lockForCorrection,
  type Mending,
  type RatedEventRow,
} from '../ledger/index.ts'
import type { RatingBookCache } from '../pricing/index.ts'
import { planCorrection, planText } from './plan.ts'
import { type CorrectionRequest, readSelection, requestHash, type Selection } from './request.ts'
import {
  type Correction,
  countRange,
  ensurePartitions,
  findCorrection,
  findNamedEvents,
  insertCorrection,
  insertTargets,
  type NamedEvent,
  readNamedEvents,
  readRange,
} from './store.ts'

/**
 * A correction takes events back and lets others stand in for them: for each event a reversal, and unless it is
 * void a replacement, both at the event's own time. Nothing is updated.
 *
 * A preview reads the selection page by page and adds up what would be written. Applying does the same and writes
 * each page as it goes, all in one transaction: it happens wholly or not at all. One correction of an organization
 * runs at a time, and no late rating beside it; ingestion goes on. A preview's token is a hash over all that would
 * be written: applying with it writes exactly that, or answers 409.
 */

/** Events of one correction; all of them are one transaction. */
export const EVENTS_MAX = 100_000
/** Few enough that requests beside it are not held up for long. */
const PAGE_EVENTS = 1_000
const SAMPLE_EVENTS = 10
const INVALID_SHOWN_MAX = 20

export interface CorrectionDependencies {
  readonly pool: Pool
  readonly ratingBooks: RatingBookCache
  readonly now: () => Date
  readonly newCorrectionId: () => string
  /** Called after the commit; must not throw. */
  readonly onAppended: () => void
}

/** What a correction does, or did, to the sums of one customer. */
export interface CustomerEffect {
  /** Null: events without a customer. */
  readonly customer: string | null
  readonly before: CorrectionSums
  readonly after: CorrectionSums
}

/** What a correction would do. */
export interface CorrectionPreview {
  readonly token: string
  readonly events: number
  readonly replacements: number
  readonly unchanged: number
  readonly before: CorrectionSums
  readonly after: CorrectionSums
  readonly customers: readonly CustomerEffect[]
  readonly sample: readonly { readonly before: RatedEvent; readonly after: RatedEvent | undefined }[]
}

/** Who corrects. */
export interface Corrector {
  readonly organizationId: string
  readonly apiKeyId: string
}

/**
 * Shows what a correction would do; writes nothing.
 *
 * @throws Problem `invalid-request` naming the field, also when an event would not be valid any more
 */
export async function previewCorrection(
  dependencies: CorrectionDependencies,
  { organizationId }: Corrector,
  request: CorrectionRequest,
): Promise<CorrectionPreview> {
  const { pool, ratingBooks, now, newCorrectionId } = dependencies
  const nowMs = now().getTime()
  const selection = readSelection(request.select, nowMs)
  const book = await ratingBooks.refreshIfChanged()
  const work = new Work(request, { organizationId, correctionId: newCorrectionId(), book, nowMs })
  // One snapshot, so that the preview is of one moment.
  return inOneSnapshot(pool, async (client) => {
    for await (const rows of pagesOf(client, selection, work)) work.plan(rows)
    return work.preview()
  })
}

/**
 * Applies a correction.
 *
 * @returns the correction, and whether it was applied before under the same id
 * @throws Problem `invalid-request` naming the field; `conflict` when what was previewed is no longer so, or the id
 *   belongs to another correction. Nothing is written then
 */
export async function applyCorrection(
  dependencies: CorrectionDependencies,
  { organizationId, apiKeyId }: Corrector,
  request: CorrectionRequest,
): Promise<{ readonly correction: Correction; readonly isRepeat: boolean }> {
  const { pool, ratingBooks, now, newCorrectionId } = dependencies
  const correctionId = (request.id ?? newCorrectionId()).toLowerCase()
  const hash = requestHash(request)
  // Before a connection is taken: whoever waits for the lock must not need a second one.
  const book = await ratingBooks.refreshIfChanged()
  const result = await inTransaction(pool, async (client) => {
    // First and in a statement of its own: what follows sees what was waited for.
    await lockForCorrection(client, organizationId)
    const standing = await findCorrection(client, organizationId, correctionId)
    if (standing !== undefined) {
      if (!standing.requestHash.equals(hash)) throw idTaken()
      return { correction: standing.correction, isRepeat: true }
    }
    const createdAt = now()
    const selection = readSelection(request.select, createdAt.getTime())
    const work = new Work(request, { organizationId, correctionId, book, nowMs: createdAt.getTime() })
    for await (const rows of pagesOf(client, selection, work)) {
      await writePage(client, work, work.plan(rows), createdAt)
    }
    const { token, customers: _, sample: __, ...effect } = work.preview()
    if (request.preview_token !== undefined && request.preview_token !== token) throw notAsPreviewed()
    if (effect.events === 0) throw nothingToDo()
    const { reason, select, change } = request
    const correction = { id: correctionId, reason, apiKeyId, select, change, createdAt, ...effect }
    await insertCorrection(client, organizationId, correction, hash)
    return { correction, isRepeat: false }
  })
  if (!result.isRepeat) dependencies.onAppended()
  return result
}

interface Corrected {
  readonly row: RatedEventRow
  readonly before: RatedEvent
  readonly after: RatedEvent | undefined
}

interface WorkContext {
  readonly organizationId: string
  readonly correctionId: string
  readonly book: RatingBook
  readonly nowMs: number
}

/** What a correction does, page by page. */
class Work {
  readonly context: WorkContext
  readonly dimensionSets = new DimensionSets()
  readonly #change: CorrectionRequest['change']
  readonly #hash: Hash
  readonly #before = new CorrectionTally()
  readonly #after = new CorrectionTally()
  readonly #customers = new Map<string | null, { before: CorrectionTally; after: CorrectionTally }>()
  readonly #sample: Corrected[] = []
  #events = 0
  #replacements = 0
  #unchanged = 0

  constructor(request: CorrectionRequest, context: WorkContext) {
    this.context = context
    this.#change = request.change
    this.#hash = createHash('sha256')
  }

  /** Decides about a page. @throws Problem naming what would not be valid */
  plan(rows: readonly RatedEventRow[]): readonly Corrected[] {
    const invalid: FieldIssue[] = []
    const corrected = rows.flatMap((row): Corrected[] => {
      const planned = planCorrection(row, this.#change, this.context)
      if (planned.kind === 'unchanged') this.#unchanged++
      if (planned.kind === 'invalid') {
        for (const { path, message } of planned.issues) {
          invalid.push({ path: `change.set.${path}`, message: `${message} (event ${row.event_id})` })
        }
      }
      if (planned.kind !== 'corrected') return []
      const { before, after } = planned
      this.#hash.update(planText(row.event_id, after))
      this.#note(before, after)
      const one = { row, before, after }
      if (this.#sample.length < SAMPLE_EVENTS) this.#sample.push(one)
      return [one]
    })
    if (invalid.length > 0) {
      throw new Problem({
        code: 'invalid-request',
        detail: 'With this change an event would not be valid. Nothing was corrected.',
        errors: invalid.slice(0, INVALID_SHOWN_MAX),
      })
    }
    return corrected
  }

  #note(before: RatedEvent, after: RatedEvent | undefined): void {
    this.#events++
    this.#before.add(before)
    this.#customer(before).before.add(before)
    if (after === undefined) return
    this.#replacements++
    this.#after.add(after)
    this.#customer(after).after.add(after)
  }

  #customer({ event }: RatedEvent): { before: CorrectionTally; after: CorrectionTally } {
    const key = event.customer ?? null
    let customer = this.#customers.get(key)
    if (customer === undefined) {
      customer = { before: new CorrectionTally(), after: new CorrectionTally() }
      this.#customers.set(key, customer)
    }
    return customer
  }

  preview(): CorrectionPreview {
    return {
      token: this.#hash.copy().digest('base64url'),
      events: this.#events,
      replacements: this.#replacements,
      unchanged: this.#unchanged,
      before: this.#before.sums(),
      after: this.#after.sums(),
      customers: [...this.#customers]
        .sort(([a], [b]) => ((a ?? '') < (b ?? '') ? -1 : 1))
        .map(([customer, { before, after }]) => ({ customer, before: before.sums(), after: after.sums() })),
      sample: this.#sample,
    }
  }
}

async function* pagesOf(
  client: PoolClient,
  selection: Selection,
  { context }: Work,
): AsyncGenerator<readonly RatedEventRow[]> {
  const { organizationId, correctionId } = context
  if (selection.kind === 'ids') {
    const named = await findNamedEvents(client, organizationId, selection.eventIds)
    refuseWhatDoesNotStand(selection.eventIds, named)
    for (let start = 0; start < named.length; start += PAGE_EVENTS) {
      yield await readNamedEvents(client, organizationId, named.slice(start, start + PAGE_EVENTS))
    }
    return
  }
  const range = { organizationId, correctionId, selection }
  if ((await countRange(client, range, EVENTS_MAX + 1)) > EVENTS_MAX) throw tooMany()
  let after: RatedEventRow | undefined
  let events = 0
  do {
    const rows: readonly RatedEventRow[] = await readRange(client, range, { after, limit: PAGE_EVENTS })
    // Events may arrive in the range meanwhile.
    events += rows.length
    if (events > EVENTS_MAX) throw tooMany()
    if (rows.length > 0) yield rows
    after = rows.length < PAGE_EVENTS ? undefined : rows.at(-1)
  } while (after !== undefined)
}

async function writePage(
  client: PoolClient,
  { context, dimensionSets }: Work,
  corrected: readonly Corrected[],
  createdAt: Date,
): Promise<void> {
  if (corrected.length === 0) return
  const { organizationId, correctionId } = context
  const newSets = new Map<string, ReturnType<typeof dimensionValuesOf>>()
  const entryOf = (
    { event, rating, sale }: RatedEvent,
    row: RatedEventRow,
    kind: Mending['kind'],
  ): LedgerEntry => {
    const values = dimensionValuesOf(event)
    const { id, isStored } = dimensionSets.identify(organizationId, values)
    if (!isStored) newSets.set(id, values)
    const eventId = correctionEntryId(correctionId, kind, row.event_id)
    return {
      organizationId,
      event: { ...event, eventId },
      contentHash: createHash('sha256').update(eventId).digest(),
      dimensionSetId: id,
      rating,
      sale,
      // Whoever sent the event used it: limits by key are for them, not for whoever mends.
      apiKeyId: row.api_key_id ?? undefined,
      mends: { kind, eventId: row.event_id, correctionId },
    }
  }
  const entries = corrected.flatMap(({ row, before, after }) => [
    entryOf(before, row, 'reversal'),
    ...(after === undefined ? [] : [entryOf(after, row, 'replacement')]),
  ])
  await ensurePartitions(
    client,
    corrected.map(({ row }) => row.ts),
  )
  await insertTargets(
    client,
    { organizationId, correctionId },
    corrected.map(({ row, after }) => ({ eventId: row.event_id, replacementId: after?.event.eventId })),
  )
  const sets = [...newSets].map(([id, values]) => ({ organizationId, id, values }))
  const outcomes = await appendWithin(client, { entries, newDimensionSets: sets }, createdAt)
  if (outcomes.some(({ outcome }) => outcome !== 'accepted')) throw idTaken()
  dimensionSets.remember(organizationId, newSets.values())
}

function refuseWhatDoesNotStand(eventIds: readonly string[], named: readonly NamedEvent[]): void {
  const byId = new Map(named.map((event) => [event.eventId, event]))
  const errors = eventIds.flatMap((eventId, index): FieldIssue[] => {
    const event = byId.get(eventId)
    const path = `select.event_ids.${index}`
    const shown = JSON.stringify(eventId)
    if (event === undefined) return [{ path, message: `there is no event ${shown}` }]
    if (event.isReversal) {
      return [{ path, message: `${shown} takes an event back; correct the one that stands in for it` }]
    }
    if (event.correctedBy !== null) {
      return [{ path, message: `${shown} was taken back by the correction ${event.correctedBy}` }]
    }
    return []
  })
  if (errors.length === 0) return
  throw new Problem({
    code: 'invalid-request',
    detail: 'Some events cannot be corrected. Nothing was corrected.',
    errors: errors.slice(0, 1_000),
  })
}

function tooMany(): Problem {
  return new Problem({
    code: 'invalid-request',
    detail: `One correction takes at most ${EVENTS_MAX} events. Nothing was corrected.`,
    errors: [
      { path: 'select', message: `selects more than ${EVENTS_MAX} events; narrow the range or the filters` },
    ],
  })
}

function nothingToDo(): Problem {
  return new Problem({
    code: 'invalid-request',
    detail: 'There is nothing to correct.',
    errors: [{ path: 'select', message: 'selects no event that this changes' }],
  })
}

function notAsPreviewed(): Problem {
  return new Problem({
    code: 'conflict',
    detail:
      'What this would do is not what the preview showed: events came, or were priced or corrected, since. Nothing was corrected; preview again.',
  })
}

function idTaken(): Problem {
  return new Problem({ code: 'conflict', detail: 'This id belongs to another correction, which stands.' })
}
