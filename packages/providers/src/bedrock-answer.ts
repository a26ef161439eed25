import { EventStreamParser } from './framing/aws-event-stream.ts'
import { type BodyProblem, PlainBody } from './plain-body.ts'
import { type JsonObject, NO_BYTES, textAt, type UsageReader } from './reader.ts'

/** What an API of Bedrock makes of an answer. */
export interface BedrockFormat {
  /** One event of a stream; its payload is lent until this returns. */
  readEvent(type: string, payload: Uint8Array): void
  /** The answer that was not streamed and is no failure. */
  readBody(body: JsonObject, bytes: Uint8Array): void
  /** What came of such an answer whose end did not: for the texts in it, and nothing else. */
  readCut(text: string): void
}

/** The half of a reader that sees the answer pass. */
export interface BedrockAnswer extends Pick<UsageReader, 'respond' | 'push' | 'end'> {
  readonly isStreamed: boolean
  /** Whether a plain answer was understood, or a failure had a body of JSON. */
  readonly isRead: boolean
  /** Why a plain answer that is no failure could not be read. */
  readonly problem: BodyProblem | undefined
  /** Why not all of a stream could be read. */
  readonly damage: string | undefined
  readonly errorType: string | undefined
  /** Service tier, `optimized` for the faster answers that have prices of their own. */
  readonly serviceTier: string | undefined
  header(name: string): string | null
  /** The tier and the speed that an answer names. */
  readTier(serviceTier: string | undefined, latency: string | undefined): void
}

/** An answer of Bedrock: one JSON body, or a binary event stream. The application sees it as it came. */
export function bedrockAnswer(format: BedrockFormat): BedrockAnswer {
  const stream = new EventStreamParser()
  const plain = new PlainBody()
  let isStreamed = false
  let isRead = false
  let status = 0
  let problem: BodyProblem | undefined
  let errorType: string | undefined
  let serviceTier: string | undefined
  let latency: string | undefined
  let headerOf: (name: string) => string | null = () => null

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
    get damage() {
      return stream.isDamaged ? 'the event stream is damaged' : undefined
    },
    get errorType() {
      return errorType
    },
    get serviceTier() {
      const isFast = latency === 'optimized' && (serviceTier === undefined || serviceTier === 'default')
      return isFast ? latency : serviceTier
    },
    header: (name) => headerOf(name),
    readTier(reportedTier, reportedLatency) {
      serviceTier = reportedTier ?? serviceTier
      latency = reportedLatency ?? latency
    },
    respond(answeredStatus, header) {
      status = answeredStatus
      headerOf = header
      isStreamed = (header('content-type') ?? '').toLowerCase().includes('vnd.amazon.eventstream')
      serviceTier = header('x-amzn-bedrock-service-tier') ?? undefined
      latency = header('x-amzn-bedrock-performanceconfig-latency') ?? undefined
    },
    push(bytes) {
      if (isStreamed) {
        for (const { headers, payload } of stream.push(bytes)) {
          const event = headers.get(':event-type')
          if (event !== undefined) format.readEvent(event, payload)
          else errorType ??= headers.get(':exception-type') ?? headers.get(':error-code') ?? 'error'
        }
      } else {
        plain.add(bytes)
      }
      return bytes
    },
    end() {
      if (isStreamed) return NO_BYTES
      const body = plain.read(headerOf('content-type'))
      if (status >= 400) errorType = errorOf(body.json, headerOf('x-amzn-errortype')) ?? `http_${status}`
      else problem = body.problem
      isRead = body.json !== undefined || problem === 'body_too_large'
      if (status < 400) {
        if (body.json !== undefined) format.readBody(body.json, Buffer.from(body.text ?? ''))
        else if (body.text !== undefined) format.readCut(body.text)
      }
      return NO_BYTES
    },
  }
}

/** The name of a failure: `ThrottlingException:http://…` in a header, or `com.amazonaws…#…` in the body. */
function errorOf(body: JsonObject | undefined, header: string | null): string | undefined {
  const name = header ?? textAt(body, '__type') ?? textAt(body, 'code')
  return name?.replace(/:.*$/s, '').replace(/^.*#/s, '') || undefined
}
