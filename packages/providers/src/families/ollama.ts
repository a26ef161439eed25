import type { FamilyCall } from '../recognize.ts'
import { anthropicCall } from './anthropic.ts'
import { openaiCall } from './openai.ts'

/** Ollama's own API, and the two others that it speaks. */
export function ollamaCall(method: string, path: string): FamilyCall | undefined {
  if (path.startsWith('/v1/')) return openaiCall(method, path) ?? anthropicCall(method, path)
  if (method !== 'POST') return undefined
  switch (path) {
    case '/api/chat':
      return { format: 'ollama', operation: 'chat' }
    case '/api/generate':
      return { format: 'ollama', operation: 'text_completion' }
    case '/api/embed':
    case '/api/embeddings':
      return { format: 'ollama', operation: 'embeddings' }
    default:
      return undefined
  }
}
