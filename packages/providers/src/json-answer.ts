import { parseCutJson } from './cut-json.ts'
import { latin1, type SseEvent, SseParser } from './framing/sse.ts'
import { OutputText } from './output-text.ts'
import { type BodyProblem, PlainBody, type PlainReading } from './plain-body.ts'
import {
  BoundedText,
  isEventStream,
  type JsonObject,
  type KeptOutput,
  NO_BYTES,
  objectAt,
  parseJsonObject,
  textAt,
  type UsageReader,
} from './reader.ts'

/** What a wire format makes of an answer. */
export interface AnswerFormat {
  /**
   * Whether something of a stream is worth parsing. What is not only serves an estimate, and is parsed then.
   *
   * @param events whole events, one character per byte
   */
  isNotable(events: string): boolean
  /** One event of a stream that is worth parsing. */
  readEvent(event: JsonObject): void
  /** The answer that was not streamed and is no failure. */
  readBody(body: JsonObject): void
  /**
   * Adds what the model wrote in one event, or in an answer that was not streamed. A format without it has no
   * text worth keeping for an estimate.
   */
  addTexts?(answer: JsonObject, into: BoundedText): void
}

/** The half of a reader that sees the answer pass. */
export interface JsonAnswer extends Pick<UsageReader, 'respond' | 'push' | 'end' | 'outputText'> {
  outputToolCalls(): number
  keptOutput(): KeptOutput | undefined
  readonly isStreamed: boolean
  /** Whether a plain answer was understood, or a failure had a body of JSON. */
  readonly isRead: boolean
  /** Why a plain answer that is no failure could not be read. */
  readonly problem: BodyProblem | undefined
  /** The provider's name for a failure; the HTTP status where it gave none. */
  readonly errorType: string | undefined
}

/**
 * An answer that is one JSON body or a stream of server-sent events, and that the application sees as it came:
 * nothing is hidden or held back. What is neither (audio, text) passes unread.
 */
export function jsonAnswer(format: AnswerFormat): JsonAnswer {
  const addTexts = (answer: JsonObject | undefined, into: BoundedText) => {
    if (answer !== undefined) format.addTexts?.(answer, into)
  }
  const output = new OutputText((data, into) => addTexts(parseJsonObject(data), into))
  const keep = (events: string) => {
    if (format.addTexts !== undefined) output.keep(events)
  }
  const sse = new SseParser()
  const plain = new PlainBody()
  let isStreamed = false
  let isBinary = false
  let isRead = false
  let status = 0
  let answered: JsonObject | undefined
  /** A body that was cut, as text. */
  let cutText: string | undefined
  let errorType: string | undefined
  let problem: BodyProblem | undefined
  let contentType: string | null = null

  const readEvent = ({ data, raw }: SseEvent) => {
    if (data === '') return
    const text = latin1(raw)
    if (format.isNotable(text)) {
      const event = parseJsonObject(data)
      if (event !== undefined) format.readEvent(event)
    } else {
      keep(text)
    }
  }

  return {
    get isStreamed() {
      return isStreamed
    },
    get isRead() {
      return isRead
    },
    get problem() {
      return problem
    },
    get errorType() {
      return errorType
    },
    respond(answeredStatus, header) {
      status = answeredStatus
      isStreamed = isEventStream(header('content-type'))
      contentType = header('content-type')
      isBinary = /^\s*(?:(?:audio|image|video)\/|application\/octet-stream)/i.test(contentType ?? '')
    },
    push(bytes) {
      if (isStreamed) {
        const passing = sse.wholeEvents(bytes)
        if (passing !== undefined && !format.isNotable(passing)) {
          keep(passing)
        } else for (const event of sse.push(bytes)) readEvent(event)
      } else if (!isBinary) {
        plain.add(bytes)
      }
      return bytes
    },
    end() {
      if (isStreamed) {
        const last = sse.end()
        if (last !== undefined) readEvent(last)
        return NO_BYTES
      }
      const body: PlainReading = isBinary ? {} : plain.read(contentType)
      errorType = errorOf(body.json, status)
      if (errorType === undefined) problem = body.problem
      // As far as anyone can say, what was too large to be kept came to its end.
      isRead = body.json !== undefined || problem === 'body_too_large'
      if (body.json !== undefined && errorType === undefined) {
        answered = body.json
        format.readBody(body.json)
      }
      if (problem === 'unreadable_body') cutText = body.text
      return NO_BYTES
    },
    outputText: () => written().toString(),
    outputToolCalls: () => written().toolCalls,
    keptOutput: () => (isStreamed ? output.kept : undefined),
  }

  function written(): OutputText | BoundedText {
    if (isStreamed) return output
    const text = new BoundedText()
    addTexts(answered ?? parseCutJson(cutText), text)
    return text
  }
}

/** The name of a failure that a body tells of, in the shape that OpenAI and most others use. */
function errorOf(body: JsonObject | undefined, status: number): string | undefined {
  const error = objectAt(body, 'error')
  // A model's own failure stands in an answer that has an id, and is the format's to read.
  if (status < 400 && (error === undefined || body?.['id'] !== undefined)) return undefined
  return textAt(error, 'type') ?? textAt(error, 'code') ?? `http_${status}`
}
