import OpenAI, { toFile } from 'openai'
import type { ResponseCreateParamsBase } from 'openai/resources/responses/responses'
import { TOOL, TOOL_CALL, type Truth } from '../../fake-provider/vendors/index.ts'
import { describeMatrix, type Way } from './matrix.ts'
import { chatWays } from './openai-chat.ts'
import { DAVINCI, GPT_4O, GPT_5 } from './references.ts'
import { PROMPT, PROMPT_TOKENS } from './texts.ts'

/** OpenAI by its official SDK. */

const client = () => new OpenAI({ apiKey: 'sk-test' })
const base = { sdk: 'openai', provider: 'openai', numbersAttempts: true, client } as const
const truth: Truth = { input: PROMPT_TOKENS, output: 977 }

const PICTURE = 'data:image/png;base64,iVBORw0KGgo='
const AUDIO = 'UklGRiQAAABXQVZF'

const modalities: Way<OpenAI>[] = [
  {
    name: 'with a picture',
    truth: { ...truth, input: PROMPT_TOKENS + 765, imageInput: 765 },
    call: (openai) =>
      openai.chat.completions.create({
        model: 'gpt-4o-mini',
        messages: [
          {
            role: 'user',
            content: [
              { type: 'text', text: PROMPT },
              { type: 'image_url', image_url: { url: PICTURE } },
            ],
          },
        ],
      }),
  },
  {
    name: 'with audio in and out',
    truth: { input: 117, audioInput: 98, output: 215, audioOutput: 172 },
    call: (openai) =>
      openai.chat.completions.create({
        model: 'gpt-4o-audio-preview',
        modalities: ['text', 'audio'],
        audio: { voice: 'alloy', format: 'wav' },
        messages: [
          {
            role: 'user',
            content: [{ type: 'input_audio', input_audio: { data: AUDIO, format: 'wav' } }],
          },
        ],
      }),
  },
]

describeMatrix({
  ...base,
  name: 'OpenAI chat completions',
  reference: GPT_4O,
  ways: [
    ...chatWays<OpenAI>((openai, request) => openai.chat.completions.create(request), {
      model: 'gpt-4o-mini',
      reasoning: 'hidden',
      isUsageAsked: true,
      reference: GPT_4O,
      event: { serviceTier: 'default', responseModel: 'gpt-4o-mini-2025-08-07' },
    }),
    ...modalities,
    {
      name: 'plain and long',
      truth: { ...truth, input: GPT_4O.inputTokens(false) },
      breaksToo: true,
      event: { model: 'gpt-4o-mini' },
      call: (openai) =>
        openai.chat.completions.create({
          model: 'gpt-4o-mini',
          messages: [{ role: 'user', content: PROMPT }],
        }),
    },
  ],
})

const completionTruth: Truth = { input: DAVINCI.inputTokens(false), output: 977 }
const completion = { model: 'davinci-002', prompt: PROMPT }
describeMatrix({
  ...base,
  name: 'OpenAI completions',
  reference: DAVINCI,
  ways: [
    {
      name: 'plain',
      truth: completionTruth,
      event: { operation: 'text_completion' },
      call: (openai) => openai.completions.create(completion),
    },
    {
      name: 'streamed',
      truth: completionTruth,
      isStreamed: true,
      event: { operation: 'text_completion' },
      call: (openai) => openai.completions.create({ ...completion, stream: true }),
    },
  ],
})

const ask: ResponseCreateParamsBase = { model: 'gpt-5', input: PROMPT }
const tools: ResponseCreateParamsBase['tools'] = [
  {
    type: 'function',
    name: TOOL.name,
    description: TOOL.description,
    parameters: { ...TOOL.parameters },
    strict: true,
  },
]
const responseTruth: Truth = { ...truth, input: GPT_5.inputTokens(false) }
const withTools: Truth = { ...truth, input: GPT_5.inputTokens(true) }
const responses: Way<OpenAI>[] = [
  { name: 'plain', truth: responseTruth, call: (openai) => openai.responses.create(ask) },
  {
    name: 'streamed',
    truth: responseTruth,
    isStreamed: true,
    call: (openai) => openai.responses.create({ ...ask, stream: true }),
  },
  {
    name: 'with tools',
    truth: withTools,
    say: { tool: TOOL_CALL },
    call: (openai) => openai.responses.create({ ...ask, tools }),
  },
  {
    name: 'with tools, streamed',
    truth: withTools,
    say: { tool: TOOL_CALL },
    isStreamed: true,
    call: (openai) => openai.responses.create({ ...ask, tools, stream: true }),
  },
  {
    name: 'cached, read and written',
    truth: { ...responseTruth, cacheRead: 1024, cacheWrite: 300 },
    call: (openai) => openai.responses.create(ask),
  },
  {
    name: 'reasoning',
    truth: { ...responseTruth, output: 1300, reasoning: 640 },
    call: (openai) => openai.responses.create(ask),
  },
  {
    name: 'reasoning and cached, streamed',
    truth: { ...responseTruth, output: 1300, reasoning: 640, cacheRead: 1024 },
    isStreamed: true,
    isCountable: false,
    call: (openai) => openai.responses.create({ ...ask, stream: true }),
  },
  {
    name: 'with searches of the web',
    truth: { ...responseTruth, webSearches: 2 },
    call: (openai) => openai.responses.create({ ...ask, tools: [{ type: 'web_search' }] }),
  },
]
describeMatrix({ ...base, name: 'OpenAI responses', reference: GPT_5, ways: responses })

const OUTPUT_NONE = { output_tokens: undefined }
const media: Way<OpenAI>[] = [
  {
    name: 'embeddings, as base64',
    truth: { input: 8, output: 0 },
    quantities: OUTPUT_NONE,
    event: { operation: 'embeddings' },
    call: (openai) => openai.embeddings.create({ model: 'text-embedding-3-small', input: 'a text' }),
  },
  {
    name: 'embeddings, as numbers',
    truth: { input: 9, output: 0 },
    quantities: OUTPUT_NONE,
    event: { operation: 'embeddings' },
    call: (openai) =>
      openai.embeddings.create({
        model: 'text-embedding-3-small',
        input: ['a', 'b'],
        encoding_format: 'float',
      }),
  },
  {
    name: 'a picture',
    truth: { input: 13, output: 1056, imageOutput: 1056 },
    event: { operation: 'image_generation' },
    call: (openai) => openai.images.generate({ model: 'gpt-image-1', prompt: 'A cat' }),
  },
  {
    name: 'a picture, edited',
    truth: { input: 400, imageInput: 388, output: 1056, imageOutput: 1056 },
    event: { operation: 'image_generation', model: 'gpt-image-1' },
    call: async (openai) =>
      openai.images.edit({
        model: 'gpt-image-1',
        image: await toFile(Buffer.from('png'), 'cat.png', { type: 'image/png' }),
        prompt: 'A dog',
      }),
  },
  {
    name: 'a picture, streamed',
    truth: { input: 13, output: 1056, imageOutput: 1056 },
    isStreamed: true,
    isCountable: false,
    event: { operation: 'image_generation' },
    without: ['left early'],
    call: (openai) =>
      openai.images.generate({ model: 'gpt-image-1', prompt: 'A cat', stream: true, partial_images: 2 }),
  },
  {
    name: 'a transcription',
    truth: { input: 114, audioInput: 100, output: 15 },
    event: { operation: 'transcription', model: 'gpt-4o-transcribe' },
    call: async (openai) =>
      openai.audio.transcriptions.create({
        model: 'gpt-4o-transcribe',
        file: await toFile(Buffer.from('RIFF'), 'a.wav', { type: 'audio/wav' }),
      }),
  },
  {
    name: 'a transcription, streamed',
    truth: { input: 114, audioInput: 100, output: 15 },
    isStreamed: true,
    isCountable: false,
    event: { operation: 'transcription', model: 'gpt-4o-transcribe' },
    call: async (openai) =>
      openai.audio.transcriptions.create({
        model: 'gpt-4o-transcribe',
        stream: true,
        file: await toFile(Buffer.from('RIFF'), 'a.wav', { type: 'audio/wav' }),
      }),
  },
  {
    name: 'speech',
    truth: { input: 0, output: 0 },
    quantities: { input_tokens: undefined, output_tokens: undefined, input_characters: 7 },
    event: { operation: 'speech' },
    call: async (openai) => {
      const spoken = await openai.audio.speech.create({ model: 'tts-1', voice: 'alloy', input: 'Naïve 🙂' })
      return Buffer.from(await spoken.arrayBuffer()).toString('base64')
    },
  },
]
describeMatrix({ ...base, name: 'OpenAI embeddings, images, audio', ways: media })
