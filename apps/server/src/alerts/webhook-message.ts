import { randomBytes } from 'node:crypto'
import { Webhook } from 'standardwebhooks'
import type { Message } from './message.ts'

/** Bytes of a signing secret; the specification allows 24 to 64. */
const SECRET_BYTES = 32

/** Makes a secret in the form of Standard Webhooks (standardwebhooks.com). */
export function newWebhookSecret(): string {
  return `whsec_${randomBytes(SECRET_BYTES).toString('base64')}`
}

export interface SignedWebhook {
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/**
 * Signs a message by Standard Webhooks. The id is the delivery's and stays the same on every attempt: a receiver
 * that remembers it takes each delivery once.
 */
export function signedWebhook(
  message: Message,
  { deliveryId, createdAt, secret, at }: SignedWebhookOptions,
): SignedWebhook {
  const body = JSON.stringify({
    type: message.type,
    timestamp: createdAt.toISOString(),
    data: {
      title: message.title,
      summary: message.summary,
      facts: message.facts,
      also: message.also,
      link: message.link,
      alert: message.alert,
    },
  })
  const id = `msg_${deliveryId}`
  return {
    headers: {
      'webhook-id': id,
      'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
      'webhook-signature': new Webhook(secret).sign(id, at, body),
    },
    body,
  }
}

export interface SignedWebhookOptions {
  readonly deliveryId: string
  readonly createdAt: Date
  readonly secret: string
  /** When this attempt is made. */
  readonly at: Date
}
