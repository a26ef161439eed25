export { type ClosingDependencies, type ClosingRequest, closeCycles } from './close-cycles.ts'
export { takePosition } from './closing-store.ts'
export {
  computeDraft,
  computeInvoices,
  type InvoiceInputs,
  type InvoiceSource,
  readInputs,
  readRates,
} from './compute-invoice.ts'
export { registerCreditNoteRoutes } from './credit-note-routes.ts'
export { registerDocumentRoutes } from './documents/document-routes.ts'
export { type EntriesScope, entriesParameters, entriesSql } from './entries.ts'
export { existingInvoice, type InvoiceId } from './invoice-actions.ts'
export { invoiceCsv } from './invoice-csv.ts'
export { invoiceToJson, invoiceWithLinesToJson } from './invoice-json.ts'
export { registerInvoiceRoutes } from './invoice-routes.ts'
export { findInvoice, findInvoiceDocument, invoiceOf, linesOf, SELECT_INVOICES } from './invoice-store.ts'
export type { CreditNoteDependencies } from './issue-credit-note.ts'
export { defineInvoicingJobs } from './jobs.ts'
export { type LineEntry, type LineOfEvent, linesOfEvent, listLineEntries } from './line-entries.ts'
export { lockCustomerInvoices } from './lock.ts'
export { takeNumbers } from './numbers.ts'
export {
  applyDispute,
  applyInvoiceStatus,
  type Dispute,
  invoiceOfStripe,
  learnStripeInvoice,
  noteInvoiceFailure,
  notePayment,
  type PaymentState,
  paymentState,
} from './payment-state.ts'
export { registerPayoutRoutes } from './payout-routes.ts'
export { applyPayoutMessage, findPayout, PAYOUT_STATUSES, type PayoutStatus } from './payout-store.ts'
export { registerProfileRoutes } from './profile-routes.ts'
export { registerSellerRoutes } from './seller-routes.ts'
export { registerInvoiceSimulationRoutes } from './simulation-routes.ts'
export { recordForeignCreditNote } from './stripe-credit-note.ts'
export { usageSums } from './usage-sums.ts'
