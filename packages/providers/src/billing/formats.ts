import type { VendorRow, VendorSourceName } from '@tokentally/core'
import { readAnthropicCosts, readAnthropicUsage } from './anthropic-reports.ts'
import { AWS_COLUMNS, readAwsLine } from './aws-cur.ts'
import { AZURE_COLUMNS, readAzureLine } from './azure-costs.ts'
import type { BillLine } from './columns.ts'
import { GOOGLE_COLUMNS, readGoogleLine } from './google-billing.ts'
import { readOpenaiCosts, readOpenaiUsage } from './openai-reports.ts'
import type { BillingReport } from './report.ts'

/** A bill with a line for each thing that was charged. */
export interface LineFormat {
  readonly source: VendorSourceName
  /** Columns that it must have: of each list, one. */
  readonly columns: readonly (readonly string[])[]
  /** @throws BillingError that names the column */
  readLine(line: BillLine, nested?: unknown): readonly VendorRow[]
}

export const LINE_FORMATS: readonly LineFormat[] = [
  { source: 'aws_cur', columns: AWS_COLUMNS, readLine: (line) => readAwsLine(line) },
  { source: 'google_billing', columns: GOOGLE_COLUMNS, readLine: readGoogleLine },
  { source: 'azure_costs', columns: AZURE_COLUMNS, readLine: (line) => readAzureLine(line) },
]

/** A report of time buckets, as the vendor's API answers it. */
export interface ReportFormat {
  readonly source: VendorSourceName
  /** @throws BillingError that names the bucket and the field */
  read(page: unknown): BillingReport
}

export const REPORT_FORMATS: readonly ReportFormat[] = [
  { source: 'openai_usage', read: readOpenaiUsage },
  { source: 'openai_costs', read: readOpenaiCosts },
  { source: 'anthropic_usage', read: readAnthropicUsage },
  { source: 'anthropic_costs', read: readAnthropicCosts },
]

/** The columns of a format that a file lacks, each with the names it may have. */
export function missingColumns(format: LineFormat, columns: ReadonlySet<string>): readonly string[] {
  return format.columns
    .filter((names) => !names.some((name) => columns.has(name)))
    .map((names) => names.join(' or '))
}

/** The format of bills that has these columns; undefined when none has. */
export function lineFormatOf(columns: ReadonlySet<string>): LineFormat | undefined {
  return LINE_FORMATS.find((format) => missingColumns(format, columns).length === 0)
}

/** Which report a page is, told by its first result; undefined when it is none that is known. */
export function reportFormatOf(page: unknown): ReportFormat | undefined {
  const first = firstResult(page)
  if (first === undefined) return undefined
  const object = 'object' in first && typeof first.object === 'string' ? first.object : ''
  const source: VendorSourceName | undefined = object.startsWith('organization.usage.')
    ? 'openai_usage'
    : object === 'organization.costs.result'
      ? 'openai_costs'
      : 'uncached_input_tokens' in first
        ? 'anthropic_usage'
        : 'amount' in first && 'currency' in first
          ? 'anthropic_costs'
          : undefined
  return REPORT_FORMATS.find((format) => format.source === source)
}

function firstResult(page: unknown): object | undefined {
  if (typeof page !== 'object' || page === null || !('data' in page) || !Array.isArray(page.data))
    return undefined
  const buckets: readonly unknown[] = page.data
  for (const bucket of buckets) {
    if (typeof bucket !== 'object' || bucket === null || !('results' in bucket)) continue
    const { results } = bucket
    const first: unknown = Array.isArray(results) ? results[0] : undefined
    if (typeof first === 'object' && first !== null) return first
  }
  return undefined
}
