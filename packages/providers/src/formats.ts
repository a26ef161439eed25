import { readAnthropicMessages } from './anthropic-messages.ts'
import { readBatchResults } from './batch-results.ts'
import { readBatchStatus } from './batch-status.ts'
import { readBedrockConverse } from './bedrock-converse.ts'
import { readBedrockInvoke } from './bedrock-invoke.ts'
import { readCohere } from './cohere.ts'
import { readGemini } from './gemini.ts'
import { readGeminiEmbeddings } from './gemini-embeddings.ts'
import { readGeminiInteractions } from './gemini-interactions.ts'
import { readOllama } from './ollama.ts'
import { readOpenaiSpeech, readOpenaiTranscription } from './openai-audio.ts'
import { readOpenaiChat } from './openai-chat.ts'
import { readOpenaiEmbeddings } from './openai-embeddings.ts'
import { readOpenaiImages } from './openai-images.ts'
import { readOpenaiResponses } from './openai-responses.ts'
import type { ReaderFactory } from './reader.ts'

/** One reader per wire format; a new format is a file and a line here. */
export const READERS = {
  'openai-chat': readOpenaiChat,
  'openai-responses': readOpenaiResponses,
  'openai-embeddings': readOpenaiEmbeddings,
  'openai-images': readOpenaiImages,
  'openai-transcription': readOpenaiTranscription,
  'openai-speech': readOpenaiSpeech,
  'anthropic-messages': readAnthropicMessages,
  'bedrock-converse': readBedrockConverse,
  'bedrock-invoke': readBedrockInvoke,
  gemini: readGemini,
  'gemini-embeddings': readGeminiEmbeddings,
  'gemini-interactions': readGeminiInteractions,
  cohere: readCohere,
  ollama: readOllama,
  'batch-results': readBatchResults,
  'batch-status': readBatchStatus,
} as const satisfies Record<string, ReaderFactory>

/** Wire formats that have a reader. */
export type WireFormat = keyof typeof READERS
