import { findingsOf } from './findings.ts'
import { jsonAnswer } from './json-answer.ts'
import {
  countAt,
  isJsonObject,
  type JsonObject,
  LazyBody,
  objectAt,
  type ReaderRequest,
  type ReadUsage,
  textsOf,
  type UsageReader,
} from './reader.ts'

/**
 * Google's embeddings: `embedContent` and `batchEmbedContents` of the Gemini API, which report usage for newer
 * models only, and `predict` of Vertex AI, where each text has its count.
 */
export function readGeminiEmbeddings(request: ReaderRequest): UsageReader {
  const body = new LazyBody(request.bodyText)
  let inputTokens: number | undefined
  let usage: unknown
  const answer = jsonAnswer({
    isNotable: () => true,
    readEvent: () => undefined,
    readBody: (answered) => {
      usage = answered['usageMetadata'] ?? statisticsOf(answered)
      inputTokens = countAt(objectAt(answered, 'usageMetadata'), 'promptTokenCount') ?? predicted(answered)
    },
    addTexts: () => undefined,
  })
  return {
    requestedModel: request.model,
    rewrittenBody: undefined,
    promptText: () => textsOf([body.json?.['content'], body.json?.['requests'], body.json?.['instances']]),
    respond: answer.respond,
    push: answer.push,
    end: answer.end,
    result(): ReadUsage {
      return {
        ...(inputTokens !== undefined && { quantities: { input_tokens: inputTokens } }),
        ...findingsOf(usage, answer.problem),
        isComplete: answer.isRead,
        isStreamed: answer.isStreamed,
        ...(answer.errorType !== undefined && { errorType: answer.errorType }),
      }
    },
    outputText: () => '',
  }
}

/** The sum over all texts; none unless every one has its count. */
function predicted(answer: JsonObject): number | undefined {
  const predictions = answer['predictions']
  if (!Array.isArray(predictions) || predictions.length === 0) return undefined
  let sum = 0
  for (const prediction of predictions) {
    const embeddings = isJsonObject(prediction) ? objectAt(prediction, 'embeddings') : undefined
    const count = countAt(objectAt(embeddings, 'statistics'), 'token_count')
    if (count === undefined) return undefined
    sum += count
  }
  return Number.isSafeInteger(sum) ? sum : undefined
}

/** What Vertex AI counts of each text, and of all of them in characters. */
function statisticsOf(answer: JsonObject): object {
  const { predictions } = answer
  const statistics = Array.isArray(predictions)
    ? predictions.map((prediction) =>
        isJsonObject(prediction) ? objectAt(objectAt(prediction, 'embeddings'), 'statistics') : undefined,
      )
    : []
  return { ...objectAt(answer, 'metadata'), ...statistics }
}
