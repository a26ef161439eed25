import { nearest } from './nearest-name.ts'
import type { Position, RuleFileEntry, RuleFileIssue } from './rule-file.ts'
import { type Token, tokensOf } from './rule-tokens.ts'

/**
 * The rule language. A file is blocks of `key = value`:
 *
 *     file  = { "rule" text "{" { key "=" value [","] } "}" }
 *     key   = word [ "." (word | text) ]
 *     value = text | number [ "per" number ]
 *
 * Blanks and line ends only separate; `#` and `//` begin a comment. Numbers keep their digits: they are never
 * read as floats. Every problem is reported; after one, reading goes on at the next key or rule. Each step
 * takes at least one token, so reading ends.
 */

/** What was read: entries in the JSON form of a rule, and what could not be read. */
export interface ParsedRules {
  readonly entries: readonly RuleFileEntry[]
  readonly issues: readonly RuleFileIssue[]
}

/** More than these help nobody. */
const ISSUES_MAX = 100

/** Reads a file in the rule language. Never throws. */
export function parseRules(source: string): ParsedRules {
  const issues: RuleFileIssue[] = []
  const complain = (position: Position, message: string) => {
    if (issues.length < ISSUES_MAX) issues.push({ line: position.line, column: position.column, message })
  }
  const reader = new Reader(tokensOf(source, complain))
  const entries: RuleFileEntry[] = []
  while (reader.peek().kind !== 'end') {
    if (isRuleStart(reader)) {
      const entry = readBlock(reader, complain)
      if (entry !== undefined) entries.push(entry)
      continue
    }
    complain(
      reader.peek(),
      `expected rule "id" { … }, found ${describe(reader.peek())}${hint(reader.peek())}`,
    )
    reader.next()
    while (reader.peek().kind !== 'end' && !isRuleStart(reader)) reader.next()
  }
  return { entries, issues }
}

class Reader {
  readonly #tokens: readonly Token[]
  #index = 0

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
  }

  /** The token to be taken next, or one after it. */
  peek(ahead = 0): Token {
    return this.#tokens[this.#index + ahead] ?? END
  }

  next(): Token {
    const token = this.peek()
    this.#index++
    return token
  }

  isSign(text: string): boolean {
    const token = this.peek()
    return token.kind === 'sign' && token.text === text
  }
}

const END: Token = { kind: 'end', text: '', line: 1, column: 1 }

type Complain = (position: Position, message: string) => void

function isRuleStart(reader: Reader): boolean {
  const token = reader.peek()
  return token.kind === 'word' && token.text === 'rule' && reader.peek(1).kind === 'text'
}

function readBlock(reader: Reader, report: Complain): RuleFileEntry | undefined {
  const start = reader.next()
  const id = reader.next()
  const block = new Block(id)
  let isBroken = false
  const complain: Complain = (position, message) => {
    isBroken = true
    report(position, message)
  }
  if (reader.isSign('{')) reader.next()
  else
    complain(
      reader.peek(),
      `expected { after rule ${JSON.stringify(id.text)}, found ${describe(reader.peek())}`,
    )
  for (;;) {
    const token = reader.peek()
    if (token.kind === 'sign' && token.text === '}') {
      reader.next()
      break
    }
    if (token.kind === 'end' || isRuleStart(reader)) {
      complain(token, `expected } at the end of rule ${JSON.stringify(id.text)}, begun in line ${start.line}`)
      break
    }
    if (reader.isSign(',')) reader.next()
    else readEntry(reader, block, complain)
  }
  return { json: block.json(), position: start, positions: block.positions, isBroken }
}

class Block {
  readonly positions = new Map<string, Position>()
  readonly fields = new Map<string, unknown>()
  readonly groups = new Map<string, Map<string, unknown>>()

  constructor(id: Token) {
    this.fields.set('id', id.text)
    this.positions.set('id', id)
  }

  json(): Readonly<Record<string, unknown>> {
    const groups = [...this.groups].map(([name, members]) => [name, Object.fromEntries(members)] as const)
    return Object.fromEntries([...this.fields, ...groups])
  }
}

/** Takes at least one token. */
function readEntry(reader: Reader, block: Block, complain: Complain): void {
  const key = reader.next()
  if (key.kind !== 'word') {
    complain(key, `expected a key, found ${describe(key)}`)
    skipToKey(reader)
    return
  }
  let part: Token | undefined
  if (reader.isSign('.')) {
    reader.next()
    if (reader.peek().kind === 'word' || reader.peek().kind === 'text') part = reader.next()
    else complain(reader.peek(), `expected a name after ${key.text}., found ${describe(reader.peek())}`)
  }
  if (!reader.isSign('=')) {
    complain(reader.peek(), `expected = after ${key.text}, found ${describe(reader.peek())}`)
    skipToKey(reader)
    return
  }
  reader.next()
  const value = readValue(reader, key, complain)
  if (value !== undefined) assign(block, key, part, value, complain)
}

interface Value {
  readonly token: Token
  /** The number after `per`. */
  readonly per: Token | undefined
}

function readValue(reader: Reader, key: Token, complain: Complain): Value | undefined {
  const token = reader.peek()
  if (token.kind !== 'text' && token.kind !== 'number') {
    complain(token, `expected a value for ${key.text}: text in "…" or a number, found ${describe(token)}`)
    skipToKey(reader)
    return undefined
  }
  reader.next()
  if (reader.isSign('%')) {
    complain(reader.peek(), 'there is no %: write 0.20 for 20 %')
    reader.next()
    return undefined
  }
  if (reader.peek().kind !== 'word' || reader.peek().text !== 'per') return { token, per: undefined }
  reader.next()
  if (reader.peek().kind === 'number') return { token, per: reader.next() }
  complain(reader.peek(), `expected a number after per: 1, 1000 or 1000000, found ${describe(reader.peek())}`)
  return undefined
}

/** Goes on where another key, rule or the end of the block may begin. */
function skipToKey(reader: Reader): void {
  for (;;) {
    const token = reader.peek()
    const following = reader.peek(1)
    if (token.kind === 'end' || isRuleStart(reader)) return
    if (token.kind === 'sign' && token.text === '}') return
    if (
      token.kind === 'word' &&
      following.kind === 'sign' &&
      (following.text === '=' || following.text === '.')
    )
      return
    reader.next()
  }
}

const TEXT_KEYS = ['provider', 'model', 'customer', 'feature', 'effective_date', 'until']
const NUMBER_KEYS = ['markup', 'discount', 'minimum', 'price_per_request']
const PART_KEYS: Readonly<Record<string, string>> = { tag: 'tags', price: 'prices' }
const KEYS = [...TEXT_KEYS, ...NUMBER_KEYS, 'tag.NAME', 'price.METER']

function assign(block: Block, key: Token, part: Token | undefined, value: Value, complain: Complain): void {
  const name = part === undefined ? key.text : `${key.text}.${part.text}`
  const group = Object.hasOwn(PART_KEYS, key.text) ? PART_KEYS[key.text] : undefined
  if (group === undefined ? part !== undefined || !KEYS.includes(key.text) : part === undefined) {
    const like = group === undefined ? nearest(key.text, KEYS) : undefined
    complain(
      key,
      `unknown key ${name}${like === undefined ? '' : `; did you mean ${like}?`} (keys: ${KEYS.join(', ')})`,
    )
    return
  }
  const path = group === undefined || part === undefined ? key.text : `${group}.${part.text}`
  const earlier = block.positions.get(path)
  if (earlier !== undefined) {
    complain(key, `${name} stands twice, first in line ${earlier.line}`)
    return
  }
  block.positions.set(path, key)
  if (value.per !== undefined && group !== 'prices') {
    complain(value.per, `${name} takes no per: only price.METER does`)
    return
  }
  if (group === 'prices' || NUMBER_KEYS.includes(key.text)) {
    if (value.token.kind !== 'number') {
      complain(value.token, `${name} must be a number without quotes, found ${describe(value.token)}`)
      return
    }
  } else if (value.token.kind !== 'text') {
    complain(value.token, `${name} must be text in "…", found ${describe(value.token)}`)
    return
  }
  if (group === undefined || part === undefined) {
    block.fields.set(key.text, value.token.text)
    return
  }
  if (group === 'prices' && value.per === undefined) {
    complain(value.token, `${name} must say for how many units it is: ${value.token.text} per 1000000`)
    return
  }
  const members = block.groups.get(group) ?? new Map<string, unknown>()
  block.groups.set(group, members)
  members.set(
    part.text,
    value.per === undefined
      ? value.token.text
      : { price: value.token.text, per: Number(value.per.text.replaceAll('_', '')) },
  )
}

function describe(token: Token): string {
  if (token.kind === 'end') return 'the end of the file'
  return token.kind === 'text' ? `the text ${JSON.stringify(token.text)}` : token.text
}

function hint({ kind, text }: Token): string {
  return kind === 'word' && text !== 'rule' && nearest(text, ['rule']) !== undefined
    ? '; did you mean rule?'
    : ''
}
