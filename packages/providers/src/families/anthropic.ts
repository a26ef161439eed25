import type { FamilyCall } from '../recognize.ts'

/** Anthropic's API (Anthropic API reference, read 2026-11). */
export function anthropicCall(method: string, path: string): FamilyCall | undefined {
  if (method !== 'POST') return undefined
  switch (path.replace(/^\/v1(?=\/)/, '')) {
    case '/messages':
      return { format: 'anthropic-messages', operation: 'chat' }
    default:
      return undefined
  }
}
