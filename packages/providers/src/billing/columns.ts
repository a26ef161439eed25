/** A line of a bill, by column. Names are as `columnName` writes them. */
export type BillLine = Readonly<Record<string, string>>

/**
 * A column's name in one spelling: the same column is `lineItem/UsageType`, `line_item_usage_type`, `MeterName` or
 * `meterName`, by the version of an export.
 */
export function columnName(header: string): string {
  return header
    .trim()
    .replace(/^\uFEFF/, '')
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .replace(/([A-Z]+)([A-Z][a-z])/g, '$1_$2')
    .replace(/[^A-Za-z0-9]+/g, '_')
    .replace(/^_|_$/g, '')
    .toLowerCase()
}

/** The first of some columns that has a value; '' when none has. */
export function cellOf(line: BillLine, ...names: readonly string[]): string {
  for (const name of names) {
    const value = line[name]
    if (value !== undefined && value !== '') return value
  }
  return ''
}
