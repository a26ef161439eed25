import { createHash, randomUUID } from 'node:crypto'
import { type FieldIssue, parseUsageEvent, usageEventSchema } from '@tokentally/core'
import type { Pool } from 'pg'
import type { Ledger } from '../ledger/index.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { append, type Rejected } from './submit.ts'
import { Unreadable } from './unreadable.ts'

/**
 * What could not be understood is set aside, so that it can be replayed once the cause is mended.
 *
 * A dead letter holds the known fields of a usage event and nothing else: a field that does not belong there,
 * and any text that is longer than a name, may be a prompt and is left out. Bodies that are no events at all
 * are refused with a 4xx and not kept. Kept at most: 100,000 an organization and 30 days.
 */

export type Door = 'usage' | 'traces'

const KEPT_PER_ORGANIZATION_MAX = 100_000
const KEPT_DAYS = 30
/** Values longer than this are no names or ids. */
const TEXT_MAX = 512

const STORE = `
  insert into dead_letter
    (organization_id, dead_letter_id, received_at, door, event_id, content, content_hash, issues)
  select $1, letter.id, $2, $3, letter.event_id, letter.content, letter.content_hash, letter.issues
  from unnest($4::uuid[], $5::text[], $6::jsonb[], $7::bytea[], $8::jsonb[])
    as letter (id, event_id, content, content_hash, issues)
  on conflict (organization_id, content_hash) do nothing`

export interface DeadLettersDependencies {
  readonly pool: Pool
  readonly metrics: Metrics
  readonly now: () => Date
  /** The sender has its answer either way; a letter that cannot be stored is reported here. */
  readonly onError: (error: unknown) => void
}

/** Writes dead letters. */
export class DeadLetters {
  readonly #dependencies: DeadLettersDependencies

  constructor(dependencies: DeadLettersDependencies) {
    this.#dependencies = dependencies
  }

  /**
   * Keeps what was rejected of a request. Conflicts are left out: their first event stands for good. So is
   * what could not be read: there is nothing to replay. Never throws.
   *
   * @param inputs all events of the request; `rejected` points into them
   */
  async store(
    organizationId: string,
    door: Door,
    inputs: readonly unknown[],
    rejected: readonly Rejected[],
  ): Promise<void> {
    const letters = rejected.filter(
      ({ index, isConflict }) => !isConflict && !(inputs[index] instanceof Unreadable),
    )
    if (letters.length === 0) return
    const { pool, metrics, now, onError } = this.#dependencies
    try {
      const contents = letters.map(({ index }) => JSON.stringify(knownFields(inputs[index])))
      const issues = letters.map(({ errors }) => JSON.stringify(errors.map(withoutText)))
      await pool.query(STORE, [
        organizationId,
        now(),
        door,
        letters.map(() => randomUUID()),
        letters.map(({ event_id }) =>
          event_id === undefined ? null : event_id.toWellFormed().replaceAll('\0', ''),
        ),
        contents,
        contents.map((content, position) =>
          createHash('sha256').update(`${door}\n${content}\n${issues[position]}`).digest(),
        ),
        issues,
      ])
      metrics.deadLetters.inc(letters.length)
    } catch (error) {
      onError(error)
    }
  }
}

const KNOWN_FIELDS: ReadonlySet<string> = new Set(Object.keys(usageEventSchema.shape))

function knownFields(input: unknown): Record<string, unknown> {
  const known: Record<string, unknown> = {}
  if (typeof input !== 'object' || input === null) return known
  for (const [field, value] of Object.entries(input)) {
    if (!KNOWN_FIELDS.has(field)) continue
    const short = shortValue(value, 2)
    if (short !== undefined) known[field] = short
  }
  return known
}

function shortValue(value: unknown, depth: number): unknown {
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return value
  if (typeof value === 'string') {
    return value.length > TEXT_MAX ? undefined : value.toWellFormed().replaceAll('\0', '')
  }
  if (typeof value !== 'object' || depth === 0 || Array.isArray(value)) return undefined
  return Object.fromEntries(
    Object.entries(value)
      .slice(0, 50)
      .filter(([key]) => key.length <= 64 && key.isWellFormed() && !key.includes('\0'))
      .map(([key, entry]) => [key, shortValue(entry, depth - 1)]),
  )
}

/** What a field is called; anything else in its place may be a prompt. */
const FIELD_PATH = /^[\w.:/-]{1,128}$/

/** Messages are ours; the names of fields are a stranger's. */
function withoutText({ path, message }: FieldIssue): FieldIssue {
  const [field = ''] = path.split('.', 1)
  const shown = path === '' || FIELD_PATH.test(path) ? path : KNOWN_FIELDS.has(field) ? `${field}.…` : '…'
  return { path: shown, message: message.slice(0, 300) }
}

/** How a replay went. */
export interface Replay {
  readonly replayed: number
  readonly stillRejected: number
}

export interface ReplayRequest {
  /** Only letters of this organization; all when absent. */
  readonly organizationId?: string
  /** Only this letter. */
  readonly deadLetterId?: string
}

interface LetterRow {
  readonly organization_id: string
  readonly dead_letter_id: string
  readonly received_at: Date
  readonly content: unknown
}

const OPEN = `
  select organization_id, dead_letter_id, received_at, content
  from dead_letter
  where replayed_at is null
    and ($1::uuid is null or organization_id = $1)
    and ($2::uuid is null or dead_letter_id = $2)
    and (organization_id, dead_letter_id) > ($3::uuid, $4::uuid)
  order by organization_id, dead_letter_id
  limit 500`

const NIL_UUID = '00000000-0000-0000-0000-000000000000'

/**
 * Tries open dead letters again. A letter without an event id takes its own id for one and keeps its time of
 * receipt, so that a replay that is repeated counts once.
 *
 * @throws Problem when the ledger cannot take events now; what was replayed until then stays so
 */
export async function replayDeadLetters(
  { pool, ledger, now }: { pool: Pool; ledger: Pick<Ledger, 'append'>; now: () => Date },
  request: ReplayRequest = {},
): Promise<Replay> {
  let replayed = 0
  let stillRejected = 0
  let after: [string, string] = [NIL_UUID, NIL_UUID]
  for (;;) {
    const { rows } = await pool.query<LetterRow>(OPEN, [
      request.organizationId ?? null,
      request.deadLetterId ?? null,
      ...after,
    ])
    const last = rows.at(-1)
    if (last === undefined) return { replayed, stillRejected }
    after = [last.organization_id, last.dead_letter_id]
    for (const letter of rows) {
      const parsed = parseUsageEvent(withReceipt(letter), {
        nowMs: now().getTime(),
        newEventId: () => letter.dead_letter_id,
      })
      const outcome = parsed.ok ? (await append(ledger, letter.organization_id, [parsed]))[0] : undefined
      if (outcome === undefined || outcome === 'conflict') {
        stillRejected++
        continue
      }
      await pool.query(
        'update dead_letter set replayed_at = $3 where organization_id = $1 and dead_letter_id = $2',
        [letter.organization_id, letter.dead_letter_id, now()],
      )
      replayed++
    }
  }
}

function withReceipt({ content, received_at }: LetterRow): unknown {
  return typeof content === 'object' && content !== null
    ? { ts: received_at.toISOString(), ...content }
    : content
}

/** A dead letter as `GET /api/v1/dead-letters` and the command line show it. */
export interface ListedDeadLetter {
  readonly dead_letter_id: string
  readonly organization_id: string
  readonly received_at: string
  readonly door: Door
  readonly event_id: string | null
  readonly content: unknown
  readonly issues: readonly FieldIssue[]
}

/** Open dead letters, newest first. */
export async function listDeadLetters(
  pool: Pool,
  { organizationId, limit }: { organizationId: string | undefined; limit: number },
): Promise<readonly ListedDeadLetter[]> {
  const { rows } = await pool.query<Omit<ListedDeadLetter, 'received_at'> & { received_at: Date }>(
    `
  select dead_letter_id, organization_id, received_at, door, event_id, content, issues
  from dead_letter
  where replayed_at is null and ($1::uuid is null or organization_id = $1)
  order by received_at desc, dead_letter_id
  limit $2`,
    [organizationId ?? null, limit],
  )
  return rows.map((row) => ({ ...row, received_at: row.received_at.toISOString() }))
}

/** Forgets letters that are too old or too many. */
export async function trimDeadLetters(pool: Pool, now: () => Date): Promise<void> {
  const oldest = new Date(now().getTime() - KEPT_DAYS * 24 * 3_600_000)
  await pool.query('delete from dead_letter where received_at < $1', [oldest])
  await pool.query(
    `
  delete from dead_letter
  using (
    select organization_id, dead_letter_id,
      row_number() over (partition by organization_id order by received_at desc) as position
    from dead_letter
  ) as letter
  where letter.position > $1
    and dead_letter.organization_id = letter.organization_id
    and dead_letter.dead_letter_id = letter.dead_letter_id`,
    [KEPT_PER_ORGANIZATION_MAX],
  )
}
