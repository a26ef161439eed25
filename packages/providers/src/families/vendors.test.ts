import { describe, expect, it } from 'vitest'
import { mayBeCall, parseEndpoints, recognize } from '../recognize.ts'

const GEMINI = {
  provider: 'gcp.gemini',
  format: 'gemini',
  operation: 'generate_content',
  model: 'gemini-2.5-flash',
}
/** Vertex AI names the region in its host. */
const US = { region: 'us-central1' }
const VERTEX = { ...GEMINI, provider: 'gcp.vertex_ai' }
const CLAUDE = {
  provider: 'gcp.vertex_ai',
  format: 'anthropic-messages',
  operation: 'chat',
  model: 'claude-sonnet-4-5@20250929',
}
const EMBEDDINGS = {
  ...GEMINI,
  format: 'gemini-embeddings',
  operation: 'embeddings',
  model: 'gemini-embedding-001',
}
const COHERE = { provider: 'cohere', format: 'cohere', operation: 'chat' }
const OLLAMA = { provider: 'ollama', format: 'ollama', operation: 'chat' }

const API = 'https://generativelanguage.googleapis.com/v1beta'
const PROJECT = 'v1/projects/p-1/locations/us-central1'

describe('a call', () => {
  it.each([
    [`${API}/models/gemini-2.5-flash:generateContent?key=x`, GEMINI],
    [`${API}/models/gemini-2.5-flash:streamGenerateContent?alt=sse`, GEMINI],
    ['https://generativelanguage.googleapis.com/v1/models/gemini-2.5-flash:streamGenerateContent', GEMINI],
    [`${API}/models/gemini-embedding-001:embedContent`, EMBEDDINGS],
    [`${API}/models/gemini-embedding-001:batchEmbedContents`, EMBEDDINGS],
    [`${API}/openai/chat/completions`, { provider: 'gcp.gemini', format: 'openai-chat', operation: 'chat' }],
    [
      `https://us-central1-aiplatform.googleapis.com/${PROJECT}/publishers/google/models/gemini-2.5-flash:generateContent`,
      { ...VERTEX, ...US },
    ],
    [
      'https://aiplatform.googleapis.com/v1beta1/publishers/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse',
      VERTEX,
    ],
    [
      'https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu/publishers/google/models/gemini-2.5-flash:generateContent',
      VERTEX,
    ],
    [
      `https://us-central1-aiplatform.googleapis.com/${PROJECT}/endpoints/123:generateContent`,
      { ...VERTEX, ...US, model: '123' },
    ],
    [
      `https://us-central1-aiplatform.googleapis.com/${PROJECT}/endpoints/openapi/chat/completions`,
      { ...US, provider: 'gcp.vertex_ai', format: 'openai-chat', operation: 'chat' },
    ],
    [
      `https://us-central1-aiplatform.googleapis.com/${PROJECT}/publishers/google/models/gemini-embedding-001:predict`,
      { ...EMBEDDINGS, ...US, provider: 'gcp.vertex_ai' },
    ],
    [
      `https://us-east5-aiplatform.googleapis.com/${PROJECT}/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict`,
      { ...CLAUDE, region: 'us-east5' },
    ],
    [
      `https://aiplatform.googleapis.com/${PROJECT}/publishers/anthropic/models/claude-sonnet-4-5%4020250929:streamRawPredict`,
      CLAUDE,
    ],
    ['https://api.cohere.com/v2/chat', COHERE],
    ['https://api.cohere.com/v2/embed', { ...COHERE, operation: 'embeddings' }],
    ['https://api.cohere.com/v2/rerank', { ...COHERE, operation: 'rerank' }],
    ['https://api.cohere.ai/v1/rerank', { ...COHERE, operation: 'rerank' }],
    [
      'https://api.cohere.ai/compatibility/v1/chat/completions',
      { provider: 'cohere', format: 'openai-chat', operation: 'chat' },
    ],
  ])('is recognized: %s', (url, call) => {
    expect(recognize(new URL(url), 'POST')).toEqual(call)
    expect(mayBeCall(url)).toBe(true)
  })

  it.each([
    ['a free count', 'POST', `${API}/models/gemini-2.5-flash:countTokens`],
    ['a model’s card', 'GET', `${API}/models/gemini-2.5-flash`],
    ['another method', 'GET', `${API}/models/gemini-2.5-flash:generateContent`],
    ['a cache that is made', 'POST', `${API}/cachedContents`],
    [
      'a picture',
      'POST',
      `https://us-central1-aiplatform.googleapis.com/${PROJECT}/publishers/google/models/imagen-4.0:predict`,
    ],
    [
      'a free count of Claude',
      'POST',
      `https://us-east5-aiplatform.googleapis.com/${PROJECT}/publishers/anthropic/models/count-tokens:rawPredict`,
    ],
    [
      'a publisher without a reader',
      'POST',
      `https://us-central1-aiplatform.googleapis.com/${PROJECT}/publishers/acme/models/m:rawPredict`,
    ],
    [
      'another host',
      'POST',
      'https://aiplatform.googleapis.com.example/v1/publishers/google/models/m:generateContent',
    ],
    ['tokens of Cohere', 'POST', 'https://api.cohere.com/v1/tokenize'],
    ['Ollama without a mapping', 'POST', 'http://127.0.0.1:11434/api/chat'],
  ])('is left alone: %s', (_, method, url) => {
    expect(recognize(new URL(url), method)).toBeUndefined()
  })
})

describe('Ollama', () => {
  const endpoints = parseEndpoints('http://127.0.0.1:11434=ollama')

  it.each([
    ['/api/chat', OLLAMA],
    ['/api/generate', { ...OLLAMA, operation: 'text_completion' }],
    ['/api/embed', { ...OLLAMA, operation: 'embeddings' }],
    ['/v1/chat/completions', { ...OLLAMA, format: 'openai-chat' }],
    ['/v1/messages', { ...OLLAMA, format: 'anthropic-messages' }],
  ])('is recognized: %s', (path, call) => {
    const url = `http://127.0.0.1:11434${path}`
    expect(recognize(new URL(url), 'POST', endpoints)).toEqual(call)
    expect(mayBeCall(url)).toBe(true)
  })

  it.each(['/api/tags', '/api/pull', '/api/show'])('is left alone: %s', (path) => {
    expect(recognize(new URL(`http://127.0.0.1:11434${path}`), 'POST', endpoints)).toBeUndefined()
  })
})
