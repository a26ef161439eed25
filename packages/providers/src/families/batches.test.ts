import { describe, expect, it } from 'vitest'
import { mayBeCall, recognize } from '../recognize.ts'

describe('what brings the usage of calls that were made before', () => {
  it.each<[url: string, format: string, operation: string, resultsId?: string]>([
    ['https://api.openai.com/v1/files/file-Out1/content', 'batch-results', 'fetch_batch', 'file-Out1'],
    ['https://api.openai.com/v1/batches/batch_1', 'batch-status', 'fetch_batch', 'batch_1'],
    [
      'https://acme.openai.azure.com/openai/files/file-1/content?api-version=2025-04-01-preview',
      'batch-results',
      'fetch_batch',
      'file-1',
    ],
    ['https://api.groq.com/openai/v1/files/file_1/content', 'batch-results', 'fetch_batch', 'file_1'],
    ['https://api.mistral.ai/v1/files/f-1/content', 'batch-results', 'fetch_batch', 'f-1'],
    ['https://api.mistral.ai/v1/batch/jobs/j-1', 'batch-status', 'fetch_batch', 'j-1'],
    ['https://api.together.xyz/v1/files/file-1/content', 'batch-results', 'fetch_batch', 'file-1'],
    ['https://api.anthropic.com/v1/messages/batches/b_1', 'batch-status', 'fetch_batch', 'b_1'],
    ['https://api.anthropic.com/v1/messages/batches/b_1/results', 'batch-results', 'fetch_batch', 'b_1'],
    [
      'https://generativelanguage.googleapis.com/v1beta/batches/b1',
      'batch-status',
      'fetch_batch',
      'batches/b1',
    ],
    [
      'https://generativelanguage.googleapis.com/download/v1beta/files/f1:download?alt=media',
      'batch-results',
      'fetch_batch',
      'files/f1',
    ],
    [
      'https://generativelanguage.googleapis.com/v1beta/interactions/v1_abc',
      'gemini-interactions',
      'fetch_response',
    ],
  ])('%s', (url, format, operation, resultsId) => {
    expect(mayBeCall(url)).toBe(true)
    expect(recognize(new URL(url), 'GET')).toMatchObject({
      format,
      operation,
      ...(resultsId !== undefined && { resultsId }),
    })
  })

  it('and the oldest URLs name the model', () => {
    const url = new URL('https://api.openai.com/v1/engines/davinci/completions')
    expect(mayBeCall(url.href)).toBe(true)
    expect(recognize(url, 'POST')).toMatchObject({ format: 'openai-chat', model: 'davinci' })
  })

  it('and a new interaction is a call', () => {
    const url = new URL('https://generativelanguage.googleapis.com/v1beta/interactions')
    expect(recognize(url, 'POST')).toMatchObject({
      format: 'gemini-interactions',
      operation: 'generate_content',
    })
  })

  it.each([
    ['GET', 'https://api.openai.com/v1/files/file-1'],
    ['DELETE', 'https://api.openai.com/v1/files/file-1/content'],
    ['GET', 'https://api.openai.com/v1/batches'],
    ['POST', 'https://api.openai.com/v1/batches/batch_1/cancel'],
    ['POST', 'https://api.anthropic.com/v1/messages/batches'],
    ['GET', 'https://generativelanguage.googleapis.com/v1beta/files/f1'],
  ])('but not %s %s', (method, url) => {
    expect(recognize(new URL(url), method)).toBeUndefined()
  })
})
