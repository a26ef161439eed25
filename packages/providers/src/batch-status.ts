import { geminiResult } from './batch-line.ts'
import { jsonAnswer } from './json-answer.ts'
import {
  countAt,
  isJsonObject,
  type JsonObject,
  objectAt,
  type ReaderRequest,
  type ReadUsage,
  type SettledUsage,
  textAt,
  type UsageReader,
} from './reader.ts'

/**
 * How a batch stands, as it is asked for while it runs. The totals that OpenAI tells here are not counted: the
 * results are, line by line. What is kept is when the batch was made, because most results do not say it; and
 * Gemini's answer has the results of small batches in it.
 */
export function readBatchStatus(request: ReaderRequest): UsageReader {
  let batch: JsonObject | undefined
  let settled: readonly SettledUsage[] = []
  const answer = jsonAnswer({
    isNotable: () => false,
    readEvent: () => undefined,
    readBody(read) {
      batch = read
      settled = inlinedResults(read, request.resultsId ?? '')
    },
  })
  return {
    requestedModel: undefined,
    rewrittenBody: undefined,
    promptText: () => '',
    respond: answer.respond,
    push: answer.push,
    end: answer.end,
    outputText: answer.outputText,
    takeSettled() {
      const taken = settled
      settled = []
      return taken
    },
    result(): ReadUsage {
      const madeAtMs = batch === undefined ? undefined : madeAt(batch)
      const resultIds = RESULT_FILES.flatMap((name) => textAt(batch, name) ?? [])
      return {
        isComplete: answer.isRead,
        isStreamed: false,
        ...(madeAtMs !== undefined && {
          batch: { resultIds: [request.resultsId ?? '', ...resultIds], madeAtMs },
        }),
      }
    },
  }
}

/** Members that name a file of results: OpenAI's and those of the hosts after it, then Mistral's. */
const RESULT_FILES = ['output_file_id', 'error_file_id', 'output_file', 'error_file']

/** Seconds for OpenAI and Mistral, RFC 3339 for the others. */
function madeAt(batch: JsonObject): number | undefined {
  const seconds = countAt(batch, 'created_at')
  if (seconds !== undefined) return seconds * 1000
  const text = textAt(batch, 'created_at') ?? textAt(objectAt(batch, 'metadata'), 'createTime')
  const ms = text === undefined ? Number.NaN : Date.parse(text)
  return Number.isSafeInteger(ms) && ms >= 0 ? ms : undefined
}

/** Gemini tells the same results in two places. */
function inlinedResults(batch: JsonObject, resultsId: string): readonly SettledUsage[] {
  const output = objectAt(batch, 'response') ?? objectAt(objectAt(batch, 'metadata'), 'output')
  const inlined = objectAt(output, 'inlinedResponses')?.['inlinedResponses']
  if (!Array.isArray(inlined)) return []
  const tsMs = madeAt(batch)
  return inlined.filter(isJsonObject).map((entry, index) => ({
    ...geminiResult(entry, { resultsId, index }),
    ...(tsMs !== undefined && { tsMs }),
  }))
}
