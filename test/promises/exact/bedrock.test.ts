import {
  BedrockRuntimeClient,
  ConverseCommand,
  type ConverseCommandInput,
  ConverseStreamCommand,
  InvokeModelCommand,
  InvokeModelWithResponseStreamCommand,
} from '@aws-sdk/client-bedrock-runtime'
import { isAwsClient, tapAwsClient } from '../../../packages/meter/src/tap/aws-sdk.ts'
import { TOOL, TOOL_CALL, type Truth } from '../../fake-provider/vendors/index.ts'
import { describeMatrix, type Way } from './matrix.ts'
import { TOOL_TOKENS } from './openai-chat.ts'
import { CLAUDE as OVERHEAD } from './references.ts'
import { PROMPT, PROMPT_TOKENS } from './texts.ts'

/** AWS Bedrock by the AWS SDK, over HTTP/2 as it prefers. */

const CLAUDE = 'eu.anthropic.claude-opus-5-20260701-v1:0'
const truth: Truth = { input: PROMPT_TOKENS, output: 977 }
const withTools: Truth = { ...truth, input: PROMPT_TOKENS + TOOL_TOKENS }
const cached: Truth = { ...truth, cacheRead: 1200, cacheWrite: 300, cacheWrite1h: 200 }
const say = { reasoning: ['I', ' think', ' of', ' a', ' naïve', ' way', ' 数'] }
const input: ConverseCommandInput = {
  modelId: CLAUDE,
  messages: [{ role: 'user', content: [{ text: PROMPT }] }],
}
const { parameters } = TOOL
const json = {
  type: parameters.type,
  properties: { city: { type: 'string', description: parameters.properties.city.description } },
  required: [...parameters.required],
}
const toolConfig = {
  tools: [{ toolSpec: { name: TOOL.name, description: TOOL.description, inputSchema: { json } } }],
}

async function streamOf(client: BedrockRuntimeClient, command: ConverseStreamCommand): Promise<unknown> {
  const { stream } = await client.send(command)
  return stream
}

/** An answer of InvokeModel, its body as text: as applications read it. */
async function invoke(client: BedrockRuntimeClient, modelId: string, body: object): Promise<unknown> {
  const answer = await client.send(new InvokeModelCommand({ modelId, body: JSON.stringify(body) }))
  return { ...answer, body: answer.body.transformToString() }
}

async function invokeStream(client: BedrockRuntimeClient, modelId: string, body: object): Promise<unknown> {
  const command = new InvokeModelWithResponseStreamCommand({ modelId, body: JSON.stringify(body) })
  const { body: events = [] } = await client.send(command)
  return texts(events)
}

/** The makers' events as text; they come in bytes. */
async function* texts(
  events: AsyncIterable<{ chunk?: { bytes?: Uint8Array | undefined } | undefined }> | never[],
) {
  for await (const { chunk } of events) yield Buffer.from(chunk?.bytes ?? []).toString('utf8')
}

const anthropicBody = {
  anthropic_version: 'bedrock-2023-05-31',
  max_tokens: 2000,
  messages: [{ role: 'user', content: PROMPT }],
}
const novaBody = { messages: [{ role: 'user', content: [{ text: PROMPT }] }] }
const llamaBody = { prompt: PROMPT }
const NOVA = 'amazon.nova-lite-v1:0'
const LLAMA = 'meta.llama3-1-70b-instruct-v1:0'

const ways: Way<BedrockRuntimeClient>[] = [
  { name: 'converse', truth, call: (client) => client.send(new ConverseCommand(input)) },
  {
    name: 'converse, streamed',
    truth,
    isStreamed: true,
    call: (client) => streamOf(client, new ConverseStreamCommand(input)),
  },
  {
    name: 'with tools',
    truth: withTools,
    say: { tool: TOOL_CALL },
    call: (client) => client.send(new ConverseCommand({ ...input, toolConfig })),
  },
  {
    name: 'with tools, streamed',
    truth: withTools,
    say: { tool: TOOL_CALL },
    isStreamed: true,
    call: (client) => streamOf(client, new ConverseStreamCommand({ ...input, toolConfig })),
  },
  { name: 'cached', truth: cached, call: (client) => client.send(new ConverseCommand(input)) },
  {
    name: 'cached, streamed',
    truth: cached,
    isStreamed: true,
    isCountable: false,
    call: (client) => streamOf(client, new ConverseStreamCommand(input)),
  },
  {
    name: 'reasoning, streamed',
    truth,
    say,
    isStreamed: true,
    call: (client) => streamOf(client, new ConverseStreamCommand(input)),
  },
  {
    name: 'with a picture',
    truth: { ...truth, input: PROMPT_TOKENS + 1600 },
    call: (client) =>
      client.send(
        new ConverseCommand({
          modelId: CLAUDE,
          messages: [
            {
              role: 'user',
              content: [
                { text: PROMPT },
                { image: { format: 'png', source: { bytes: new Uint8Array([1, 2, 3]) } } },
              ],
            },
          ],
        }),
      ),
  },
  {
    name: 'invoke, Anthropic',
    truth: cached,
    call: (client) => invoke(client, CLAUDE, anthropicBody),
  },
  {
    name: 'invoke, Anthropic, streamed',
    truth: cached,
    isStreamed: true,
    isCountable: false,
    call: (client) => invokeStream(client, CLAUDE, anthropicBody),
  },
  {
    name: 'invoke, Nova, streamed',
    truth: { ...truth, cacheRead: 1200, cacheWrite: 300 },
    isStreamed: true,
    isCountable: false,
    event: { model: NOVA },
    call: (client) => invokeStream(client, NOVA, novaBody),
  },
  {
    name: 'invoke, Llama',
    truth,
    event: { model: LLAMA },
    call: (client) => invoke(client, LLAMA, llamaBody),
  },
  {
    name: 'invoke, Llama, streamed',
    truth,
    isStreamed: true,
    isCountable: false,
    event: { model: LLAMA },
    call: (client) => invokeStream(client, LLAMA, llamaBody),
  },
]

describeMatrix<BedrockRuntimeClient>({
  name: 'AWS Bedrock',
  sdk: '@aws-sdk/client-bedrock-runtime',
  provider: 'aws.bedrock',
  overhead: OVERHEAD,
  numbersAttempts: true,
  takesGzip: false,
  leavesLate: true,
  client: ({ bedrockEndpoint }) =>
    new BedrockRuntimeClient({
      region: 'eu-central-1',
      endpoint: bedrockEndpoint,
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    }),
  meter(client, dependenciesOf) {
    if (!isAwsClient(client)) throw new Error('the SDK has another shape now')
    tapAwsClient(client, dependenciesOf)
  },
  close: (client) => client.destroy(),
  ways,
})
