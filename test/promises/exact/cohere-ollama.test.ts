import { CohereClientV2 } from 'cohere-ai'
import { Ollama } from 'ollama'
import { TOOL, TOOL_CALL, type Truth } from '../../fake-provider/vendors/index.ts'
import { describeMatrix, type Way } from './matrix.ts'
import { TOOL_TOKENS } from './openai-chat.ts'
import { LLAMA_3, COHERE as OVERHEAD } from './references.ts'
import { PROMPT, PROMPT_TOKENS } from './texts.ts'

/** Cohere and Ollama, each by its official SDK. */

const truth: Truth = { input: PROMPT_TOKENS, output: 977 }
const withTools: Truth = { ...truth, input: PROMPT_TOKENS + TOOL_TOKENS }
const say = { reasoning: ['I', ' think', ' of', ' a', ' naïve', ' way', ' 数'] }
const messages = [{ role: 'user' as const, content: PROMPT }]
const { required, ...parameters } = TOOL.parameters
const tools = [
  {
    type: 'function' as const,
    function: {
      name: TOOL.name,
      description: TOOL.description,
      parameters: { ...parameters, required: [...required] },
    },
  },
]

const COHERE = 'command-a-03-2025'
/** Cohere's SDK waits whole seconds before it tries again: two of its ways do. */
const without = ['retried'] as const

describeMatrix<CohereClientV2>({
  name: 'Cohere',
  sdk: 'cohere-ai',
  provider: 'cohere',
  overhead: OVERHEAD,
  failures: [429],
  client: () => new CohereClientV2({ token: 'test' }),
  ways: [
    { name: 'plain', truth, call: (cohere) => cohere.chat({ model: COHERE, messages }) },
    {
      name: 'streamed',
      truth,
      isStreamed: true,
      call: (cohere) => cohere.chatStream({ model: COHERE, messages }),
    },
    {
      name: 'with tools',
      truth: withTools,
      say: { tool: TOOL_CALL },
      without,
      call: (cohere) => cohere.chat({ model: COHERE, messages, tools }),
    },
    {
      name: 'with tools, streamed',
      truth: withTools,
      say: { tool: TOOL_CALL },
      isStreamed: true,
      without,
      call: (cohere) => cohere.chatStream({ model: COHERE, messages, tools }),
    },
    {
      name: 'cached',
      truth: { ...truth, cacheRead: 1024 },
      without,
      call: (cohere) => cohere.chat({ model: COHERE, messages }),
    },
    {
      name: 'embeddings',
      truth: { input: 2, output: 0 },
      quantities: { output_tokens: undefined },
      event: { operation: 'embeddings' },
      without,
      call: (cohere) =>
        cohere.embed({
          model: 'embed-v4.0',
          texts: ['hello'],
          inputType: 'search_document',
          embeddingTypes: ['float'],
        }),
    },
    {
      name: 'rerank',
      truth: { input: 0, output: 0 },
      quantities: { input_tokens: undefined, output_tokens: undefined, search_units: 1 },
      event: { operation: 'rerank' },
      without,
      call: (cohere) => cohere.rerank({ model: 'rerank-v3.5', query: 'q', documents: ['a'] }),
    },
  ],
})

const OLLAMA = 'llama3.2'
const llamaTruth: Truth = { ...truth, input: LLAMA_3.inputTokens(false) }
const llamaWithTools: Truth = { ...truth, input: LLAMA_3.inputTokens(true) }
const ollamaWays: Way<Ollama>[] = [
  {
    name: 'plain',
    truth: llamaTruth,
    call: (ollama) => ollama.chat({ model: OLLAMA, messages, stream: false }),
  },
  {
    name: 'streamed',
    truth: llamaTruth,
    isStreamed: true,
    call: (ollama) => ollama.chat({ model: OLLAMA, messages, stream: true }),
  },
  {
    name: 'with tools',
    truth: llamaWithTools,
    say: { tool: TOOL_CALL },
    call: (ollama) => ollama.chat({ model: OLLAMA, messages, tools, stream: false }),
  },
  {
    name: 'with tools, streamed',
    truth: llamaWithTools,
    say: { tool: TOOL_CALL },
    isStreamed: true,
    call: (ollama) => ollama.chat({ model: OLLAMA, messages, tools, stream: true }),
  },
  {
    name: 'cached',
    truth: { ...llamaTruth, cacheRead: 1024 },
    call: (ollama) => ollama.chat({ model: OLLAMA, messages, stream: false }),
  },
  {
    name: 'reasoning, streamed',
    truth: llamaTruth,
    say,
    isStreamed: true,
    call: (ollama) => ollama.chat({ model: OLLAMA, messages, think: true, stream: true }),
  },
  {
    name: 'generate',
    truth: llamaTruth,
    event: { operation: 'text_completion' },
    call: (ollama) => ollama.generate({ model: OLLAMA, prompt: PROMPT, stream: false }),
  },
  {
    name: 'generate, streamed',
    truth: llamaTruth,
    isStreamed: true,
    event: { operation: 'text_completion' },
    call: (ollama) => ollama.generate({ model: OLLAMA, prompt: PROMPT, stream: true }),
  },
]

describeMatrix<Ollama>({
  name: 'Ollama',
  sdk: 'ollama',
  provider: 'ollama',
  reference: LLAMA_3,
  leavesLate: true,
  endpoints: 'http://127.0.0.1:11434=ollama',
  client: () => new Ollama(),
  ways: [
    ...ollamaWays,
    {
      name: 'embeddings',
      truth: { input: 8, output: 0 },
      quantities: { output_tokens: undefined },
      event: { operation: 'embeddings' },
      call: (ollama) => ollama.embed({ model: 'all-minilm', input: 'a text' }),
    },
  ],
})
