import { once } from 'node:events'
import type { PoolClient } from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { byteaArray, textArray, timestamptzArray, uuidArray } from '../database/binary-array.ts'
import { PRICE_BOOK_LOCK } from '../pricing/index.ts'
import { copyFields } from './copy-text.ts'
import { type DimensionValues, ROLLED_UP_COLUMNS } from './dimension-set.ts'
import { LEDGER_COLUMNS, type LedgerEntry, ledgerFields } from './ledger-row.ts'

/**
 * One ingestion transaction: claim the keys, copy the events whose keys were free, note the batch, commit.
 * All of it happens or nothing.
 */

/** How an entry fared, with the hash of the event that holds its id where that is another one. */
export interface EntryOutcome {
  readonly outcome: AppendOutcome
  readonly standingHash?: Buffer
}

/** How one event fared. `conflict`: its id is taken by an event with other content, and the first stands. */
export type AppendOutcome = 'accepted' | 'duplicate' | 'conflict'

/** The rating book changed between rating and appending: rate again with this revision. */
export class RatingBookChanged extends Error {
  override readonly name = 'RatingBookChanged'
  readonly revision: number

  constructor(revision: number) {
    super(`the rating book is at revision ${revision} now`)
    this.revision = revision
  }
}

export interface AppendBatch {
  /** Entries with distinct (organization, event id). */
  readonly entries: readonly LedgerEntry[]
  /** The rating book's revision that the entries were rated with. */
  readonly ratingBookRevision: number
  /** Dimension sets that may not be stored yet. */
  readonly newDimensionSets: readonly { organizationId: string; id: string; values: DimensionValues }[]
}

// "order by": two transactions that claim the same keys meet in the same order and cannot deadlock.
const CLAIM = `
  insert into event_key (organization_id, event_id, content_hash, ts, batch_id)
  select organization_id, event_id, content_hash, ts, $5
  from unnest($1::uuid[], $2::text[], $3::bytea[], $4::timestamptz[])
    as incoming (organization_id, event_id, content_hash, ts)
  order by organization_id, event_id
  on conflict (organization_id, event_id) do nothing`

const FIND_REPEATS = `
  select event_key.organization_id, event_key.event_id, event_key.content_hash as standing_hash
  from unnest($1::uuid[], $2::text[]) as incoming (organization_id, event_id)
  join event_key using (organization_id, event_id)
  where event_key.batch_id <> $3`

const COPY_EVENTS = `copy usage_event (${LEDGER_COLUMNS.join(', ')}, batch_id, received_at) from stdin`

const NOTE_BATCH = `
  insert into ledger_batch (organization_id, batch_id, event_count, ts_min, ts_max)
  select organization_id, $5, event_count, ts_min, ts_max
  from unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::timestamptz[])
    as batch (organization_id, event_count, ts_min, ts_max)`

const STORE_DIMENSION_SETS = `
  insert into dimension_set (organization_id, dimension_set_id, ${ROLLED_UP_COLUMNS.join(', ')})
  select *
  from unnest($1::uuid[], $2::uuid[], ${ROLLED_UP_COLUMNS.map((_, index) => `$${index + 3}::text[]`).join(', ')})
  on conflict do nothing`

const preparedConnections = new WeakSet<PoolClient>()

/**
 * Appends a batch in one transaction and resolves after its commit.
 *
 * @param client a connection of its own; on any error the caller must discard it
 * @returns the outcome of each entry, in order
 * @throws RatingBookChanged when the entries must be rated again; nothing was written
 */
export async function appendBatch(
  client: PoolClient,
  batch: AppendBatch,
  receivedAt: Date,
): Promise<readonly EntryOutcome[]> {
  await prepareConnection(client)
  const { batchId, revision } = await begin(client)
  if (revision !== batch.ratingBookRevision) {
    await client.query('rollback')
    throw new RatingBookChanged(revision)
  }
  const outcomes = await write(client, batch, batchId, receivedAt)
  await client.query('commit')
  return outcomes
}

/**
 * Appends a batch within the caller's transaction, whatever the rating book's revision is by now: for entries
 * that mend others. The months of the entries must have their partitions (`ensure_usage_partition`).
 *
 * @returns the outcome of each entry, in order
 */
export async function appendWithin(
  client: PoolClient,
  batch: Omit<AppendBatch, 'ratingBookRevision'>,
  receivedAt: Date,
): Promise<readonly EntryOutcome[]> {
  await prepareConnection(client)
  const { rows } = await client.query<{ batch_id: string }>(
    "select nextval('ledger_batch_id')::text as batch_id",
  )
  return write(client, batch, rows[0]?.batch_id ?? '', receivedAt)
}

/** Late events may fall into compressed chunks. Without TimescaleDB this is a setting that nobody reads. */
async function prepareConnection(client: PoolClient): Promise<void> {
  if (preparedConnections.has(client)) return
  await client.query('set timescaledb.max_tuples_decompressed_per_dml_transaction = 0')
  preparedConnections.add(client)
}

async function write(
  client: PoolClient,
  batch: Omit<AppendBatch, 'ratingBookRevision'>,
  batchId: string,
  receivedAt: Date,
): Promise<readonly EntryOutcome[]> {
  await storeDimensionSets(client, batch.newDimensionSets)
  const outcomes = await claim(client, batch.entries, batchId)
  const claimed = batch.entries.filter((_, index) => outcomes[index]?.outcome === 'accepted')
  if (claimed.length > 0) {
    await copyEntries(client, claimed, batchId, receivedAt)
    await noteBatch(client, claimed, batchId)
  }
  return outcomes
}

async function begin(client: PoolClient): Promise<{ batchId: string; revision: number }> {
  // One round trip. The lock comes first and in a statement of its own: what follows then sees a price
  // change that had to be waited for.
  const results: unknown = await client.query(
    `begin;
     select pg_advisory_xact_lock_shared(${PRICE_BOOK_LOCK});
     select nextval('ledger_batch_id')::text as batch_id, coalesce((select revision from price_book), 0)::int as revision`,
  )
  const last: unknown = Array.isArray(results) ? results.at(-1) : undefined
  if (typeof last === 'object' && last !== null && 'rows' in last && Array.isArray(last.rows)) {
    const row: unknown = last.rows[0]
    if (typeof row === 'object' && row !== null && 'batch_id' in row && 'revision' in row) {
      return { batchId: String(row.batch_id), revision: Number(row.revision) }
    }
  }
  throw new Error('the database answered the start of a transaction in an unknown form')
}

async function storeDimensionSets(client: PoolClient, sets: AppendBatch['newDimensionSets']): Promise<void> {
  if (sets.length === 0) return
  const sorted = sets.toSorted((a, b) => (a.organizationId + a.id < b.organizationId + b.id ? -1 : 1))
  await client.query(STORE_DIMENSION_SETS, [
    sorted.map((set) => set.organizationId),
    sorted.map((set) => set.id),
    ...ROLLED_UP_COLUMNS.map((_, index) => sorted.map((set) => set.values[index] ?? null)),
  ])
}

/** Takes the ids that are free. The transaction of whoever holds the others is waited for. */
async function claim(
  client: PoolClient,
  entries: readonly LedgerEntry[],
  batchId: string,
): Promise<readonly EntryOutcome[]> {
  const organizationIds = uuidArray(entries.map((entry) => entry.organizationId))
  const eventIds = textArray(entries.map((entry) => entry.event.eventId))
  const claimed = await client.query(CLAIM, [
    organizationIds,
    eventIds,
    byteaArray(entries.map((entry) => entry.contentHash)),
    timestamptzArray(entries.map((entry) => entry.event.tsMs)),
    batchId,
  ])
  if (claimed.rowCount === entries.length) return entries.map(() => ACCEPTED)

  const repeats = await client.query<{ organization_id: string; event_id: string; standing_hash: Buffer }>(
    FIND_REPEATS,
    [organizationIds, eventIds, batchId],
  )
  const standing = new Map(
    repeats.rows.map((row) => [entryKey(row.organization_id, row.event_id), row.standing_hash]),
  )
  return entries.map((entry) => {
    const standingHash = standing.get(entryKey(entry.organizationId, entry.event.eventId))
    if (standingHash === undefined) return ACCEPTED
    return { outcome: standingHash.equals(entry.contentHash) ? 'duplicate' : 'conflict', standingHash }
  })
}

const ACCEPTED: EntryOutcome = { outcome: 'accepted' }

/** Rows are handed to the connection in pieces of about this size. */
const COPY_CHUNK_CHARS = 256 * 1024

async function copyEntries(
  client: PoolClient,
  entries: readonly LedgerEntry[],
  batchId: string,
  receivedAt: Date,
): Promise<void> {
  const stream = client.query(copyFrom(COPY_EVENTS))
  const finished = once(stream, 'finish')
  const rest = copyFields([batchId, receivedAt.toISOString()])
  let chunk = ''
  for (const entry of entries) {
    chunk += `${ledgerFields(entry)}\t${rest}\n`
    if (chunk.length < COPY_CHUNK_CHARS) continue
    if (!stream.write(chunk)) await Promise.race([once(stream, 'drain'), finished])
    chunk = ''
  }
  stream.end(chunk)
  await finished
}

/** Tells the rollups what there is to add, organization by organization. */
async function noteBatch(
  client: PoolClient,
  entries: readonly LedgerEntry[],
  batchId: string,
): Promise<void> {
  const notes = new Map<string, { count: number; minMs: number; maxMs: number }>()
  for (const { organizationId, event } of entries) {
    const note = notes.get(organizationId)
    if (note === undefined) notes.set(organizationId, { count: 1, minMs: event.tsMs, maxMs: event.tsMs })
    else {
      note.count += 1
      note.minMs = Math.min(note.minMs, event.tsMs)
      note.maxMs = Math.max(note.maxMs, event.tsMs)
    }
  }
  const values = [...notes.values()]
  await client.query(NOTE_BATCH, [
    uuidArray([...notes.keys()]),
    values.map((note) => note.count),
    timestamptzArray(values.map((note) => note.minMs)),
    timestamptzArray(values.map((note) => note.maxMs)),
    batchId,
  ])
}

/** Tells entries apart inside one batch. */
export function entryKey(organizationId: string, eventId: string): string {
  return `${organizationId} ${eventId}`
}
