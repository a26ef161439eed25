import type { InvoiceDocument } from '@tokentally/core'
import type { z } from 'zod'
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
  /** What it does, unique among the steps that are planned with it: `create_invoice`, `add_item:3`. */
  readonly action: string
  readonly payload: JsonObject
}

export interface StepContext {
  readonly organizationId: string
  /** Of this organization for this system, as its schema gave them; secrets are open. */
  readonly settings: JsonObject
  readonly secrets: Readonly<Record<string, string>>
  /** No other step has it. The same for every attempt, until the other system has settled it on a failure. */
  readonly idempotencyKey: string
  /** 0 at first; one more with each key that was settled on a failure: then look whether it was done after all. */
  readonly keyGeneration: number
  /** When this key was first used: an attempt long after must look whether it was done, for keys are forgotten. */
  readonly keySince: Date
  /** The time of this attempt. */
  readonly at: Date
  /** From 1. */
  readonly attempt: number
  /** By action, results of the steps before: of the same document, and of the invoice that it is about. */
  readonly earlier: Readonly<Record<string, JsonObject>>
}

export type StepOutcome =
  /** `result`: ids that later steps and the reconciliation need. */
  | { readonly kind: 'done'; readonly result: JsonObject }
  /** Not known to be done, or known not to be: it is tried again, later each time. */
  | {
      readonly kind: 'retry'
      readonly reason: string
      readonly retryAfterMs?: number
      /** The other system would answer this key with the same failure for ever. */
      readonly isKeySettled?: boolean
    }
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
  /** Values of a profile's `system` that mean this one. Default: its name. */
  readonly profileSystems?: readonly string[]
  /** What an organization sets; parsing gives the defaults. Its messages are shown to the caller. */
  readonly settingsSchema: z.ZodType<JsonObject>
  /** Of the secrets that go with the settings, stored sealed and never shown. */
  readonly secretNames: readonly string[]
  /** Pure: the same document gives the same steps. None: it is not told. */
  invoiceSteps(document: InvoiceDocument, settings: JsonObject): readonly PlannedStep[]
  /** Asked only where the system has steps of the invoice. */
  creditNoteSteps(document: CreditNoteDocument, settings: JsonObject): readonly PlannedStep[]
  /** Asked only where the system has steps of the invoice. */
  voidSteps(document: InvoiceDocument, settings: JsonObject): readonly PlannedStep[]
  /** Never throws what an outcome can say; what it throws counts as `retry`. Ends within `PERFORM_MAX_MS`. */
  perform(step: PlannedStep, context: StepContext): Promise<StepOutcome>
}

/** Whether a customer's profile sends invoices to a system. */
export function isNamedBy(system: BillingSystem, profileSystem: string): boolean {
  return (system.profileSystems ?? [system.name]).includes(profileSystem)
}
