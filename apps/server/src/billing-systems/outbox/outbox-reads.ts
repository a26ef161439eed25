import type { Pool, PoolClient } from 'pg'
import type { StepStatus } from './outbox-store.ts'

/** Steps as people look at them. */

export interface OutboxStep {
  readonly system: string
  readonly stream: string
  readonly stepNo: number
  readonly about: string
  readonly action: string
  readonly status: StepStatus
  readonly attempts: number
  readonly nextAttemptAt: Date | null
  readonly lastError: string | null
  readonly createdAt: Date
  readonly doneAt: Date | null
}

interface StepRow {
  readonly system: string
  readonly stream: string
  readonly step_no: number
  readonly about: string
  readonly action: string
  readonly status: StepStatus
  readonly attempts: number
  readonly next_attempt_at: Date | null
  readonly last_error: string | null
  readonly created_at: Date
  readonly done_at: Date | null
}

export interface StepPosition {
  readonly createdAt: Date
  readonly system: string
  readonly stream: string
  readonly stepNo: number
}

export interface StepQuery {
  readonly organizationId: string
  readonly status: StepStatus | undefined
  readonly system: string | undefined
  readonly stream: string | undefined
  readonly limit: number
  readonly after: StepPosition | undefined
}

/** An organization's steps, in the order in which they were written. */
export async function listSteps(pool: Pool, query: StepQuery): Promise<readonly OutboxStep[]> {
  const { rows } = await pool.query<StepRow>(
    `select system, stream, step_no, about, action, status, attempts, next_attempt_at, last_error, created_at, done_at
     from outbox_step
     where organization_id = $1 and ($2::text is null or status = $2) and ($3::text is null or system = $3)
       and ($4::text is null or stream = $4)
       and ($5::timestamptz is null or (created_at, system, stream, step_no) > ($5, $6, $7, $8::int))
     order by created_at, system, stream, step_no
     limit $9`,
    [
      query.organizationId,
      query.status ?? null,
      query.system ?? null,
      query.stream ?? null,
      query.after?.createdAt ?? null,
      query.after?.system ?? null,
      query.after?.stream ?? null,
      query.after?.stepNo ?? null,
      query.limit,
    ],
  )
  return rows.map((row) => ({
    system: row.system,
    stream: row.stream,
    stepNo: row.step_no,
    about: row.about,
    action: row.action,
    status: row.status,
    attempts: row.attempts,
    nextAttemptAt: row.next_attempt_at,
    lastError: row.last_error,
    createdAt: row.created_at,
    doneAt: row.done_at,
  }))
}

/** How far a system has been told of an invoice and of what became of it. */
export interface Delivery {
  readonly system: string
  /** `refused`: stopped until a person tries it again. */
  readonly status: StepStatus
  /** Of the step that it stands at; of the last one when all are done. */
  readonly attempts: number
  readonly lastError: string | null
  readonly nextAttemptAt: Date | null
}

/** Deliveries of invoices, by invoice id, each by system; invoices without any are left out. */
export async function deliveriesOf(
  database: Pool | PoolClient,
  organizationId: string,
  invoiceIds: readonly string[],
): Promise<ReadonlyMap<string, readonly Delivery[]>> {
  const { rows } = await database.query<
    Pick<StepRow, 'system' | 'stream' | 'status' | 'attempts' | 'last_error' | 'next_attempt_at'>
  >(
    `select distinct on (stream, system) system, stream, status, attempts, last_error, next_attempt_at
     from outbox_step
     where organization_id = $1 and stream = any($2)
     order by stream, system, status = 'done', case when status = 'done' then -step_no else step_no end`,
    [organizationId, invoiceIds.map(invoiceStream)],
  )
  const deliveries = new Map<string, Delivery[]>()
  for (const row of rows) {
    const id = row.stream.slice(invoiceStream('').length)
    const list = deliveries.get(id) ?? []
    list.push({
      system: row.system,
      status: row.status,
      attempts: row.attempts,
      lastError: row.last_error,
      nextAttemptAt: row.next_attempt_at,
    })
    deliveries.set(id, list)
  }
  return deliveries
}

/** The stream of all that is told of an invoice. */
export function invoiceStream(invoiceId: string): string {
  return `invoice:${invoiceId}`
}

export interface OutboxStanding {
  readonly system: string
  readonly waiting: number
  readonly refused: number
  readonly oldestWaitingAt: Date | null
}

/** What is unfinished over all organizations, by system. */
export async function outboxStanding(pool: Pool): Promise<readonly OutboxStanding[]> {
  const { rows } = await pool.query<{
    system: string
    waiting: number
    refused: number
    oldest_waiting_at: Date | null
  }>(
    `select system, count(*) filter (where status = 'waiting')::int as waiting,
       count(*) filter (where status = 'refused')::int as refused,
       min(created_at) filter (where status = 'waiting') as oldest_waiting_at
     from outbox_step where status <> 'done' group by system`,
  )
  return rows.map(({ system, waiting, refused, oldest_waiting_at: oldestWaitingAt }) => ({
    system,
    waiting,
    refused,
    oldestWaitingAt,
  }))
}
