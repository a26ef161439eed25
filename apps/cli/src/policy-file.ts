import { type ParsedPolicies, type PolicyJson, parsePolicies } from '@tokentally/core'
import { LineCounter, parseDocument } from 'yaml'

/** Something wrong in a file of policies. */
export interface FileProblem {
  /** From 1. */
  readonly line: number
  readonly column: number
  readonly message: string
}

export type PolicyFile =
  | { readonly ok: true; readonly policies: readonly PolicyJson[] }
  | { readonly ok: false; readonly problems: readonly FileProblem[] }

/**
 * Reads policies in YAML (JSON is YAML, too) and reports every problem with its place.
 *
 * @param text the file's content
 */
export function readPolicyFile(text: string): PolicyFile {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const placeAt = (offset: number) => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(1, line), column: Math.max(1, col) }
  }
  if (document.errors.length > 0) {
    return {
      ok: false,
      problems: document.errors.map((error) => ({ ...placeAt(error.pos[0]), message: error.message })),
    }
  }
  const parsed: ParsedPolicies = parsePolicies(document.toJS({ maxAliasCount: 100 }))
  if (parsed.ok) return { ok: true, policies: parsed.policies.map((policy) => policy.source) }
  return {
    ok: false,
    problems: parsed.issues
      .map(({ path, message }) => ({
        ...placeAt(offsetOf(document, path.split('.'))),
        message: `${path === '' ? 'the file' : path} ${message}`,
      }))
      .sort((a, b) => a.line - b.line || a.column - b.column),
  }
}

/** Where what a path names stands in the file; what is missing, where it should have stood. */
function offsetOf(document: ReturnType<typeof parseDocument>, path: readonly string[]): number {
  for (let length = path.length; length > 0; length--) {
    const parts = path.slice(0, length)
    const node: unknown = document.getIn(keysOf(parts), true)
    if (hasRange(node)) return node.range[0]
  }
  const { contents } = document
  return hasRange(contents) ? contents.range[0] : 0
}

/** Elements of lists are found by number, fields by name. */
function keysOf(parts: readonly string[]): (string | number)[] {
  return parts.map((part) => (/^\d+$/.test(part) ? Number(part) : part))
}

function hasRange(node: unknown): node is { readonly range: readonly [number, number, number] } {
  return typeof node === 'object' && node !== null && 'range' in node && Array.isArray(node.range)
}
