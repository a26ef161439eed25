import { findingsOf } from './findings.ts'
import { jsonAnswer } from './json-answer.ts'
import {
  countAt,
  type JsonObject,
  objectAt,
  parseJsonObject,
  type ReaderRequest,
  type ReadUsage,
  textAt,
  textsOf,
  type UsageReader,
} from './reader.ts'

/**
 * OpenAI embeddings, and every host that speaks the same (OpenAI API reference "Embeddings", openai-node 6.49
 * types; Mistral API reference, read 2026-11). All usage is input: `prompt_tokens`. Mistral adds
 * `completion_tokens` of zero.
 */
export function readOpenaiEmbeddings(request: ReaderRequest): UsageReader {
  const body = parseJsonObject(request.bodyText)
  let answered: JsonObject | undefined
  const answer = jsonAnswer({
    isNotable: () => false,
    readEvent: () => undefined,
    readBody(read) {
      answered = read
    },
  })
  return {
    requestedModel: textAt(body, 'model') || request.model,
    rewrittenBody: undefined,
    promptText: () => textsOf(body?.['input']),
    respond: answer.respond,
    push: answer.push,
    end: answer.end,
    outputText: answer.outputText,
    result(): ReadUsage {
      const { problem } = answer
      return {
        ...embeddingsUsage(answered),
        ...(problem !== undefined && { reason: problem }),
        isComplete: answer.isRead,
        isStreamed: answer.isStreamed,
        ...(answer.errorType !== undefined && { errorType: answer.errorType }),
      }
    },
  }
}

/** What an answer with embeddings says of its usage: a plain answer, or one of a batch. */
export function embeddingsUsage(
  answered: JsonObject | undefined,
): Omit<ReadUsage, 'isComplete' | 'isStreamed' | 'errorType'> {
  const usage = objectAt(answered, 'usage')
  const input = countAt(usage, 'prompt_tokens')
  const total = countAt(usage, 'total_tokens')
  const sum = (input ?? 0) + (countAt(usage, 'completion_tokens') ?? 0)
  const isWrong = input !== undefined && total !== undefined && total !== sum
  const responseModel = textAt(answered, 'model') || undefined
  const responseId = textAt(answered, 'id') || undefined
  return {
    ...(responseModel !== undefined && { responseModel }),
    ...(input !== undefined && { quantities: { input_tokens: input } }),
    ...(isWrong && { mismatch: `total_tokens is ${total}, its parts add up to ${sum}` }),
    ...(responseId !== undefined && { responseId }),
    ...findingsOf(usage),
  }
}
