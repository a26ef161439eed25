import { randomBytes } from 'node:crypto'
import { Webhook } from 'standardwebhooks'

/** Bytes of a signing secret; the specification allows 24 to 64. */
const SECRET_BYTES = 32

/** Makes a secret in the form of Standard Webhooks (standardwebhooks.com). */
export function newWebhookSecret(): string {
  return `whsec_${randomBytes(SECRET_BYTES).toString('base64')}`
}

export interface WebhookSigning {
  /** Stays the same on every attempt: a receiver that remembers it takes each message once. */
  readonly id: string
  readonly body: string
  readonly secret: string
  /** When this attempt is made. */
  readonly at: Date
}

/** The headers that sign a body by Standard Webhooks. */
export function webhookHeaders({ id, body, secret, at }: WebhookSigning): Readonly<Record<string, string>> {
  return {
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
    'webhook-signature': new Webhook(secret).sign(id, at, body),
  }
}
