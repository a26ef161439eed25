export { takePosition } from './closing-store.ts'
export { readRates } from './compute-invoice.ts'
export { registerCreditNoteRoutes } from './credit-note-routes.ts'
export { registerDocumentRoutes } from './documents/document-routes.ts'
export { type EntriesScope, entriesParameters, entriesSql } from './entries.ts'
export { invoiceCsv } from './invoice-csv.ts'
export { registerInvoiceRoutes } from './invoice-routes.ts'
export { findInvoice, findInvoiceDocument, invoiceOf, linesOf } from './invoice-store.ts'
export { defineInvoicingJobs } from './jobs.ts'
export { linesOfEvent } from './line-entries.ts'
export { takeNumbers } from './numbers.ts'
export {
  applyDispute,
  applyInvoiceStatus,
  invoiceOfStripe,
  learnStripeInvoice,
  noteInvoiceFailure,
  notePayment,
  paymentState,
} from './payment-state.ts'
export { registerPayoutRoutes } from './payout-routes.ts'
export { applyPayoutMessage, findPayout } from './payout-store.ts'
export { registerProfileRoutes } from './profile-routes.ts'
export { registerSellerRoutes } from './seller-routes.ts'
export { registerInvoiceSimulationRoutes } from './simulation-routes.ts'
export { recordForeignCreditNote } from './stripe-credit-note.ts'
