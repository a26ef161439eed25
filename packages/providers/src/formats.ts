import { readAnthropicMessages } from './anthropic-messages.ts'
import { readOpenaiChat } from './openai-chat.ts'
import type { ReaderFactory } from './reader.ts'

/** One reader per wire format; a new format is a file and a line here. */
export const READERS = {
  'openai-chat': readOpenaiChat,
  'anthropic-messages': readAnthropicMessages,
} as const satisfies Record<string, ReaderFactory>

/** Wire formats that have a reader. */
export type WireFormat = keyof typeof READERS
