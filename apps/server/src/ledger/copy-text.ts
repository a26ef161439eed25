/**
 * The text format of PostgreSQL's COPY: tab-separated fields, one row a line, `\N` for null.
 * Source: PostgreSQL documentation, "COPY", section "Text Format".
 */

/** A field of a COPY row; numbers are finite. */
export type CopyField = string | number | boolean | null | undefined

/** Fields of a row, to be followed by a tab and more of them or by a line feed. */
export function copyFields(fields: readonly CopyField[]): string {
  let row = ''
  for (let index = 0; index < fields.length; index++) {
    if (index > 0) row += '\t'
    const field = fields[index]
    if (field === null || field === undefined) row += '\\N'
    else if (typeof field === 'string') row += NEEDS_ESCAPE.test(field) ? escapeText(field) : field
    else row += field
  }
  return row
}

const NEEDS_ESCAPE = /[\\\t\n\r]/
const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' }

function escapeText(text: string): string {
  return text.replace(/[\\\t\n\r]/g, (character) => ESCAPES[character] ?? character)
}
