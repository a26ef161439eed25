export { findInvoice, findInvoiceDocument, invoiceOf, linesOf, SELECT_INVOICES } from './invoice-store.ts'
export { lockCustomerInvoices } from './lock.ts'
