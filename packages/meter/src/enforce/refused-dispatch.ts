import type { BudgetExceededError } from './budget-exceeded-error.ts'
import { isStainless, refusedAnswer } from './refused-response.ts'

/** What a dispatcher's handler has, in the words of undici's older and newer versions. */
interface AnsweredHandler {
  onConnect?(abort: () => void, context?: unknown): void
  onHeaders?(status: number, rawHeaders: readonly unknown[], resume: () => void, text?: string): unknown
  onData?(chunk: Uint8Array): unknown
  onComplete?(rawTrailers: unknown): void
  onRequestStart?(controller: object, context?: unknown): void
  onResponseStart?(controller: object, status: number, headers: unknown, text?: string): void
  onResponseData?(controller: object, chunk: Uint8Array): void
  onResponseEnd?(controller: object, trailers: unknown): void
}

const CONTROLLER = {
  aborted: false,
  paused: false,
  reason: undefined,
  pause: () => undefined,
  resume: () => undefined,
  abort: () => undefined,
}

/**
 * Refuses a request of undici as `refuseFetch` does: SDKs made by Stainless get an answer, all others the error.
 *
 * @param fail tells the handler of the error
 */
export function refuseDispatch(
  handler: object,
  error: BudgetExceededError,
  header: (name: string) => string | null,
  fail: (error: BudgetExceededError) => void,
): void {
  if (!isStainless(header)) fail(error)
  // As from the network: once `dispatch` has returned.
  else queueMicrotask(() => answer(handler, error))
}

function answer(handler: AnsweredHandler, error: BudgetExceededError): void {
  const { status, headers, body } = refusedAnswer(error)
  const bytes = Buffer.from(body)
  if ('onRequestStart' in handler) {
    handler.onRequestStart?.(CONTROLLER, {})
    handler.onResponseStart?.(CONTROLLER, status, headers, '')
    handler.onResponseData?.(CONTROLLER, bytes)
    handler.onResponseEnd?.(CONTROLLER, {})
    return
  }
  const rawHeaders = Object.entries(headers)
    .flat()
    .map((text) => Buffer.from(text, 'latin1'))
  handler.onConnect?.(() => undefined, {})
  handler.onHeaders?.(status, rawHeaders, () => undefined, '')
  handler.onData?.(bytes)
  handler.onComplete?.([])
}
