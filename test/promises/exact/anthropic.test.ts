import { AnthropicBedrock } from '@anthropic-ai/bedrock-sdk'
import Anthropic from '@anthropic-ai/sdk'
import type { MessageCreateParamsBase } from '@anthropic-ai/sdk/resources/messages'
import { AnthropicVertex } from '@anthropic-ai/vertex-sdk'
import { OAuth2Client } from 'google-auth-library'
import { TOOL, TOOL_CALL, type Truth } from '../../fake-provider/vendors/index.ts'
import { describeMatrix, type Way } from './matrix.ts'
import { TOOL_TOKENS } from './openai-chat.ts'
import { PROMPT, PROMPT_TOKENS } from './texts.ts'

/** Anthropic's models by its own API, by AWS Bedrock and by Vertex AI, each with its official SDK. */

const truth: Truth = { input: PROMPT_TOKENS, output: 977 }
const say = { reasoning: ['I', ' think', ' of', ' a', ' naïve', ' way', ' 数'] }

interface Client {
  readonly messages: Pick<Anthropic['messages'], 'create'>
}

/** Of a stream the input is named at its start, with what the cache gave: a cut one has that exactly. */
function waysOf<C extends Client>(model: string): Way<C>[] {
  const request: MessageCreateParamsBase = {
    model,
    max_tokens: 2000,
    messages: [{ role: 'user', content: PROMPT }],
  }
  const { parameters } = TOOL
  const tools = [
    {
      name: TOOL.name,
      description: TOOL.description,
      input_schema: { ...parameters, required: [...parameters.required] },
    },
  ]
  const withTools = { ...truth, input: PROMPT_TOKENS + TOOL_TOKENS }
  const thinking = { type: 'enabled', budget_tokens: 1024 } as const
  const picture = {
    type: 'image',
    source: { type: 'base64', media_type: 'image/png', data: 'iVBORw0KGgo=' },
  } as const
  const ways: Way<C>[] = [
    { name: 'plain', truth, call: ({ messages }) => messages.create(request) },
    {
      name: 'streamed',
      truth,
      isStreamed: true,
      call: ({ messages }) => messages.create({ ...request, stream: true }),
    },
    {
      name: 'with tools',
      truth: withTools,
      say: { tool: TOOL_CALL },
      call: ({ messages }) => messages.create({ ...request, tools }),
    },
    {
      name: 'with tools, streamed',
      truth: withTools,
      say: { tool: TOOL_CALL },
      isStreamed: true,
      call: ({ messages }) => messages.create({ ...request, tools, stream: true }),
    },
    {
      name: 'cached, read and written',
      truth: { ...truth, cacheRead: 1200, cacheWrite: 300 },
      call: ({ messages }) => messages.create(request),
    },
    {
      name: 'cached, written for an hour, streamed',
      truth: { ...truth, cacheRead: 1200, cacheWrite: 300, cacheWrite1h: 200 },
      isStreamed: true,
      call: ({ messages }) => messages.create({ ...request, stream: true }),
    },
    {
      name: 'reasoning',
      truth: { ...truth, output: 1300, reasoning: 640 },
      say,
      call: ({ messages }) => messages.create({ ...request, thinking }),
    },
    {
      name: 'reasoning, streamed',
      truth: { ...truth, output: 1300, reasoning: 640 },
      say,
      isStreamed: true,
      call: ({ messages }) => messages.create({ ...request, thinking, stream: true }),
    },
    {
      name: 'with a picture',
      truth: { ...truth, input: PROMPT_TOKENS + 1600 },
      call: ({ messages }) =>
        messages.create({
          ...request,
          messages: [{ role: 'user', content: [{ type: 'text', text: PROMPT }, picture] }],
        }),
    },
  ]
  return ways.map((way) => ({ ...way, event: { model } }))
}

describeMatrix<Anthropic>({
  name: 'Anthropic',
  sdk: '@anthropic-ai/sdk',
  provider: 'anthropic',
  namesInputFirst: true,
  numbersAttempts: true,
  failures: [429, 529],
  client: () => new Anthropic({ apiKey: 'sk-ant-test' }),
  ways: [
    ...waysOf<Anthropic>('claude-opus-5'),
    {
      name: 'streamed by the helper',
      truth,
      isStreamed: true,
      without: ['retried'],
      call: async (anthropic) =>
        anthropic.messages.stream({
          model: 'claude-opus-5',
          max_tokens: 2000,
          messages: [{ role: 'user', content: PROMPT }],
        }),
    },
    {
      name: 'with searches of the web',
      truth: { ...truth, webSearches: 3 },
      call: (anthropic) =>
        anthropic.messages.create({
          model: 'claude-opus-5',
          max_tokens: 2000,
          messages: [{ role: 'user', content: PROMPT }],
        }),
    },
  ],
})

describeMatrix<AnthropicBedrock>({
  name: 'Anthropic on AWS Bedrock',
  sdk: '@anthropic-ai/bedrock-sdk',
  leavesLate: true,
  provider: 'aws.bedrock',
  namesInputFirst: true,
  numbersAttempts: true,
  client: () =>
    new AnthropicBedrock({ awsAccessKey: 'test', awsSecretKey: 'test', awsRegion: 'eu-central-1' }),
  // Bedrock names no time after which to ask again, and the SDK's own waits are long: two ways go through them.
  ways: waysOf<AnthropicBedrock>('eu.anthropic.claude-opus-5-20260701-v1:0').map((way) =>
    way.name === 'plain' || way.name === 'streamed' ? way : { ...way, without: ['retried'] },
  ),
})

describeMatrix<AnthropicVertex>({
  name: 'Anthropic on Vertex AI',
  sdk: '@anthropic-ai/vertex-sdk',
  provider: 'gcp.vertex_ai',
  namesInputFirst: true,
  numbersAttempts: true,
  client: () => {
    const authClient = new OAuth2Client()
    authClient.setCredentials({ access_token: 'test' })
    return new AnthropicVertex({ authClient, projectId: 'acme', region: 'europe-west1' })
  },
  ways: waysOf<AnthropicVertex>('claude-opus-5@20260701'),
})
