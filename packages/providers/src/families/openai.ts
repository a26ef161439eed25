import type { FamilyCall } from '../recognize.ts'

/** OpenAI's API, and every host that speaks it (OpenAI API reference, read 2026-11). */
export function openaiCall(method: string, path: string): FamilyCall | undefined {
  if (method !== 'POST') return undefined
  switch (path.replace(/^\/v1(?=\/)/, '')) {
    case '/chat/completions':
      return { format: 'openai-chat', operation: 'chat' }
    default:
      return undefined
  }
}
