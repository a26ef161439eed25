import { webhookHeaders } from '../http/signed-webhook.ts'
import type { Message } from './message.ts'

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
  return { headers: webhookHeaders({ id: `msg_${deliveryId}`, body, secret, at }), body }
}

export interface SignedWebhookOptions {
  readonly deliveryId: string
  readonly createdAt: Date
  readonly secret: string
  /** When this attempt is made. */
  readonly at: Date
}
