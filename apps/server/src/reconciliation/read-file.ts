import { createHash } from 'node:crypto'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { TextDecoder } from 'node:util'
import { createGunzip } from 'node:zlib'
import { isVendorSource, type VendorSourceName } from '@tokentally/core'
import {
  BillingError,
  type BillLine,
  columnName,
  LINE_FORMATS,
  type LineFormat,
  lineFormatOf,
  missingColumns,
  numbersAsText,
  REPORT_FORMATS,
  reportFormatOf,
} from '@tokentally/providers'
import { CsvError, parse } from 'csv-parse'
import { FigureSums, type ImportedFigures } from './imported.ts'

/**
 * Reads a vendor's file as it arrives: CSV and NDJSON line by line, whatever its size; a JSON document whole, up to
 * `JSON_MAX_BYTES`. Compressed files are told by their first bytes.
 */

/** A page of a report for a month by key and model has a few MB. */
const JSON_MAX_BYTES = 64 * 1024 * 1024
/** After decompression. */
const FILE_MAX_BYTES = 8 * 1024 ** 3
const RECORD_MAX_BYTES = 1024 * 1024
const GZIP = Buffer.from([0x1f, 0x8b])
const ZIP = Buffer.from('PK\u0003\u0004')

export interface FileOptions {
  /** Undefined: told by the file itself. */
  readonly source: VendorSourceName | undefined
  /** Undefined: what the file says, or ''. */
  readonly part: string | undefined
}

/** @throws BillingError that names the line and the column, or what the file lacks */
export async function readVendorFile(body: Readable, options: FileOptions): Promise<ImportedFigures> {
  const { first, stream } = await peek(await unzipped(body))
  const hash = createHash('sha256')
  const counted = counting(hash)
  const failed = new AbortController()
  const feeding = pipeline(stream, counted, { signal: failed.signal })
  // Whoever reads hears of it first.
  feeding.catch(() => undefined)
  try {
    const read = /^[\s\uFEFF]*[[{]/.test(first.toString('utf8'))
      ? await readJson(counted, options)
      : await readCsv(counted, options)
    await feeding
    if (read.sums.days().length === 0) refuseFile('has no figures of models')
    return {
      source: read.source,
      part: options.part ?? read.part,
      days: read.sums.days(),
      rows: read.sums.rows(),
      lines: read.sums.lines,
      ignoredLines: read.sums.ignoredLines,
      contentSha256: hash.digest(),
    }
  } catch (error) {
    // Node's zlib names what is wrong with a compressed file by codes such as Z_DATA_ERROR.
    const isBroken = error instanceof Error && 'code' in error && /^Z_/.test(String(error.code))
    throw isBroken
      ? new BillingError([{ path: 'file', message: `cannot be decompressed: ${error.message}` }])
      : error
  } finally {
    failed.abort()
    // What nobody reads would block its connection.
    body.resume()
  }
}

interface ReadFile {
  readonly source: VendorSourceName
  readonly part: string
  readonly sums: FigureSums
}

async function readCsv(stream: Readable, options: FileOptions): Promise<ReadFile> {
  const parser = stream.pipe(
    parse({
      bom: true,
      columns: (header: string[]) => header.map(columnName),
      maxRecordSize: RECORD_MAX_BYTES,
      info: true,
      skipEmptyLines: true,
      relaxColumnCountMore: false,
    }),
  )
  stream.once('error', (error) => parser.destroy(error))
  const sums = new FigureSums()
  let format: LineFormat | undefined
  try {
    for await (const item of parser) {
      const { record, line } = recordOf(item)
      format ??= formatOf(new Set(Object.keys(record)), options.source)
      const { credits } = record
      addLine(
        sums,
        format,
        record,
        `line ${line}`,
        credits === undefined || credits === '' ? [] : nestedOf(credits, line),
      )
    }
  } catch (error) {
    if (error instanceof CsvError) {
      throw new BillingError([{ path: `line ${parser.info.lines}`, message: error.message }])
    }
    throw error
  }
  if (format === undefined) refuseFile('has no line below its header')
  return { source: format.source, part: '', sums }
}

function recordOf(item: unknown): { readonly record: BillLine; readonly line: number } {
  if (typeof item !== 'object' || item === null || !('record' in item) || !('info' in item)) {
    throw new Error('the reader of CSV gave no record')
  }
  const { record, info } = item
  const line = typeof info === 'object' && info !== null && 'lines' in info ? Number(info.lines) : 0
  if (!isBillLine(record)) throw new Error('the reader of CSV gave no record')
  return { record, line }
}

/** What the reader of CSV makes of a line: an object of texts, of one shape for the whole file. */
function isBillLine(record: unknown): record is BillLine {
  return typeof record === 'object' && record !== null
}

function nestedOf(text: string, line: number): unknown {
  try {
    return JSON.parse(numbersAsText(text))
  } catch {
    throw new BillingError([{ path: `line ${line}, credits`, message: 'is no JSON array' }])
  }
}

/** Which bill it is. @throws BillingError that names what is missing */
function formatOf(columns: ReadonlySet<string>, source: VendorSourceName | undefined): LineFormat {
  if (source === undefined) {
    const found = lineFormatOf(columns)
    if (found !== undefined) return found
    throw new BillingError(
      LINE_FORMATS.map((format) => ({
        path: format.source,
        message: `line 1 lacks the columns ${missingColumns(format, columns).join(', ')}`,
      })),
    )
  }
  const format = LINE_FORMATS.find((one) => one.source === source)
  if (format === undefined) refuseFile(`is CSV; ${source} is JSON as the vendor's API answers it`)
  const missing = missingColumns(format, columns)
  if (missing.length === 0) return format
  throw new BillingError(missing.map((name) => ({ path: 'line 1', message: `lacks the column ${name}` })))
}

function addLine(sums: FigureSums, format: LineFormat, line: BillLine, path: string, nested: unknown): void {
  sums.lines += 1
  try {
    const rows = format.readLine(line, nested)
    if (rows.length === 0) sums.ignoredLines += 1
    for (const row of rows) sums.add(row)
  } catch (error) {
    if (!(error instanceof BillingError)) throw error
    throw new BillingError(error.issues.map((issue) => ({ ...issue, path: `${path}, ${issue.path}` })))
  }
}

/** A JSON document, an array of them, or one a line. */
async function readJson(stream: Readable, options: FileOptions): Promise<ReadFile> {
  let pending = ''
  let lineNo = 0
  let lines: ReadFile | undefined
  const decoder = new TextDecoder('utf-8', { fatal: true })
  for await (const chunk of stream) {
    pending += decode(decoder, chunk)
    // The first line tells: a row that is whole is one of many, else the document has several lines.
    if (lines === undefined && lineNo === 0) {
      const end = pending.indexOf('\n')
      const row = end === -1 ? undefined : rowOf(pending.slice(0, end))
      if (end !== -1) lineNo = 1
      if (row !== undefined) lines = { source: 'google_billing', part: '', sums: new FigureSums() }
      if (lines !== undefined) lineNo = 0
    }
    if (lines !== undefined) {
      const whole = pending.split('\n')
      pending = whole.pop() ?? ''
      for (const line of whole) {
        lineNo += 1
        addJsonLine(lines.sums, line, lineNo, options)
      }
    }
    if (pending.length > (lines === undefined ? JSON_MAX_BYTES : RECORD_MAX_BYTES)) {
      refuseFile(
        `is one JSON value of more than ${JSON_MAX_BYTES / 1024 / 1024} MiB: send it in parts, or as NDJSON`,
      )
    }
  }
  if (lines === undefined) return readDocument(pending, options)
  addJsonLine(lines.sums, pending, lineNo + 1, options)
  return lines
}

function decode(decoder: TextDecoder, chunk: unknown): string {
  try {
    return chunk instanceof Uint8Array ? decoder.decode(chunk, { stream: true }) : ''
  } catch {
    return refuseFile('is no valid UTF-8')
  }
}

/** A line that is a row of a bill by itself. */
function rowOf(text: string): object | undefined {
  try {
    const row: unknown = JSON.parse(numbersAsText(text))
    return typeof row === 'object' && row !== null && !Array.isArray(row) && !('data' in row)
      ? row
      : undefined
  } catch {
    return undefined
  }
}

function addJsonLine(sums: FigureSums, text: string, lineNo: number, options: FileOptions): void {
  if (text.trim() === '') return
  const row = rowOf(text)
  if (row === undefined) {
    throw new BillingError([{ path: `line ${lineNo}`, message: 'is no JSON object' }])
  }
  addRow(sums, row, `line ${lineNo}`, options.source)
}

function addRow(sums: FigureSums, row: object, path: string, source: VendorSourceName | undefined): void {
  const line = flattened(row)
  const format = formatOf(new Set([...Object.keys(line)]), source ?? 'google_billing')
  addLine(sums, format, line, path, 'credits' in row ? row.credits : [])
}

function readDocument(text: string, options: FileOptions): ReadFile {
  let document: unknown
  try {
    document = JSON.parse(numbersAsText(text.replace(/^\uFEFF/, '')))
  } catch (error) {
    refuseFile(`is no valid JSON: ${error instanceof Error ? error.message : String(error)}`)
  }
  const pages: readonly unknown[] = Array.isArray(document) ? document : [document]
  const sums = new FigureSums()
  const isReport = pages.some((page) => typeof page === 'object' && page !== null && 'data' in page)
  if (!isReport) {
    pages.forEach((row, index) => {
      if (typeof row !== 'object' || row === null) refuseFile(`has no object at ${index}`)
      addRow(sums, row, `row ${index + 1}`, options.source)
    })
    return { source: options.source ?? 'google_billing', part: '', sums }
  }
  const told =
    options.source ?? pages.map((page) => reportFormatOf(page)?.source).find((name) => name !== undefined)
  if (told === undefined) {
    refuseFile(
      'is no report that is known, or has no results: name it with source= one of openai_usage, openai_costs, anthropic_usage, anthropic_costs',
    )
  }
  const format = REPORT_FORMATS.find((one) => one.source === told)
  if (format === undefined) refuseFile(`is a report; ${told} is a bill with a line for each charge`)
  let part = ''
  for (const page of pages) {
    const report = format.read(page)
    if (part !== '' && report.part !== '' && report.part !== part) {
      refuseFile(`has pages of ${part} and of ${report.part}: send them one by one`)
    }
    if (report.part !== '') part = report.part
    sums.lines += report.rows.length + report.ignored
    sums.ignoredLines += report.ignored
    for (const day of report.days) sums.addDay(day)
    for (const row of report.rows) sums.add(row)
  }
  return { source: format.source, part, sums }
}

/**
 * Nested objects become columns of their own, lists are left out: `{"sku": {"id": 1}}` is `sku_id`. Names that are in
 * one spelling already are the rule, and cost nothing.
 */
function flattened(value: unknown, prefix = ''): Record<string, string> {
  const line: Record<string, string> = {}
  if (typeof value !== 'object' || value === null) return line
  for (const [key, cell] of Object.entries(value)) {
    const name = `${prefix}${/^[a-z0-9_]+$/.test(key) ? key : columnName(key)}`
    if (typeof cell === 'string') line[name] = cell
    else if (typeof cell === 'object' && cell !== null && !Array.isArray(cell)) {
      Object.assign(line, flattened(cell, `${name}_`))
    }
  }
  return line
}

async function unzipped(body: Readable): Promise<Readable> {
  const { first, stream } = await peek(body)
  if (first.subarray(0, 4).equals(ZIP)) refuseFile('is a ZIP archive: send the file inside it')
  if (first.length === 0) refuseFile('is empty')
  if (!first.subarray(0, 2).equals(GZIP)) return stream
  const gunzip = createGunzip()
  stream.once('error', (error) => gunzip.destroy(error))
  return stream.pipe(gunzip)
}

/** Looks at the first bytes; the stream given back begins with them. */
async function peek(body: Readable): Promise<{ readonly first: Buffer; readonly stream: Readable }> {
  const chunks = body[Symbol.asyncIterator]()
  let first = Buffer.alloc(0)
  while (first.length < 64) {
    const next = await chunks.next().catch((cause: unknown) => {
      throw new BillingError([
        {
          path: 'file',
          message: `cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
        },
      ])
    })
    if (next.done === true) break
    first = Buffer.concat([first, Buffer.from(next.value)])
  }
  async function* whole() {
    if (first.length > 0) yield first
    yield* { [Symbol.asyncIterator]: () => chunks }
  }
  return { first, stream: Readable.from(whole(), { objectMode: false }) }
}

function counting(hash: ReturnType<typeof createHash>): Transform {
  let bytes = 0
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      if (bytes > FILE_MAX_BYTES) {
        done(new BillingError([{ path: 'file', message: `has more than ${FILE_MAX_BYTES} bytes` }]))
        return
      }
      hash.update(chunk)
      done(null, chunk)
    },
  })
}

function refuseFile(message: string): never {
  throw new BillingError([{ path: 'file', message }])
}

/** The source that a query names. */
export function sourceOf(name: string | undefined): VendorSourceName | undefined {
  return name !== undefined && isVendorSource(name) ? name : undefined
}
