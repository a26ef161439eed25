import type { RequestKey } from './exchange.ts'
import { RETRY_COUNT } from './tap.ts'

/**
 * What tells the attempts of a call apart, from the request's headers. SDKs made by Stainless number them from 0;
 * the AWS SDK numbers them from 1 (`amz-sdk-request: attempt=2; max=3`) and gives all of a call's the same
 * `amz-sdk-invocation-id`.
 */
export function requestKey(
  url: string,
  body: string | undefined,
  header: (name: string) => string | null,
): RequestKey {
  const invocation = header('amz-sdk-invocation-id')
  if (invocation === null) return { url, body, retryCount: header(RETRY_COUNT) }
  const attempt = /attempt=(\d+)/.exec(header('amz-sdk-request') ?? '')?.[1]
  return {
    url: `${url}#${invocation}`,
    body,
    retryCount: attempt === undefined ? null : String(Number(attempt) - 1),
  }
}
