import { hash } from 'node:crypto'

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

  /** @param now UTC milliseconds; asked only for repetitions */
  next(key: AttemptKey, now: () => number): Attempt {
    const number = key.retryCount === null || key.retryCount === '0' ? 0 : Number(key.retryCount)
    if (!Number.isSafeInteger(number) || number <= 0) return { number: 0, callId: undefined }
    const name = nameOf(key, number - 1)
    const last = this.#open.get(name)
    this.#open.delete(name)
    const isLinked = last !== undefined && now() - last.atMs < LINK_MAX_MS
    return { number: Math.min(number, 1000), callId: isLinked ? last.callId : undefined }
  }

  /** An attempt failed in a way that SDKs repeat. Those that number nothing could not be linked. */
  failed(key: AttemptKey, attempt: Attempt, nowMs: number): void {
    if (key.retryCount === null) return
    for (const [name, { atMs }] of this.#open) {
      if (nowMs - atMs < LINK_MAX_MS && this.#open.size < OPEN_MAX) break
      this.#open.delete(name)
    }
    this.#open.set(nameOf(key, attempt.number), { callId: attempt.callId, atMs: nowMs })
  }
}

interface AttemptKey {
  readonly url: string
  readonly body: string | undefined
  readonly retryCount: string | null
}

/** A digest: prompts are long, and must not be kept. */
function nameOf({ url, body = '' }: AttemptKey, number: number): string {
  return `${number} ${url} ${hash('sha256', body)}`
}
