import { setImmediate } from 'node:timers/promises'
import { decimal, type Invoice, type InvoiceDocument, type InvoiceLine, ZERO } from '@tokentally/core'
import PDFDocument from 'pdfkit'
import type { NamedSeller } from '../seller-store.ts'
import { amountText, conversionTexts, dayText, numberText, periodText, stampOf } from './document-text.ts'
import { type Align, drawText, type TextStyle, textWidth, wrapText } from './pdf-text.ts'

/**
 * An invoice as a PDF document on A4 pages: who, to whom, the lines, the total. The same invoice and seller give the
 * same bytes. A draft says so across each page, as does a void one.
 */

const PAGE = { width: 595.28, height: 841.89 }
const LEFT = 56
const RIGHT = PAGE.width - 56
const TOP = 64
/** Lines of the table end above it; the footer is below. */
const BOTTOM = PAGE.height - 104
const COLUMN = { quantity: RIGHT - 110, description: RIGHT - 110 - 90 - LEFT }

const LINES_AT_ONCE = 20
const DESCRIPTION_LINES_MAX = 12

const INK = '#1c2733'
const GREY = '#5c6a78'
const RULE = '#d5dbe1'
const ACCENT = '#1f5fbf'
const AMBER = '#9a5b00'
const style = (size: number, weight: TextStyle['weight'] = 'regular', color = INK): TextStyle => ({
  size,
  weight,
  color,
})
const BODY = style(9.5)
const STRONG = style(9.5, 'bold')
const SMALL = style(8, 'regular', GREY)
const LABEL = style(8, 'bold', GREY)
const TITLE = style(22, 'bold', ACCENT)

/** Where the next thing goes; turns pages. */
interface Sheet {
  readonly doc: PDFKit.PDFDocument
  y: number
}

/** @returns the file */
export async function invoicePdf(document: InvoiceDocument, seller: NamedSeller): Promise<Buffer> {
  const { invoice, lines } = document
  const doc = new PDFDocument({
    size: 'A4',
    margin: 0,
    bufferPages: true,
    lang: 'en',
    displayTitle: true,
    info: {
      Title: `Invoice ${nameOf(invoice)}`,
      Author: seller.name,
      Creator: 'TokenTally',
      // Else it is the present time, and no two files are alike.
      CreationDate: invoice.finalizedAt ?? invoice.createdAt,
    },
  })
  const chunks: Buffer[] = []
  const finished = new Promise<Buffer>((resolve, reject) => {
    doc.on('data', (chunk: Buffer) => chunks.push(chunk))
    doc.on('end', () => resolve(Buffer.concat(chunks)))
    doc.on('error', reject)
  })
  const sheet: Sheet = { doc, y: TOP }
  drawStamp(doc, invoice)
  drawHead(sheet, invoice, seller)
  await drawTable(sheet, invoice, lines)
  drawTotals(sheet, document)
  drawNotes(sheet, invoice)
  drawFeet(doc, invoice, seller)
  doc.end()
  return finished
}

function nameOf({ number, id }: Invoice): string {
  return number ?? `draft ${id.slice(0, 8)}`
}

function drawHead(sheet: Sheet, invoice: Invoice, seller: NamedSeller): void {
  const { doc } = sheet
  drawText(doc, 'Invoice', { x: RIGHT, y: TOP + 12, align: 'right' }, TITLE)
  drawText(doc, invoice.number ?? 'not numbered yet', { x: RIGHT, y: TOP + 30, align: 'right' }, STRONG)
  const sellerEnd = drawBlock(doc, [seller.name], { x: LEFT, y: TOP + 10, width: 300 }, style(15, 'bold'))
  const details = [...seller.address, seller.tax_id ?? '', seller.email ?? ''].filter((text) => text !== '')
  const headEnd = Math.max(drawBlock(doc, details, { x: LEFT, y: sellerEnd, width: 300 }, SMALL), TOP + 44)

  const top = headEnd + 26
  drawText(doc, 'BILL TO', { x: LEFT, y: top }, LABEL)
  const { profile } = invoice
  const nameEnd = drawBlock(
    doc,
    [profile.name ?? invoice.customer],
    { x: LEFT, y: top + 16, width: 230 },
    STRONG,
  )
  const to = [...profile.address, profile.email ?? ''].filter((text) => text !== '')
  const toEnd = drawBlock(doc, to, { x: LEFT, y: nameEnd, width: 230 }, BODY)

  let y = top
  for (const [label, value] of factsOf(invoice)) {
    drawText(doc, label, { x: 330, y }, SMALL)
    for (const part of wrapText(doc, value, RIGHT - 400, BODY)) {
      drawText(doc, part, { x: 400, y }, BODY)
      y += 14
    }
    y += 2
  }
  sheet.y = Math.max(toEnd, y) + 18
}

function factsOf(invoice: Invoice): readonly (readonly [label: string, value: string])[] {
  const { profile } = invoice
  const day = (at: Date) => dayText(at, profile.timezone)
  return [
    ['Issued', invoice.finalizedAt === null ? 'not issued' : day(invoice.finalizedAt)],
    ...(invoice.dueAt === null ? [] : [['Due', day(invoice.dueAt)] as const]),
    ...(invoice.paidAt === null ? [] : [['Paid', day(invoice.paidAt)] as const]),
    ...(invoice.voidedAt === null ? [] : [['Voided', day(invoice.voidedAt)] as const]),
    ['Period', periodText(invoice)],
    ['Customer', invoice.customer],
    ['Currency', invoice.currency],
  ]
}

/** Draws lines under each other, wrapped. @returns the baseline of what would come next */
function drawBlock(
  doc: PDFKit.PDFDocument,
  texts: readonly string[],
  { x, y, width }: { readonly x: number; readonly y: number; readonly width: number },
  text: TextStyle,
): number {
  let next = y
  for (const line of texts.flatMap((one) => wrapText(doc, one, width, text))) {
    drawText(doc, line, { x, y: next }, text)
    next += text.size * 1.45
  }
  return next
}

async function drawTable(sheet: Sheet, invoice: Invoice, lines: readonly InvoiceLine[]): Promise<void> {
  drawTableHead(sheet, invoice)
  for (const [index, line] of lines.entries()) {
    drawLine(sheet, invoice, line)
    // A long invoice takes seconds, during which other requests are answered.
    if (index % LINES_AT_ONCE === LINES_AT_ONCE - 1) await setImmediate()
  }
  if (lines.length > 0) return
  const nothing = invoice.status === 'pending' ? 'Not computed yet.' : 'No usage in this period.'
  drawText(sheet.doc, nothing, { x: LEFT, y: sheet.y }, style(9.5, 'regular', GREY))
  sheet.y += 20
}

function drawTableHead(sheet: Sheet, { profile, currency }: Invoice): void {
  const { doc } = sheet
  const units = profile.lines_by.includes('meter') ? 'UNITS' : 'TOKENS'
  drawText(doc, 'DESCRIPTION', { x: LEFT, y: sheet.y }, LABEL)
  drawText(doc, units, { x: COLUMN.quantity, y: sheet.y, align: 'right' }, LABEL)
  drawText(doc, `AMOUNT (${currency})`, { x: RIGHT, y: sheet.y, align: 'right' }, LABEL)
  rule(doc, sheet.y + 7, INK, 0.8)
  sheet.y += 22
}

function drawLine(sheet: Sheet, invoice: Invoice, line: InvoiceLine): void {
  const { doc } = sheet
  const description = shortened(wrapText(doc, line.description, COLUMN.description, BODY))
  const conversions = conversionTexts(line, invoice.currency).flatMap((text) =>
    wrapText(doc, text, COLUMN.description, SMALL),
  )
  const details = [
    ...(line.isLate ? [{ text: 'Late usage of an earlier period', style: style(8, 'bold', AMBER) }] : []),
    ...conversions.map((text) => ({ text, style: SMALL })),
  ]
  const height = description.length * 13.5 + details.length * 11.5 + 9
  if (sheet.y + height - 9 > BOTTOM) turnPage(sheet, invoice, true)
  if (line.kind === 'usage') {
    cell(doc, numberText(line.quantity), COLUMN.quantity, sheet.y, 'right')
  }
  cell(doc, amountText(line.amount, invoice.currency), RIGHT, sheet.y, 'right')
  for (const text of description) {
    cell(doc, text, LEFT, sheet.y, 'left')
    sheet.y += 13.5
  }
  for (const detail of details) {
    drawText(doc, detail.text, { x: LEFT, y: sheet.y - 1 }, detail.style)
    sheet.y += 11.5
  }
  rule(doc, sheet.y - 5.5, RULE, 0.5)
  sheet.y += 9
}

/** No line of the invoice is longer than a page, whatever its dimensions are called. */
function shortened(lines: readonly string[]): readonly string[] {
  if (lines.length <= DESCRIPTION_LINES_MAX) return lines
  return [...lines.slice(0, DESCRIPTION_LINES_MAX - 1), `${lines[DESCRIPTION_LINES_MAX - 1] ?? ''}…`]
}

function cell(doc: PDFKit.PDFDocument, text: string, x: number, y: number, align: Align): void {
  drawText(doc, text, { x, y, align }, BODY)
}

function drawTotals(sheet: Sheet, { invoice, lines }: InvoiceDocument): void {
  const { currency } = invoice
  const usage = lines
    .filter(({ kind }) => kind === 'usage')
    .reduce((sum, { amount }) => sum.plus(decimal(amount)), ZERO)
  const credited = decimal(invoice.credited)
  const total = decimal(invoice.total)
  const isAdjusted = lines.some(({ kind }) => kind !== 'usage')
  const rows = [
    ...(isAdjusted ? [{ label: 'Usage', amount: usage }] : []),
    { label: 'Total', amount: total, isStrong: true },
    ...(credited.gt(ZERO)
      ? [
          { label: 'Credited', amount: credited.times(decimal('-1')) },
          { label: 'Total less credits', amount: total.minus(credited), isStrong: true },
        ]
      : []),
  ]
  if (sheet.y + rows.length * 20 > BOTTOM) turnPage(sheet, invoice, false)
  sheet.y += 8
  for (const { label, amount, isStrong } of rows) {
    const text = isStrong === true ? style(12, 'bold') : BODY
    drawText(sheet.doc, label, { x: 330, y: sheet.y }, text)
    drawText(sheet.doc, amountText(amount, currency), { x: RIGHT, y: sheet.y, align: 'right' }, text)
    sheet.y += 20
  }
}

function drawNotes(sheet: Sheet, invoice: Invoice): void {
  const notes = [...(invoice.reason === null ? [] : [invoice.reason]), ...invoice.notes]
  if (notes.length === 0) return
  const { doc } = sheet
  if (sheet.y + 40 > BOTTOM) turnPage(sheet, invoice, false)
  sheet.y += 10
  drawText(doc, 'NOTES', { x: LEFT, y: sheet.y }, LABEL)
  sheet.y += 15
  for (const line of notes.flatMap((note) => wrapText(doc, note, RIGHT - LEFT, SMALL))) {
    if (sheet.y > BOTTOM) turnPage(sheet, invoice, false)
    drawText(doc, line, { x: LEFT, y: sheet.y }, SMALL)
    sheet.y += 12
  }
}

function turnPage(sheet: Sheet, invoice: Invoice, hasTable: boolean): void {
  sheet.doc.addPage()
  drawStamp(sheet.doc, invoice)
  sheet.y = TOP
  if (hasTable) drawTableHead(sheet, invoice)
}

function drawStamp(doc: PDFKit.PDFDocument, invoice: Invoice): void {
  const stamp = stampOf(invoice)
  if (stamp === undefined) return
  const text = style(120, 'bold', stamp === 'VOID' ? '#c62828' : GREY)
  doc.save().opacity(0.1)
  doc.rotate(-35, { origin: [PAGE.width / 2, PAGE.height / 2] })
  drawText(doc, stamp, { x: PAGE.width / 2, y: PAGE.height / 2 + 40, align: 'center' }, text)
  doc.restore().opacity(1)
}

/** What stands at the foot of each page: only now their number is known. */
function drawFeet(doc: PDFKit.PDFDocument, invoice: Invoice, seller: NamedSeller): void {
  const { start, count } = doc.bufferedPageRange()
  for (let page = 0; page < count; page++) {
    doc.switchToPage(start + page)
    const footer = page === 0 || page === count - 1 ? seller.footer : []
    rule(doc, BOTTOM + 18, RULE, 0.5)
    const pages = `Page ${page + 1} of ${count}`
    drawText(doc, pages, { x: RIGHT, y: BOTTOM + 32, align: 'right' }, SMALL)
    drawText(doc, `Invoice ${nameOf(invoice)}`, { x: LEFT, y: BOTTOM + 32 }, SMALL)
    let y = BOTTOM + 46
    for (const line of footer) {
      drawText(doc, fitted(doc, line, RIGHT - LEFT), { x: LEFT, y }, SMALL)
      y += 11
    }
  }
}

/** The text, cut where the page ends. */
function fitted(doc: PDFKit.PDFDocument, text: string, width: number): string {
  if (textWidth(doc, text, SMALL) <= width) return text
  return `${wrapText(doc, text, width - 10, SMALL)[0] ?? ''}…`
}

function rule(doc: PDFKit.PDFDocument, y: number, color: string, thickness: number): void {
  doc.save().moveTo(LEFT, y).lineTo(RIGHT, y).lineWidth(thickness).strokeColor(color).stroke().restore()
}
