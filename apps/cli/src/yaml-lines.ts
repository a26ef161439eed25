import { type Document, LineCounter, type ParsedNode, parseDocument } from 'yaml'

/** A place in a file; lines and columns count from 1. */
export interface Place {
  readonly line: number
  readonly column: number
}

/** A document in YAML, and where its characters stand. JSON is read as YAML, of which it is a part. */
export function parseLinedYaml(source: string): {
  readonly document: Document.Parsed<ParsedNode>
  placeAt(offset: number): Place
} {
  const lines = new LineCounter()
  return {
    document: parseDocument(source, { lineCounter: lines, prettyErrors: false, version: '1.2' }),
    placeAt(offset) {
      const { line, col } = lines.linePos(offset)
      return { line: Math.max(1, line), column: Math.max(1, col) }
    },
  }
}

/** Where a node begins; undefined for what is no node of a file. */
export function startOf(node: unknown): number | undefined {
  if (typeof node !== 'object' || node === null || !('range' in node) || !Array.isArray(node.range)) {
    return undefined
  }
  const start: unknown = node.range[0]
  return typeof start === 'number' ? start : undefined
}
