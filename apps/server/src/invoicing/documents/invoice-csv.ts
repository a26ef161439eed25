import { type InvoiceDocument, LINE_DIMENSIONS } from '@tokentally/core'

const COLUMNS = [
  'invoice_number',
  'line_no',
  'kind',
  'description',
  'is_late',
  ...LINE_DIMENSIONS,
  'events',
  'quantity',
  'sell_cost_usd',
  'amount',
  'currency',
]

/**
 * The lines of an invoice as CSV (RFC 4180), one row each, in their order. Text that a spreadsheet would take for a
 * formula begins with an apostrophe (OWASP, CSV Injection, read 2026-11-24); amounts are plain numbers.
 */
export function invoiceCsv({ invoice, lines }: InvoiceDocument): string {
  const rows = lines.map((line) => [
    textCell(invoice.number ?? ''),
    String(line.lineNo),
    line.kind,
    textCell(line.description),
    String(line.isLate),
    ...LINE_DIMENSIONS.map((name) => textCell(line.keys[name] ?? '')),
    String(line.events),
    line.quantity,
    line.sellCostUsd,
    line.amount,
    invoice.currency,
  ])
  return [COLUMNS, ...rows].map((cells) => `${cells.join(',')}\r\n`).join('')
}

function textCell(text: string): string {
  const guarded = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(guarded) ? `"${guarded.replaceAll('"', '""')}"` : guarded
}
