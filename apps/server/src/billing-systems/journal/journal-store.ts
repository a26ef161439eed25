import {
  creditNoteEntry,
  type InvoiceDocument,
  invoiceEntry,
  type JournalAccounts,
  type JournalEntry,
  type JournalEntryKind,
  voidEntry,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { findInvoiceDocument } from '../../invoicing/index.ts'
import type { CreditNoteDocument } from '../billing-system.ts'

/** What is booked, in the order of time: finalized invoices, credit notes, voided invoices. */

interface BookedRow {
  readonly kind: JournalEntryKind
  /** Of the invoice or credit note. */
  readonly id: string
  /** As the database prints it: to the microsecond. */
  readonly at: string
  /** Among what is booked at the same moment. */
  readonly place: number
}

export interface BookedRange {
  readonly organizationId: string
  /** Included; excluded. */
  readonly startMs: number
  readonly endMs: number
}

const PAGE = 200

/** The entries of a period. */
export async function* entriesOfPeriod(
  pool: Pool,
  { organizationId, startMs, endMs }: BookedRange,
  accounts: JournalAccounts,
): AsyncGenerator<JournalEntry> {
  let after: BookedRow | undefined
  for (;;) {
    const { rows } = await pool.query<BookedRow>(
      `select kind, id::text, at::text, place from (
         select 'invoice' as kind, invoice_id as id, finalized_at as at, 1 as place
         from invoice where organization_id = $1 and finalized_at >= $2 and finalized_at < $3
         union all
         select 'credit_note', credit_note_id, created_at, 2
         from credit_note
         where organization_id = $1 and created_at >= $2 and created_at < $3 and voided_at is null
         union all
         select 'invoice_void', invoice_id, voided_at, 3
         from invoice
         where organization_id = $1 and voided_at >= $2 and voided_at < $3 and finalized_at is not null
       ) as booked
       where $4::timestamptz is null or (at, place, id) > ($4, $5::int, $6::uuid)
       order by at, place, id
       limit ${PAGE}`,
      [
        organizationId,
        new Date(startMs),
        new Date(endMs),
        after?.at ?? null,
        after?.place ?? null,
        after?.id ?? null,
      ],
    )
    for (const row of rows) yield await entryOf(pool, organizationId, row, accounts)
    after = rows.at(-1)
    if (rows.length < PAGE) return
  }
}

/** The entries of a finalized invoice: its own, those of its credit notes, and that of its voiding. */
export async function entriesOfInvoice(
  pool: Pool,
  document: InvoiceDocument,
  accounts: JournalAccounts,
): Promise<readonly JournalEntry[]> {
  const { organizationId, id, voidedAt } = document.invoice
  const { rows } = await pool.query<{ id: string }>(
    `select credit_note_id::text as id from credit_note
     where organization_id = $1 and invoice_id = $2 and voided_at is null order by created_at, credit_note_id`,
    [organizationId, id],
  )
  const notes = await Promise.all(rows.map((row) => creditNoteDocument(pool, organizationId, row.id)))
  return [
    invoiceEntry(document, accounts),
    ...notes.map((note) => creditNoteEntry(note, accounts)),
    ...(voidedAt === null ? [] : [voidEntry(document, accounts)]),
  ]
}

async function entryOf(
  pool: Pool,
  organizationId: string,
  { kind, id }: BookedRow,
  accounts: JournalAccounts,
): Promise<JournalEntry> {
  if (kind === 'credit_note') {
    return creditNoteEntry(await creditNoteDocument(pool, organizationId, id), accounts)
  }
  const document = await findInvoiceDocument(pool, organizationId, id)
  if (document === undefined) throw new Error(`invoice ${id} is gone`)
  return kind === 'invoice' ? invoiceEntry(document, accounts) : voidEntry(document, accounts)
}

async function creditNoteDocument(
  pool: Pool,
  organizationId: string,
  id: string,
): Promise<CreditNoteDocument> {
  const { rows } = await pool.query<{
    invoice_id: string
    number: string
    reason: string
    currency: string
    total: string
    created_at: Date
    lines: readonly { line_no: number; amount: string }[]
  }>(
    `select invoice_id::text, number, reason, currency, total::text, created_at, (
       select coalesce(jsonb_agg(jsonb_build_object('line_no', line_no, 'amount', amount::text) order by line_no), '[]')
       from credit_note_line as line
       where line.organization_id = note.organization_id and line.credit_note_id = note.credit_note_id
     ) as lines
     from credit_note as note where organization_id = $1 and credit_note_id = $2`,
    [organizationId, id],
  )
  const [note] = rows
  const invoice =
    note === undefined ? undefined : await findInvoiceDocument(pool, organizationId, note.invoice_id)
  if (note === undefined || invoice === undefined) throw new Error(`credit note ${id} is gone`)
  return {
    id,
    number: note.number,
    reason: note.reason,
    currency: note.currency,
    total: note.total,
    createdAt: note.created_at,
    lines: note.lines.map(({ line_no, amount }) => ({ lineNo: line_no, amount })),
    invoice,
  }
}
