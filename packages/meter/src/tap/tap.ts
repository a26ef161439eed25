import { AsyncLocalStorage } from 'node:async_hooks'
import { type EndpointMapping, mayBeCall, type RecognizedCall, recognize } from '@tokentally/providers'
import { Attempts } from '../attempts.ts'
import type { CallDependencies } from '../call.ts'
import type { Enforcer } from '../enforce/enforcer.ts'
import type { Exchange } from './exchange.ts'

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
  /** Asked before each call; absent where limits are not enforced. */
  readonly enforcer?: Enforcer | undefined
}

/**
 * Set inside a tap's own request: taps further down must not meter it again. The dispatcher's tap takes the
 * exchange over where it can, because there an answer is watched without being handed on.
 */
export const insideTap = new AsyncLocalStorage<Watched>()

/**
 * The request that is being made in here. One that has its answer is over: what a `fetch` of the application's own
 * then sends is another call, and so is what a listener on the answer's body sends.
 */
export function watchedHere(): Watched | undefined {
  const watched = insideTap.getStore()
  if (watched === undefined) return undefined
  return (watched.exchange ?? watched.within)?.isAnswered === true ? undefined : watched
}

/** A request that is metered already. */
export interface Watched {
  /** Undefined: nobody further down may take it over. */
  readonly exchange: Exchange | undefined
  /** Whose transport this is, where nobody may take the exchange over. */
  readonly within?: Exchange
  isTaken: boolean
}

/** The header in which SDKs made by Stainless number their attempts. */
export const RETRY_COUNT = 'x-stainless-retry-count'

/** Shared by all taps: an SDK's retry may come through another one. */
export const attempts = new Attempts()

/** Applications call few URLs many times. */
const KNOWN_MAX = 500
const known = new WeakMap<readonly EndpointMapping[], Map<string, RecognizedCall | undefined>>()

/** The last request that may be a call: most follow one to the same URL. */
let last:
  | {
      readonly url: string
      readonly method: string
      readonly endpoints: readonly EndpointMapping[]
      readonly call: RecognizedCall | undefined
    }
  | undefined

/** What a request is; undefined for what is no call. @throws TypeError for an URL that is none */
export function recognizeOnce(
  url: string,
  method: string,
  dependencies: TapDependencies,
): RecognizedCall | undefined {
  const { endpoints } = dependencies
  if (last !== undefined && last.url === url && last.method === method && last.endpoints === endpoints) {
    return last.call
  }
  if (!mayBeCall(url)) return undefined
  const call = recognizedBefore(url, method, endpoints)
  last = { url, method, endpoints, call }
  return call
}

function recognizedBefore(
  url: string,
  method: string,
  endpoints: readonly EndpointMapping[],
): RecognizedCall | undefined {
  const calls = known.get(endpoints) ?? new Map<string, RecognizedCall | undefined>()
  if (calls.size === 0) known.set(endpoints, calls)
  const key = `${method} ${url}`
  const before = calls.get(key)
  if (before !== undefined || calls.has(key)) return before
  if (calls.size >= KNOWN_MAX) calls.clear()
  const call = recognize(new URL(url), method.toUpperCase(), endpoints)
  calls.set(key, call)
  return call
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

/** A left body that nobody else refers to any more is finished when it is collected. */
export const forgotten = new FinalizationRegistry<() => void>((finish) => finish())

/** Requests of Node's own `http`, and streams of its `http2`, that a tap has seen to. */
export const meteredRequests = new WeakSet<object>()
