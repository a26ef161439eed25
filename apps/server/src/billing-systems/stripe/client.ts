import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import Stripe from 'stripe'

/** Of one call; the outbox gives a step a minute. */
const TIMEOUT_MS = 20_000

export interface StripeClientOptions {
  /** Where Stripe answers, such as `http://127.0.0.1:12111`; undefined: at api.stripe.com. */
  readonly url: string | undefined
  readonly timeoutMs?: number
}

/** Makes clients for the keys of organizations; they share their connections. */
export function createStripeClients({
  url,
  timeoutMs = TIMEOUT_MS,
}: StripeClientOptions): (apiKey: string) => Stripe {
  const target = url === undefined ? undefined : new URL(url)
  const isPlain = target?.protocol === 'http:'
  const httpAgent = isPlain ? new HttpAgent({ keepAlive: true }) : new HttpsAgent({ keepAlive: true })
  return (apiKey) =>
    new Stripe(apiKey, {
      // The version that the installed library was made for, whatever the account's default is.
      apiVersion: Stripe.API_VERSION,
      // The outbox tries again, with the same key.
      maxNetworkRetries: 0,
      timeout: timeoutMs,
      telemetry: false,
      httpAgent,
      ...(target !== undefined && {
        host: target.hostname,
        protocol: isPlain ? 'http' : 'https',
        port: target.port === '' ? (isPlain ? 80 : 443) : Number(target.port),
      }),
    })
}
