import type { PoolClient } from 'pg'
import {
  applyDispute,
  applyInvoiceStatus,
  applyPayoutMessage,
  findPayout,
  invoiceOfStripe,
  learnStripeInvoice,
  noteInvoiceFailure,
  notePayment,
  recordForeignCreditNote,
} from '../../invoicing/index.ts'
import { type StripeEvent, type StripeFacts, stripeFactsSchema } from './stripe-event.ts'

/**
 * What becomes of an event.
 *
 * - `applied`: it changed something, or confirms it. `outdated`: what stands is further on.
 * - `echo`: tells of a credit note that we have issued. `capped`: of one that gives back more than is left here; only
 *   that was recorded. `refused`: nothing of it could be recorded.
 * - `unknown`: its invoice or payout is not known here, yet. It is worked on as soon as it is.
 * - `ignored`: of a type that we do not act on.
 */
export type EventOutcome = 'applied' | 'outdated' | 'echo' | 'capped' | 'refused' | 'unknown' | 'ignored'

export interface ApplyContext {
  readonly organizationId: string
  readonly newCreditNoteId: () => string
}

/**
 * Works on an event once, within a transaction: noted in it together with what it changes.
 *
 * @returns undefined when it was worked on before
 */
export async function receiveStripeEvent(
  client: PoolClient,
  context: ApplyContext,
  event: StripeEvent,
  receivedAt: Date,
): Promise<EventOutcome | undefined> {
  const { organizationId } = context
  await lockStripeEvents(client, organizationId)
  const { rowCount } = await client.query(
    `insert into stripe_event (organization_id, stripe_event_id, type, created_at, object_id, received_at, outcome, facts)
     values ($1, $2, $3, $4, $5, $6, 'received', $7)
     on conflict do nothing`,
    [
      organizationId,
      event.id,
      event.type,
      event.createdAt,
      event.objectId,
      receivedAt,
      event.facts === undefined ? null : JSON.stringify(event.facts),
    ],
  )
  if (rowCount === 0) return undefined
  const outcome =
    event.facts === undefined ? 'ignored' : await applyFacts(client, context, event.facts, event.createdAt)
  await setOutcome(client, organizationId, event.id, outcome)
  return outcome
}

/** Works on events that came before what they are about was known. */
export async function replayStripeEvents(
  client: PoolClient,
  context: ApplyContext,
  about: string,
): Promise<void> {
  const { organizationId } = context
  await lockStripeEvents(client, organizationId)
  const { rows } = await client.query<{ stripe_event_id: string; created_at: Date; facts: unknown }>(
    `select stripe_event_id, created_at, facts
     from stripe_event
     where organization_id = $1 and outcome = 'unknown' and facts ->> 'about' = $2
     order by created_at, stripe_event_id`,
    [organizationId, about],
  )
  for (const row of rows) {
    const outcome = await applyFacts(client, context, stripeFactsSchema.parse(row.facts), row.created_at)
    await setOutcome(client, organizationId, row.stripe_event_id, outcome)
  }
}

/** One event of an organization at a time: none misses what another one, not committed yet, makes known. */
async function lockStripeEvents(client: PoolClient, organizationId: string): Promise<void> {
  await client.query("select pg_advisory_xact_lock(hashtext('tokentally.stripe_event'), hashtext($1))", [
    organizationId,
  ])
}

async function setOutcome(
  client: PoolClient,
  organizationId: string,
  eventId: string,
  outcome: EventOutcome,
): Promise<void> {
  await client.query(
    'update stripe_event set outcome = $3 where organization_id = $1 and stripe_event_id = $2',
    [organizationId, eventId, outcome],
  )
}

async function applyFacts(
  client: PoolClient,
  context: ApplyContext,
  facts: StripeFacts,
  at: Date,
): Promise<EventOutcome> {
  const { organizationId } = context
  switch (facts.kind) {
    case 'invoice':
      return applyInvoice(client, context, facts, at)
    case 'invoice_payment':
      await notePayment(client, organizationId, { id: facts.payment, stripeInvoiceId: facts.about })
      return 'applied'
    case 'payment_failure':
      await notePayment(client, organizationId, {
        id: facts.payment,
        failure: { reason: facts.reason, at },
      })
      return 'applied'
    case 'credit_note':
      return applyCreditNote(client, context, facts, at)
    case 'dispute': {
      const { payment: paymentId, ...dispute } = facts
      return (await applyDispute(client, organizationId, { ...dispute, paymentId, at }))
        ? 'applied'
        : 'outdated'
    }
    case 'payout':
      return applyPayout(client, context, facts, at)
  }
}

async function applyInvoice(
  client: PoolClient,
  context: ApplyContext,
  { about, invoice_id: named, status, failure, payments }: StripeFacts & { kind: 'invoice' },
  at: Date,
): Promise<EventOutcome> {
  const { organizationId } = context
  for (const id of payments) await notePayment(client, organizationId, { id, stripeInvoiceId: about })
  const known = await invoiceOfStripe(client, organizationId, about)
  const invoiceId = known ?? named ?? undefined
  if (invoiceId === undefined) return 'unknown'
  const isNew = await learnStripeInvoice(client, organizationId, about, invoiceId)
  if (isNew === undefined) return 'unknown'
  if (isNew) await replayStripeEvents(client, context, about)
  if (failure !== null) await noteInvoiceFailure(client, organizationId, invoiceId, { reason: failure, at })
  if (status === null) return 'applied'
  const stands = await applyInvoiceStatus(client, organizationId, invoiceId, { status, at })
  return stands || failure !== null ? 'applied' : 'outdated'
}

async function applyCreditNote(
  client: PoolClient,
  { organizationId, newCreditNoteId }: ApplyContext,
  facts: StripeFacts & { kind: 'credit_note' },
  at: Date,
): Promise<EventOutcome> {
  if (facts.ours !== null) {
    if (!facts.is_void) return 'echo'
    const { rowCount } = await client.query(
      `update credit_note set voided_at = coalesce(voided_at, $3)
       where organization_id = $1 and credit_note_id::text = $2
         and not exists (
           select from credited_entry as credited
           where credited.organization_id = credit_note.organization_id
             and credited.credit_note_id = credit_note.credit_note_id
         )`,
      [organizationId, facts.ours.toLowerCase(), at],
    )
    // What has settled entries of the ledger stands here: no invoice has them again.
    return rowCount === 1 ? 'applied' : 'refused'
  }
  const invoiceId = await invoiceOfStripe(client, organizationId, facts.about)
  if (invoiceId === undefined) return 'unknown'
  const recorded = await recordForeignCreditNote(
    client,
    organizationId,
    {
      ...{ invoiceId, externalId: facts.id, reason: facts.reason },
      lines: facts.lines.map(({ line_no: lineNo, amount }) => ({ lineNo, amount })),
      createdAt: new Date(facts.created * 1000),
      voidedAt: facts.is_void ? at : null,
    },
    newCreditNoteId,
  )
  return recorded === 'recorded' || recorded === 'known' ? 'applied' : recorded
}

async function applyPayout(
  client: PoolClient,
  { organizationId }: ApplyContext,
  facts: StripeFacts & { kind: 'payout' },
  at: Date,
): Promise<EventOutcome> {
  const payout =
    (await findPayout(client, organizationId, { externalId: facts.about })) ??
    (facts.payout_id === null ? undefined : await findPayout(client, organizationId, { id: facts.payout_id }))
  if (payout === undefined) return 'unknown'
  const stands = await applyPayoutMessage(client, organizationId, payout.id, {
    ...{ status: facts.status, failureReason: facts.failure, arrivalDate: facts.arrival_date },
    ...{ externalId: facts.about, at },
  })
  return stands ? 'applied' : 'outdated'
}
