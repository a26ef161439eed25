import { type GenerateContentParameters, GoogleGenAI } from '@google/genai'
import { TOOL, TOOL_CALL, type Truth } from '../../fake-provider/vendors/index.ts'
import { describeMatrix, type Way } from './matrix.ts'
import { TOOL_TOKENS } from './openai-chat.ts'
import { PROMPT, PROMPT_TOKENS } from './texts.ts'

/** Gemini by its own API and by Vertex AI, with Google's official SDK. */

const MODEL = 'gemini-2.5-flash'
const request: GenerateContentParameters = { model: MODEL, contents: PROMPT }
const truth: Truth = { input: PROMPT_TOKENS, output: 977 }
const thought: Truth = { ...truth, output: 1300, reasoning: 640 }
const say = { reasoning: ['I', ' think', ' of', ' a', ' naïve', ' way', ' 数'] }
const tools = [
  {
    functionDeclarations: [
      { name: TOOL.name, description: TOOL.description, parametersJsonSchema: TOOL.parameters },
    ],
  },
]
const withTools: Truth = { ...truth, input: PROMPT_TOKENS + TOOL_TOKENS }
const stream = { isStreamed: true } as const
const httpOptions = { retryOptions: { attempts: 3, initialDelay: 0.001, maxDelay: 0.001, jitter: 0 } }

const ways: Way<GoogleGenAI>[] = [
  { name: 'plain', truth, call: ({ models }) => models.generateContent(request) },
  { name: 'streamed', truth, ...stream, call: ({ models }) => models.generateContentStream(request) },
  {
    name: 'with tools',
    truth: withTools,
    say: { tool: TOOL_CALL },
    call: ({ models }) => models.generateContent({ ...request, config: { tools } }),
  },
  {
    name: 'with tools, streamed',
    truth: withTools,
    say: { tool: TOOL_CALL },
    ...stream,
    call: ({ models }) => models.generateContentStream({ ...request, config: { tools } }),
  },
  {
    name: 'with results of tools beside the prompt',
    truth: { ...truth, input: PROMPT_TOKENS + 120, toolInput: 120 },
    call: ({ models }) => models.generateContent(request),
  },
  {
    name: 'cached',
    truth: { ...truth, cacheRead: 1024 },
    call: ({ models }) => models.generateContent(request),
  },
  {
    name: 'cached, streamed',
    truth: { ...truth, cacheRead: 1024 },
    ...stream,
    call: ({ models }) => models.generateContentStream(request),
  },
  { name: 'reasoning', truth: thought, say, call: ({ models }) => models.generateContent(request) },
  {
    name: 'reasoning, streamed',
    truth: thought,
    say,
    ...stream,
    // How many of the tokens so far were thoughts is not known when it is cut.
    isCountable: false,
    call: ({ models }) => models.generateContentStream(request),
  },
  {
    name: 'with pictures and audio',
    truth: { ...truth, input: PROMPT_TOKENS + 500, imageInput: 258, audioInput: 242 },
    call: ({ models }) =>
      models.generateContent({
        model: MODEL,
        contents: [{ text: PROMPT }, { inlineData: { mimeType: 'image/png', data: 'iVBORw0KGgo=' } }],
      }),
  },
]
const common = { operation: 'generate_content', model: MODEL, responseModel: MODEL }
const named = ways.map((way) => ({ ...way, event: common }))
const embedded: Way<GoogleGenAI> = {
  name: 'embeddings',
  truth: { input: 11, output: 0 },
  quantities: { output_tokens: undefined },
  event: { operation: 'embeddings' },
  call: ({ models }) => models.embedContent({ model: 'gemini-embedding-001', contents: ['a text'] }),
}

describeMatrix<GoogleGenAI>({
  name: 'Google Gemini',
  sdk: '@google/genai',
  provider: 'gcp.gemini',
  hasRunningTotals: true,
  leavesLate: true,
  client: () => new GoogleGenAI({ apiKey: 'test', httpOptions }),
  ways: [...named, embedded],
})

describeMatrix<GoogleGenAI>({
  name: 'Google Vertex AI',
  sdk: '@google/genai',
  provider: 'gcp.vertex_ai',
  hasRunningTotals: true,
  leavesLate: true,
  client: () => new GoogleGenAI({ vertexai: true, apiKey: 'test', httpOptions }),
  ways: [...named.map((way) => ({ ...way, event: { ...common, serviceTier: 'on_demand' } })), embedded],
})
