import { createHmac } from 'node:crypto'
import type { CountedTokens, Dimensions, UsageEvent } from '@tokentally/core'
import type { Operation, ReadUsage, TokenCounter } from '@tokentally/providers'
import { appendApart } from './apart-events.ts'
import type { Attempt } from './attempts.ts'
import { appendSettled, type BatchDependencies, batchTimes } from './batch-events.ts'
import type { CallIdentity } from './call-identity.ts'
import { type CallContext, currentContext } from './context.ts'
import { type FinishCall, markScopes, meteredCalls } from './metered-calls.ts'
import { pendingCalls } from './pending-calls.ts'
import { pendingEvents } from './pending-events.ts'
import { activeSpanContext, type CallSpan, startCallSpan } from './spans.ts'
import { type CallReader, type Counts, TextCounts, type WrittenText } from './text-counts.ts'
import { isSampled } from './token-sample.ts'
import { uuidV7 } from './uuid-v7.ts'

/** What metering one call needs. */
export interface CallDependencies extends BatchDependencies {
  readonly tokenCounter: TokenCounter
  /** Of how many calls the tokens are counted beside the provider, from 0 to 1, to see a tokenizer drift. */
  readonly tokenizerSample?: number
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

/** The start of a call that becomes a metered one later. */
export interface CallStart {
  readonly atMs: number
  readonly elapsed: number
  readonly context: CallContext | undefined
  readonly spanContext: ReturnType<typeof activeSpanContext>
  firstTokenElapsed: number | undefined
  /** When its answer was whole, if that was before anybody knew that it is to be metered. */
  endedElapsed: number | undefined
}

/** Notes that a call starts here and now. */
export function startOfCall({ now, elapsed }: CallDependencies): CallStart {
  return {
    atMs: now(),
    elapsed: elapsed(),
    context: currentContext(),
    spanContext: activeSpanContext(),
    firstTokenElapsed: undefined,
    endedElapsed: undefined,
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
  readonly #reader: CallReader
  readonly #context: CallContext | undefined
  readonly #eventId: string
  readonly #startedAtMs: number
  readonly #startedElapsed: number
  readonly #attempt: Attempt
  readonly #span: CallSpan | undefined
  /** Tells adapters, which see calls from above, that this one is metered. */
  readonly #finishForAdapters: FinishCall | undefined
  #firstByteElapsed: number | undefined
  #endedElapsed: number | undefined
  #status: number | undefined
  #requestId: string | undefined
  #isFinished = false

  /** @param since when the call started, if that was earlier and no tap has seen it */
  constructor(
    dependencies: CallDependencies,
    call: CallIdentity,
    reader: CallReader,
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
    this.#endedElapsed = since?.endedElapsed
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
    this.#endedElapsed ??= this.#dependencies.elapsed()
    const usage = this.#named(endedAs(how, this.#reader.result()))
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
    this.#finishForAdapters?.({ status: 'error', estimated: false })
    this.#dependencies.onError(
      new Error('a background response was not fetched by this process: its usage is not counted'),
    )
  }

  /** Makes the event when a tokenizer has counted what the provider did not report. */
  #estimate(usage: ReadUsage, how: CallEnd, answer: WrittenText): void {
    this.#isFinished = true
    const reported = usage.quantities ?? {}
    const texts = this.#texts(usage)
    const input = reported['input_tokens'] === undefined ? texts.input() : undefined
    const output = reported['output_tokens'] === undefined ? texts.output(answer) : undefined
    const isWhole = how === 'complete' && usage.isComplete
    const status = isWhole ? 'ok' : 'aborted'
    const estimated = ([read, written]: Counts): readonly [ReadUsage, Finding] => {
      const counted = [read, written].findLast((count) => count !== undefined && count.tokens > 0)
      const quantities = {
        ...reported,
        ...(read !== undefined && { input_tokens: read.tokens }),
        ...(written !== undefined && { output_tokens: written.tokens }),
      }
      const reason = isWhole ? 'no_usage' : ENDED_EARLY[how]
      return [
        { ...usage, quantities },
        { isEstimated: true, reason, ...(counted !== undefined && { tokenizer: counted.tokenizer }) },
      ]
    }
    const byBytes = (): Counts => [input?.byBytes(), output?.byBytes()]
    const letGo = this.#hold(status, ...estimated(byBytes()))
    pendingEvents.add<Counts>(Promise.all([input?.count(), output?.count()]), byBytes, (counts) => {
      this.#isFinished = false
      this.#finish(status, ...estimated(counts))
      letGo()
    })
  }

  /** Keeps the event as it is known now, for the case that the process dies before it is finished. */
  #hold(status: UsageEvent['status'], usage: ReadUsage, finding: Finding): () => void {
    try {
      return this.#dependencies.sink.hold(this.#event(status, usage, finding))
    } catch (error) {
      this.#dependencies.onError(error)
      return () => undefined
    }
  }

  /**
   * Makes the event of a call whose provider reported everything; on a sample of calls after a tokenizer has
   * counted the same text, so that the service sees when the two drift apart.
   */
  #finishReported(usage: ReadUsage): void {
    const { tokenizerSample = 0 } = this.#dependencies
    const isAsked = isSampled(this.#eventId, tokenizerSample) && GENERATES_TEXT.has(this.#call.operation)
    const counts = isAsked ? this.#texts(usage).besideReported(usage.quantities ?? {}) : undefined
    if (counts === undefined) {
      this.#finish('ok', usage)
      return
    }
    this.#isFinished = true
    const letGo = this.#hold('ok', usage, {})
    pendingEvents.add<Counts>(
      counts,
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
        letGo()
      },
    )
  }

  #texts(usage: ReadUsage): TextCounts {
    return new TextCounts(this.#dependencies.tokenCounter, this.#call, this.#reader, usage)
  }

  #finish(status: UsageEvent['status'], usage: ReadUsage, finding: Finding = {}): void {
    if (this.#isFinished) return
    this.#isFinished = true
    try {
      const event = this.#event(status, usage, finding)
      this.#span?.end(event)
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
      eventId: this.#eventId,
      tsMs: this.#startedAtMs,
      provider,
      operation,
      quantities: (isBilled ? usage.quantities : undefined) ?? {},
      status,
      streamed: usage.isStreamed,
      estimated: finding.isEstimated === true,
      latencyMs: rounded((this.#endedElapsed ?? elapsed()) - this.#startedElapsed),
      attempt: this.#attempt.number,
      callId: this.#attempt.callId ?? this.#eventId,
    }
    addDimensions(event, defaults())
    if (this.#context !== undefined) addDimensions(event, this.#context.dimensions)
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
    if (finding.counted !== undefined) event.counted = finding.counted
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

function addDimensions(event: Writable<UsageEvent>, dimensions: Dimensions): void {
  // Mostly there are none, or few.
  for (const _ in dimensions) {
    Object.assign(event, dimensions)
    return
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
  readonly counted?: CountedTokens
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
