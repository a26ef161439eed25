import { createHmac } from 'node:crypto'
import type { Dimensions, UsageEvent } from '@tokentally/core'
import type { Operation, ReadUsage, RecognizedCall, TokenCounter, UsageReader } from '@tokentally/providers'
import { appendApart } from './apart-events.ts'
import { appendSettled, type BatchDependencies, batchTimes } from './batch-events.ts'
import { type CallContext, currentContext } from './context.ts'
import { type FinishCall, markScopes, meteredCalls } from './metered-calls.ts'
import { pendingCalls } from './pending-calls.ts'
import { activeSpanContext, type CallSpan, startCallSpan } from './spans.ts'
import { uuidV7 } from './uuid-v7.ts'

/** What metering one call needs. */
export interface CallDependencies extends BatchDependencies {
  readonly tokenCounter: TokenCounter
  /** Monotonic milliseconds. */
  readonly elapsed: () => number
  /** With it, events carry a keyed hash of the request's text; without, none. */
  readonly promptHashKey: string | undefined
  /** Models by names that say nothing of them: deployments, application inference profiles. */
  readonly models?: ReadonlyMap<string, string>
  /** Where the process runs; put on every event. */
  readonly host: UsageEvent['host']
  /** Dimensions of the whole process, under those of the context. */
  readonly defaults: () => Dimensions
}

const estimates = new Set<Promise<void>>()

function underWay(estimate: Promise<void>): void {
  const remembered = estimate.finally(() => estimates.delete(remembered))
  estimates.add(remembered)
}

/** Resolves when every estimate that is under way has made its event. */
export async function estimatesMade(): Promise<void> {
  while (estimates.size > 0) await Promise.allSettled(estimates)
}

/** What is metered: a recognized request, or a call as an adapter names it. */
export type CallIdentity = Pick<RecognizedCall, 'provider' | 'operation' | 'region' | 'resultsId'>

/** The start of a call that becomes a metered one later. */
export interface CallStart {
  readonly atMs: number
  readonly elapsed: number
  readonly context: CallContext | undefined
  readonly spanContext: ReturnType<typeof activeSpanContext>
  firstTokenElapsed: number | undefined
}

/** Notes that a call starts here and now. */
export function startOfCall({ now, elapsed }: CallDependencies): CallStart {
  return {
    atMs: now(),
    elapsed: elapsed(),
    context: currentContext(),
    spanContext: activeSpanContext(),
    firstTokenElapsed: undefined,
  }
}

/** How the body of an answer ended. */
export type CallEnd = 'complete' | 'dropped' | 'abandoned'

/**
 * One HTTP attempt of an LLM call, from request to event. The event's id is made when the call starts; the
 * event is finished exactly once, whatever ends first.
 */
export class MeteredCall {
  readonly #dependencies: CallDependencies
  readonly #call: CallIdentity
  readonly #reader: UsageReader
  readonly #context: CallContext | undefined
  readonly #eventId: string
  readonly #startedAtMs: number
  readonly #startedElapsed: number
  readonly #attempt: Attempt
  readonly #span: CallSpan | undefined
  /** Tells adapters, which see calls from above, that this one is metered. */
  readonly #finishForAdapters: FinishCall | undefined
  #firstByteElapsed: number | undefined
  #status: number | undefined
  #requestId: string | undefined
  #isFinished = false

  /** @param since when the call started, if that was earlier and no tap has seen it */
  constructor(
    dependencies: CallDependencies,
    call: CallIdentity,
    reader: UsageReader,
    attempt: Attempt,
    since?: CallStart,
  ) {
    this.#dependencies = dependencies
    this.#call = call
    this.#reader = reader
    this.#context = since === undefined ? currentContext() : since.context
    this.#startedAtMs = since?.atMs ?? dependencies.now()
    this.#startedElapsed = since?.elapsed ?? dependencies.elapsed()
    this.#firstByteElapsed = since?.firstTokenElapsed
    this.#eventId = uuidV7(this.#startedAtMs)
    this.#attempt = attempt
    // A call is named after its first attempt.
    attempt.callId ??= this.#eventId
    // A file that is fetched need not be a batch's results: no span tells of it.
    this.#span = this.isCharged ? startCallSpan(call, reader.requestedModel, since) : undefined
    if (since !== undefined) return
    markScopes(call.operation)
    if (meteredCalls.isOn) this.#finishForAdapters = this.#beginForAdapters()
  }

  #beginForAdapters(): FinishCall | undefined {
    return meteredCalls.begin({
      startedElapsed: this.#startedElapsed,
      operation: this.#call.operation,
      requestedModel: this.#reader.requestedModel,
      soFar: () => this.#reader.result(),
    })
  }

  /** Whether the answer may cost something. What a batch's results tell has been paid for before. */
  get isCharged(): boolean {
    return this.#call.operation !== 'fetch_batch'
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
    const visible = this.#reader.push(bytes)
    if (!this.isCharged) this.#takeSettled()
    return visible
  }

  #takeSettled(): void {
    const settled = this.#reader.takeSettled?.() ?? []
    if (settled.length > 0) appendSettled(this.#dependencies, this.#call, settled)
  }

  /** The body has no more bytes. @returns bytes that were held back */
  endOfBody(): Uint8Array {
    return this.#reader.end()
  }

  /** No answer came: the connection failed, or the application gave up waiting. */
  fail(usage: ReadUsage = { isComplete: false, isStreamed: false }): void {
    if (!this.isCharged) return
    this.#finish('error', usage, { reason: 'connection_failed' })
  }

  /** The exchange is over. Makes the event, after estimating where the provider reported nothing. */
  end(how: CallEnd): void {
    if (this.#isFinished) return
    if (!this.isCharged) {
      this.#endFetchOfBatch()
      return
    }
    const usage = this.#named(endedAs(how, this.#reader.result()))
    // A redirect that is not followed answers nothing either.
    if ((this.#status ?? 0) >= 300) {
      this.#finish('error', usage)
    } else if (this.#call.operation === 'fetch_response') {
      if (usage.responseId !== undefined && isSettled(usage)) {
        pendingCalls.take(usage.responseId)?.settle(usage, () => this.#reader.outputText())
      }
      this.#finish('ok', usage)
    } else if (usage.isPending === true && usage.responseId !== undefined) {
      pendingCalls.add(usage.responseId, {
        settle: (fetched, outputText) => this.#settle(fetched, outputText),
        forget: () => this.#forget(),
      })
    } else if (isReported(usage, this.#call.operation)) {
      if (how === 'complete' || usage.isComplete) this.#finish('ok', usage)
      else this.#finish('aborted', usage, { reason: ENDED_EARLY[how] })
    } else {
      this.#isFinished = true
      underWay(this.#estimate(usage, how).catch(this.#dependencies.onError))
    }
  }

  /** Where neither the call nor the answer says which model it is, the application may have said it. */
  #named(usage: ReadUsage): ReadUsage {
    const model = this.#dependencies.models?.get(this.#reader.requestedModel ?? '')
    return model === undefined ? usage : { responseModel: model, ...usage }
  }

  /** A batch's results, or how it stands: its calls have become events, and the fetch is none. */
  #endFetchOfBatch(): void {
    this.#isFinished = true
    if ((this.#status ?? 0) >= 300) return
    const { batch } = this.#reader.result()
    if (batch !== undefined) batchTimes.add(this.#call, batch)
    this.#takeSettled()
  }

  /** The answer that was made in the background has been fetched. */
  #settle(usage: ReadUsage, outputText: () => string): void {
    if (isReported(usage, this.#call.operation)) {
      this.#finish('ok', usage)
    } else if (usage.errorType !== undefined) {
      this.#finish('error', usage)
    } else {
      underWay(this.#estimate(usage, 'complete', outputText).catch(this.#dependencies.onError))
    }
  }

  #forget(): void {
    this.#isFinished = true
    this.#finishForAdapters?.({ status: 'error', estimated: false })
    this.#dependencies.onError(
      new Error('a background response was not fetched by this process: its usage is not counted'),
    )
  }

  async #estimate(
    usage: ReadUsage,
    how: CallEnd,
    outputText: () => string = () => this.#reader.outputText(),
  ): Promise<void> {
    const model = usage.responseModel ?? this.#reader.requestedModel ?? ''
    const { tokenCounter } = this.#dependencies
    const reported = usage.quantities ?? {}
    let tokenizer: string | undefined
    const count = async (text: string) => {
      const counted = await tokenCounter.count(text, model)
      if (counted.tokens > 0) tokenizer = counted.tokenizer
      return counted.tokens
    }
    const input = reported['input_tokens'] ?? (await count(this.#reader.promptText()))
    const output = reported['output_tokens'] ?? (await count(outputText()))
    const isWhole = how === 'complete' && usage.isComplete
    this.#isFinished = false
    this.#finish(
      isWhole ? 'ok' : 'aborted',
      { ...usage, quantities: { ...reported, input_tokens: input, output_tokens: output } },
      {
        isEstimated: true,
        reason: isWhole ? 'no_usage' : ENDED_EARLY[how],
        ...(tokenizer !== undefined && { tokenizer }),
      },
    )
  }

  #finish(status: UsageEvent['status'], usage: ReadUsage, finding: Finding = {}): void {
    if (this.#isFinished) return
    this.#isFinished = true
    try {
      const event = this.#event(status, usage, finding)
      this.#span?.end(event, usage.errorType)
      this.#finishForAdapters?.({ ...usage, status, estimated: event.estimated })
      // Fetching what was made before costs nothing: it has a span, and no event.
      if (this.#call.operation === 'fetch_response') return
      this.#dependencies.sink.append(event)
      if (usage.apart !== undefined) appendApart(this.#dependencies.sink, event, usage.apart)
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

  // Field by field, not by spreading what is there: this is done while the application waits for its answer.
  #event(status: UsageEvent['status'], usage: ReadUsage, finding: Finding): UsageEvent {
    const { elapsed, host, promptHashKey, defaults } = this.#dependencies
    const { provider, operation, region } = this.#call
    const isBilled = status !== 'error' && operation !== 'fetch_response'
    const event: Writable<UsageEvent> = {
      ...defaults(),
      ...this.#context?.dimensions,
      eventId: this.#eventId,
      tsMs: this.#startedAtMs,
      provider,
      operation,
      quantities: (isBilled ? usage.quantities : undefined) ?? {},
      status,
      streamed: usage.isStreamed,
      estimated: finding.isEstimated === true,
      latencyMs: rounded(elapsed() - this.#startedElapsed),
      attempt: this.#attempt.number,
      callId: this.#attempt.callId ?? this.#eventId,
    }
    const model = this.#reader.requestedModel ?? usage.responseModel
    if (model !== undefined) event.model = model
    if (usage.responseModel !== undefined) event.responseModel = usage.responseModel
    if (usage.serviceTier !== undefined) event.serviceTier = usage.serviceTier
    if (region !== undefined) event.region = region
    const reason = usage.reason ?? this.#errorCode(status, usage) ?? finding.reason
    if (reason !== undefined) event.reason = reason
    if (usage.mismatch !== undefined) event.mismatch = usage.mismatch.slice(0, MISMATCH_MAX)
    if (usage.vendorUsage !== undefined) event.vendorUsage = usage.vendorUsage
    if (usage.reportedCostUsd !== undefined) event.reportedCostUsd = usage.reportedCostUsd
    if (finding.tokenizer !== undefined) event.tokenizer = finding.tokenizer
    if (usage.isStreamed && this.#firstByteElapsed !== undefined) {
      event.timeToFirstTokenMs = rounded(this.#firstByteElapsed - this.#startedElapsed)
    }
    const requestId = this.#requestId ?? usage.responseId
    if (requestId !== undefined) event.providerRequestId = requestId
    if (this.#span !== undefined) {
      event.traceId = this.#span.ids.traceId
      event.spanId = this.#span.ids.spanId
    }
    if (promptHashKey !== undefined) {
      const digest = createHmac('sha256', promptHashKey).update(this.#reader.promptText()).digest('hex')
      event.promptHash = `hmac-sha256:${digest}`
    }
    if (host !== undefined) event.host = host
    return event
  }
}

type Writable<T> = { -readonly [K in keyof T]: T[K] }

/** A body that was cut is unreadable for that alone: how it ended says more. */
function endedAs(how: CallEnd, usage: ReadUsage): ReadUsage {
  if (how === 'complete' || usage.reason !== 'unreadable_body') return usage
  const { reason: _, ...rest } = usage
  return rest
}

/** What the meter makes of an exchange, beside what the provider said. */
interface Finding {
  readonly isEstimated?: boolean
  readonly reason?: string
  readonly tokenizer?: string
}

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
