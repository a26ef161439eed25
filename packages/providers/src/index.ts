import { readAnthropicMessages } from './anthropic-messages.ts'
import { readOpenaiChat } from './openai-chat.ts'
import type { ReaderRegistry, ReaderRequest, RecognizedCall, UsageReader } from './reader.ts'

export type { ReaderRequest, ReadUsage, UsageReader } from './reader.ts'
export {
  type EndpointMapping,
  isKnownProviderHost,
  parseEndpoints,
  type RecognizedCall,
  recognize,
  type WireFormat,
} from './recognize.ts'
export {
  countByBytes,
  createTokenCounter,
  type TokenCount,
  type TokenCounter,
} from './tokenizer/token-counter.ts'

/** One reader per wire format; a new format is a file and a line here. */
const READERS: ReaderRegistry = {
  'openai-chat': readOpenaiChat,
  'anthropic-messages': readAnthropicMessages,
}

/** Makes the reader for one exchange. */
export function createReader(call: RecognizedCall, request: ReaderRequest): UsageReader {
  return READERS[call.format](request)
}
