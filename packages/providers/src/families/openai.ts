import type { FamilyCall } from '../recognize.ts'

/** OpenAI's API, and every host that speaks it (OpenAI API reference, read 2026-11). */
export function openaiCall(method: string, path: string): FamilyCall | undefined {
  const below = path.replace(/^\/v1(?=\/)/, '')
  if (RESPONSE.test(below) && (method === 'GET' || (method === 'POST' && below.endsWith('/cancel')))) {
    return { format: 'openai-responses', operation: 'fetch_response' }
  }
  if (method === 'GET') return batchCall(below)
  if (method !== 'POST') return undefined
  switch (below) {
    case '/chat/completions':
      return { format: 'openai-chat', operation: 'chat' }
    case '/responses':
    case '/responses/compact':
      return { format: 'openai-responses', operation: 'chat' }
    // The same usage and the same stream as chat; FIM is Mistral's.
    case '/completions':
    case '/fim/completions':
      return { format: 'openai-chat', operation: 'text_completion' }
    case '/agents/completions':
      return { format: 'openai-chat', operation: 'chat' }
    case '/embeddings':
      return { format: 'openai-embeddings', operation: 'embeddings' }
    case '/images/generations':
    case '/images/edits':
    case '/images/variations':
      return { format: 'openai-images', operation: 'image_generation' }
    case '/audio/transcriptions':
    case '/audio/translations':
      return { format: 'openai-transcription', operation: 'transcription' }
    case '/audio/speech':
      return { format: 'openai-speech', operation: 'speech' }
    default:
      return engineCall(below)
  }
}

/** The oldest URLs name the model ("engines" of OpenAI's API before 2023); other services still answer there. */
function engineCall(below: string): FamilyCall | undefined {
  const { model, api } =
    /^\/engines\/(?<model>[^/]+)\/(?<api>completions|embeddings)$/.exec(below)?.groups ?? {}
  if (model === undefined) return undefined
  return api === 'completions'
    ? { format: 'openai-chat', operation: 'text_completion', model }
    : { format: 'openai-embeddings', operation: 'embeddings', model }
}

/**
 * The results of a batch are a file among others: its content tells whether it is one. Mistral has jobs instead of
 * batches (Mistral API reference "Batch", read 2026-11).
 */
function batchCall(below: string): FamilyCall | undefined {
  const { file, batch } = BATCH.exec(below)?.groups ?? {}
  if (file !== undefined) return { format: 'batch-results', operation: 'fetch_batch', resultsId: file }
  if (batch !== undefined) return { format: 'batch-status', operation: 'fetch_batch', resultsId: batch }
  return undefined
}

const BATCH = /^\/(?:files\/(?<file>[^/]+)\/content|(?:batches|batch\/jobs)\/(?<batch>[^/]+))$/

/** One response that exists: it is fetched, or told to stop. */
const RESPONSE = /^\/responses\/resp_[^/]+(?:\/cancel)?$/
