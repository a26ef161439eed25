import type { Position, RuleFileEntry, RuleFileIssue } from '@tokentally/core'
import { isMap, isScalar, isSeq } from 'yaml'
import { parseLinedYaml, startOf } from './yaml-lines.ts'

/** Rules from a YAML or JSON file: `rules:` with a list, each rule with the fields of the API. */
export function yamlRules(source: string): {
  readonly entries: readonly RuleFileEntry[]
  readonly issues: readonly RuleFileIssue[]
} {
  const { document, placeAt } = parseLinedYaml(source)
  const issues: RuleFileIssue[] = []
  const place = (node: unknown): Position => placeAt(startOf(node) ?? 0)
  const complain = (position: Position, message: string) => issues.push({ ...position, message })

  for (const { pos, message } of [...document.errors, ...document.warnings])
    complain(placeAt(pos[0]), message)
  if (issues.length > 0) return { entries: [], issues }
  const { contents } = document
  if (!isMap(contents)) {
    complain(place(contents), 'expected rules: and a list of rules')
    return { entries: [], issues }
  }
  const entries: RuleFileEntry[] = []
  for (const { key, value } of contents.items) {
    const name = isScalar(key) ? key.value : undefined
    if (name !== 'rules') complain(place(key), `unknown key ${String(name)}; a rule file has the key rules`)
    else if (!isSeq(value)) complain(place(key), 'rules must be a list')
    else {
      for (const item of value.items) {
        if (!isMap(item)) {
          complain(place(item), 'a rule must be a map of fields')
          continue
        }
        const positions = new Map<string, Position>()
        const fields = plainValue(item, '', { positions, place, complain })
        const json = typeof fields === 'object' && fields !== null ? { ...fields } : {}
        entries.push({ json, position: place(item), positions })
      }
    }
  }
  if (!contents.has('rules')) complain(place(contents), 'expected rules: and a list of rules')
  return { entries, issues }
}

interface Reading {
  readonly positions: Map<string, Position>
  readonly place: (node: unknown) => Position
  readonly complain: (position: Position, message: string) => void
}

/** The value of a node. Numbers stay as they are written, so that no digit passes through a float. */
function plainValue(node: unknown, path: string, reading: Reading): unknown {
  if (isMap(node)) {
    const members = new Map<string, unknown>()
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? String(key.value) : ''
      const below = path === '' ? name : `${path}.${name}`
      reading.positions.set(below, reading.place(key))
      const isUnits = name === 'per' && path.startsWith('prices.')
      members.set(name, isUnits && isScalar(value) ? value.value : plainValue(value, below, reading))
    }
    return Object.fromEntries(members)
  }
  if (isSeq(node)) return node.items.map((item, index) => plainValue(item, `${path}.${index}`, reading))
  if (isScalar(node)) return typeof node.value === 'number' ? (node.source ?? node.value) : node.value
  if (node === null) return null
  reading.complain(reading.place(node), 'aliases are not taken: write the value')
  return null
}
