import { countTokens as cl100k } from 'gpt-tokenizer/encoding/cl100k_base'
import * as gpt4o from 'gpt-tokenizer/model/gpt-4o'
import llama3 from 'llama3-tokenizer-js'
import { TOOL } from '../../fake-provider/vendors/index.ts'
import { PROMPT, tokensOf } from './texts.ts'

/**
 * Who says what a call that was cut has really cost. Of some models the vocabulary is public, and a library that
 * is not the meter's counts with it; of all others nobody but the vendor knows, and no error can be named.
 */

/** What bills a model's texts in place of its vendor. */
export interface Reference {
  /** As the table names it. */
  readonly name: string
  tokensOf(text: string): number
  /** The prompt, said by one user, with or without the tool, and all that the vendor documents around them. */
  inputTokens(hasTool: boolean): number
}

/** What is documented around the prompt (docs/reference/tokenizers.md, "Overheads"), for models without a reference. */
export interface Overhead {
  /** Marks of one message and of the reply, the text of the role included. */
  readonly message: number
  /** The tool as text, and what the vendor puts before it. */
  readonly tool: { readonly text: string; readonly prompt: number } | { readonly tokens: number }
}

/** Counts of a whole request by a library that is not the meter's. */
function requestTokens(hasTool: boolean): number {
  const { countChatCompletionTokens } = gpt4o
  if (countChatCompletionTokens === undefined) throw new Error('gpt-tokenizer does not count chats of gpt-4o')
  return countChatCompletionTokens({
    messages: [{ role: 'user', content: PROMPT }],
    ...(hasTool && {
      functions: [
        {
          name: TOOL.name,
          description: TOOL.description,
          parameters: { ...TOOL.parameters, required: [...TOOL.parameters.required] },
        },
      ],
    }),
  })
}

/** GPT-4o, and those that speak like it. */
export const GPT_4O: Reference = { name: '`gpt-tokenizer`', tokensOf, inputTokens: requestTokens }

/** GPT-5 and gpt-oss: one token less before the reply. */
export const GPT_5: Reference = { ...GPT_4O, inputTokens: (hasTool) => requestTokens(hasTool) - 1 }

/** The completions' own models have no conversation, and the vocabulary of GPT-4. */
export const DAVINCI: Reference = {
  name: '`gpt-tokenizer`',
  tokensOf: (text) => cl100k(text),
  inputTokens: () => cl100k(PROMPT),
}

const llamaTokens = (text: string) => llama3.encode(text, { bos: false, eos: false }).length

/** `<|begin_of_text|>`, four marks around the user's message and its role, four before the reply (Meta's model card). */
const LLAMA_MARKS = 1 + 4 + llamaTokens('user') + 4

export const LLAMA_3: Reference = {
  name: '`llama3-tokenizer-js`',
  tokensOf: llamaTokens,
  inputTokens: (hasTool) =>
    llamaTokens(PROMPT) + LLAMA_MARKS + (hasTool ? llamaTokens(JSON.stringify(TOOL)) : 0),
}

const toolAsText = { text: JSON.stringify(TOOL), prompt: 0 } as const

/** Models that the registry does not know are counted like OpenAI's. */
export const OTHERS: Overhead = {
  message: 3 + 1 + 3,
  tool: { tokens: requestTokens(true) - requestTokens(false) },
}
export const CLAUDE: Overhead = { message: 4 + 3, tool: { ...toolAsText, prompt: 346 } }
export const DEEPSEEK: Overhead = { message: 1 + 1 + 1, tool: toolAsText }
export const MISTRAL: Overhead = { message: 1 + 2, tool: toolAsText }
export const COHERE: Overhead = { message: 0, tool: toolAsText }
