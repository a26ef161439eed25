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
