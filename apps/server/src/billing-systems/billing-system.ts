import type { InvoiceDocument } from '@tokentally/core'
import type { JsonObject } from './json.ts'

/**
 * Another system that is told of finalized invoices and credit notes: Stripe, Chargebee, a webhook, files, the
 * general ledger of QuickBooks or NetSuite. What it is told is planned as steps, written together with what they
 * tell of, and done one by one by the outbox.
 */

/** `customer`: for customers whose billing profile names it. `every`: for every invoice of the organization. */
export type SystemReach = 'customer' | 'every'

/** One outgoing call. Everything in it is settled when it is planned. */
export interface PlannedStep {
  /** What it does, unique among the steps of its stream: `create_invoice`, `add_item:3`. */
  readonly action: string
  readonly payload: JsonObject
}

export interface StepContext {
  readonly organizationId: string
  /** Of this organization for this system; secrets are open. */
  readonly settings: JsonObject
  readonly secrets: Readonly<Record<string, string>>
  /** The same for every attempt, and for no other step. */
  readonly idempotencyKey: string
  /** From 1. */
  readonly attempt: number
  /** Results of the stream's steps before, by action. */
  readonly earlier: Readonly<Record<string, JsonObject>>
}

export type StepOutcome =
  /** `result`: ids that later steps and the reconciliation need. */
  | { readonly kind: 'done'; readonly result: JsonObject }
  /** Not known to be done, or known not to be: it is tried again, later each time. */
  | { readonly kind: 'retry'; readonly reason: string; readonly retryAfterMs?: number }
  /** It would never succeed as it is; the reason stands on the invoice until a person tries it again. */
  | { readonly kind: 'refused'; readonly reason: string }

/** A credit note as other systems need it, with the invoice that it is about. */
export interface CreditNoteDocument {
  readonly id: string
  readonly number: string
  readonly reason: string
  readonly currency: string
  /** Decimal text. */
  readonly total: string
  readonly createdAt: Date
  readonly lines: readonly { readonly lineNo: number; readonly amount: string }[]
  readonly invoice: InvoiceDocument
}

export interface BillingSystem {
  /** As in `outbox_step.system` and `billing_system_settings.system`. */
  readonly name: string
  readonly reach: SystemReach
  /** Pure: the same document gives the same steps. */
  invoiceSteps(document: InvoiceDocument, settings: JsonObject): readonly PlannedStep[]
  creditNoteSteps(document: CreditNoteDocument, settings: JsonObject): readonly PlannedStep[]
  voidSteps(document: InvoiceDocument, settings: JsonObject): readonly PlannedStep[]
  /** Never throws what an outcome can say; what it throws counts as `retry`. */
  perform(step: PlannedStep, context: StepContext): Promise<StepOutcome>
}
