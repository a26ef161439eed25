import { recognize } from '@tokentally/providers'
import { describe, expect, it } from 'vitest'
import { bodyFor, fits, isModelInBody, isOneOf } from './downgrade.ts'

function callTo(url: string) {
  const call = recognize(new URL(url), 'POST')
  if (call === undefined) throw new Error(`${url} is no call`)
  return call
}
const OPENAI = callTo('https://api.openai.com/v1/chat/completions')

describe('a cheaper model', () => {
  it.each([
    ['https://api.openai.com/v1/chat/completions', 'gpt-4o', 'gpt-4o-mini', true],
    ['https://api.openai.com/v1/responses', 'o3', 'gpt-5-nano', true],
    ['https://api.openai.com/v1/chat/completions', 'gpt-4o', 'claude-haiku-4-5', false],
    ['https://api.openai.com/v1/chat/completions', 'gpt-4o', 'text-embedding-3-small', false],
    ['https://api.openai.com/v1/embeddings', 'text-embedding-3-large', 'text-embedding-3-small', true],
    ['https://api.openai.com/v1/embeddings', 'text-embedding-3-large', 'gpt-4o-mini', false],
    ['https://api.openai.com/v1/images/generations', 'gpt-image-1', 'gpt-image-1-mini', false],
    ['https://api.anthropic.com/v1/messages', 'claude-opus-4-5', 'claude-haiku-4-5', true],
    ['https://api.anthropic.com/v1/messages', 'claude-opus-4-5', 'gpt-4o-mini', false],
    ['https://api.mistral.ai/v1/chat/completions', 'mistral-large-latest', 'ministral-8b-latest', true],
    ['https://api.groq.com/openai/v1/chat/completions', 'llama-3.3-70b', 'llama-3.1-8b-instant', true],
    ['https://api.groq.com/openai/v1/chat/completions', 'llama-3.3-70b', 'gpt-4o-mini', false],
    ['https://openrouter.ai/api/v1/chat/completions', 'openai/gpt-4o', 'openai/gpt-4o-mini', true],
    ['https://openrouter.ai/api/v1/chat/completions', 'openai/gpt-4o', 'gpt-4o-mini', false],
  ])('%s: %s by %s: %s', (url, model, other, expected) => {
    expect(fits(callTo(url), model, other)).toBe(expected)
  })

  it.each([
    ['https://api.openai.com/v1/chat/completions', true],
    ['https://api.anthropic.com/v1/messages', true],
    ['https://acme.openai.azure.com/openai/deployments/gpt-4o/chat/completions', false],
    ['https://acme.openai.azure.com/openai/v1/chat/completions', false],
    ['https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:generateContent', false],
    ['https://bedrock-runtime.us-east-1.amazonaws.com/model/amazon.nova-pro-v1%3A0/converse', false],
    ['https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/chat/completions', false],
  ])('can be asked for in the body of %s: %s', (url, expected) => {
    expect(isModelInBody(callTo(url))).toBe(expected)
  })

  it('is not needed for an edition of itself', () => {
    const models = ['gpt-4o-mini', 'claude-haiku-4-5']
    for (const same of ['gpt-4o-mini', 'gpt-4o-mini-2024-07-18', 'claude-haiku-4-5-20251001'])
      expect(isOneOf(models, same)).toBe(true)
    for (const other of ['gpt-4o', 'gpt-4o-mini-audio-preview', 'gpt-4o-mini-transcribe'])
      expect(isOneOf(models, other)).toBe(false)
    expect(fits(OPENAI, 'gpt-4o', 'gpt-4o-mini')).toBe(true)
  })
})

describe('the body that asks for it', () => {
  it('is the same text but for the model', () => {
    const body = '{"model":"gpt-4o","seed":12345678901234567890,"messages":[{"content":"model gpt-4o"}]}'
    expect(bodyFor(body, 'gpt-4o', 'gpt-4o-mini')).toBe(body.replace('"gpt-4o"', '"gpt-4o-mini"'))
  })

  it('is written anew where the model stands elsewhere', () => {
    const body = '{ "messages": [{"model":"gpt-4o"}], "model": "gpt-4o" }'
    expect(JSON.parse(bodyFor(body, 'gpt-4o', 'a"b') ?? '')).toEqual({
      messages: [{ model: 'gpt-4o' }],
      model: 'a"b',
    })
  })

  it.each(['', 'no json', '[]', 'null', '{"model":"other"}', '{"model":["gpt-4o"]}'])(
    'is none for %j',
    (body) => {
      expect(bodyFor(body, 'gpt-4o', 'gpt-4o-mini')).toBeUndefined()
    },
  )
})
