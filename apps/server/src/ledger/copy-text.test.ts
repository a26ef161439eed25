import fc from 'fast-check'
import { expect, it } from 'vitest'
import { copyFields } from './copy-text.ts'

it('writes rows that read back as the same fields', () => {
  const field = fc.option(
    fc.string({ unit: 'grapheme' }).map((text) => text.replaceAll('\0', '')),
    { nil: null },
  )
  fc.assert(
    fc.property(fc.array(field, { minLength: 1 }), (fields) => {
      const row = copyFields(fields)
      expect(row).not.toContain('\n')
      expect(row.split('\t').map(readField)).toEqual(fields)
    }),
  )
})

/** What PostgreSQL does with a field of COPY's text format. */
function readField(text: string): string | null {
  if (text === '\\N') return null
  const plain: Readonly<Record<string, string>> = { t: '\t', n: '\n', r: '\r', '\\': '\\' }
  return text.replace(/\\(.)/gs, (_, character: string) => plain[character] ?? character)
}
