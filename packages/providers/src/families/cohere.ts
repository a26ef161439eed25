import type { FamilyCall } from '../recognize.ts'
import { openaiCall } from './openai.ts'

/** Cohere's API. The older chat has another stream, and no reader. */
export function cohereCall(method: string, path: string): FamilyCall | undefined {
  if (path.startsWith('/compatibility/')) return openaiCall(method, path.slice('/compatibility'.length))
  if (method !== 'POST') return undefined
  switch (path) {
    case '/v2/chat':
      return { format: 'cohere', operation: 'chat' }
    case '/v2/embed':
    case '/v1/embed':
      return { format: 'cohere', operation: 'embeddings' }
    case '/v2/rerank':
    case '/v1/rerank':
      return { format: 'cohere', operation: 'rerank' }
    default:
      return undefined
  }
}
