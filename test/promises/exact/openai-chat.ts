import { TOOL, TOOL_CALL, type Truth } from '../../fake-provider/vendors/index.ts'
import type { Way } from './matrix.ts'
import type { Reference } from './references.ts'
import { PROMPT, PROMPT_TOKENS, tokensOf } from './texts.ts'

/** A request for chat completions that every SDK of OpenAI's family takes. */
export interface ChatRequest {
  model: string
  messages: { role: 'user'; content: string }[]
  stream?: boolean
  stream_options?: { include_usage: true }
  tools?: {
    type: 'function'
    function: { name: string; description: string; parameters: Record<string, unknown> }
  }[]
}

/** Names and descriptions, and what surrounds them in the prompt. */
export const TOOL_TOKENS = tokensOf(JSON.stringify(TOOL))

const tools: NonNullable<ChatRequest['tools']> = [
  {
    type: 'function',
    function: { name: TOOL.name, description: TOOL.description, parameters: { ...TOOL.parameters } },
  },
]

/** What differs between the vendors of the family. */
export interface ChatTraits {
  readonly model: string
  readonly event?: Way<unknown>['event']
  /** Whether thoughts are shown in the answer; `none`: there are none. */
  readonly reasoning?: 'shown' | 'hidden' | 'none'
  readonly isCacheCounted?: boolean
  readonly isUsageAsked?: boolean
  /** Who bills in the vendor's place; without one the vendor bills numbers of the test's own. */
  readonly reference?: Reference
}

/** The ways of chat completions. */
export function chatWays<Client>(
  create: (client: Client, request: ChatRequest) => Promise<unknown>,
  {
    model,
    event = {},
    reasoning = 'none',
    isCacheCounted = true,
    isUsageAsked = false,
    reference,
  }: ChatTraits,
): Way<Client>[] {
  const request: ChatRequest = { model, messages: [{ role: 'user', content: PROMPT }] }
  const truth: Truth = { input: reference?.inputTokens(false) ?? PROMPT_TOKENS, output: 977 }
  const inputWithTool = reference?.inputTokens(true) ?? PROMPT_TOKENS + TOOL_TOKENS
  const streamed = { isStreamed: true } as const
  const ways: Way<Client>[] = [
    { name: 'plain', truth, call: (client) => create(client, request) },
    {
      name: 'streamed',
      ...streamed,
      truth: { ...truth, output: 978 },
      call: (client) => create(client, { ...request, stream: true }),
    },
    {
      name: 'with tools',
      truth: { ...truth, input: inputWithTool },
      say: { tool: TOOL_CALL },
      call: (client) => create(client, { ...request, tools }),
    },
    {
      name: 'with tools, streamed',
      ...streamed,
      truth: { ...truth, input: inputWithTool },
      say: { tool: TOOL_CALL },
      call: (client) => create(client, { ...request, tools, stream: true }),
    },
  ]
  if (isUsageAsked) {
    ways.push({
      name: 'streamed, its usage asked for',
      ...streamed,
      truth: { ...truth, output: 979 },
      call: (client) => create(client, { ...request, stream: true, stream_options: { include_usage: true } }),
    })
  }
  if (isCacheCounted) {
    const cached = { ...truth, cacheRead: 1024 }
    ways.push(
      { name: 'cached', truth: cached, call: (client) => create(client, request) },
      {
        name: 'cached, streamed',
        ...streamed,
        truth: cached,
        isCountable: false,
        call: (client) => create(client, { ...request, stream: true }),
      },
    )
  }
  if (reasoning !== 'none') {
    const thought = { ...truth, output: 1300, reasoning: 640 }
    const say = { reasoning: ['I', ' think', ' of', ' a', ' naïve', ' way', ' 数'] }
    ways.push(
      { name: 'reasoning', truth: thought, say, call: (client) => create(client, request) },
      {
        name: 'reasoning, streamed',
        ...streamed,
        truth: thought,
        say,
        isCountable: reasoning === 'shown',
        call: (client) => create(client, { ...request, stream: true }),
      },
    )
  }
  return ways.map((way) => ({ ...way, event: { model, ...event } }))
}
