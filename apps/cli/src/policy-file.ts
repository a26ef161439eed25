import { type ParsedPolicies, type PolicyJson, parsePolicies } from '@tokentally/core'
import type { Document } from 'yaml'
import type { FileProblem } from './wrong-file.ts'
import { parseLinedYaml, startOf } from './yaml-lines.ts'

export type PolicyFile =
  | { readonly ok: true; readonly policies: readonly PolicyJson[] }
  | { readonly ok: false; readonly problems: readonly FileProblem[] }

/**
 * Reads policies in YAML (JSON is YAML, too) and reports every problem with its place.
 *
 * @param text the file's content
 */
export function readPolicyFile(text: string): PolicyFile {
  const { document, placeAt } = parseLinedYaml(text)
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
function offsetOf(document: Document.Parsed, path: readonly string[]): number {
  for (let length = path.length; length > 0; length--) {
    const parts = path.slice(0, length)
    const start = startOf(document.getIn(keysOf(parts), true))
    if (start !== undefined) return start
  }
  return startOf(document.contents) ?? 0
}

/** Elements of lists are found by number, fields by name. */
function keysOf(parts: readonly string[]): (string | number)[] {
  return parts.map((part) => (/^\d+$/.test(part) ? Number(part) : part))
}
