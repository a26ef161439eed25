import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Reading, transcriptNames, usageLike } from '../test/exchange.ts'
import { expectGoodCounts, expectNoByteLost, expectUntouched, passTranscript } from '../test/untouched.ts'
import { readOpenaiImages } from './openai-images.ts'

const readerOf = (bodyText: string | undefined = '{"model":"gpt-image-1","prompt":"A cat"}') =>
  readOpenaiImages({ bodyText, injectStreamUsage: true })
const read = (name: string, status?: number) =>
  passTranscript(readerOf(), `openai-images/${name}`, status).result

describe('images', () => {
  it.each<[name: string, quantities: Record<string, number>]>([
    ['gpt-image.json', { input_tokens: 13, output_tokens: 1056, image_output_tokens: 1056 }],
    [
      'gpt-image-edit.json',
      { input_tokens: 412, image_input_tokens: 388, output_tokens: 4160, image_output_tokens: 4100 },
    ],
    ['dall-e.json', { images: 2 }],
    ['stream.sse', { input_tokens: 13, output_tokens: 1056, image_output_tokens: 1056 }],
    ['stream-edit.sse', { input_tokens: 13, output_tokens: 1056, image_output_tokens: 1056 }],
  ])('%s', (name, quantities) => {
    const result = read(name)
    expect(result).toMatchObject({ isComplete: true, isStreamed: name.endsWith('.sse'), outputText: '' })
    expect(result.quantities).toEqual(quantities)
    expect(result).not.toHaveProperty('mismatch')
    expect(result).not.toHaveProperty('reason')
  })

  it('of a stream that brings several are counted once, and that is said', () => {
    expect(read('stream-two.sse')).toMatchObject({
      quantities: { input_tokens: 13, output_tokens: 1056 },
      mismatch: '2 images came, the usage is that of the last one',
    })
  })

  it.each<[name: string, status: number, rest: Partial<Reading>]>([
    ['error-400.json', 400, { isComplete: true, errorType: 'image_generation_user_error' }],
    ['stream-cut.sse', 200, { isComplete: false }],
    ['stream-error.sse', 200, { isComplete: false, errorType: 'image_generation_server_error' }],
  ])('%s counts nothing', (name, status, rest) => {
    const isStreamed = name.endsWith('.sse')
    expect(read(name, status)).toEqual({ isStreamed, outputText: '', ...rest })
  })

  it('name the model in JSON, in a form, or in the URL', () => {
    const form =
      '--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-image-1.5\r\n--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nA cat\r\n--x--\r\n'
    expect(readerOf().requestedModel).toBe('gpt-image-1')
    expect(readerOf(form).requestedModel).toBe('gpt-image-1.5')
    expect(readerOf(form).promptText()).toBe('A cat\n')
    const onAzure = readOpenaiImages({ model: 'my-images', bodyText: '{}', injectStreamUsage: true })
    expect(onAzure.requestedModel).toBe('my-images')
  })

  it.each([...transcriptNames('openai-images', '.json'), ...transcriptNames('openai-images', '.sse')])(
    '%s is untouched, cut anywhere',
    (name) => expectUntouched(readerOf, name),
  )

  it('whatever a provider sends', () => {
    const usage = usageLike({
      input_tokens: null,
      output_tokens: null,
      total_tokens: null,
      input_tokens_details: ['image_tokens', 'text_tokens', 'cached_tokens'],
      output_tokens_details: ['image_tokens', 'text_tokens'],
    })
    const answer = fc.record(
      { type: fc.constant('image_generation.completed'), data: fc.jsonValue(), usage },
      { requiredKeys: ['usage'] },
    )
    expectGoodCounts(readerOf, fc.oneof(answer, fc.jsonValue()))
    expectNoByteLost((bodyText) => readOpenaiImages({ bodyText, injectStreamUsage: true }))
  })
})
