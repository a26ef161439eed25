import type { PoolClient } from 'pg'
import type { NewSteps, StepStatus, StreamId } from './outbox-store.ts'

/** Streams that go on only when a person does something: their system is not set up, or refuses a step. */

/** The action of a step that stands for what cannot be planned before its system is set up. It is never due. */
export const AWAIT_SETUP = 'await_setup'

/** Notes in a stream what its system is to be told once it is set up. `reason` says what is missing. */
export async function appendDeferred(
  client: PoolClient,
  { organizationId, system, stream, about }: Omit<NewSteps, 'steps'>,
  reason: string,
  now: Date,
): Promise<void> {
  await client.query(
    `insert into outbox_step (organization_id, system, stream, step_no, about, action, payload, idempotency_key,
       status, last_error, created_at)
     select $1::uuid, $2::text, $3::text, coalesce(max(step_no), 0) + 1, $4::text, $5::text, '{}',
       concat_ws('/', 'tokentally', $1::text, $2::text, $3::text, $4::text, $5::text), 'waiting', $6, $7::timestamptz
     from outbox_step where organization_id = $1 and system = $2 and stream = $3`,
    [organizationId, system, stream, about, AWAIT_SETUP, reason, now],
  )
}

/** What stands in a stream until its system is set up, locked: by system, what it is about, in order. */
export async function lockDeferred(
  client: PoolClient,
  organizationId: string,
  stream: string,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const { rows } = await client.query<{ system: string; about: string }>(
    `select system, about from outbox_step
     where organization_id = $1 and stream = $2 and action = $3 and status = 'waiting'
     order by system, step_no for update`,
    [organizationId, stream, AWAIT_SETUP],
  )
  const deferred = new Map<string, string[]>()
  for (const { system, about } of rows) deferred.set(system, [...(deferred.get(system) ?? []), about])
  return deferred
}

/** Ends what waits or is refused in a stream without doing it. */
export async function skipUnfinished(
  client: PoolClient,
  { organizationId, system, stream }: StreamId,
  now: Date,
): Promise<void> {
  await client.query(
    `update outbox_step
     set status = 'done', done_at = $4, next_attempt_at = null, last_error = null,
       result = jsonb_build_object('skipped', true, 'last_error', last_error)
     where organization_id = $1 and system = $2 and stream = $3 and status <> 'done'`,
    [organizationId, system, stream, now],
  )
}

/** Where a stream stands, kept from changing until the transaction ends. */
export interface StreamStanding {
  /** Something of the invoice was done there. */
  readonly isBegun: boolean
  /** It goes on only when a person does something: it was refused, or its system is not set up. */
  readonly isStuck: boolean
}

export async function lockStream(
  client: PoolClient,
  { organizationId, system, stream }: StreamId,
): Promise<StreamStanding> {
  const { rows } = await client.query<{
    action: string
    about: string
    status: StepStatus
    skipped: boolean
  }>(
    `select action, about, status, result ? 'skipped' as skipped from outbox_step
     where organization_id = $1 and system = $2 and stream = $3
     order by step_no for update`,
    [organizationId, system, stream],
  )
  const next = rows.find(({ status }) => status !== 'done')
  return {
    isBegun: rows.some(
      ({ action, about, status, skipped }) =>
        status === 'done' && about === 'invoice' && action !== AWAIT_SETUP && !skipped,
    ),
    isStuck: next?.status === 'refused' || next?.action === AWAIT_SETUP,
  }
}
