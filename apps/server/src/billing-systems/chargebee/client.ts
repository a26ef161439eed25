import Chargebee from 'chargebee'
import { type GuardOptions, guardedRequest } from '../../http/guarded-request.ts'

/** Longest that one call may take; a step makes at most four, within `PERFORM_MAX_MS`. */
const CALL_TIMEOUT_MS = 14_000
/** An invoice comes back with all its lines, a list with up to a hundred invoices. */
const ANSWER_MAX_BYTES = 8 * 1024 * 1024

export interface ChargebeeAccount {
  readonly site: string
  readonly apiKey: string
  /** Another address than that of the site: `https://host:port`. */
  readonly apiUrl: string | undefined
}

/**
 * Chargebee's own client, whose requests go through our guard: with one limit of time for the whole answer, and to no address that
 * is not public.
 */
export function chargebeeClient({ site, apiKey, apiUrl }: ChargebeeAccount, guard: GuardOptions): Chargebee {
  return new Chargebee({
    site,
    apiKey,
    sdkTelemetryEnabled: false,
    httpClient: {
      async makeApiRequest(request) {
        const url = new URL(request.url)
        const answer = await guardedRequest(
          {
            method: request.method === 'GET' ? 'GET' : 'POST',
            url: apiUrl === undefined ? url.href : new URL(url.pathname + url.search, apiUrl).href,
            headers: Object.fromEntries(request.headers),
            body: await request.text(),
            timeoutMs: CALL_TIMEOUT_MS,
            answerMaxBytes: ANSWER_MAX_BYTES,
          },
          guard,
        )
        const headers = new Headers()
        for (const [name, value] of Object.entries(answer.headers)) {
          if (typeof value === 'string') headers.set(name, value)
        }
        return new Response(answer.status === 204 ? null : answer.text, { status: answer.status, headers })
      },
    },
  })
}
