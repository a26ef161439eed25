import { hash } from 'node:crypto'
import {
  type CorrectedUsage,
  type CreditedLine,
  type CreditRequest,
  type Decimal,
  decimal,
  decimalText,
  type Invoice,
  type InvoiceLine,
  planCorrectionCredit,
  planCredit,
  ZERO,
} from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { inTransaction } from '../database/transaction.ts'
import { Problem } from '../http/problem.ts'
import {
  amountOf,
  type CorrectionEntry,
  customersOfCorrection,
  lineOf,
  readCorrectionEntries,
  settledAmount,
} from './corrected-usage.ts'
import {
  type CreditNote,
  creditableInvoice,
  findCreditNote,
  insertCreditedEntries,
  insertCreditNote,
  lockInvoice,
  markVoid,
  tiesOf,
} from './credit-note-store.ts'
import { findInvoice } from './invoice-store.ts'
import { lockCustomerInvoices } from './lock.ts'

/**
 * Credit notes: by hand, and from corrections.
 *
 * Notes of a customer are issued one at a time, and not beside the closing of a cycle (`lockCustomerInvoices`): two
 * at once never give back more than a line, and an entry is settled by a note or by an invoice, never by both.
 */

export interface CreditNoteDependencies {
  readonly pool: Pool
  readonly now: () => Date
  readonly newCreditNoteId: () => string
}

export interface Issuer {
  readonly organizationId: string
  readonly apiKeyId: string
}

/** What a note says before it is issued. */
export interface PreparedNote {
  readonly invoice: Invoice
  readonly reason: string
  readonly correctionId: string | null
  readonly total: string
  readonly lines: readonly (CreditedLine & { readonly description: string })[]
}

export type Issued =
  | { readonly kind: 'preview'; readonly note: PreparedNote }
  | { readonly kind: 'issued' | 'repeat'; readonly note: CreditNote }

/** Statuses of invoices that are finalized and not void. */
const CREDITABLE = ['open', 'paid', 'uncollectible']

/**
 * Issues a credit note by hand.
 *
 * @throws Problem `not-found`; `invalid-request` naming the field; `conflict` when the invoice cannot be credited, or
 *   the key belongs to another request
 */
export async function issueCreditNote(
  { pool, now, newCreditNoteId }: CreditNoteDependencies,
  { organizationId, apiKeyId }: Issuer,
  request: {
    readonly invoiceId: string
    readonly reason: string
    readonly credit: CreditRequest
    readonly idempotencyKey: string | undefined
    readonly preview: boolean
  },
): Promise<Issued> {
  const { invoiceId, reason, credit } = request
  const id = newCreditNoteId()
  const key = `key:${request.idempotencyKey ?? id}`
  const requestHash = hash('sha256', JSON.stringify([invoiceId.toLowerCase(), reason, credit]), 'buffer')
  return inTransaction(pool, async (client) => {
    const invoice = await lockedInvoice(client, organizationId, invoiceId)
    const standing = await findCreditNote(client, organizationId, { idempotencyKey: key })
    if (standing !== undefined) {
      if (!standing.requestHash?.equals(requestHash)) throw keyTaken()
      return { kind: 'repeat', note: standing }
    }
    mustBeCreditable(invoice)
    const { creditable, lines } = await creditableInvoice(client, invoice)
    const plan = planCredit(creditable, credit)
    if (!plan.ok) {
      throw new Problem({
        code: 'invalid-request',
        detail: 'This is not what can be credited. No credit note was issued.',
        errors: plan.issues,
      })
    }
    if (request.preview) {
      const described = describedLines(plan.lines, lines)
      return {
        kind: 'preview',
        note: { invoice, reason, correctionId: null, total: plan.total, lines: described },
      }
    }
    await insertCreditNote(client, {
      ...{ id, invoice, reason, apiKeyId, requestHash, idempotencyKey: key },
      ...{ correctionId: null, externalId: null, voidedAt: null, createdAt: now() },
      ...{ total: plan.total, lines: plan.lines },
    })
    return { kind: 'issued', note: await written(client, organizationId, id) }
  })
}

/** What came of a correction. */
export interface CreditedCorrection {
  readonly notes: readonly Issued[]
  /** Entries that no note settles, and why; they come into the next invoice or are in one. */
  readonly left: readonly { readonly customer: string; readonly reason: string; readonly entries: number }[]
}

/**
 * Issues the credit notes of a correction: one for each finalized invoice that becomes less by it. All of them or none.
 *
 * @throws Problem `not-found`; `conflict` when there is nothing to credit, saying why
 */
export async function creditCorrection(
  dependencies: CreditNoteDependencies,
  issuer: Issuer,
  request: {
    readonly correctionId: string
    readonly customer: string | undefined
    readonly reason: string | undefined
    readonly preview: boolean
  },
): Promise<CreditedCorrection> {
  const { organizationId } = issuer
  const correctionId = request.correctionId.toLowerCase()
  return inTransaction(dependencies.pool, async (client) => {
    const all = await customersOfCorrection(client, organizationId, correctionId)
    if (all === undefined) {
      throw new Problem({ code: 'not-found', detail: 'There is no correction with this id.' })
    }
    const customers = all.filter((one) => request.customer === undefined || one === request.customer)
    const notes: Issued[] = []
    const left: CreditedCorrection['left'][number][] = []
    for (const customer of customers) {
      await lockCustomerInvoices(client, organizationId, customer)
      const entries = await readCorrectionEntries(client, { organizationId, correctionId, customer })
      const frozen = entries.find(({ frozenIn }) => frozenIn !== null)?.frozenIn
      if (frozen !== undefined && frozen !== null) {
        const name = frozen.number ?? frozen.id
        left.push({ customer, reason: `Invoice ${name} has them already.`, entries: entries.length })
        continue
      }
      const rest = new Tally()
      for (const [invoiceId, group] of groupedBy(entries, ({ invoiceId }) => invoiceId)) {
        if (invoiceId === null) {
          rest.add('Their events are on no finalized invoice of the customer.', group.length)
          continue
        }
        const issued = await creditInvoice(client, dependencies, issuer, {
          invoiceId,
          correctionId,
          entries: group,
          reason: request.reason,
          preview: request.preview,
          rest,
        })
        if (issued !== undefined) notes.push(issued)
      }
      left.push(...rest.reasons().map((one) => ({ customer, ...one })))
    }
    if (notes.some(({ kind }) => kind !== 'repeat')) return { notes, left }
    const standing = await client.query<{ idempotency_key: string }>(
      `select note.idempotency_key
       from credit_note as note
       join invoice using (organization_id, invoice_id)
       where note.organization_id = $1 and note.correction_id = $2 and invoice.customer_id = any($3::text[])
       order by note.created_at, note.credit_note_id`,
      [organizationId, correctionId, customers],
    )
    for (const { idempotency_key: idempotencyKey } of standing.rows) {
      const note = await findCreditNote(client, organizationId, { idempotencyKey })
      if (note !== undefined) notes.push({ kind: 'repeat', note })
    }
    if (notes.length === 0) throw nothingToCredit(left)
    return { notes, left }
  })
}

async function creditInvoice(
  client: PoolClient,
  { now, newCreditNoteId }: CreditNoteDependencies,
  { organizationId, apiKeyId }: Issuer,
  request: {
    readonly invoiceId: string
    readonly correctionId: string
    readonly entries: readonly CorrectionEntry[]
    readonly reason: string | undefined
    readonly preview: boolean
    readonly rest: Tally
  },
): Promise<Issued | undefined> {
  const { correctionId, entries, rest } = request
  const invoice = await findInvoice(client, organizationId, request.invoiceId)
  if (invoice === undefined) return undefined
  await lockInvoice(client, invoice)
  const { creditable, lines } = await creditableInvoice(client, invoice)
  const usages = usagesOf(entries, invoice, lines, rest)
  const usageBefore = lines
    .filter(({ kind }) => kind === 'usage')
    .reduce((sum, line) => sum.plus(decimal(line.exactAmount)), ZERO)
    .plus(await settledAmount(client, organizationId, invoice.id))
  const credit = planCorrectionCredit(creditable, invoice.profile, usageBefore, usages)
  const countOf = (some: readonly CorrectedUsage[]) => some.reduce((sum, one) => sum + one.entries.length, 0)
  if (credit.kind === 'nothing') {
    rest.add(credit.reason, countOf(usages))
    return undefined
  }
  rest.add('Their lines do not become less.', countOf(usages) - countOf(credit.settled))
  const reason = request.reason ?? `Correction ${correctionId}`
  if (request.preview) {
    const described = describedLines(credit.lines, lines)
    return { kind: 'preview', note: { invoice, reason, correctionId, total: credit.total, lines: described } }
  }
  const id = newCreditNoteId()
  await insertCreditNote(client, {
    ...{ id, invoice, reason, correctionId, apiKeyId },
    // What it settles makes it the only one of its kind; entries that are priced later may need another.
    idempotencyKey: `correction:${correctionId}:${invoice.id}:${credit.settled[0]?.entries[0]?.eventId ?? ''}`,
    ...{ requestHash: null, externalId: null, createdAt: now(), voidedAt: null },
    ...{ total: credit.total, lines: credit.lines },
  })
  await insertCreditedEntries(
    client,
    { organizationId, creditNoteId: id },
    credit.settled.flatMap(({ lineNo, entries: settled }) =>
      settled.map(({ eventId, amount }) => ({ eventId, lineNo, amount: textOf(amount) })),
    ),
  )
  return { kind: 'issued', note: await written(client, organizationId, id) }
}

/** What the correction did to each event, where it can be told to a line. A reversal and its replacement go together. */
function usagesOf(
  entries: readonly CorrectionEntry[],
  invoice: Invoice,
  lines: readonly InvoiceLine[],
  rest: Tally,
): readonly CorrectedUsage[] {
  return [...groupedBy(entries, ({ originalId }) => originalId)].flatMap(([, group]) => {
    const line = group[0] === undefined ? undefined : lineOf(group[0], lines)
    const amounts = group.map((entry) => amountOf(entry, invoice.currency, lines))
    const known = amounts.filter((amount) => amount !== undefined)
    if (line === undefined) rest.add('Their events are on several lines, by meter.', group.length)
    else if (group.some(({ isUnpriced }) => isUnpriced)) rest.add('They came without a price.', group.length)
    else if (known.length < group.length)
      rest.add('The invoice has no rate for their currency.', group.length)
    else {
      return [
        {
          lineNo: line.lineNo,
          entries: group.map(({ eventId }, index) => ({ eventId, amount: known[index] ?? ZERO })),
        },
      ]
    }
    return []
  })
}

/**
 * Voids a credit note that was issued by hand.
 *
 * @throws Problem `not-found`; `conflict` when it has settled entries of the ledger, which later invoices leave out, or
 *   another system was told of it, or issued it
 */
export async function voidCreditNote(
  { pool, now }: Pick<CreditNoteDependencies, 'pool' | 'now'>,
  organizationId: string,
  creditNoteId: string,
): Promise<CreditNote> {
  return inTransaction(pool, async (client) => {
    const found = await findCreditNote(client, organizationId, { id: creditNoteId })
    if (found === undefined) throw noSuchNote()
    await lockCustomerInvoices(client, organizationId, found.customer)
    if (found.externalId !== null) throw cannotVoid('Stripe issued it: void it there.')
    const { settles, isTold } = await tiesOf(client, organizationId, found)
    if (settles) throw cannotVoid('It has settled entries of a correction, which no invoice will have again.')
    if (isTold) throw cannotVoid('Another system was told of it: void it there.')
    await markVoid(client, organizationId, found.id, now())
    return written(client, organizationId, found.id)
  })
}

async function lockedInvoice(
  client: PoolClient,
  organizationId: string,
  invoiceId: string,
): Promise<Invoice> {
  const found = await findInvoice(client, organizationId, invoiceId.toLowerCase())
  if (found === undefined)
    throw new Problem({ code: 'not-found', detail: 'There is no invoice with this id.' })
  await lockCustomerInvoices(client, organizationId, found.customer)
  await lockInvoice(client, found)
  // As it is now that nobody else changes it.
  return (await findInvoice(client, organizationId, found.id)) ?? found
}

function mustBeCreditable({ status }: Invoice): void {
  if (CREDITABLE.includes(status)) return
  throw new Problem({
    code: 'conflict',
    detail:
      status === 'void'
        ? 'The invoice is void.'
        : `The invoice is not finalized, but ${status}: change it instead.`,
  })
}

async function written(client: PoolClient, organizationId: string, id: string): Promise<CreditNote> {
  const note = await findCreditNote(client, organizationId, { id })
  if (note === undefined) throw new Error(`the credit note ${id} was not written`)
  return note
}

function describedLines(
  credited: readonly CreditedLine[],
  lines: readonly InvoiceLine[],
): PreparedNote['lines'] {
  return credited.map((one) => ({
    ...one,
    description: lines.find(({ lineNo }) => lineNo === one.lineNo)?.description ?? '',
  }))
}

function textOf(amount: Decimal): string {
  return decimalText(amount)
}

/** Counts entries by why they are left. */
class Tally {
  readonly #entries = new Map<string, number>()

  add(reason: string, entries: number): void {
    if (entries > 0) this.#entries.set(reason, (this.#entries.get(reason) ?? 0) + entries)
  }

  reasons(): readonly { readonly reason: string; readonly entries: number }[] {
    return [...this.#entries].map(([reason, entries]) => ({ reason, entries }))
  }
}

function groupedBy<Item, Key>(items: readonly Item[], keyOf: (item: Item) => Key): ReadonlyMap<Key, Item[]> {
  const groups = new Map<Key, Item[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}

function keyTaken(): Problem {
  return new Problem({
    code: 'conflict',
    detail: 'Another credit note has this key, and stands.',
    errors: [{ path: 'idempotency_key', message: 'belongs to another request' }],
  })
}

export function noSuchNote(): Problem {
  return new Problem({ code: 'not-found', detail: 'There is no credit note with this id.' })
}

function cannotVoid(why: string): Problem {
  return new Problem({ code: 'conflict', detail: `This credit note cannot be voided here. ${why}` })
}

function nothingToCredit(left: CreditedCorrection['left']): Problem {
  const why = left.map(({ customer, reason, entries }) => `${customer}: ${entries} entries. ${reason}`)
  return new Problem({
    code: 'conflict',
    detail: ['There is nothing to credit.', ...why.slice(0, 20)].join(' '),
  })
}
