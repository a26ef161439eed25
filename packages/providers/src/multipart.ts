/**
 * A text field of a `multipart/form-data` body (RFC 7578), as far as the body was read as text: fields stand
 * before files mostly, and a file's bytes do no harm here.
 *
 * @returns undefined when there is no such field, or its value is longer than a line
 */
export function formField(bodyText: string | undefined, name: string): string | undefined {
  if (bodyText === undefined || !bodyText.startsWith('--')) return undefined
  // With the space before it: `filename="…"` ends alike.
  const header = ` name="${name}"\r\n\r\n`
  const at = bodyText.indexOf(header)
  if (at === -1) return undefined
  const start = at + header.length
  const end = bodyText.indexOf('\r\n', start)
  return end === -1 || end === start || end - start > FIELD_MAX ? undefined : bodyText.slice(start, end)
}

/** Longest value that is read, in characters. */
const FIELD_MAX = 10_000
