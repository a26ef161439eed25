import type { Pool, PoolClient } from 'pg'
import type { PlannedStep } from '../billing-system.ts'
import { type JsonObject, jsonObject } from '../json.ts'

/**
 * Steps in the database. A step: waiting → done | refused; refused → waiting when a person tries it again.
 *
 * Of each stream only the first step that is not done has a time for its next attempt, so what is due is what may be
 * done, and one index finds it. A worker takes a step by a lease that it writes, with the attempt, before the call:
 * a lock that is held during the call would cost a connection for as long as the other system takes, and would leave no
 * trace of an attempt whose worker died. A worker that dies keeps the step for the rest of the lease; whatever it
 * still writes after that is ignored, because by then the attempts differ.
 */

export interface StreamId {
  readonly organizationId: string
  readonly system: string
  /** `invoice:ID`, `meters:CUSTOMER`. */
  readonly stream: string
}

export interface NewSteps extends StreamId {
  /** What these steps tell of, once in a stream: `invoice`, `credit_note:ID`, `void`. */
  readonly about: string
  readonly steps: readonly PlannedStep[]
}

/**
 * Appends steps to a stream, in the transaction of what they tell of. The caller sees to it that the same is not
 * appended twice at the same moment; a later repeat breaks the unique key and fails.
 */
export async function appendSteps(
  client: PoolClient,
  { organizationId, system, stream, about, steps }: NewSteps,
  now: Date,
): Promise<void> {
  if (steps.length === 0) return
  // The lock keeps the last step from being settled meanwhile: who settles it lets its successor go.
  const { rows } = await client.query<{ step_no: number; status: StepStatus }>(
    `select step_no, status from outbox_step
     where organization_id = $1 and system = $2 and stream = $3
     order by step_no desc limit 1 for update`,
    [organizationId, system, stream],
  )
  const [last] = rows
  const isFree = last === undefined || last.status === 'done'
  await client.query(
    `insert into outbox_step (organization_id, system, stream, step_no, about, action, payload, idempotency_key,
       status, next_attempt_at, created_at)
     select $1::uuid, $2::text, $3::text, $4::int + place, $5::text, action, payload,
       concat_ws('/', 'tokentally', $1::text, $2::text, $3::text, $5::text, action), 'waiting',
       case when place = 1 and $8 then $9::timestamptz end, $9::timestamptz
     from unnest($6::text[], $7::jsonb[]) with ordinality as step (action, payload, place)`,
    [
      organizationId,
      system,
      stream,
      last?.step_no ?? 0,
      about,
      steps.map(({ action }) => action),
      steps.map(({ payload }) => JSON.stringify(payload)),
      isFree,
      now,
    ],
  )
}

/** The systems that have steps in a stream. */
export async function systemsOfStream(
  client: PoolClient,
  organizationId: string,
  stream: string,
): Promise<ReadonlySet<string>> {
  const { rows } = await client.query<{ system: string }>(
    'select distinct system from outbox_step where organization_id = $1 and stream = $2',
    [organizationId, stream],
  )
  return new Set(rows.map(({ system }) => system))
}

export type StepStatus = 'waiting' | 'done' | 'refused'

/** A step that a worker has taken. */
export interface ClaimedStep extends StreamId {
  readonly stepNo: number
  readonly about: string
  readonly action: string
  readonly payload: JsonObject
  readonly idempotencyKey: string
  readonly keyGeneration: number
  readonly keySince: Date
  /** This one included. */
  readonly attempts: number
}

interface ClaimedRow {
  readonly organization_id: string
  readonly stream: string
  readonly step_no: number
  readonly about: string
  readonly action: string
  readonly payload: unknown
  readonly idempotency_key: string
  readonly key_generation: number
  readonly key_since: Date
  readonly attempts: number
}

/** Takes the step of a system that is due longest, until the lease ends. @returns undefined when none is due */
export async function claimStep(
  pool: Pool,
  system: string,
  now: Date,
  leaseMs: number,
): Promise<ClaimedStep | undefined> {
  const { rows } = await pool.query<ClaimedRow>(
    // Materialized: as a subquery the choice could be made anew for each row that it is joined with.
    `with due as materialized (
       select organization_id, stream, step_no from outbox_step
       where system = $1 and next_attempt_at <= $2 and (leased_until is null or leased_until <= $2)
       order by next_attempt_at limit 1
       for update skip locked
     )
     update outbox_step as step
     set attempts = step.attempts + 1, key_since = coalesce(step.key_since, $2), leased_until = $3
     from due
     where step.organization_id = due.organization_id and step.system = $1 and step.stream = due.stream
       and step.step_no = due.step_no
     returning step.organization_id, step.stream, step.step_no, step.about, step.action, step.payload,
       step.idempotency_key, step.key_generation, step.key_since, step.attempts`,
    [system, now, new Date(now.getTime() + leaseMs)],
  )
  const [row] = rows
  if (row === undefined) return undefined
  return {
    organizationId: row.organization_id,
    system,
    stream: row.stream,
    stepNo: row.step_no,
    about: row.about,
    action: row.action,
    payload: jsonObject.parse(row.payload),
    idempotencyKey: row.idempotency_key,
    keyGeneration: row.key_generation,
    keySince: row.key_since,
    attempts: row.attempts,
  }
}

/** What the steps before one gave, by action: of its document, and of the invoice that its stream is about. */
export async function earlierResults(
  pool: Pool,
  { organizationId, system, stream, stepNo, about }: ClaimedStep,
): Promise<Record<string, JsonObject>> {
  const { rows } = await pool.query<{ action: string; result: unknown }>(
    `select action, result from outbox_step
     where organization_id = $1 and system = $2 and stream = $3 and step_no < $4 and status = 'done'
       and about in ('invoice', $5) and not result ? 'skipped'
     order by about = $5, step_no`,
    [organizationId, system, stream, stepNo, about],
  )
  return Object.fromEntries(rows.map(({ action, result }) => [action, jsonObject.parse(result)]))
}

/** How an attempt ended. */
export type StepSettlement =
  | { readonly status: 'done'; readonly result: JsonObject }
  | {
      readonly status: 'waiting'
      readonly nextAttemptAt: Date
      readonly error: string
      /** The next attempt uses another key. */
      readonly isKeySettled: boolean
    }
  | { readonly status: 'refused'; readonly error: string }

/**
 * Writes how an attempt went, unless another worker has made a later one meanwhile; a step that is done lets the next of
 * its stream go. In a transaction.
 *
 * @returns whether it was written
 */
export async function settleStep(
  client: PoolClient,
  step: ClaimedStep,
  settlement: StepSettlement,
  now: Date,
): Promise<boolean> {
  const { status } = settlement
  const id = [step.organizationId, step.system, step.stream]
  const { rowCount } = await client.query(
    `update outbox_step
     set status = $6, leased_until = null, next_attempt_at = $7, last_error = $8, result = $9,
       key_generation = key_generation + $10, key_since = case when $10 = 0 then key_since end,
       done_at = case when $6 = 'done' then $11::timestamptz end
     where organization_id = $1 and system = $2 and stream = $3 and step_no = $4 and attempts = $5
       and status = 'waiting'`,
    [
      ...id,
      step.stepNo,
      step.attempts,
      status,
      status === 'waiting' ? settlement.nextAttemptAt : null,
      status === 'done' ? null : settlement.error,
      status === 'done' ? JSON.stringify(settlement.result) : null,
      status === 'waiting' && settlement.isKeySettled ? 1 : 0,
      now,
    ],
  )
  if (rowCount === 1 && status === 'done') {
    await client.query(
      `update outbox_step set next_attempt_at = $5
       where organization_id = $1 and system = $2 and stream = $3 and step_no = $4 + 1 and status = 'waiting'`,
      [...id, step.stepNo, now],
    )
  }
  return rowCount === 1
}

/**
 * Lets what is refused or waits in a stream be tried at once. A refused step uses another key: the other system may have
 * kept its refusal under the old one.
 *
 * @param system undefined: all of them
 * @returns how many steps it were
 */
export async function retryStream(
  pool: Pool,
  { organizationId, system, stream }: Omit<StreamId, 'system'> & { readonly system: string | undefined },
  now: Date,
): Promise<number> {
  const { rowCount } = await pool.query(
    `update outbox_step
     set key_generation = key_generation + case when status = 'refused' then 1 else 0 end,
       key_since = case when status = 'refused' then null else key_since end,
       status = 'waiting', next_attempt_at = $4
     where organization_id = $1 and stream = $2 and ($3::text is null or system = $3)
       and (status = 'refused' or (status = 'waiting' and next_attempt_at is not null))`,
    [organizationId, stream, system ?? null, now],
  )
  return rowCount ?? 0
}
