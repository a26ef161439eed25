import type { FamilyCall } from '../recognize.ts'
import { openaiCall } from './openai.ts'

/** The Gemini API. */
export function geminiCall(method: string, path: string): FamilyCall | undefined {
  const below = path.replace(/^(?:\/download)?\/v1(?:alpha|beta)?(?=\/)/, '')
  const { batch, file } = (method === 'GET' ? BATCH.exec(below)?.groups : undefined) ?? {}
  if (batch !== undefined) return { format: 'batch-status', operation: 'fetch_batch', resultsId: batch }
  if (file !== undefined) return { format: 'batch-results', operation: 'fetch_batch', resultsId: file }
  if (method === 'POST' && below === '/interactions') {
    return { format: 'gemini-interactions', operation: 'generate_content' }
  }
  if (method === 'GET' && INTERACTION.test(below)) {
    return { format: 'gemini-interactions', operation: 'fetch_response' }
  }
  if (below.startsWith('/openai/')) return openaiCall(method, below.slice('/openai'.length))
  const { model, verb } = GEMINI_PATH.exec(below)?.groups ?? {}
  return googleCall(method, model, verb)
}

/** Vertex AI: Google's models, and Anthropic's in Anthropic's own words. */
export function vertexCall(method: string, path: string): FamilyCall | undefined {
  const below = path.replace(/^\/v1(?:beta1)?(?=\/)/, '').replace(/^\/projects\/[^/]+\/locations\/[^/]+/, '')
  const openai = /^\/endpoints\/[^/:]+(\/chat\/completions)$/.exec(below)
  if (openai !== null) return openaiCall(method, openai[1] ?? '')
  const { publisher, model, verb } = VERTEX_PATH.exec(below)?.groups ?? {}
  if (publisher !== 'anthropic') return googleCall(method, model, verb)
  // The count of tokens, which is free, has the place of a model.
  if (method !== 'POST' || model === undefined || model === 'count-tokens') return undefined
  if (verb !== 'rawPredict' && verb !== 'streamRawPredict') return undefined
  return { format: 'anthropic-messages', operation: 'chat', model: decoded(model) }
}

const INTERACTION = /^\/interactions\/[^/:]+$/
/** A batch, or a file that may be its results. */
const BATCH = /^\/(?:(?<batch>batches\/[^/:]+)|(?<file>files\/[^/:]+):download)$/
const GEMINI_PATH = /^\/(?:models|tunedModels)\/(?<model>[^/:]+):(?<verb>\w+)$/
const VERTEX_PATH =
  /^(?:\/publishers\/(?<publisher>google|anthropic)\/models|\/endpoints)\/(?<model>[^/:]+):(?<verb>\w+)$/

function googleCall(
  method: string,
  segment: string | undefined,
  verb: string | undefined,
): FamilyCall | undefined {
  if (method !== 'POST' || segment === undefined) return undefined
  const model = decoded(segment)
  switch (verb) {
    case 'generateContent':
    case 'streamGenerateContent':
      return { format: 'gemini', operation: 'generate_content', model }
    case 'embedContent':
    case 'batchEmbedContents':
      return { format: 'gemini-embeddings', operation: 'embeddings', model }
    case 'predict':
      // Pictures and videos are made by the same verb.
      return model.includes('embedding')
        ? { format: 'gemini-embeddings', operation: 'embeddings', model }
        : undefined
    default:
      return undefined
  }
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}
