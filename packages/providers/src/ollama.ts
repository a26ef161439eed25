import { parseCutJson } from './cut-json.ts'
import { findingsOf } from './findings.ts'
import { NdjsonParser } from './framing/ndjson.ts'
import { latin1 } from './framing/sse.ts'
import { OutputText } from './output-text.ts'
import { type BodyProblem, PlainBody, textOfBytes } from './plain-body.ts'
import {
  BoundedText,
  countAt,
  isJsonObject,
  type JsonObject,
  jsonText,
  LazyBody,
  NO_BYTES,
  objectAt,
  parseJsonObject,
  type ReaderRequest,
  type ReadUsage,
  textAt,
  textsOf,
  type UsageReader,
  withoutContradictions,
} from './reader.ts'

/**
 * Ollama's chat, generate and embed (after the types of ollama 0.6).
 *
 * A stream, the default of the API, is one JSON object a line; the last, with `done`, has the counts, and is
 * what an answer that is not streamed consists of. Thinking is inside `eval_count`. Servers that had the prompt
 * in their cache may leave `prompt_eval_count` out: it is unknown then, not zero. Durations are nanoseconds.
 */
export function readOllama(request: ReaderRequest): UsageReader {
  const body = new LazyBody(request.bodyText)
  const output = new OutputText((data, into) => addTexts(parseJsonObject(data), into))
  const lines = new NdjsonParser()
  const plain = new PlainBody()
  let isStreamed = false
  let isComplete = false
  let status = 0
  let responseModel: string | undefined
  let errorType: string | undefined
  let last: JsonObject | undefined
  let answered: JsonObject | undefined
  let cutText: string | undefined
  let problem: BodyProblem | undefined
  let contentType: string | null = null

  const readLine = (bytes: Uint8Array) => {
    const line = latin1(bytes)
    output.keep(`data: ${line}\n\n`)
    // Inside a text of the answer the quotes would be escaped.
    if (!NOTABLE.test(line)) return
    const piece = parseJsonObject(textOfBytes(bytes))
    if (piece?.['error'] !== undefined) errorType = status >= 400 ? `http_${status}` : 'error'
    else if (piece?.['done'] === true) {
      isComplete = true
      readCounts(piece)
    }
  }

  const readPlain = (answer: JsonObject | undefined) => {
    isComplete = answer !== undefined || problem === 'body_too_large'
    if (status >= 400 || answer?.['error'] !== undefined) {
      errorType = status >= 400 ? `http_${status}` : 'error'
      return
    }
    answered = answer
    if (answer !== undefined) readCounts(answer)
  }

  const readCounts = (answer: JsonObject) => {
    responseModel = textAt(answer, 'model')
    last = answer
  }

  return {
    requestedModel: body.model ?? request.model,
    rewrittenBody: undefined,
    promptText: () =>
      textsOf([
        body.json?.['system'],
        body.json?.['messages'],
        body.json?.['tools'],
        body.json?.['prompt'],
        body.json?.['suffix'],
        body.json?.['input'],
      ]),
    respond(answeredStatus, header) {
      status = answeredStatus
      contentType = header('content-type')
      isStreamed = /ndjson|jsonl/i.test(contentType ?? '')
    },
    push(bytes) {
      if (isStreamed) for (const line of lines.push(bytes)) readLine(line)
      else {
        plain.add(bytes)
      }
      return bytes
    },
    end() {
      if (isStreamed) {
        const line = lines.end()
        if (line !== undefined) readLine(line)
        if (status >= 400) errorType ??= `http_${status}`
      } else {
        const body = plain.read(contentType)
        if (status < 400) problem = body.problem
        if (problem === 'unreadable_body') cutText = body.text
        readPlain(body.json)
      }
      return NO_BYTES
    },
    result(): ReadUsage {
      const read = last === undefined ? undefined : quantitiesOf(last)
      return {
        ...(responseModel !== undefined && { responseModel }),
        ...(read !== undefined && { quantities: read.quantities }),
        ...(read?.mismatch !== undefined && { mismatch: read.mismatch }),
        ...findingsOf(last === undefined ? undefined : numbersOf(last), problem),
        isComplete,
        isStreamed,
        ...(errorType !== undefined && { errorType }),
      }
    },
    outputText() {
      if (isStreamed) return output.toString()
      const text = new BoundedText()
      addTexts(answered ?? parseCutJson(cutText), text)
      return text.toString()
    },
  }
}

const NOTABLE = /"done"\s*:\s*true|"error"/

/** Counts and durations, which stand among the answer's other members. */
function numbersOf(answer: JsonObject): object {
  return Object.fromEntries(Object.entries(answer).filter(([name]) => /_(?:count|duration)$/.test(name)))
}

/**
 * The counts in the words of the usage event. Durations are no meter: GPU seconds are those of the GPU, which a
 * model may share, and would be counted twice.
 */
function quantitiesOf(
  answer: JsonObject,
):
  | { readonly quantities: Readonly<Record<string, number>>; readonly mismatch?: string | undefined }
  | undefined {
  const reported: Record<string, number> = {}
  // Loading or unloading a model asks it nothing.
  const isAsked = !/^(?:un)?load$/.test(textAt(answer, 'done_reason') ?? '')
  const input = countAt(answer, 'prompt_eval_count') ?? (isAsked ? undefined : 0)
  const output = countAt(answer, 'eval_count') ?? (isAsked ? undefined : 0)
  if (input !== undefined) {
    reported['input_tokens'] = input
    const cached = countAt(answer, 'prompt_eval_cached_count') ?? 0
    if (cached > 0) reported['cache_read_tokens'] = cached
  }
  if (output !== undefined) reported['output_tokens'] = output
  return Object.keys(reported).length === 0 ? undefined : withoutContradictions(reported)
}

/** Adds the texts of one line, or of an answer that was not streamed. */
function addTexts(answer: JsonObject | undefined, into: BoundedText): void {
  into.add(textAt(answer, 'thinking'))
  into.add(textAt(answer, 'response'))
  const message = objectAt(answer, 'message')
  into.add(textAt(message, 'thinking'))
  into.add(textAt(message, 'content'))
  const calls = message?.['tool_calls']
  if (!Array.isArray(calls)) return
  for (const call of calls) {
    const called = isJsonObject(call) ? objectAt(call, 'function') : undefined
    into.add(textAt(called, 'name'))
    into.add(jsonText(called?.['arguments']))
  }
}
