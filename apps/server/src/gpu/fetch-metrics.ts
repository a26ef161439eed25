import { collectBytes } from '../http/collect-bytes.ts'

/** Why metrics could not be had. */
export type ScrapeFailure =
  /** No connection, or a broken one. */
  | 'unreachable'
  | 'timeout'
  /** Another status than 200; a redirect too: it is not followed, so that a target can send us nowhere else. */
  | 'status'
  | 'too_large'
  /** Not the text format of Prometheus. */
  | 'unreadable'
  /** None of the metrics that are looked for. */
  | 'empty'

/** Metrics could not be had. */
export class ScrapeError extends Error {
  override readonly name = 'ScrapeError'
  readonly reason: ScrapeFailure

  constructor(reason: ScrapeFailure, message: string, options?: ErrorOptions) {
    super(message, options)
    this.reason = reason
  }
}

export interface FetchLimits {
  /** Until the last byte. */
  readonly timeoutMs: number
  readonly bytesMax: number
}

/**
 * Gets the text behind a metrics URL.
 *
 * @throws ScrapeError
 */
export async function fetchMetrics(url: string, { timeoutMs, bytesMax }: FetchLimits): Promise<string> {
  const signal = AbortSignal.timeout(timeoutMs)
  try {
    const response = await fetch(url, {
      redirect: 'manual',
      signal,
      headers: {
        accept: 'text/plain;version=0.0.4',
        // Compressed, ten megabytes could become any number.
        'accept-encoding': 'identity',
      },
    })
    if (response.status !== 200) {
      await response.body?.cancel()
      throw new ScrapeError('status', `answered ${response.status}`)
    }
    const tooLarge = () => new ScrapeError('too_large', `answered more than ${bytesMax} bytes`)
    return (await collectBytes(response.body ?? [], bytesMax, tooLarge)).toString('utf8')
  } catch (error) {
    if (error instanceof ScrapeError) throw error
    if (signal.aborted) {
      throw new ScrapeError('timeout', `did not answer within ${timeoutMs} ms`, { cause: error })
    }
    throw new ScrapeError('unreachable', 'could not be reached', { cause: error })
  }
}
