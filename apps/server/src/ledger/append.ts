import { once } from 'node:events'
import type { PoolClient } from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { PRICE_BOOK_LOCK } from '../pricing/index.ts'
import { type DimensionValues, ROLLED_UP_COLUMNS } from './dimension-set.ts'
import { LEDGER_COLUMNS, type LedgerEntry, ledgerRow } from './ledger-row.ts'

/**
 * One ingestion transaction: copy to a staging table, claim the keys, append what was claimed, note the
 * batch, commit. All of it happens or nothing.
 */

/** How an entry fared, with the hash of the event that holds its id where that is another one. */
export interface EntryOutcome {
  readonly outcome: AppendOutcome
  readonly standingHash?: Buffer
}

/** How one event fared. `conflict`: its id is taken by an event with other content, and the first stands. */
export type AppendOutcome = 'accepted' | 'duplicate' | 'conflict'

/** The price book changed between rating and appending: rate again with this revision. */
export class PriceBookChanged extends Error {
  override readonly name = 'PriceBookChanged'
  readonly revision: number

  constructor(revision: number) {
    super(`the price book is at revision ${revision} now`)
    this.revision = revision
  }
}

export interface AppendBatch {
  /** Entries with distinct (organization, event id). */
  readonly entries: readonly LedgerEntry[]
  /** The price book's revision that the entries were rated with. */
  readonly priceBookRevision: number
  /** Dimension sets that may not be stored yet. */
  readonly newDimensionSets: readonly { organizationId: string; id: string; values: DimensionValues }[]
}

const COLUMNS = LEDGER_COLUMNS.join(', ')
const INCOMING_COLUMNS = `content_hash, ${COLUMNS}`

// Dropped with the connection; emptied by each commit.
const CREATE_INCOMING = `
  create temporary table if not exists incoming on commit delete rows as
  select null::bytea as content_hash, ${COLUMNS} from usage_event with no data`

// "order by": two transactions that claim the same keys meet in the same order and cannot deadlock.
const CLAIM_AND_APPEND = `
  with claimed as (
    insert into event_key (organization_id, event_id, content_hash, ts, batch_id)
    select organization_id, event_id, content_hash, ts, $1
    from incoming
    order by organization_id, event_id
    on conflict (organization_id, event_id) do nothing
    returning organization_id, event_id
  ), appended as (
    insert into usage_event (${COLUMNS}, batch_id, received_at)
    select ${LEDGER_COLUMNS.map((column) => `incoming.${column}`).join(', ')}, $1, $2
    from incoming
    join claimed using (organization_id, event_id)
    returning organization_id, ts
  )
  insert into ledger_batch (organization_id, batch_id, event_count, ts_min, ts_max)
  select organization_id, $1, count(*), min(ts), max(ts)
  from appended
  group by organization_id
  returning event_count`

const FIND_REPEATS = `
  select incoming.organization_id, incoming.event_id, event_key.content_hash as standing_hash
  from incoming
  join event_key using (organization_id, event_id)
  where event_key.batch_id <> $1`

const STORE_DIMENSION_SETS = `
  insert into dimension_set (organization_id, dimension_set_id, ${ROLLED_UP_COLUMNS.join(', ')})
  select *
  from unnest($1::uuid[], $2::uuid[], ${ROLLED_UP_COLUMNS.map((_, index) => `$${index + 3}::text[]`).join(', ')})
  on conflict do nothing`

const connectionsWithStaging = new WeakSet<PoolClient>()

/**
 * Appends a batch in one transaction and resolves after its commit.
 *
 * @param client a connection of its own; on any error the caller must discard it
 * @returns the outcome of each entry, in order
 * @throws PriceBookChanged when the entries must be rated again; nothing was written
 */
export async function appendBatch(
  client: PoolClient,
  batch: AppendBatch,
  receivedAt: Date,
): Promise<readonly EntryOutcome[]> {
  if (!connectionsWithStaging.has(client)) {
    await client.query(CREATE_INCOMING)
    // Late events may fall into compressed chunks. Without TimescaleDB this is a setting that nobody reads.
    await client.query('set timescaledb.max_tuples_decompressed_per_dml_transaction = 0')
    connectionsWithStaging.add(client)
  }
  const { batchId, revision } = await begin(client)
  if (revision !== batch.priceBookRevision) {
    await client.query('rollback')
    throw new PriceBookChanged(revision)
  }

  await storeDimensionSets(client, batch.newDimensionSets)
  await copyEntries(client, batch.entries)
  const batches = await client.query<{ event_count: number }>(CLAIM_AND_APPEND, [batchId, receivedAt])
  const appended = batches.rows.reduce((sum, row) => sum + row.event_count, 0)
  const outcomes =
    appended === batch.entries.length
      ? batch.entries.map((): EntryOutcome => ({ outcome: 'accepted' }))
      : await outcomesWithRepeats(client, batch.entries, batchId)
  await client.query('commit')
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

/** Rows are handed to the connection in pieces of about this size. */
const COPY_CHUNK_CHARS = 256 * 1024

async function copyEntries(client: PoolClient, entries: readonly LedgerEntry[]): Promise<void> {
  const stream = client.query(copyFrom(`copy incoming (${INCOMING_COLUMNS}) from stdin`))
  const finished = once(stream, 'finish')
  let chunk = ''
  for (const entry of entries) {
    chunk += ledgerRow(entry)
    if (chunk.length < COPY_CHUNK_CHARS) continue
    if (!stream.write(chunk)) await Promise.race([once(stream, 'drain'), finished])
    chunk = ''
  }
  stream.end(chunk)
  await finished
}

async function outcomesWithRepeats(
  client: PoolClient,
  entries: readonly LedgerEntry[],
  batchId: string,
): Promise<readonly EntryOutcome[]> {
  const repeats = await client.query<{ organization_id: string; event_id: string; standing_hash: Buffer }>(
    FIND_REPEATS,
    [batchId],
  )
  const standing = new Map(
    repeats.rows.map((row) => [entryKey(row.organization_id, row.event_id), row.standing_hash]),
  )
  return entries.map((entry) => {
    const standingHash = standing.get(entryKey(entry.organizationId, entry.event.eventId))
    if (standingHash === undefined) return { outcome: 'accepted' }
    return { outcome: standingHash.equals(entry.contentHash) ? 'duplicate' : 'conflict', standingHash }
  })
}

/** Tells entries apart inside one batch. */
export function entryKey(organizationId: string, eventId: string): string {
  return `${organizationId} ${eventId}`
}
