import type { Position } from './rule-file.ts'

/** A piece of a rule file. Of a `text`, `text` is what it says, without quotes and escapes. */
export interface Token extends Position {
  readonly kind: 'word' | 'text' | 'number' | 'sign' | 'end'
  readonly text: string
}

const WORD = /[A-Za-z_][A-Za-z0-9_]*/y
/** Anything that begins like a number, so that `2026-12-01` is one thing to complain about. */
const NUMERIC = /[+-]?[0-9][A-Za-z0-9_+:-]*(?:\.[A-Za-z0-9_+:-]*)*/y
const NUMBER = /^-?[0-9][0-9_]*(\.[0-9]+)?$/
const SIGNS = '{}=.,%'

/**
 * Cuts a rule file into tokens, the last one `end`. What is none is reported and left out. Columns count UTF-16
 * units, as editors do.
 */
export function tokensOf(
  source: string,
  complain: (position: Position, message: string) => void,
): readonly Token[] {
  const tokens: Token[] = []
  let index = source.startsWith('\uFEFF') ? 1 : 0
  let line = 1
  let lineStart = index
  const here = (at: number): Position => ({ line, column: at - lineStart + 1 })
  while (index < source.length) {
    const start = index
    const character = source[index] ?? ''
    if (character === '\n') {
      index++
      line++
      lineStart = index
      continue
    }
    if (character === ' ' || character === '\t' || character === '\r') {
      index++
      continue
    }
    if (character === '#' || source.startsWith('//', index)) {
      const end = source.indexOf('\n', index)
      index = end === -1 ? source.length : end
      continue
    }
    const word = matchAt(WORD, source, index) ?? matchAt(NUMERIC, source, index)
    if (word !== undefined) {
      index += word.length
      const isWord = /^[A-Za-z_]/.test(word)
      if (isWord) tokens.push({ kind: 'word', text: word, ...here(start) })
      else if (NUMBER.test(word)) tokens.push({ kind: 'number', text: word, ...here(start) })
      else {
        complain(here(start), `${word} is no number; a date stands in quotes: "2026-12-01"`)
        // Something stands there: what follows is not to be complained about for its absence.
        tokens.push({ kind: 'text', text: word, ...here(start) })
      }
      continue
    }
    if (character === '"') {
      const end = endOfText(source, index + 1)
      const isClosed = source[end] === '"'
      if (!isClosed) complain(here(start), 'text is not closed with " in its line')
      const text = unescaped(source.slice(index + 1, end), (offset, message) =>
        complain(here(start + 1 + offset), message),
      )
      tokens.push({ kind: 'text', text, ...here(start) })
      index = isClosed ? end + 1 : end
      continue
    }
    if (character === "'") {
      const [quoted = ''] = /^'[^'\n]*'?/.exec(source.slice(index, index + 1000)) ?? []
      complain(here(start), `text stands in "…", not in '…'`)
      tokens.push({ kind: 'text', text: quoted.replaceAll("'", ''), ...here(start) })
      index += quoted.length
      continue
    }
    index += (source.codePointAt(index) ?? 0) > 0xffff ? 2 : 1
    if (SIGNS.includes(character)) tokens.push({ kind: 'sign', text: character, ...here(start) })
    else complain(here(start), `unexpected ${JSON.stringify(source.slice(start, index))}`)
  }
  tokens.push({ kind: 'end', text: '', ...here(index) })
  return tokens
}

function matchAt(pattern: RegExp, source: string, index: number): string | undefined {
  pattern.lastIndex = index
  return pattern.exec(source)?.[0]
}

/** Where text ends: at its quote, or at the end of the line. */
function endOfText(source: string, from: number): number {
  let index = from
  while (index < source.length && source[index] !== '"' && source[index] !== '\n') {
    index += source[index] === '\\' && source[index + 1] !== '\n' ? 2 : 1
  }
  return Math.min(index, source.length)
}

const ESCAPES: Readonly<Record<string, string>> = { '"': '"', '\\': '\\', n: '\n', t: '\t' }

function unescaped(raw: string, complain: (offset: number, message: string) => void): string {
  return raw.replace(/\\(u[0-9A-Fa-f]{4}|[\s\S]?)/g, (found, code: string, offset: number) => {
    if (code.length === 5) return String.fromCharCode(Number.parseInt(code.slice(1), 16))
    const character = ESCAPES[code]
    if (character === undefined) complain(offset, `unknown escape ${found}; known: \\" \\\\ \\n \\t \\uXXXX`)
    return character ?? code
  })
}
