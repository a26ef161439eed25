import { createHmac } from 'node:crypto'
import type { CountedTokens, Dimensions, UsageEvent } from '@tokentally/core'
import {
  claimsExactness,
  countAnswerByBytes,
  countRequestByBytes,
  type ExchangeReader,
  type Operation,
  type ReadUsage,
  type RecognizedCall,
  type SentRequest,
  type TokenCount,
  type TokenCounter,
  type WrittenAnswer,
} from '@tokentally/providers'
import { type CallContext, currentContext } from './context.ts'
import type { EventSink } from './event-sink.ts'
import { pendingCalls } from './pending-calls.ts'
import { pendingCounts } from './pending-counts.ts'
import { type CallSpan, startCallSpan } from './spans.ts'
import { isSampled } from './token-sample.ts'
import { uuidV7 } from './uuid-v7.ts'

/** What metering one call needs. */
export interface CallDependencies {
  readonly sink: EventSink
  readonly tokenCounter: TokenCounter
  /** Of how many calls the tokens are counted beside the provider, from 0 to 1, to see a tokenizer drift. */
  readonly tokenizerSample?: number
  /** UTC milliseconds. */
  readonly now: () => number
  /** Monotonic milliseconds. */
  readonly elapsed: () => number
  readonly onError: (error: unknown) => void
  /** With it, events carry a keyed hash of the request's text; without, none. */
  readonly promptHashKey: string | undefined
  /** Where the process runs; put on every event. */
  readonly host: UsageEvent['host']
  /** Dimensions of the whole process, under those of the context. */
  readonly defaults: () => Dimensions
}

/** How the body of an answer ended. */
export type CallEnd = 'complete' | 'dropped' | 'abandoned'

/**
 * One HTTP attempt of an LLM call, from request to event. The event's id is made when the call starts; the
 * event is finished exactly once, whatever ends first.
 */
export class MeteredCall {
  readonly #dependencies: CallDependencies
  readonly #call: RecognizedCall
  readonly #reader: ExchangeReader
  readonly #context: CallContext | undefined
  readonly #eventId: string
  readonly #startedAtMs: number
  readonly #startedElapsed: number
  readonly #attempt: Attempt
  readonly #span: CallSpan | undefined
  #firstByteElapsed: number | undefined
  #endedElapsed: number | undefined
  #status: number | undefined
  #requestId: string | undefined
  #isFinished = false

  constructor(
    dependencies: CallDependencies,
    call: RecognizedCall,
    reader: ExchangeReader,
    attempt: Attempt,
  ) {
    this.#dependencies = dependencies
    this.#call = call
    this.#reader = reader
    this.#context = currentContext()
    this.#startedAtMs = dependencies.now()
    this.#startedElapsed = dependencies.elapsed()
    this.#eventId = uuidV7(this.#startedAtMs)
    this.#attempt = attempt
    // A call is named after its first attempt.
    attempt.callId ??= this.#eventId
    this.#span = startCallSpan(call, reader.requestedModel)
  }

  /** The answer's head has arrived. */
  respond(status: number, header: (name: string) => string | null): void {
    this.#status = status
    this.#requestId =
      header('x-request-id') ??
      header('request-id') ??
      header('apim-request-id') ??
      header('x-amzn-requestid') ??
      undefined
    this.#reader.respond(status, header)
  }

  /** The next bytes of the body. @returns what the application may see of them */
  push(bytes: Uint8Array): Uint8Array {
    this.#firstByteElapsed ??= this.#dependencies.elapsed()
    return this.#reader.push(bytes)
  }

  /** The body has no more bytes. @returns bytes that were held back */
  endOfBody(): Uint8Array {
    return this.#reader.end()
  }

  /** No answer came: the connection failed, or the application gave up waiting. */
  fail(): void {
    this.#finish('error', { isComplete: false, isStreamed: false }, { reason: 'connection_failed' })
  }

  /** The exchange is over. Makes the event, after estimating where the provider reported nothing. */
  end(how: CallEnd): void {
    if (this.#isFinished) return
    this.#endedElapsed = this.#dependencies.elapsed()
    const usage = this.#reader.result()
    // A redirect that is not followed answers nothing either.
    if ((this.#status ?? 0) >= 300) {
      this.#finish('error', usage)
    } else if (this.#call.operation === 'fetch_response') {
      if (usage.responseId !== undefined && isSettled(usage)) {
        pendingCalls.take(usage.responseId)?.settle(usage, this.#reader)
      }
      this.#finish('ok', usage)
    } else if (usage.isPending === true && usage.responseId !== undefined) {
      pendingCalls.add(usage.responseId, {
        settle: (fetched, answer) => this.#settle(fetched, answer),
        forget: () => this.#forget(),
      })
    } else if (isReported(usage, this.#call.operation)) {
      if (how === 'complete' || usage.isComplete) this.#finishReported(usage)
      else this.#finish('aborted', usage, { reason: ENDED_EARLY[how] })
    } else {
      this.#estimate(usage, how, this.#reader)
    }
  }

  /** The answer that was made in the background has been fetched. */
  #settle(usage: ReadUsage, answer: WrittenText): void {
    this.#endedElapsed = this.#dependencies.elapsed()
    if (isReported(usage, this.#call.operation)) {
      this.#finish('ok', usage)
    } else if (usage.errorType !== undefined) {
      this.#finish('error', usage)
    } else {
      this.#estimate(usage, 'complete', answer)
    }
  }

  #forget(): void {
    this.#isFinished = true
    this.#dependencies.onError(
      new Error('a background response was not fetched by this process: its usage is not counted'),
    )
  }

  /** Makes the event when a tokenizer has counted what the provider did not report. */
  #estimate(usage: ReadUsage, how: CallEnd, answer: WrittenText): void {
    this.#isFinished = true
    const { tokenCounter } = this.#dependencies
    const reported = usage.quantities ?? {}
    const request = reported['input_tokens'] === undefined ? this.#request(usage) : undefined
    const written = reported['output_tokens'] === undefined ? this.#written(usage, answer) : undefined
    const isWhole = how === 'complete' && usage.isComplete
    pendingCounts.add<Counts>(
      Promise.all([
        request && tokenCounter.countRequest(request),
        written && tokenCounter.countAnswer(written),
      ]),
      () => [request && countRequestByBytes(request), written && countAnswerByBytes(written)],
      ([input, output]) => {
        const counted = [input, output].findLast((count) => count !== undefined && count.tokens > 0)
        this.#isFinished = false
        this.#finish(
          isWhole ? 'ok' : 'aborted',
          {
            ...usage,
            quantities: {
              ...reported,
              ...(input !== undefined && { input_tokens: input.tokens }),
              ...(output !== undefined && { output_tokens: output.tokens }),
            },
          },
          {
            isEstimated: true,
            reason: isWhole ? 'no_usage' : ENDED_EARLY[how],
            ...(counted !== undefined && { tokenizer: counted.tokenizer }),
          },
        )
      },
    )
  }

  /**
   * Makes the event of a call whose provider reported everything; on a sample of calls after a tokenizer has
   * counted the same text, so that the service sees when the two drift apart.
   */
  #finishReported(usage: ReadUsage): void {
    const { tokenizerSample = 0, tokenCounter } = this.#dependencies
    const { quantities = {} } = usage
    const model = this.#model(usage)
    if (
      !isSampled(this.#eventId, tokenizerSample) ||
      !GENERATES_TEXT.has(this.#call.operation) ||
      !claimsExactness({ provider: this.#call.provider, model }) ||
      Object.keys(quantities).some((meter) => NOT_TEXT.test(meter))
    ) {
      this.#finish('ok', usage)
      return
    }
    const request = this.#request(usage)
    const written = this.#written(usage, this.#reader)
    // Reasoning is inside the output, and its text is not shown.
    const isShown = (quantities['reasoning_tokens'] ?? 0) === 0
    if ((request.body?.length ?? 0) + written.text.length + written.events.length > SAMPLED_CHARS_MAX) {
      this.#finish('ok', usage)
      return
    }
    this.#isFinished = true
    pendingCounts.add<Counts>(
      Promise.all([
        tokenCounter.countRequest(request),
        isShown ? tokenCounter.countAnswer(written) : undefined,
      ]),
      () => [undefined, undefined],
      ([input, output]) => {
        const inputTokens = input?.isExact === true ? input.tokens : undefined
        const outputTokens = output?.isExact === true ? output.tokens : undefined
        const tokenizer = (inputTokens === undefined ? output : input)?.tokenizer
        const counted = {
          ...(inputTokens !== undefined && { inputTokens }),
          ...(outputTokens !== undefined && { outputTokens }),
        }
        const isCounted = inputTokens !== undefined || outputTokens !== undefined
        this.#isFinished = false
        this.#finish('ok', usage, isCounted && tokenizer !== undefined ? { counted, tokenizer } : {})
      },
    )
  }

  #model(usage: ReadUsage): string {
    return usage.responseModel ?? this.#reader.requestedModel ?? ''
  }

  #request(usage: ReadUsage): SentRequest {
    const { provider, format } = this.#call
    return { provider, format, model: this.#model(usage), body: this.#reader.requestBody }
  }

  #written(usage: ReadUsage, answer: WrittenText): WrittenAnswer {
    return {
      provider: this.#call.provider,
      format: this.#call.format,
      model: this.#model(usage),
      ...(answer.keptOutput?.() ?? {
        text: answer.outputText(),
        toolCalls: answer.outputToolCalls?.() ?? 0,
        events: '',
      }),
    }
  }

  #finish(status: UsageEvent['status'], usage: ReadUsage, finding: Finding = {}): void {
    if (this.#isFinished) return
    this.#isFinished = true
    try {
      const event = this.#event(status, usage, finding)
      this.#span?.end(event, usage.errorType)
      // Fetching what was made before costs nothing: it has a span, and no event.
      if (this.#call.operation === 'fetch_response') return
      this.#dependencies.sink.append(event)
      const { input_tokens = 0, output_tokens = 0 } = event.quantities
      if (status !== 'error') this.#context?.count(input_tokens, output_tokens)
    } catch (error) {
      this.#dependencies.onError(error)
    }
  }

  #errorCode(status: UsageEvent['status'], { errorType }: ReadUsage): string | undefined {
    if (status !== 'error') return undefined
    if (errorType !== undefined && ERROR_CODE.test(errorType)) return errorType
    return this.#status === undefined ? undefined : `http_${this.#status}`
  }

  #event(status: UsageEvent['status'], usage: ReadUsage, finding: Finding): UsageEvent {
    const { elapsed, host, promptHashKey, defaults } = this.#dependencies
    const model = this.#reader.requestedModel ?? usage.responseModel
    const reason = usage.reason ?? this.#errorCode(status, usage) ?? finding.reason
    const promptHash =
      promptHashKey === undefined
        ? undefined
        : `hmac-sha256:${createHmac('sha256', promptHashKey).update(this.#reader.promptText()).digest('hex')}`
    return {
      ...defaults(),
      ...this.#context?.dimensions,
      eventId: this.#eventId,
      tsMs: this.#startedAtMs,
      provider: this.#call.provider,
      operation: this.#call.operation,
      ...(model !== undefined && { model }),
      ...(usage.responseModel !== undefined && { responseModel: usage.responseModel }),
      ...(usage.serviceTier !== undefined && { serviceTier: usage.serviceTier }),
      ...(this.#call.region !== undefined && { region: this.#call.region }),
      quantities:
        status === 'error' || this.#call.operation === 'fetch_response' ? {} : (usage.quantities ?? {}),
      status,
      streamed: usage.isStreamed,
      estimated: finding.isEstimated === true,
      ...(reason !== undefined && { reason }),
      ...(usage.mismatch !== undefined && { mismatch: usage.mismatch.slice(0, MISMATCH_MAX) }),
      ...(usage.vendorUsage !== undefined && { vendorUsage: usage.vendorUsage }),
      ...(usage.reportedCostUsd !== undefined && { reportedCostUsd: usage.reportedCostUsd }),
      ...(finding.tokenizer !== undefined && { tokenizer: finding.tokenizer }),
      ...(finding.counted !== undefined && { counted: finding.counted }),
      latencyMs: rounded((this.#endedElapsed ?? elapsed()) - this.#startedElapsed),
      ...(usage.isStreamed &&
        this.#firstByteElapsed !== undefined && {
          timeToFirstTokenMs: rounded(this.#firstByteElapsed - this.#startedElapsed),
        }),
      ...(this.#requestId !== undefined
        ? { providerRequestId: this.#requestId }
        : usage.responseId !== undefined && { providerRequestId: usage.responseId }),
      ...this.#span?.ids,
      ...(promptHash !== undefined && { promptHash }),
      attempt: this.#attempt.number,
      callId: this.#attempt.callId ?? this.#eventId,
      ...(host !== undefined && { host }),
    }
  }
}

/** What the meter makes of an exchange, beside what the provider said. */
interface Finding {
  readonly isEstimated?: boolean
  readonly reason?: string
  readonly tokenizer?: string
  readonly counted?: CountedTokens
}

/** What a model wrote, as its reader kept it. */
export type WrittenText = Pick<ExchangeReader, 'outputText' | 'outputToolCalls' | 'keptOutput'>

/** Largest request and answer that are counted beside the provider, in characters together. */
const SAMPLED_CHARS_MAX = 256 * 1024

/** Counts of the request and of the answer, where they were asked for. */
type Counts = readonly [input: TokenCount | undefined, output: TokenCount | undefined]

/** Meters of what is no text, or of what the text does not show. */
const NOT_TEXT = /audio|image|search|code_interpreter/

/** Why an answer is not whole, or why its counts are missing. */
const ENDED_EARLY: Readonly<Record<CallEnd, string>> = {
  complete: 'stream_cut',
  dropped: 'stream_cut',
  abandoned: 'left_early',
}

/** A provider's name for a failure; whatever else stands there may be text of a prompt. */
const ERROR_CODE = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/
const MISMATCH_MAX = 512

/** Whether the provider's own counts are there: both sides of a text, so that nothing has to be guessed. */
function isReported({ quantities }: ReadUsage, operation: Operation): boolean {
  if (quantities === undefined) return false
  if (!GENERATES_TEXT.has(operation)) return true
  return quantities['input_tokens'] !== undefined && quantities['output_tokens'] !== undefined
}

/** Whether a fetched answer is as it will stay: with its usage, or plain and without one. */
function isSettled({ quantities, isPending, isStreamed, isComplete, errorType }: ReadUsage): boolean {
  if (quantities !== undefined) return true
  return !isStreamed && isPending !== true && (isComplete || errorType !== undefined)
}

const GENERATES_TEXT: ReadonlySet<Operation> = new Set(['chat', 'text_completion', 'generate_content'])

/** Microseconds are enough for a latency. */
function rounded(ms: number): number {
  return Math.max(0, Math.round(ms * 1000) / 1000)
}

/** Which try of a logical call an HTTP request is. */
export interface Attempt {
  /** From 0. */
  readonly number: number
  /** The same for all attempts of a call; unknown until the first one has its event's id. */
  callId: string | undefined
}

/** How long a failed attempt waits for its repetition; the SDKs wait 60 s at most. */
const LINK_MAX_MS = 120_000
const OPEN_MAX = 1_000

/**
 * Links the attempts of one logical call. SDKs made by Stainless (OpenAI, Anthropic, Groq, Together) number
 * them in `X-Stainless-Retry-Count`: a retry belongs to the last attempt of the same context with the same
 * URL, the same body and the number before. Other retries cannot be told from new calls and stand alone.
 */
export class Attempts {
  readonly #open = new Map<string, { readonly callId: string | undefined; readonly atMs: number }>()

  next(
    key: { readonly url: string; readonly body: string | undefined; readonly retryCount: string | null },
    nowMs: number,
  ): Attempt {
    const number = Number(key.retryCount ?? 0)
    if (!Number.isSafeInteger(number) || number <= 0) return { number: 0, callId: undefined }
    const text = `${number - 1}\n${key.url}\n${key.body ?? ''}`
    const last = this.#open.get(text)
    this.#open.delete(text)
    const isLinked = last !== undefined && nowMs - last.atMs < LINK_MAX_MS
    return { number: Math.min(number, 1000), callId: isLinked ? last.callId : undefined }
  }

  /** An attempt failed in a way that SDKs repeat. */
  failed(
    key: { readonly url: string; readonly body: string | undefined },
    attempt: Attempt,
    nowMs: number,
  ): void {
    if (this.#open.size >= OPEN_MAX) this.#open.clear()
    this.#open.set(`${attempt.number}\n${key.url}\n${key.body ?? ''}`, {
      callId: attempt.callId,
      atMs: nowMs,
    })
  }
}
