import type { Pool, PoolClient } from 'pg'
import { findInvoiceDocument } from '../../invoicing/index.ts'
import type { CreditNoteDocument } from '../billing-system.ts'
import { invoiceStream } from './outbox-reads.ts'
import { AWAIT_SETUP } from './stuck-streams.ts'

/** What is to be told of and has no steps yet. */

export interface HandOverId {
  readonly organizationId: string
  /** Of the invoice or credit note. */
  readonly id: string
}

interface IdRow {
  readonly organization_id: string
  readonly id: string
}

const PAGE = 500

/** Finalized invoices that were not handed over. */
export function listInvoicesToHandOver(
  pool: Pool,
  after: HandOverId | undefined,
): Promise<readonly HandOverId[]> {
  return listIds(
    pool,
    `select organization_id, invoice_id as id from invoice
     where finalized_at is not null and handed_over_at is null
       and ($1::uuid is null or (organization_id, invoice_id) > ($1, $2::uuid))
     order by organization_id, invoice_id limit $3`,
    after,
  )
}

/** Invoices of which a system is to be told that was set up since. */
export function listDeferredToHandOver(
  pool: Pool,
  after: HandOverId | undefined,
): Promise<readonly HandOverId[]> {
  return listIds(
    pool,
    `select distinct organization_id, stream, substr(stream, length($5) + 1) as id from outbox_step
     join billing_system_settings as settings using (organization_id, system)
     where status <> 'done' and action = $4 and settings.is_enabled
       and ($1::uuid is null or (organization_id, stream) > ($1, $5 || $2::text))
     order by organization_id, stream limit $3`,
    after,
    [AWAIT_SETUP, invoiceStream('')],
  )
}

/** Voided invoices whose voiding was not handed over. */
export function listVoidsToHandOver(
  pool: Pool,
  after: HandOverId | undefined,
): Promise<readonly HandOverId[]> {
  return listIds(
    pool,
    `select organization_id, invoice_id as id from invoice
     where status = 'void' and handed_over_at is not null and void_handed_over_at is null
       and ($1::uuid is null or (organization_id, invoice_id) > ($1, $2::uuid))
     order by organization_id, invoice_id limit $3`,
    after,
  )
}

/** Credit notes that were not handed over, on invoices that were. */
export function listCreditNotesToHandOver(
  pool: Pool,
  after: HandOverId | undefined,
): Promise<readonly HandOverId[]> {
  return listIds(
    pool,
    `select note.organization_id, note.credit_note_id as id from credit_note as note
     join invoice on invoice.organization_id = note.organization_id and invoice.invoice_id = note.invoice_id
     where note.handed_over_at is null and note.voided_at is null and invoice.handed_over_at is not null
       and ($1::uuid is null or (note.organization_id, note.credit_note_id) > ($1, $2::uuid))
     order by note.organization_id, note.credit_note_id limit $3`,
    after,
  )
}

async function listIds(
  pool: Pool,
  sql: string,
  after: HandOverId | undefined,
  more: readonly unknown[] = [],
): Promise<readonly HandOverId[]> {
  const { rows } = await pool.query<IdRow>(sql, [
    after?.organizationId ?? null,
    after?.id ?? null,
    PAGE,
    ...more,
  ])
  return rows.map(({ organization_id: organizationId, id }) => ({ organizationId, id }))
}

/** Locks an invoice that is still to be handed over. @returns its status; undefined: another worker has it or had it */
export async function lockInvoiceToHandOver(
  client: PoolClient,
  { organizationId, id }: HandOverId,
): Promise<{ readonly isVoid: boolean } | undefined> {
  const { rows } = await client.query<{ is_void: boolean }>(
    `select status = 'void' as is_void from invoice
     where organization_id = $1 and invoice_id = $2 and finalized_at is not null and handed_over_at is null
     for update skip locked`,
    [organizationId, id],
  )
  return rows[0] === undefined ? undefined : { isVoid: rows[0].is_void }
}

/** Locks a voided invoice whose voiding is still to be handed over. @returns whether it is */
export async function lockVoidToHandOver(
  client: PoolClient,
  { organizationId, id }: HandOverId,
): Promise<boolean> {
  const { rowCount } = await client.query(
    `select from invoice
     where organization_id = $1 and invoice_id = $2 and status = 'void' and handed_over_at is not null
       and void_handed_over_at is null
     for update skip locked`,
    [organizationId, id],
  )
  return rowCount === 1
}

export interface CreditNoteToHandOver {
  readonly document: CreditNoteDocument
  /** Another system issued it and knows of it. */
  readonly isForeign: boolean
}

interface NoteRow {
  readonly invoice_id: string
  readonly number: string
  readonly reason: string
  readonly currency: string
  readonly total: string
  readonly created_at: Date
  readonly is_foreign: boolean
}

/** Locks and reads a credit note that is still to be handed over; undefined: another worker has it or had it. */
export async function lockCreditNoteToHandOver(
  client: PoolClient,
  which: HandOverId,
): Promise<CreditNoteToHandOver | undefined> {
  const { rowCount } = await client.query(
    `select from credit_note
     where organization_id = $1 and credit_note_id = $2 and handed_over_at is null and voided_at is null
     for update skip locked`,
    [which.organizationId, which.id],
  )
  return rowCount === 1 ? readCreditNote(client, which) : undefined
}

/** @returns undefined when it is void */
export async function readCreditNote(
  client: PoolClient,
  { organizationId, id }: HandOverId,
): Promise<CreditNoteToHandOver | undefined> {
  const notes = await client.query<NoteRow>(
    `select invoice_id, number, reason, currency, total::text, created_at, api_key_id is null as is_foreign
     from credit_note
     where organization_id = $1 and credit_note_id = $2 and voided_at is null`,
    [organizationId, id],
  )
  const [note] = notes.rows
  if (note === undefined) return undefined
  const invoice = await findInvoiceDocument(client, organizationId, note.invoice_id)
  if (invoice === undefined) throw new Error(`Credit note ${id} has no invoice.`)
  const lines = await client.query<{ line_no: number; amount: string }>(
    `select line_no, amount::text from credit_note_line
     where organization_id = $1 and credit_note_id = $2 order by line_no`,
    [organizationId, id],
  )
  return {
    isForeign: note.is_foreign,
    document: {
      id,
      number: note.number,
      reason: note.reason,
      currency: note.currency,
      total: note.total,
      createdAt: note.created_at,
      lines: lines.rows.map((line) => ({ lineNo: line.line_no, amount: line.amount })),
      invoice,
    },
  }
}

const MARKS = {
  invoice: 'update invoice set handed_over_at = $3 where organization_id = $1 and invoice_id = $2',
  void: 'update invoice set void_handed_over_at = $3 where organization_id = $1 and invoice_id = $2',
  creditNote: 'update credit_note set handed_over_at = $3 where organization_id = $1 and credit_note_id = $2',
} as const

/** Notes that the steps were written. */
export async function markHandedOver(
  client: PoolClient,
  what: keyof typeof MARKS,
  { organizationId, id }: HandOverId,
  now: Date,
): Promise<void> {
  await client.query(MARKS[what], [organizationId, id, now])
}
