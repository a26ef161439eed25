import {
  CREATED,
  data,
  eventStream,
  json,
  named,
  type Vendor,
  type VendorAnswer,
  type VendorRequest,
} from './answer.ts'
import { openaiFailure } from './openai-chat.ts'
import type { Truth } from './plan.ts'

/** OpenAI's embeddings, images, transcriptions and speech (OpenAI API reference, openai-node 7.57 types, read 2026-11). */
export const openaiMedia: Vendor = {
  answer(request) {
    const { path } = request
    if (path.endsWith('/embeddings')) return embeddings(request)
    if (path.includes('/images/')) return images(request)
    return path.endsWith('/speech') ? speech(request) : transcription(request)
  },
  fail: openaiFailure,
}

function headersOf({ number }: VendorRequest): Record<string, string> {
  return { 'x-request-id': `req_${number}` }
}

/** Two dimensions are enough; the SDK asks for base64 unless it is told otherwise. */
function embeddings(request: VendorRequest): VendorAnswer {
  const { truth } = request.plan
  const vector = [-0.5, 0.25]
  const embedding =
    request.json['encoding_format'] === 'base64'
      ? Buffer.from(new Float32Array(vector).buffer).toString('base64')
      : vector
  const usage = { prompt_tokens: truth.input, total_tokens: truth.input }
  // Mistral counts an output of none.
  const isMistral = request.host.includes('mistral')
  return json(
    {
      object: 'list',
      data: [{ object: 'embedding', index: 0, embedding }],
      model: String(request.json['model']),
      usage: isMistral ? { ...usage, completion_tokens: 0 } : usage,
      ...(isMistral && { id: `embd-${request.number}` }),
    },
    headersOf(request),
  )
}

const PICTURE = {
  created_at: CREATED,
  size: '1024x1024',
  quality: 'medium',
  background: 'opaque',
  output_format: 'png',
  b64_json: 'iVBORw0KGgo=',
} as const

function images(request: VendorRequest): VendorAnswer {
  const { truth } = request.plan
  const picture = truth.imageInput ?? 0
  const usage = {
    input_tokens: truth.input,
    input_tokens_details: { text_tokens: truth.input - picture, image_tokens: picture },
    output_tokens: truth.output,
    total_tokens: truth.input + truth.output,
  }
  if (request.json['stream'] !== true) {
    const { b64_json, size, quality, background, output_format } = PICTURE
    return json(
      { created: CREATED, data: [{ b64_json }], size, quality, background, output_format, usage },
      headersOf(request),
    )
  }
  const partial = { type: 'image_generation.partial_image', ...PICTURE }
  return eventStream(
    [
      named({ ...partial, partial_image_index: 0 }),
      named({ ...partial, partial_image_index: 1 }),
      named({ type: 'image_generation.completed', ...PICTURE, usage }),
    ],
    headersOf(request),
  )
}

function transcriptionUsage(truth: Truth) {
  const audio = truth.audioInput ?? 0
  return {
    type: 'tokens',
    total_tokens: truth.input + truth.output,
    input_tokens: truth.input,
    input_token_details: { text_tokens: truth.input - audio, audio_tokens: audio },
    output_tokens: truth.output,
  }
}

/** The request is a form: what it asks for is found in its text. */
function transcription(request: VendorRequest): VendorAnswer {
  const { say, truth } = request.plan
  const text = say.text.join('')
  const usage = transcriptionUsage(truth)
  if (!/name="stream"\r\n\r\ntrue/.test(request.text)) return json({ text, usage }, headersOf(request))
  return eventStream(
    [
      ...say.text.map((delta) => data({ type: 'transcript.text.delta', delta }, { text: delta })),
      data({ type: 'transcript.text.done', text, usage }),
      data('[DONE]'),
    ],
    headersOf(request),
  )
}

const AUDIO = 'SUQzBAAAAAAAI1RTU0U='

function speech(request: VendorRequest): VendorAnswer {
  const { truth } = request.plan
  if (request.json['stream_format'] !== 'sse') {
    const bytes = Buffer.from(AUDIO, 'base64')
    return { headers: { 'content-type': 'audio/mpeg', ...headersOf(request) }, body: [{ bytes }] }
  }
  const usage = {
    input_tokens: truth.input,
    output_tokens: truth.output,
    total_tokens: truth.input + truth.output,
  }
  return eventStream(
    [
      data({ type: 'speech.audio.delta', audio: AUDIO }),
      data({ type: 'speech.audio.delta', audio: AUDIO }),
      data({ type: 'speech.audio.done', usage }),
    ],
    headersOf(request),
  )
}
