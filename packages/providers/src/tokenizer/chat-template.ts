import { jsonText } from '../reader.ts'
import type { Dialogue, Message } from './dialogue.ts'
import { functionNamespace } from './function-definitions.ts'

/** Tokens that a family of models adds around the texts of a conversation. */
export interface ChatTemplate {
  /** Before the first message. */
  readonly start: number
  /** Around each message, its role apart. */
  readonly perMessage: number
  /** Whether the name of the role is text. */
  readonly hasRoleText: boolean
  /** For a message's name, its text apart. */
  readonly perName: number
  /** Around instructions that are said before the messages, where they are no message of their own. */
  readonly perSystem?: number
  /** What begins the reply. */
  readonly reply: number
  /** For each call of a tool, in a request or an answer, its name and arguments apart. */
  readonly perToolCall: number
  /** How definitions of tools are written. */
  readonly tools: 'namespace' | 'json'
  /** What the vendor puts before the conversation when there are tools. */
  readonly toolPrompt?: (model: string, dialogue: Dialogue) => number
}

/**
 * OpenAI ("How to count tokens with tiktoken", sections 6 and 7, read 2026-11): 3 for each message, 3 for the
 * reply, 1 for a name. A call of a tool: 3 in a request (niieani/gpt-tokenizer, held against OpenAI's counts).
 */
const OPENAI = {
  start: 0,
  perMessage: 3,
  hasRoleText: true,
  perName: 1,
  reply: 3,
  perToolCall: 3,
  tools: 'namespace',
} as const satisfies ChatTemplate

/**
 * Claude 4: 346 tokens of a system prompt for tools, 313 where one must be used; Claude 3 as its models have it
 * (Claude docs "Tool use", read 2026-11). Around a message nothing is documented: 4 and 3 give the published
 * count of 14 for "You are a scientist" and "Hello, Claude" (Claude docs "Token counting").
 */
const ANTHROPIC = {
  start: 0,
  perMessage: 4,
  hasRoleText: false,
  perName: 0,
  perSystem: 0,
  reply: 3,
  perToolCall: 0,
  tools: 'json',
  toolPrompt: (model, { toolChoice }) => {
    const [, automatic, forced] = CLAUDE_TOOL_PROMPTS.find(([models]) => models.test(model)) ?? [
      /^/,
      346,
      313,
    ]
    return toolChoice === 'auto' || toolChoice === 'none' ? automatic : forced
  },
} as const satisfies ChatTemplate

const CLAUDE_TOOL_PROMPTS: readonly (readonly [models: RegExp, automatic: number, forced: number])[] = [
  [/claude-3-opus/, 530, 281],
  [/claude-3-sonnet/, 159, 235],
  [/claude-3-haiku|claude-3-5-haiku/, 264, 340],
]

/** Texts alone: Google and Cohere bill no tokens around them (Gemini docs "Understand and count tokens": 10 for ten words). */
const TEXT_ONLY = {
  start: 0,
  perMessage: 0,
  hasRoleText: false,
  perName: 0,
  reply: 0,
  perToolCall: 0,
  tools: 'json',
} as const satisfies ChatTemplate

export const TEMPLATES = {
  openai: OPENAI,
  // One token less than GPT-4o for the same messages: 109 of 110 (pydantic/pydantic-ai#3447, read 2026-11).
  gpt5: { ...OPENAI, reply: 2 },
  // <|start|>role<|message|>…<|end|>, and <|start|>assistant (OpenAI "Harmony response format", read 2026-11).
  harmony: { ...OPENAI, reply: 2 },
  // <|begin_of_text|>, <|start_header_id|>role<|end_header_id|>\n\n…<|eot_id|> (Meta "Llama 3 model card", read 2026-11).
  llama3: { ...OPENAI, start: 1, perMessage: 4, perName: 0, reply: 4, tools: 'json' },
  // <|im_start|>role\n…<|im_end|>\n, and <|im_start|>assistant\n (Qwen docs "Key concepts", read 2026-11).
  chatml: { ...OPENAI, perMessage: 4, perName: 0, reply: 3, tools: 'json' },
  // <bos>, and one mark before each turn; an assistant's turn also ends in one (tokenizer_config.json of DeepSeek V3).
  deepseek: { ...TEXT_ONLY, start: 1, perMessage: 1, reply: 1 },
  // <s>, and [INST]…[/INST] or …</s> (tokenizer_config.json of Mistral's tekken models).
  mistral: { ...TEXT_ONLY, start: 1, perMessage: 2 },
  anthropic: ANTHROPIC,
  gemini: TEXT_ONLY,
  textOnly: TEXT_ONLY,
} as const satisfies Record<string, ChatTemplate>

/** OpenAI's namespace of functions: 9 around it, and 4 less where a system message stands before it. */
const NAMESPACE_TOKENS = 9
const NAMESPACE_IN_SYSTEM_TOKENS = -4
/** `tool_choice`: 1 for `none`, 4 beside the name of a tool that must be used. */
const NO_TOOL_TOKENS = 1
const NAMED_TOOL_TOKENS = 4

/** Tokens of a request, all that surrounds its texts included. @param count tokens of a text */
export function countDialogue(
  dialogue: Dialogue,
  template: ChatTemplate,
  model: string,
  count: (text: string) => number,
): number {
  let tokens = dialogue.givenTokens
  for (const text of dialogue.texts) tokens += count(text)
  if (dialogue.messages.length > 0) {
    tokens += template.start + template.reply
    let isSystemNext = dialogue.tools.length > 0 && template.tools === 'namespace'
    for (const message of dialogue.messages) {
      const isPadded = isSystemNext && message.role === 'system'
      if (isPadded) isSystemNext = false
      tokens += countMessage(message, template, isPadded, count)
    }
  }
  if (dialogue.tools.length > 0) tokens += countTools(dialogue, template, model.toLowerCase(), count)
  return tokens
}

/** @param isPadded whether the tools follow in the same message, on a line of their own */
function countMessage(
  { role, name, texts, toolCalls }: Message,
  template: ChatTemplate,
  isPadded: boolean,
  count: (text: string) => number,
): number {
  let tokens = role === 'system' ? (template.perSystem ?? template.perMessage) : template.perMessage
  if (template.hasRoleText) tokens += count(role)
  if (name !== undefined) tokens += count(name) + template.perName
  for (const [index, text] of texts.entries()) {
    const isLast = isPadded && index === texts.length - 1 && !text.endsWith('\n')
    tokens += count(isLast ? `${text}\n` : text)
  }
  for (const call of toolCalls) tokens += count(call.name) + count(call.argumentsText) + template.perToolCall
  // A message of the older role `function` begins with the function's name instead (gpt-tokenizer).
  return role === 'function' && template.tools === 'namespace' ? tokens - 2 : tokens
}

function countTools(
  dialogue: Dialogue,
  template: ChatTemplate,
  model: string,
  count: (text: string) => number,
): number {
  const { tools, toolChoice, messages } = dialogue
  let tokens = template.toolPrompt?.(model, dialogue) ?? 0
  if (template.tools === 'json') {
    for (const tool of tools) tokens += count(jsonText(tool) ?? '')
    return tokens
  }
  tokens += count(functionNamespace(tools)) + NAMESPACE_TOKENS
  if (messages.some(({ role }) => role === 'system')) tokens += NAMESPACE_IN_SYSTEM_TOKENS
  if (toolChoice === 'none') tokens += NO_TOOL_TOKENS
  else if (typeof toolChoice === 'object') tokens += count(toolChoice.name) + NAMED_TOOL_TOKENS
  return tokens
}

/**
 * Tokens of an answer. What was thought and not shown cannot be counted.
 *
 * OpenAI counts 17 for a call of `get_current_weather` whose name and arguments have 13 (API reference, "Chat
 * completions", example "Functions"): one more than in a request.
 *
 * @param toolCalls how often the text calls a tool
 */
export function countAnswerText(
  text: string,
  toolCalls: number,
  template: ChatTemplate,
  count: (text: string) => number,
): number {
  const perCall = template.perToolCall === 0 ? 0 : template.perToolCall + 1
  return count(text) + toolCalls * perCall
}
