import { vendorUsageOf } from '@tokentally/core'
import {
  type Operation,
  type ReadUsage,
  type UsageReader,
  withoutContradictions,
} from '@tokentally/providers'
import { type CallDependencies, type CallEnd, MeteredCall, startOfCall } from './call.ts'
import { providerName } from './provider-names.ts'

/** What a framework says of an answer, in the words of the usage event. */
export interface AdaptedUsage {
  readonly responseModel?: string | undefined
  readonly responseId?: string | undefined
  readonly serviceTier?: string | undefined
  readonly isStreamed?: boolean
  /** Meters that were reported; an absent one is unknown, not zero. */
  readonly quantities?: Readonly<Record<string, number | undefined>>
  /** The provider's own usage, if the framework hands it on. */
  readonly raw?: unknown
}

/** What a framework says of a request. */
export interface AdaptedRequest {
  /** The provider, in the framework's words. */
  readonly provider: string
  readonly model: string | undefined
  readonly operation: Operation
  /** Its text, for an estimate or a hash; not kept. */
  readonly promptText: () => string
  /** The logical call that this is an attempt of. */
  readonly callId?: string
}

/** How a call ended, to whoever made it. `failed`: nothing came, or no whole answer. */
export type AdaptedEnd = CallEnd | 'failed'

/** Longest text that is taken for an estimate, in characters. */
const TEXT_MAX = 1_048_576
const NO_BYTES = new Uint8Array(0)

/**
 * A call as a framework's adapter sees it: without its transport. It is noted from its start on, and becomes a
 * metered call, with an event and a span, only when the adapter finds that no tap has metered it.
 */
export class AdaptedCall {
  readonly #dependencies: CallDependencies
  readonly #request: AdaptedRequest
  readonly #start: ReturnType<typeof startOfCall>
  #outputText = ''
  #usage: AdaptedUsage = {}
  #error: { readonly status: number | undefined; readonly code: string | undefined } | undefined
  #headers: Readonly<Record<string, string | undefined>> = {}

  constructor(dependencies: CallDependencies, request: AdaptedRequest) {
    this.#dependencies = dependencies
    this.#request = request
    this.#start = startOfCall(dependencies)
  }

  /** What is called, in the words of events. */
  get calledModel(): { readonly provider: string; readonly model: string | undefined } {
    return { provider: providerName(this.#request.provider), model: this.#request.model }
  }

  get startedElapsed(): number {
    return this.#start.elapsed
  }

  /** Text of the answer, which is kept for an estimate alone. The first piece is the first token. */
  addOutput(text: unknown): void {
    if (typeof text !== 'string' || text === '') return
    this.#start.firstTokenElapsed ??= this.#dependencies.elapsed()
    if (this.#outputText.length >= TEXT_MAX) return
    this.#outputText += text.slice(0, TEXT_MAX - this.#outputText.length)
  }

  get hasOutput(): boolean {
    return this.#outputText !== ''
  }

  /** The answer is whole, or has failed: what is decided afterwards takes none of the call's time. */
  ended(): number {
    this.#start.endedElapsed ??= this.#dependencies.elapsed()
    return this.#start.endedElapsed
  }

  /** What is said of the answer; later words replace earlier ones. */
  report(usage: AdaptedUsage): void {
    this.#usage = { ...this.#usage, ...usage }
  }

  /** Header fields of the answer, with names in lower case. */
  respond(headers: Readonly<Record<string, string | undefined>> | undefined): void {
    if (headers !== undefined) this.#headers = headers
  }

  /** A failure as the framework throws it. Its message may quote a prompt and is not read. */
  failed(error: unknown): void {
    this.#error = { status: statusOf(error), code: codeOf(error) }
  }

  /** Makes the event. */
  meter(end: AdaptedEnd): void {
    const { provider, operation, callId } = this.#request
    const name = providerName(provider)
    const call = {
      provider: name,
      // As the taps say it of Google's API.
      operation: operation === 'chat' && name.startsWith('gcp.') ? 'generate_content' : operation,
    } as const
    const attempt = { number: 0, callId }
    const metered = new MeteredCall(this.#dependencies, call, this.#reader(end), attempt, this.#start)
    if (end === 'failed' && this.#error?.status === undefined) {
      metered.fail(this.#read(end))
      return
    }
    metered.respond(this.#error?.status ?? 200, (field) => this.#headers[field] ?? null)
    metered.end(end === 'failed' ? 'dropped' : end)
  }

  #reader(end: AdaptedEnd): UsageReader {
    return {
      requestedModel: this.#request.model,
      rewrittenBody: undefined,
      promptText: this.#request.promptText,
      respond: () => undefined,
      push: (bytes) => bytes,
      end: () => NO_BYTES,
      result: () => this.#read(end),
      outputText: () => this.#outputText,
    }
  }

  #read(end: AdaptedEnd): ReadUsage {
    const { responseModel, responseId, serviceTier, raw } = this.#usage
    const quantities = Object.fromEntries(
      Object.entries(this.#usage.quantities ?? {}).filter(
        (entry): entry is [string, number] => isCount(entry[1]) && (entry[1] > 0 || TOTALS.has(entry[0])),
      ),
    )
    const vendorUsage = vendorUsageOf(raw)
    return {
      ...(responseModel !== undefined && { responseModel }),
      ...(responseId !== undefined && { responseId }),
      ...(serviceTier !== undefined && { serviceTier }),
      ...(Object.keys(quantities).length > 0 && withoutContradictions(quantities)),
      ...(vendorUsage !== undefined && { vendorUsage }),
      isComplete: end === 'complete',
      isStreamed: this.#usage.isStreamed === true,
      ...(this.#error?.code !== undefined && { errorType: this.#error.code }),
    }
  }
}

const TOTALS: ReadonlySet<string> = new Set(['input_tokens', 'output_tokens'])

function isCount(value: number | undefined): value is number {
  return value !== undefined && Number.isSafeInteger(value) && value >= 0
}

/** Names of errors that say why; the names of classes that say nothing are left out. */
const CODES = ['type', 'code', 'lc_error_code'] as const
/** A code, not a sentence, which might quote a prompt. */
const CODE = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/

function codeOf(error: unknown): string | undefined {
  if (isAbort(error)) return 'left_early'
  for (const source of [fieldOf(error, 'error'), fieldOf(fieldOf(error, 'data'), 'error'), error]) {
    for (const name of CODES) {
      const code = fieldOf(source, name)
      if (typeof code === 'string' && CODE.test(code) && code !== 'error') return code
    }
  }
  return undefined
}

function statusOf(error: unknown): number | undefined {
  for (const name of ['statusCode', 'status']) {
    const status = fieldOf(error, name)
    if (typeof status === 'number' && status >= 400 && status < 600) return status
  }
  return undefined
}

/** Whether a failure is that the application gave up. */
export function isAbort(error: unknown): boolean {
  const name = fieldOf(error, 'name')
  return name === 'AbortError' || name === 'APIUserAbortError' || name === 'ModelAbortError'
}

/** A field of something that is not known. */
export function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}

export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

export function countOf(value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined
}

/** Under these names messages hold what a tokenizer counts; pictures and files are under others. */
const TEXT_FIELDS = ['content', 'text', 'input', 'output', 'value', 'args', 'reasoning'] as const
const LEVELS_MAX = 20

/** The text of messages, in the shapes of the frameworks. */
export function textIn(messages: unknown): string {
  const texts: string[] = []
  let length = 0
  const visit = (value: unknown, levels: number): void => {
    if (length >= TEXT_MAX || levels === 0) return
    if (typeof value === 'string') {
      texts.push(value)
      length += value.length
    } else if (Array.isArray(value)) {
      for (const entry of value) visit(entry, levels - 1)
    } else if (typeof value === 'object' && value !== null) {
      for (const name of TEXT_FIELDS) visit(fieldOf(value, name), levels - 1)
    }
  }
  visit(messages, LEVELS_MAX)
  return texts.join('\n').slice(0, TEXT_MAX)
}
