import { createHash } from 'node:crypto'
import { retryAfterMs } from '@tokentally/core'
import { z } from 'zod'
import { type GuardOptions, guardedRequest } from '../../http/guarded-request.ts'
import { webhookHeaders } from '../../http/signed-webhook.ts'
import type { BillingSystem, PlannedStep, StepContext, StepOutcome } from '../billing-system.ts'
import { creditNoteDocumentToJson, invoiceDocumentToJson } from '../document-json.ts'
import { dryRunSetting } from '../dry-run.ts'
import type { JsonObject } from '../json.ts'
import { refused, retry, unanswered } from '../outcome.ts'

/**
 * Invoices and credit notes as signed webhooks, by Standard Webhooks (standardwebhooks.com): `invoice.finalized`,
 * `invoice.voided`, `credit_note.issued`. `webhook-id` stays the same on every attempt, so that a receiver that remembers it takes
 * each once.
 */

/** Longest that a receiver may take. */
const SEND_TIMEOUT_MS = 15_000

export const webhookSettingsSchema = z.strictObject({
  url: z
    .string()
    .max(2048)
    .refine((value) => {
      const url = URL.parse(value)
      return url !== null && ['https:', 'http:'].includes(url.protocol) && url.username === ''
    }, 'must be a URL that begins with https:// or http://, without a user name'),
  dry_run: dryRunSetting,
})

const payloadSchema = z.object({ type: z.string(), timestamp: z.string(), data: z.json() })

export function createWebhookSystem(guard: GuardOptions): BillingSystem {
  return {
    name: 'webhook',
    reach: 'every',
    settingsSchema: webhookSettingsSchema,
    secretNames: ['signing_secret'],
    invoiceSteps: (document) => [
      eventStep('invoice.finalized', document.invoice.finalizedAt, invoiceDocumentToJson(document)),
    ],
    creditNoteSteps: (note) => [
      eventStep('credit_note.issued', note.createdAt, creditNoteDocumentToJson(note)),
    ],
    voidSteps: (document) => [
      eventStep('invoice.voided', document.invoice.voidedAt, invoiceDocumentToJson(document)),
    ],
    perform: (step, context) => sendEvent(step, context, guard),
  }
}

function eventStep(type: string, at: Date | null, data: JsonObject): PlannedStep {
  return { action: `send:${type}`, payload: { type, timestamp: at?.toISOString() ?? '', data } }
}

async function sendEvent(
  { payload }: PlannedStep,
  context: StepContext,
  guard: GuardOptions,
): Promise<StepOutcome> {
  const { url } = webhookSettingsSchema.parse(context.settings)
  const secret = context.secrets['signing_secret']
  if (secret === undefined) return refused('The webhook has no signing_secret.')
  const { type, timestamp, data } = payloadSchema.parse(payload)
  // In this order, whatever the database made of the payload: every attempt sends the same bytes.
  const body = JSON.stringify({ type, timestamp, data })
  const id = `msg_${createHash('sha256').update(context.idempotencyKey).digest('hex').slice(0, 32)}`
  let headers: Readonly<Record<string, string>>
  try {
    headers = webhookHeaders({ id, body, secret, at: context.at })
  } catch {
    return refused('The signing_secret is none: it must be whsec_ and 24 to 64 bytes in base64.')
  }
  try {
    const answer = await guardedRequest(
      {
        url,
        headers: { 'content-type': 'application/json', 'user-agent': 'TokenTally', ...headers },
        body,
        timeoutMs: SEND_TIMEOUT_MS,
      },
      guard,
    )
    return outcomeOf(answer, id, context.at)
  } catch (error) {
    return unanswered(error)
  }
}

function outcomeOf(
  { status, retryAfter, text }: { status: number; retryAfter: string | undefined; text: string },
  id: string,
  at: Date,
): StepOutcome {
  if (status >= 200 && status < 300) return { kind: 'done', result: { message_id: id } }
  if (status >= 300 && status < 400) {
    return refused('The receiver answered with a redirect, which is not followed: name the final URL.')
  }
  const said = text.trim().slice(0, 200)
  const reason = `The receiver answered ${status}${said === '' ? '' : `: ${said}`}`
  // Others may be in the middle of a deployment.
  return status === 410 ? refused(reason) : retry(reason, retryAfterMs(retryAfter, at.getTime()))
}
