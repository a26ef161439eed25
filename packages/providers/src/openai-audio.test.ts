import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { exchange, type Reading, transcriptNames, usageLike } from '../test/exchange.ts'
import {
  expectGoodCounts,
  expectNoByteLost,
  expectUntouched,
  passTranscript,
  utf8,
} from '../test/untouched.ts'
import { readOpenaiSpeech, readOpenaiTranscription } from './openai-audio.ts'

const FORM =
  '--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\u0000\r\n--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4o-transcribe\r\n--x--\r\n'
const transcriptionOf = (bodyText: string | undefined = FORM) =>
  readOpenaiTranscription({ bodyText, injectStreamUsage: true })
const speechOf = (
  bodyText: string | undefined = '{"model":"gpt-4o-mini-tts","input":"Hi","voice":"alloy"}',
) => readOpenaiSpeech({ bodyText, injectStreamUsage: true })
const named = (part: string) =>
  [...transcriptNames('openai-audio', '.json'), ...transcriptNames('openai-audio', '.sse')].filter((name) =>
    name.includes(part),
  )

describe('transcriptions', () => {
  const read = (name: string, status?: number) =>
    passTranscript(transcriptionOf(), `openai-audio/${name}`, status).result

  it.each<[name: string, quantities: Record<string, number>, rest: Partial<Reading>]>([
    [
      'transcription-tokens.json',
      { input_tokens: 114, audio_input_tokens: 100, output_tokens: 15 },
      { outputText: 'Naïve, 数えた.' },
    ],
    ['transcription-duration.json', { audio_seconds: 9 }, {}],
    ['transcription-verbose.json', { audio_seconds: 9 }, {}],
    // No usage: the duration, to the nearest second.
    ['transcription-verbose-without-usage.json', { audio_seconds: 8 }, {}],
    // Nothing tells how long it was: a request without a price, not one that is free.
    ['transcription-bare.json', { requests: 1 }, {}],
    [
      'transcription-mistral.json',
      { input_tokens: 4, output_tokens: 635, audio_seconds: 203 },
      { responseModel: 'voxtral-mini-2602' },
    ],
    [
      'transcription-stream.sse',
      { input_tokens: 28, audio_input_tokens: 28, output_tokens: 5 },
      { isStreamed: true, outputText: 'Hello there.' },
    ],
  ])('%s', (name, quantities, rest) => {
    const result = read(name)
    expect(result).toMatchObject({ isComplete: true, ...rest })
    expect(result.quantities).toEqual(quantities)
  })

  it.each<[name: string, status: number, expected: Partial<Reading>]>([
    [
      'error-400.json',
      400,
      { isComplete: true, isStreamed: false, errorType: 'invalid_request_error', outputText: '' },
    ],
    ['transcription-stream-cut.sse', 200, { isComplete: false, isStreamed: true, outputText: 'Hello' }],
  ])('%s counts nothing', (name, status, expected) => {
    expect(read(name, status)).toEqual(expected)
  })

  it('as plain text are a request without a price', () => {
    const { result } = exchange(transcriptionOf(), { bytes: utf8('Hello.'), contentType: 'text/plain' })
    expect(result.quantities).toEqual({ requests: 1 })
  })

  it('name the model in the form, or in the URL', () => {
    expect(transcriptionOf().requestedModel).toBe('gpt-4o-transcribe')
    const onAzure = readOpenaiTranscription({
      model: 'my-whisper',
      bodyText: undefined,
      injectStreamUsage: true,
    })
    expect(onAzure.requestedModel).toBe('my-whisper')
  })

  it.each([...named('transcription'), 'openai-audio/error-400.json'])(
    '%s is untouched, cut anywhere',
    (name) => {
      expectUntouched(transcriptionOf, name)
    },
  )

  it('whatever a provider sends', () => {
    const usage = usageLike({
      input_tokens: null,
      output_tokens: null,
      total_tokens: null,
      seconds: null,
      prompt_tokens: null,
      prompt_audio_seconds: null,
      input_token_details: ['audio_tokens', 'text_tokens'],
    })
    const answer = fc.record(
      { type: fc.constant('transcript.text.done'), duration: fc.jsonValue(), usage },
      { requiredKeys: ['usage'] },
    )
    expectGoodCounts(transcriptionOf, fc.oneof(answer, fc.jsonValue()))
    expectNoByteLost((bodyText) => readOpenaiTranscription({ bodyText, injectStreamUsage: true }))
  })
})

describe('speech', () => {
  const AUDIO = { bytes: utf8('ID3\u0004'), contentType: 'audio/mpeg' }

  it('as a stream of events has usage at its end', () => {
    const { result } = passTranscript(speechOf(), 'openai-audio/speech-stream.sse')
    expect(result).toEqual({
      quantities: { input_tokens: 14, output_tokens: 101, audio_output_tokens: 101 },
      isComplete: true,
      isStreamed: true,
      outputText: '',
      vendorUsage: { input_tokens: 14, output_tokens: 101, total_tokens: 115 },
    })
  })

  it('that was cut has none', () => {
    const { result } = passTranscript(speechOf(), 'openai-audio/speech-stream-cut.sse')
    expect(result).toEqual({ isComplete: false, isStreamed: true, outputText: '' })
  })

  it('of models that are billed by it is the characters of the request', () => {
    const reader = speechOf('{"model":"tts-1-hd","input":"Naïve 🙂","voice":"alloy"}')
    expect(exchange(reader, AUDIO).result.quantities).toEqual({ input_characters: 7 })
  })

  it('of other models tells nothing: the input is there for an estimate', () => {
    const reader = speechOf()
    expect(exchange(reader, AUDIO).result).toEqual({ isComplete: true, isStreamed: false, outputText: '' })
    expect(reader.promptText()).toBe('Hi\n')
  })

  it('that failed counts nothing', () => {
    const reader = speechOf('{"model":"tts-1","input":"Hi"}')
    const { result } = passTranscript(reader, 'openai-audio/error-400.json', 400)
    expect(result).toMatchObject({ errorType: 'invalid_request_error' })
    expect(result).not.toHaveProperty('quantities')
  })

  it.each(named('speech'))('%s is untouched, cut anywhere', (name) => {
    expectUntouched(speechOf, name)
  })

  it('whatever a provider sends', () => {
    const usage = usageLike({ input_tokens: null, output_tokens: null, total_tokens: null })
    const done = fc.record({ type: fc.constant('speech.audio.done'), usage })
    expectGoodCounts(speechOf, fc.oneof(done, fc.jsonValue()))
    expectNoByteLost((bodyText) => readOpenaiSpeech({ bodyText, injectStreamUsage: true }))
  })
})
