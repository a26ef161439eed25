import { AsyncLocalStorage } from 'node:async_hooks'
import { type EndpointMapping, type RecognizedCall, recognize } from '@tokentally/providers'
import { Attempts, type CallDependencies } from '../call.ts'

/** How streams that the application leaves early are finished to learn their true usage. */
export interface LeftStreamLimits {
  readonly timeoutMs: number
  readonly bytesMax: number
}

export interface TapDependencies extends CallDependencies {
  readonly endpoints: readonly EndpointMapping[]
  readonly injectStreamUsage: boolean
  /** False: a stream that is left is cut at once, and its usage estimated. */
  readonly finishLeftStreams: LeftStreamLimits | false
}

/** True inside a tap's own request: taps further down must not meter it again. */
export const insideTap = new AsyncLocalStorage<true>()

/** Shared by all taps: an SDK's retry may come through another one. */
export const attempts = new Attempts()

/** Whether a URL, or its path, may be one that is read. Cheaper than parsing every URL of the application. */
export function mayBeRecognized(url: string): boolean {
  return url.includes('/chat/completions') || url.includes('/messages')
}

/** What a request is; never throws. */
export function recognizeSafely(
  url: string,
  method: string,
  { endpoints, onError }: TapDependencies,
): RecognizedCall | undefined {
  try {
    return recognize(new URL(url), method.toUpperCase(), endpoints)
  } catch (error) {
    onError(error)
    return undefined
  }
}

/** Does what must not disturb the call: an error goes to `onError`. */
export function guarded<T>({ onError }: CallDependencies, work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    onError(error)
    return undefined
  }
}
