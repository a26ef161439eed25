import Groq from 'groq-sdk'
import OpenAI, { AzureOpenAI } from 'openai'
import Together from 'together-ai'
import { TOOL, TOOL_CALL, type Truth } from '../../fake-provider/vendors/index.ts'
import { describeMatrix, type Subject, type Way } from './matrix.ts'
import { Mistral } from './mistral.ts'
import { type ChatTraits, chatWays, TOOL_TOKENS } from './openai-chat.ts'
import { DEEPSEEK, GPT_4O, GPT_5, LLAMA_3, MISTRAL, OTHERS } from './references.ts'
import { PROMPT, PROMPT_TOKENS } from './texts.ts'

/** Vendors that speak like OpenAI, each by its own SDK, or by OpenAI's where that is what it asks its users to take. */

const EMBEDDING_TRUTH: Truth = { input: 8, output: 0 }
const NO_OUTPUT = { output_tokens: undefined }

describeMatrix<AzureOpenAI>({
  name: 'Azure OpenAI',
  sdk: 'openai',
  provider: 'azure.ai.openai',
  reference: GPT_4O,
  numbersAttempts: true,
  client: () =>
    new AzureOpenAI({
      apiKey: 'key',
      endpoint: 'https://acme.openai.azure.com',
      apiVersion: '2025-04-01-preview',
      deployment: 'my-deployment',
    }),
  ways: [
    ...chatWays<AzureOpenAI>((azure, request) => azure.chat.completions.create(request), {
      model: 'my-deployment',
      reasoning: 'hidden',
      isUsageAsked: true,
      reference: GPT_4O,
      event: { responseModel: 'gpt-4o-2024-11-20' },
    }),
    {
      name: 'responses',
      truth: { input: PROMPT_TOKENS, output: 900, reasoning: 100 },
      call: (azure) => azure.responses.create({ model: 'my-deployment', input: PROMPT }),
    },
    {
      name: 'embeddings',
      truth: EMBEDDING_TRUTH,
      quantities: NO_OUTPUT,
      event: { operation: 'embeddings' },
      call: (azure) => azure.embeddings.create({ model: '', input: 'a text' }),
    },
  ],
})

/** A vendor by OpenAI's SDK with a base URL. */
function byOpenai(
  subject: Omit<Subject<OpenAI>, 'sdk' | 'client' | 'ways'>,
  baseURL: string,
  traits: ChatTraits,
  further: readonly Way<OpenAI>[] = [],
): void {
  describeMatrix<OpenAI>({
    numbersAttempts: true,
    ...subject,
    sdk: 'openai',
    client: () => new OpenAI({ apiKey: 'sk-test', baseURL }),
    ways: [
      ...chatWays<OpenAI>((openai, request) => openai.chat.completions.create(request), traits),
      ...further,
    ],
  })
}

byOpenai({ name: 'DeepSeek', provider: 'deepseek', overhead: DEEPSEEK }, 'https://api.deepseek.com', {
  model: 'deepseek-reasoner',
  reasoning: 'shown',
})

byOpenai(
  { name: 'xAI', provider: 'x_ai', overhead: OTHERS },
  'https://api.x.ai/v1',
  { model: 'grok-4-fast-reasoning', reasoning: 'shown' },
  [
    {
      name: 'responses, whose output has the reasoning inside',
      truth: { input: PROMPT_TOKENS, output: 900, reasoning: 640 },
      call: (xai) => xai.responses.create({ model: 'grok-4-fast-reasoning', input: PROMPT }),
    },
  ],
)

byOpenai({ name: 'OpenRouter', provider: 'openrouter', reference: GPT_4O }, 'https://openrouter.ai/api/v1', {
  model: 'openai/gpt-4o-mini',
  reasoning: 'shown',
  isUsageAsked: true,
  reference: GPT_4O,
})

byOpenai(
  {
    name: 'vLLM, with running totals',
    provider: 'vllm',
    endpoints: 'http://vllm.corp.example:8000/v1=openai/vllm',
    hasRunningTotals: true,
  },
  'http://vllm.corp.example:8000/v1',
  { model: 'Qwen/Qwen3-8B', isCacheCounted: false, isUsageAsked: true },
)

describeMatrix<Groq>({
  name: 'Groq',
  sdk: 'groq-sdk',
  provider: 'groq',
  reference: GPT_5,
  numbersAttempts: true,
  client: () => new Groq({ apiKey: 'gsk-test' }),
  ways: [
    ...chatWays<Groq>((groq, request) => groq.chat.completions.create(request), {
      model: 'openai/gpt-oss-120b',
      reasoning: 'shown',
      reference: GPT_5,
    }),
    {
      name: 'streamed, with usage twice',
      truth: { input: GPT_5.inputTokens(false), output: 977 },
      isStreamed: true,
      call: (groq) => {
        const asking = { stream_options: { include_usage: true } }
        return groq.chat.completions.create({
          model: 'openai/gpt-oss-120b',
          messages: [{ role: 'user', content: PROMPT }],
          stream: true,
          ...asking,
        })
      },
    },
  ],
})

describeMatrix<Together>({
  name: 'Together',
  sdk: 'together-ai',
  provider: 'together_ai',
  reference: LLAMA_3,
  numbersAttempts: true,
  client: () => new Together({ apiKey: 'key' }),
  ways: chatWays<Together>((together, request) => together.chat.completions.create(request), {
    model: 'meta-llama/Llama-3.3-70B-Instruct-Turbo',
    isCacheCounted: false,
    reference: LLAMA_3,
  }),
})

const mistralRequest = {
  model: 'mistral-large-2512',
  messages: [{ role: 'user' as const, content: PROMPT }],
}
const mistralTools = [
  {
    type: 'function' as const,
    function: { name: TOOL.name, description: TOOL.description, parameters: { ...TOOL.parameters } },
  },
]
const mistralTruth: Truth = { input: PROMPT_TOKENS, output: 977 }

describeMatrix<Mistral>({
  name: 'Mistral',
  sdk: '@mistralai/mistralai',
  provider: 'mistral_ai',
  overhead: MISTRAL,
  client: () =>
    new Mistral({
      apiKey: 'key',
      retryConfig: {
        strategy: 'backoff',
        backoff: { initialInterval: 1, maxInterval: 2, exponent: 1, maxElapsedTime: 60_000 },
        retryConnectionErrors: false,
      },
    }),
  ways: [
    { name: 'plain', truth: mistralTruth, call: (mistral) => mistral.chat.complete(mistralRequest) },
    {
      name: 'streamed',
      truth: mistralTruth,
      isStreamed: true,
      call: (mistral) => mistral.chat.stream(mistralRequest),
    },
    {
      name: 'with tools',
      truth: { ...mistralTruth, input: PROMPT_TOKENS + TOOL_TOKENS },
      say: { tool: TOOL_CALL },
      call: (mistral) => mistral.chat.complete({ ...mistralRequest, tools: mistralTools }),
    },
    {
      name: 'with tools, streamed',
      truth: { ...mistralTruth, input: PROMPT_TOKENS + TOOL_TOKENS },
      say: { tool: TOOL_CALL },
      isStreamed: true,
      call: (mistral) => mistral.chat.stream({ ...mistralRequest, tools: mistralTools }),
    },
    {
      name: 'cached',
      truth: { ...mistralTruth, cacheRead: 1024 },
      call: (mistral) => mistral.chat.complete(mistralRequest),
    },
    {
      name: 'embeddings',
      truth: EMBEDDING_TRUTH,
      quantities: NO_OUTPUT,
      event: { operation: 'embeddings' },
      call: (mistral) => mistral.embeddings.create({ model: 'mistral-embed', inputs: ['a text'] }),
    },
  ],
})
