import type { DatabaseSync } from 'node:sqlite'
import { setImmediate } from 'node:timers/promises'
import {
  decimalText,
  parseUsageEvent,
  type RatingStatus,
  rate,
  type UsageEvent,
  type UsageEventJson,
} from '@tokentally/core'
import { columnsOf } from './local-file.ts'
import { bundledPriceBook, priceEdition } from './local-prices.ts'

/** What an event cost at list price. */
export interface LocalRating {
  readonly eventId: string
  readonly listCostUsd: string
  readonly status: RatingStatus
}

/** A stored event. */
export interface StoredUsage {
  /** As it was metered: the wire form of a usage event. */
  readonly event: UsageEventJson
  readonly rating: LocalRating
}

const LOCAL_ORGANIZATION = 'local'
const SLICE_ROWS = 500

/**
 * Rates the events of a range that have no rating yet, or none by these prices, and hands them to `keep` in
 * slices; between two slices the process may do other things. A full rating is frozen and never made again.
 *
 * @param startMs included @param endMs excluded, UTC milliseconds
 */
export async function rateUnrated(
  database: DatabaseSync,
  { startMs, endMs }: { readonly startMs: number; readonly endMs: number },
  keep: (ratings: readonly LocalRating[]) => void,
): Promise<void> {
  const edition = priceEdition()
  const ratedBy = columnsOf(database).has('rated_by') ? 'rated_by' : 'null'
  const slice = database.prepare(`
    select rowid, ts_ms, event_id, json
    from usage_event
    where ts_ms >= ?1 and ts_ms < ?2 and (ts_ms, rowid) > (?1, ?3)
      and (rating_status is null or (rating_status <> 'rated' and ${ratedBy} is not ?4))
    order by ts_ms, rowid
    limit ${SLICE_ROWS}`)
  let afterMs = startMs
  let afterRow = -1
  for (;;) {
    const rows = slice.all(afterMs, endMs, afterRow, edition)
    const last = rows.at(-1)
    if (last === undefined) return
    const rateJson = await localRater()
    keep(rows.map((row) => rateJson(String(row['event_id']), String(row['json']))))
    afterMs = Number(last['ts_ms'])
    afterRow = Number(last['rowid'])
    await setImmediate()
  }
}

/** Rates one stored event by the bundled list prices. */
export async function localRater(): Promise<(eventId: string, json: string) => LocalRating> {
  const book = await bundledPriceBook()
  return (eventId, json) => {
    const event = readEvent(json)
    if (event === undefined) return { eventId, listCostUsd: '0', status: 'unpriced' }
    const { listCostUsd, status } = rate(LOCAL_ORGANIZATION, event, book)
    return { eventId, listCostUsd: decimalText(listCostUsd), status }
  }
}

/** @returns undefined for an event that this version does not understand */
function readEvent(json: string): UsageEvent | undefined {
  const parsed = parseUsageEvent(JSON.parse(json), {
    nowMs: Number.MAX_SAFE_INTEGER,
    newEventId: () => '',
  })
  return parsed.ok ? parsed.event : undefined
}
