import type { FieldIssue } from '@tokentally/core'
import { XMLParser, XMLValidator } from 'fast-xml-parser'
import { z } from 'zod'

/**
 * The euro foreign exchange reference rates of the European Central Bank, in the forms in which it publishes them
 * (ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates, read 2026-11): XML
 * (`eurofxref-daily.xml`, `-hist.xml`, `-hist-90d.xml`) and CSV (`eurofxref.csv`, whose date is written
 * `20 November 2026`, and `eurofxref-hist.csv`). `N/A` is a currency that was not published that day.
 */

/** A rate of a day, as published. */
export interface DailyRate {
  /** `YYYY-MM-DD` */
  readonly day: string
  readonly currency: string
  /** Units of the currency for one euro, exact decimal text. */
  readonly unitsPerEur: string
}

/** The text is no file of reference rates; every problem is named by its line or its day. */
export class RatesFileError extends Error {
  override readonly name = 'RatesFileError'
  readonly issues: readonly FieldIssue[]

  constructor(issues: readonly FieldIssue[]) {
    super(issues.map(({ path, message }) => `${path}: ${message}`).join('; '))
    this.issues = issues
  }
}

/** 27 years of 41 currencies are 290,000. */
const RATES_MAX = 1_000_000
const ISSUES_MAX = 20
const CURRENCY = /^[A-Z]{3}$/
const RATE = /^\d{1,9}(\.\d{1,12})?$/

/**
 * Reads a file of reference rates, XML or CSV.
 *
 * @throws RatesFileError
 */
export function readRatesFile(text: string): readonly DailyRate[] {
  const content = text.replace(/^\uFEFF/, '').trimStart()
  if (content === '') throw new RatesFileError([{ path: 'line 1', message: 'the file is empty' }])
  if (content.startsWith('PK')) {
    throw new RatesFileError([{ path: 'line 1', message: 'this is a ZIP archive: send the file inside it' }])
  }
  const rates = content.startsWith('<') ? fromXml(content) : fromCsv(content)
  if (rates.length === 0) throw new RatesFileError([{ path: 'line 1', message: 'the file has no rate' }])
  return rates
}

const attribute = z.string().optional()
// An element without children is read as an empty text.
const children = <Item extends z.ZodType>(item: Item) => z.union([z.array(item), z.literal('')]).optional()
const rateCube = z.looseObject({ currency: attribute, rate: attribute })
const dayCube = z.looseObject({ time: attribute, Cube: children(rateCube) })
const envelope = z.looseObject({
  Envelope: z.looseObject({ Cube: z.array(z.looseObject({ Cube: children(dayCube) })) }),
})

function fromXml(text: string): readonly DailyRate[] {
  // The file has none, and entities are how a small file becomes a large one.
  if (/<!DOCTYPE/i.test(text)) throw unlike('a document type definition has no place here')
  const valid = XMLValidator.validate(text)
  if (valid !== true) {
    const { line, col, msg } = valid.err
    throw new RatesFileError([{ path: `line ${line}`, message: `column ${col}: ${msg}` }])
  }
  const parser = new XMLParser({
    ignoreAttributes: false,
    attributeNamePrefix: '',
    parseAttributeValue: false,
    processEntities: false,
    removeNSPrefix: true,
    isArray: (name) => name === 'Cube',
  })
  const parsed = envelope.safeParse(parse(parser, text))
  if (!parsed.success) throw unlike('this is no file of reference rates: Envelope with Cube expected')
  const found = new Rates()
  for (const { Cube: days } of parsed.data.Envelope.Cube) {
    for (const { time, Cube: rates } of listOf(days)) {
      const day = time === undefined ? undefined : dayOf(time)
      if (day === undefined) {
        found.complain(`day ${JSON.stringify(time ?? null)}`, 'must be a date such as 2026-11-20')
        continue
      }
      for (const { currency, rate } of listOf(rates)) found.add(`day ${day}`, day, currency ?? '', rate ?? '')
    }
  }
  return found.list()
}

/** What the validator lets pass and the parser does not. */
function parse(parser: XMLParser, text: string): unknown {
  try {
    return parser.parse(text)
  } catch (error) {
    throw unlike(error instanceof Error ? error.message : 'this is no XML')
  }
}

function listOf<Item>(value: readonly Item[] | '' | undefined): readonly Item[] {
  return value === undefined || value === '' ? [] : value
}

function fromCsv(text: string): readonly DailyRate[] {
  const [header = '', ...lines] = text.split(/\r?\n/)
  const [first, ...currencies] = cellsOf(header)
  if (first !== 'Date') throw unlike('the first line must begin with "Date", or the file be XML')
  const found = new Rates()
  for (const [index, currency] of currencies.entries()) {
    if (!CURRENCY.test(currency))
      found.complain('line 1', `column ${index + 2} is no currency: ${JSON.stringify(currency)}`)
    if (currencies.indexOf(currency) !== index) found.complain('line 1', `${currency} has two columns`)
  }
  lines.forEach((line, index) => {
    if (line.trim() === '') return
    const path = `line ${index + 2}`
    const [date = '', ...cells] = cellsOf(line)
    const day = dayOf(date)
    if (day === undefined) {
      found.complain(path, `${JSON.stringify(date)} is no date such as 2026-11-20 or 20 November 2026`)
    } else if (cells.length !== currencies.length) {
      found.complain(path, `has ${cells.length} rates for ${currencies.length} currencies`)
    } else {
      cells.forEach((cell, column) => {
        if (cell !== 'N/A' && cell !== '') found.add(path, day, currencies[column] ?? '', cell)
      })
    }
  })
  return found.list()
}

/** The cells of a line; each line of the bank ends in a comma, after which there is nothing. */
function cellsOf(line: string): readonly string[] {
  const cells = line.split(',').map((cell) => cell.trim())
  return cells.at(-1) === '' ? cells.slice(0, -1) : cells
}

/** Collects rates, and what is wrong with them. */
class Rates {
  readonly #rates = new Map<string, DailyRate>()
  readonly #issues: FieldIssue[] = []

  add(path: string, day: string, currency: string, unitsPerEur: string): void {
    const key = `${day} ${currency}`
    if (!CURRENCY.test(currency)) this.complain(path, `${JSON.stringify(currency)} is no currency`)
    else if (currency === 'EUR') this.complain(path, 'EUR is what the others are counted in')
    else if (!RATE.test(unitsPerEur) || Number(unitsPerEur) === 0) {
      this.complain(path, `${currency}: ${JSON.stringify(unitsPerEur)} is no rate above zero`)
    } else if (this.#rates.has(key)) this.complain(path, `${currency} stands twice for ${day}`)
    else if (this.#rates.size >= RATES_MAX) throw unlike(`more than ${RATES_MAX} rates`)
    else this.#rates.set(key, { day, currency, unitsPerEur })
  }

  complain(path: string, message: string): void {
    if (this.#issues.length < ISSUES_MAX) this.#issues.push({ path, message })
  }

  /** @throws RatesFileError */
  list(): readonly DailyRate[] {
    if (this.#issues.length > 0) throw new RatesFileError(this.#issues)
    return [...this.#rates.values()]
  }
}

const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
]

function dayOf(text: string): string | undefined {
  const [, date, month, year] = /^(\d{1,2}) ([A-Z][a-z]+) (\d{4})$/.exec(text) ?? []
  const written =
    date === undefined || month === undefined
      ? text
      : `${year}-${String(MONTHS.indexOf(month) + 1).padStart(2, '0')}-${date.padStart(2, '0')}`
  if (!/^\d{4}-\d{2}-\d{2}$/.test(written)) return undefined
  const ms = Date.parse(`${written}T00:00:00Z`)
  // Rules out days that JavaScript would move on, such as 30 February.
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(written) ? written : undefined
}

function unlike(message: string): RatesFileError {
  return new RatesFileError([{ path: 'line 1', message }])
}
