import type { CreditableInvoice, CreditedLine, Invoice, InvoiceLine } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { linesOf } from './invoice-store.ts'
import { takeNumbers } from './numbers.ts'

/** Credit notes in the database. */

export interface CreditNote {
  readonly id: string
  readonly number: string
  readonly invoiceId: string
  readonly invoiceNumber: string | null
  readonly customer: string
  readonly reason: string
  /** The correction that it settles; null: none. */
  readonly correctionId: string | null
  readonly currency: string
  /** Decimal text. */
  readonly total: string
  /** Who issued it; null: another system did. */
  readonly apiKeyId: string | null
  readonly idempotencyKey: string
  /** Its id at Stripe, where it was issued there. */
  readonly externalId: string | null
  readonly requestHash: Buffer | null
  readonly createdAt: Date
  readonly voidedAt: Date | null
  readonly lines: readonly (CreditedLine & { readonly description: string })[]
}

interface NoteRow {
  readonly credit_note_id: string
  readonly number: string
  readonly invoice_id: string
  readonly invoice_number: string | null
  readonly customer_id: string
  readonly reason: string
  readonly correction_id: string | null
  readonly currency: string
  readonly total: string
  readonly api_key_id: string | null
  readonly idempotency_key: string
  readonly external_id: string | null
  readonly request_hash: Buffer | null
  readonly created_at: Date
  readonly voided_at: Date | null
  readonly lines: CreditNote['lines']
}

const SELECT_NOTES = `
  select note.credit_note_id, note.number, note.invoice_id, invoice.number as invoice_number, invoice.customer_id,
    note.reason, note.correction_id, note.currency, note.total::text, note.api_key_id, note.idempotency_key,
    note.external_id, note.request_hash, note.created_at, note.voided_at, (
      select jsonb_agg(
        jsonb_build_object('lineNo', part.line_no, 'amount', part.amount::text, 'description', line.description)
        order by part.line_no
      )
      from credit_note_line as part
      join invoice_line as line
        on line.organization_id = part.organization_id and line.invoice_id = note.invoice_id
          and line.revision = invoice.revision and line.line_no = part.line_no
      where part.organization_id = note.organization_id and part.credit_note_id = note.credit_note_id
    ) as lines
  from credit_note as note
  join invoice on invoice.organization_id = note.organization_id and invoice.invoice_id = note.invoice_id`

function noteOf(row: NoteRow): CreditNote {
  return {
    id: row.credit_note_id,
    number: row.number,
    invoiceId: row.invoice_id,
    invoiceNumber: row.invoice_number,
    customer: row.customer_id,
    reason: row.reason,
    correctionId: row.correction_id,
    currency: row.currency,
    total: row.total,
    apiKeyId: row.api_key_id,
    idempotencyKey: row.idempotency_key,
    externalId: row.external_id,
    requestHash: row.request_hash,
    createdAt: row.created_at,
    voidedAt: row.voided_at,
    lines: row.lines,
  }
}

/** @returns undefined when the organization has no such note */
export async function findCreditNote(
  database: Pool | PoolClient,
  organizationId: string,
  by:
    | { readonly id: string }
    | { readonly idempotencyKey: string }
    /** Of two notes about the same, the first. */
    | { readonly externalId: string },
): Promise<CreditNote | undefined> {
  const [column, value] =
    'id' in by
      ? ['credit_note_id::text', by.id.toLowerCase()]
      : 'idempotencyKey' in by
        ? ['idempotency_key', by.idempotencyKey]
        : ['external_id', by.externalId]
  const { rows } = await database.query<NoteRow>(
    `${SELECT_NOTES} where note.organization_id = $1 and note.${column} = $2 order by note.created_at limit 1`,
    [organizationId, value],
  )
  return rows[0] === undefined ? undefined : noteOf(rows[0])
}

/** Where a page of notes, or of payouts, ended. */
export interface CreatedPosition {
  readonly createdAtMs: number
  readonly id: string
}

/** Credit notes, newest first. */
export async function listCreditNotes(
  database: Pool | PoolClient,
  request: {
    readonly organizationId: string
    readonly invoiceId?: string | undefined
    readonly customer?: string | undefined
    readonly correctionId?: string | undefined
    readonly after: CreatedPosition | undefined
    readonly limit: number
  },
): Promise<readonly CreditNote[]> {
  const { organizationId, invoiceId, customer, correctionId, after, limit } = request
  const { rows } = await database.query<NoteRow>(
    `${SELECT_NOTES}
     where note.organization_id = $1
       and ($2::text is null or note.invoice_id::text = $2)
       and ($3::text is null or invoice.customer_id = $3)
       and ($4::text is null or note.correction_id::text = $4)
       and ($5::timestamptz is null or (note.created_at, note.credit_note_id) < ($5, $6::uuid))
     order by note.created_at desc, note.credit_note_id desc
     limit $7`,
    [
      organizationId,
      invoiceId?.toLowerCase() ?? null,
      customer ?? null,
      correctionId?.toLowerCase() ?? null,
      after === undefined ? null : new Date(after.createdAtMs),
      after?.id ?? null,
      limit,
    ],
  )
  return rows.map(noteOf)
}

/** An invoice and its lines with what standing notes have given back. */
export async function creditableInvoice(
  client: PoolClient,
  invoice: Invoice,
): Promise<{ readonly creditable: CreditableInvoice; readonly lines: readonly InvoiceLine[] }> {
  const lines = await linesOf(client, invoice)
  const { rows } = await client.query<{ line_no: number; credited: string }>(
    `select part.line_no, sum(part.amount)::text as credited
     from credit_note as note
     join credit_note_line as part using (organization_id, credit_note_id)
     where note.organization_id = $1 and note.invoice_id = $2 and note.voided_at is null
     group by part.line_no`,
    [invoice.organizationId, invoice.id],
  )
  const credited = new Map(rows.map((row) => [row.line_no, row.credited]))
  return {
    lines,
    creditable: {
      currency: invoice.currency,
      total: invoice.total,
      credited: invoice.credited,
      lines: lines.map(({ lineNo, kind, amount }) => ({
        lineNo,
        kind,
        amount,
        credited: credited.get(lineNo) ?? '0',
      })),
    },
  }
}

/** Lets nobody else change an invoice until the transaction ends. */
export async function lockInvoice(
  client: PoolClient,
  { organizationId, id }: Pick<Invoice, 'organizationId' | 'id'>,
): Promise<void> {
  await client.query('select from invoice where organization_id = $1 and invoice_id = $2 for no key update', [
    organizationId,
    id,
  ])
}

export interface NewCreditNote {
  readonly id: string
  readonly invoice: Invoice
  readonly reason: string
  readonly correctionId: string | null
  readonly total: string
  readonly apiKeyId: string | null
  readonly idempotencyKey: string
  readonly requestHash: Buffer | null
  readonly externalId: string | null
  readonly createdAt: Date
  readonly voidedAt: Date | null
  readonly lines: readonly CreditedLine[]
}

/** Writes a note under the next number of its year, within its transaction. */
export async function insertCreditNote(client: PoolClient, note: NewCreditNote): Promise<void> {
  const { organizationId } = note.invoice
  const [number] = await takeNumbers(client, organizationId, 'CN', note.createdAt, 1)
  await client.query(
    `insert into credit_note (organization_id, credit_note_id, invoice_id, number, reason, correction_id, currency,
       total, api_key_id, idempotency_key, request_hash, external_id, created_at, voided_at, handed_over_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
    [
      organizationId,
      note.id,
      note.invoice.id,
      number,
      note.reason,
      note.correctionId,
      note.invoice.currency,
      note.total,
      note.apiKeyId,
      note.idempotencyKey,
      note.requestHash,
      note.externalId,
      note.createdAt,
      note.voidedAt,
      // What another system has issued need not be told to it.
      note.externalId === null ? null : note.createdAt,
    ],
  )
  await client.query(
    `insert into credit_note_line (organization_id, credit_note_id, line_no, amount)
     select $1, $2, * from unnest($3::int[], $4::numeric[])`,
    [organizationId, note.id, note.lines.map(({ lineNo }) => lineNo), note.lines.map(({ amount }) => amount)],
  )
}

/** Notes that a credit note has settled these entries of the ledger. The primary key refuses to do so twice. */
export async function insertCreditedEntries(
  client: PoolClient,
  note: { readonly organizationId: string; readonly creditNoteId: string },
  entries: readonly { readonly eventId: string; readonly lineNo: number; readonly amount: string }[],
): Promise<void> {
  await client.query(
    `insert into credited_entry (organization_id, credit_note_id, event_id, line_no, amount)
     select $1, $2, * from unnest($3::text[], $4::int[], $5::numeric[])`,
    [
      note.organizationId,
      note.creditNoteId,
      entries.map(({ eventId }) => eventId),
      entries.map(({ lineNo }) => lineNo),
      entries.map(({ amount }) => amount),
    ],
  )
}

/** @returns whether the note has settled entries of the ledger, and whether another system was told of it */
export async function tiesOf(
  client: PoolClient,
  organizationId: string,
  { id: creditNoteId, invoiceId }: Pick<CreditNote, 'id' | 'invoiceId'>,
): Promise<{ readonly settles: boolean; readonly isTold: boolean }> {
  const { rows } = await client.query<{ settles: boolean; is_told: boolean }>(
    `select
       exists (
         select from credited_entry where organization_id = $1 and credit_note_id = $2
       ) as settles,
       exists (
         select from outbox_step
         where organization_id = $1 and stream = $3 and about = $4 and action <> 'await_setup'
       ) as is_told`,
    [organizationId, creditNoteId, `invoice:${invoiceId}`, `credit_note:${creditNoteId}`],
  )
  return { settles: rows[0]?.settles ?? false, isTold: rows[0]?.is_told ?? false }
}

/** Voids a note; one that is void stays as it is. */
export async function markVoid(
  client: PoolClient,
  organizationId: string,
  creditNoteId: string,
  at: Date,
): Promise<void> {
  await client.query(
    `update credit_note set voided_at = $3
     where organization_id = $1 and credit_note_id = $2 and voided_at is null`,
    [organizationId, creditNoteId, at],
  )
}
