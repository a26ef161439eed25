import { describe, expect, it } from 'vitest'
import { isKnownProviderHost, parseEndpoints, recognize } from './recognize.ts'

const OPENAI = { provider: 'openai', format: 'openai-chat', operation: 'chat' }
const AZURE = { ...OPENAI, provider: 'azure.ai.openai' }
const RESPONSES = { provider: 'openai', format: 'openai-responses', operation: 'chat' }
const FETCH = { ...RESPONSES, operation: 'fetch_response' }
const EMBEDDINGS = { provider: 'openai', format: 'openai-embeddings', operation: 'embeddings' }
const IMAGES = { provider: 'openai', format: 'openai-images', operation: 'image_generation' }
const TRANSCRIPTION = { provider: 'openai', format: 'openai-transcription', operation: 'transcription' }
const SPEECH = { provider: 'openai', format: 'openai-speech', operation: 'speech' }
const COMPLETION = { ...OPENAI, operation: 'text_completion' }
const ANTHROPIC = { provider: 'anthropic', format: 'anthropic-messages', operation: 'chat' }

describe('a call', () => {
  it.each([
    ['https://api.openai.com/v1/chat/completions', OPENAI],
    ['https://eu.api.openai.com/v1/chat/completions', { ...OPENAI, region: 'eu' }],
    ['https://us.api.openai.com/v1/chat/completions?x=1', { ...OPENAI, region: 'us' }],
    ['https://api.anthropic.com/v1/messages', ANTHROPIC],
    ['https://api.anthropic.com/v1/messages?beta=true', ANTHROPIC],
    [
      'https://acme.openai.azure.com/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21',
      { ...AZURE, model: 'my-gpt' },
    ],
    ['https://acme.openai.azure.com/openai/v1/chat/completions', AZURE],
    [
      'https://acme.cognitiveservices.azure.com/openai/deployments/d%20e/chat/completions',
      { ...AZURE, model: 'd e' },
    ],
    [
      'https://acme.openai.azure.com/openai/deployments/my-ada/embeddings?api-version=2024-10-21',
      { ...EMBEDDINGS, provider: 'azure.ai.openai', model: 'my-ada' },
    ],
    [
      'https://acme.openai.azure.com/openai/deployments/d/completions',
      { ...COMPLETION, provider: 'azure.ai.openai', model: 'd' },
    ],
    [
      'https://acme.openai.azure.com/openai/deployments/d/images/generations',
      { ...IMAGES, provider: 'azure.ai.openai', model: 'd' },
    ],
    [
      'https://acme.openai.azure.com/openai/deployments/d/audio/transcriptions',
      { ...TRANSCRIPTION, provider: 'azure.ai.openai', model: 'd' },
    ],
    [
      'https://acme.openai.azure.com/openai/deployments/%E0%A4%A/audio/speech',
      { ...SPEECH, provider: 'azure.ai.openai', model: '%E0%A4%A' },
    ],
    [
      'https://acme.openai.azure.com/openai/responses?api-version=2025-04-01-preview',
      { ...RESPONSES, provider: 'azure.ai.openai' },
    ],
    ['https://acme.openai.azure.com/openai/v1/responses', { ...RESPONSES, provider: 'azure.ai.openai' }],
    ['https://api.openai.com/v1/responses', RESPONSES],
    ['https://api.openai.com/v1/responses/compact', RESPONSES],
    ['https://api.openai.com/v1/responses/resp_1/cancel', FETCH],
    ['https://api.openai.com/v1/completions', COMPLETION],
    ['https://api.openai.com/v1/embeddings', EMBEDDINGS],
    ['https://api.openai.com/v1/images/generations', IMAGES],
    ['https://api.openai.com/v1/images/edits', IMAGES],
    ['https://api.openai.com/v1/images/variations', IMAGES],
    ['https://api.openai.com/v1/audio/transcriptions', TRANSCRIPTION],
    ['https://api.openai.com/v1/audio/translations', TRANSCRIPTION],
    ['https://api.openai.com/v1/audio/speech', SPEECH],
    ['https://api.mistral.ai/v1/chat/completions', { ...OPENAI, provider: 'mistral_ai' }],
    ['https://api.eu.mistral.ai/v1/fim/completions', { ...COMPLETION, provider: 'mistral_ai' }],
    ['https://api.mistral.ai/v1/embeddings', { ...EMBEDDINGS, provider: 'mistral_ai' }],
    ['https://api.groq.com/openai/v1/chat/completions', { ...OPENAI, provider: 'groq' }],
    ['https://api.deepseek.com/chat/completions', { ...OPENAI, provider: 'deepseek' }],
    ['https://api.deepseek.com/beta/completions', { ...COMPLETION, provider: 'deepseek' }],
    ['https://api.x.ai/v1/responses', { ...RESPONSES, provider: 'x_ai' }],
    ['https://openrouter.ai/api/v1/chat/completions', { ...OPENAI, provider: 'openrouter' }],
    ['https://api.together.xyz/v1/chat/completions', { ...OPENAI, provider: 'together_ai' }],
    ['https://acme.services.ai.azure.com/openai/v1/chat/completions', AZURE],
  ])('is recognized: %s', (url, call) => {
    expect(recognize(new URL(url), 'POST')).toEqual(call)
  })

  it.each([
    ['another method', 'GET', 'https://api.openai.com/v1/chat/completions'],
    ['a stored completion', 'POST', 'https://api.openai.com/v1/chat/completions/chatcmpl-1'],
    ['a format without a reader', 'POST', 'https://api.openai.com/v1/moderations'],
    ['a free count of a response’s input', 'POST', 'https://api.openai.com/v1/responses/input_tokens'],
    ['the items of a response', 'GET', 'https://api.openai.com/v1/responses/resp_1/input_items'],
    ['the end of a response', 'DELETE', 'https://api.openai.com/v1/responses/resp_1'],
    ['a list', 'GET', 'https://api.openai.com/v1/responses'],
    ['a free count', 'POST', 'https://api.anthropic.com/v1/messages/count_tokens'],
    ['a batch, billed by its results', 'POST', 'https://api.anthropic.com/v1/messages/batches'],
    ['one vendor’s path at the other', 'POST', 'https://api.openai.com/v1/messages'],
    ['another host', 'POST', 'https://api.example.com/v1/chat/completions'],
    ['a host that ends alike', 'POST', 'https://evil-api.openai.com/v1/chat/completions'],
    ['a host that begins alike', 'POST', 'https://api.openai.com.example/v1/chat/completions'],
    [
      'a host that only looks like Azure',
      'POST',
      'https://acme.openai.azure.com.example/openai/v1/chat/completions',
    ],
    ['a path inside another', 'POST', 'https://api.openai.com/proxy/v1/chat/completions'],
  ])('is left alone: %s', (_, method, url) => {
    expect(recognize(new URL(url), method)).toBeUndefined()
  })
})

it('fetching a response that was made before is recognized as that', () => {
  const url = new URL('https://api.openai.com/v1/responses/resp_1?stream=true')
  expect(recognize(url, 'GET')).toEqual(FETCH)
})

describe('further endpoints', () => {
  const endpoints = parseEndpoints(
    'http://127.0.0.1:11434=openai, https://llm.corp.example/v1/=openai/vllm,https://llm.corp.example/claude=anthropic,',
  )

  it.each([
    ['http://127.0.0.1:11434/v1/chat/completions', OPENAI],
    ['http://127.0.0.1:11434/chat/completions', OPENAI],
    ['https://llm.corp.example/v1/chat/completions', { ...OPENAI, provider: 'vllm' }],
    ['https://llm.corp.example/claude/v1/messages', ANTHROPIC],
    ['https://api.openai.com/v1/chat/completions', OPENAI],
  ])('are recognized: %s', (url, call) => {
    expect(recognize(new URL(url), 'POST', endpoints)).toEqual(call)
  })

  it.each([
    ['another port', 'http://127.0.0.1:11435/v1/chat/completions'],
    ['another scheme', 'https://127.0.0.1:11434/v1/chat/completions'],
    ['a path that only begins alike', 'https://llm.corp.example/v1beta/chat/completions'],
    ['the other format', 'http://127.0.0.1:11434/v1/messages'],
    ['a path beside the base', 'https://llm.corp.example/chat/completions'],
  ])('are not: %s', (_, url) => {
    expect(recognize(new URL(url), 'POST', endpoints)).toBeUndefined()
  })

  it('may be none', () => {
    expect(parseEndpoints('')).toEqual([])
    expect(parseEndpoints(' , ')).toEqual([])
  })

  it('may have an equals sign in the URL', () => {
    expect(parseEndpoints('https://h.example/a=b=openai')).toEqual([
      { origin: 'https://h.example', path: '/a=b', format: 'openai', provider: 'openai' },
    ])
  })

  it('without a provider are the vendor’s', () => {
    expect(parseEndpoints('https://h.example=anthropic/')[0]?.provider).toBe('anthropic')
  })

  it.each([
    ['http://127.0.0.1:8000', 'must be written as BASE_URL=FORMAT'],
    ['=openai', 'must be written as BASE_URL=FORMAT'],
    ['127.0.0.1:8000=openai', 'must be written as BASE_URL=FORMAT'],
    ['localhost:8000=openai', 'must be written as BASE_URL=FORMAT'],
    ['http://127.0.0.1:8000=pigeon', 'unknown wire format "pigeon"; known: openai, anthropic'],
    ['http://127.0.0.1:8000=', 'unknown wire format ""'],
  ])('that are written wrongly are named, with the cure: %s', (entry, complaint) => {
    expect(() => parseEndpoints(`http://127.0.0.1:1=openai,${entry}`)).toThrow(TypeError)
    expect(() => parseEndpoints(entry)).toThrow(`endpoint "${entry}"`)
    expect(() => parseEndpoints(entry)).toThrow(complaint)
  })
})

describe('hosts of providers', () => {
  it.each([
    'api.openai.com',
    'eu.api.openai.com',
    'api.anthropic.com',
    'acme.openai.azure.com',
    'acme.services.ai.azure.com',
    'generativelanguage.googleapis.com',
    'aiplatform.googleapis.com',
    'us-central1-aiplatform.googleapis.com',
    'bedrock-runtime.us-east-1.amazonaws.com',
    'api.mistral.ai',
    'api.eu.mistral.ai',
    'api.cohere.com',
    'api.groq.com',
    'api.x.ai',
    'api.deepseek.com',
    'openrouter.ai',
    'api.together.xyz',
    'api.together.ai',
  ])('%s is known', (host) => {
    expect(isKnownProviderHost(host)).toBe(true)
  })

  it.each([
    'example.com',
    'openai.com',
    'evilapi.openai.com',
    'api.openai.com.example',
    'storage.googleapis.com',
    's3.us-east-1.amazonaws.com',
    'evil-bedrock-runtime.us-east-1.amazonaws.com',
    '127.0.0.1',
    '',
  ])('%s is not', (host) => {
    expect(isKnownProviderHost(host)).toBe(false)
  })
})
