import type { FamilyCall } from '../recognize.ts'

/** Anthropic's API (Anthropic API reference, read 2026-11). */
export function anthropicCall(method: string, path: string): FamilyCall | undefined {
  const below = path.replace(/^\/v1(?=\/)/, '')
  const { batch, results } = (method === 'GET' ? BATCH.exec(below)?.groups : undefined) ?? {}
  if (batch !== undefined) {
    const format = results === undefined ? 'batch-status' : 'batch-results'
    return { format, operation: 'fetch_batch', resultsId: batch }
  }
  if (method !== 'POST') return undefined
  switch (below) {
    case '/messages':
      return { format: 'anthropic-messages', operation: 'chat' }
    default:
      return undefined
  }
}

const BATCH = /^\/messages\/batches\/(?<batch>[^/]+)(?<results>\/results)?$/
