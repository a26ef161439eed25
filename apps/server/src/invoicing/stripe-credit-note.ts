import { type CreditedLine, type Decimal, decimal, decimalText, invoiceDigits, ZERO } from '@tokentally/core'
import type { PoolClient } from 'pg'
import {
  creditableInvoice,
  findCreditNote,
  insertCreditNote,
  lockInvoice,
  markVoid,
} from './credit-note-store.ts'
import { findInvoice } from './invoice-store.ts'
import { lockCustomerInvoices } from './lock.ts'

/** A credit note that was issued at Stripe, not here. */
export interface ForeignCreditNote {
  readonly invoiceId: string
  /** Its id at Stripe. */
  readonly externalId: string
  readonly reason: string
  /** Decimal text in the invoice's currency; `lineNo` null: Stripe does not say which line of ours. */
  readonly lines: readonly { readonly lineNo: number | null; readonly amount: string }[]
  readonly createdAt: Date
  /** When it was voided; null: it stands. */
  readonly voidedAt: Date | null
}

/**
 * Notes a credit note of Stripe's once. What names a line is on that line, the rest on the lines in their order, always
 * within what is left of each and of the invoice.
 *
 * @returns `capped` when Stripe gave back more than is left here
 */
export async function recordForeignCreditNote(
  client: PoolClient,
  organizationId: string,
  note: ForeignCreditNote,
  newCreditNoteId: () => string,
): Promise<'recorded' | 'known' | 'capped' | 'refused'> {
  const found = await findInvoice(client, organizationId, note.invoiceId)
  if (found === undefined) return 'refused'
  await lockCustomerInvoices(client, organizationId, found.customer)
  const standing = await findCreditNote(client, organizationId, { externalId: note.externalId })
  if (standing !== undefined) {
    if (note.voidedAt !== null) await markVoid(client, organizationId, standing.id, note.voidedAt)
    return 'known'
  }
  await lockInvoice(client, found)
  const invoice = (await findInvoice(client, organizationId, found.id)) ?? found
  if (invoice.finalizedAt === null) return 'refused'
  const { creditable } = await creditableInvoice(client, invoice)
  const { lines, isCapped } = withinWhatIsLeft(note, creditable)
  if (lines.length === 0) return 'refused'
  await insertCreditNote(client, {
    ...{ id: newCreditNoteId(), invoice, lines, reason: note.reason, externalId: note.externalId },
    ...{ correctionId: null, apiKeyId: null, requestHash: null },
    ...{ idempotencyKey: `stripe:${note.externalId}`, createdAt: note.createdAt, voidedAt: note.voidedAt },
    total: decimalText(lines.reduce((sum, { amount }) => sum.plus(decimal(amount)), ZERO)),
  })
  return isCapped ? 'capped' : 'recorded'
}

function withinWhatIsLeft(
  { lines }: ForeignCreditNote,
  creditable: Awaited<ReturnType<typeof creditableInvoice>>['creditable'],
): { readonly lines: readonly CreditedLine[]; readonly isCapped: boolean } {
  const left = new Map(
    creditable.lines
      .filter(({ kind, amount }) => (kind === 'usage' || kind === 'minimum') && decimal(amount).gt(ZERO))
      .map((line) => [line.lineNo, decimal(line.amount).minus(decimal(line.credited))]),
  )
  const given = new Map<number, Decimal>()
  let open = decimal(creditable.total).minus(decimal(creditable.credited))
  const give = (lineNo: number, wanted: Decimal): Decimal => {
    const most = [wanted, left.get(lineNo) ?? ZERO, open].reduce((a, b) => (a.lt(b) ? a : b))
    if (most.lte(ZERO)) return ZERO
    left.set(lineNo, (left.get(lineNo) ?? ZERO).minus(most))
    given.set(lineNo, (given.get(lineNo) ?? ZERO).plus(most))
    open = open.minus(most)
    return most
  }
  let rest = ZERO
  for (const { lineNo, amount } of lines) {
    const exact = decimal(amount).round(invoiceDigits(creditable.currency), 0)
    rest = rest.plus(lineNo === null ? exact : exact.minus(give(lineNo, exact)))
  }
  for (const lineNo of left.keys()) rest = rest.minus(give(lineNo, rest))
  return {
    lines: [...given]
      .sort(([a], [b]) => a - b)
      .map(([lineNo, amount]) => ({ lineNo, amount: decimalText(amount) })),
    isCapped: rest.gt(ZERO),
  }
}
