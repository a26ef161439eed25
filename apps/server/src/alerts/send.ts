import { retryAfterMs } from '@tokentally/core'
import { ForbiddenTarget, type GuardOptions, guardedRequest } from '../http/guarded-request.ts'
import { openSecret, SealBroken } from '../sealed-secret.ts'
import type { ChannelKind } from './channel.ts'
import type { StoredChannel } from './channel-store.ts'
import type { Delivery } from './delivery-store.ts'
import { emailMessage } from './email-message.ts'
import type { Mailer } from './mailer.ts'
import { slackMessage } from './slack-message.ts'
import { teamsMessage } from './teams-message.ts'
import { signedWebhook } from './webhook-message.ts'

/** Longest that a receiver may take; a claim lasts longer than this, whatever happens. */
export const SEND_TIMEOUT_MS = 10_000
const ERROR_MAX = 500

export interface SendDependencies {
  readonly secretKey: Buffer
  readonly guard: GuardOptions
  /** Absent: no SMTP server is configured. */
  readonly mailer: Mailer | undefined
}

/** How an attempt went. */
export type SendOutcome =
  | { readonly ok: true; readonly statusCode: number | null }
  | {
      readonly ok: false
      readonly statusCode: number | null
      /** For people who look at the delivery log. */
      readonly error: string
      /** Trying again cannot help. */
      readonly isFinal: boolean
      readonly retryAfterMs: number | undefined
    }

/** Sends a delivery once. Never throws: what goes wrong is the outcome. */
export async function sendDelivery(
  dependencies: SendDependencies,
  channel: StoredChannel,
  delivery: Pick<Delivery, 'id' | 'message' | 'createdAt'>,
  at: Date,
): Promise<SendOutcome> {
  try {
    const owner = [channel.organizationId, channel.id]
    const target = openSecret(dependencies.secretKey, owner, channel.sealedTarget)
    if (channel.kind === 'email') return await sendEmail(dependencies.mailer, target, delivery)
    const { headers, body } = requestOf(dependencies.secretKey, channel, delivery, at)
    const answer = await guardedRequest(
      {
        url: target,
        headers: { 'content-type': 'application/json', 'user-agent': 'TokenTally', ...headers },
        body,
        timeoutMs: SEND_TIMEOUT_MS,
      },
      dependencies.guard,
    )
    return outcomeOf(channel.kind, answer, at)
  } catch (error) {
    const isFinal = error instanceof ForbiddenTarget || error instanceof SealBroken
    return failure(error instanceof ForbiddenTarget ? `The target ${error.message}.` : textOf(error), {
      isFinal,
    })
  }
}

function requestOf(
  secretKey: Buffer,
  channel: StoredChannel,
  { id, message, createdAt }: Pick<Delivery, 'id' | 'message' | 'createdAt'>,
  at: Date,
): { readonly headers: Readonly<Record<string, string>>; readonly body: string } {
  if (channel.kind === 'slack') return { headers: {}, body: JSON.stringify(slackMessage(message)) }
  if (channel.kind === 'teams') return { headers: {}, body: JSON.stringify(teamsMessage(message)) }
  if (channel.sealedSecret === null) throw new SealBroken('The channel has no signing secret.')
  const secret = openSecret(secretKey, [channel.organizationId, channel.id, 'signing'], channel.sealedSecret)
  return signedWebhook(message, { deliveryId: id, createdAt, secret, at })
}

function outcomeOf(
  kind: ChannelKind,
  answer: { readonly status: number; readonly retryAfter: string | undefined; readonly text: string },
  at: Date,
): SendOutcome {
  const { status, text } = answer
  if (status >= 200 && status < 300) return { ok: true, statusCode: status }
  if (status >= 300 && status < 400) {
    return failure('The receiver answered with a redirect, which is not followed: name the final URL.', {
      statusCode: status,
      isFinal: true,
    })
  }
  const said = text.trim().slice(0, 200)
  return failure(`The receiver answered ${status}${said === '' ? '' : `: ${said}`}`, {
    statusCode: status,
    isFinal: isRefused(kind, status),
    retryAfterMs: retryAfterMs(answer.retryAfter, at.getTime()),
  })
}

/** Slack and Teams mean it when they refuse; another webhook may be in the middle of a deployment. */
function isRefused(kind: ChannelKind, status: number): boolean {
  if (status === 410) return true
  return kind !== 'webhook' && status >= 400 && status < 500 && ![408, 425, 429].includes(status)
}

async function sendEmail(
  mailer: Mailer | undefined,
  to: string,
  { id, message }: Pick<Delivery, 'id' | 'message'>,
): Promise<SendOutcome> {
  if (mailer === undefined) return failure('No SMTP server is configured (TOKENTALLY_SMTP_URL).', {})
  try {
    await mailer.send({ ...emailMessage(message), to, id })
    return { ok: true, statusCode: null }
  } catch (error) {
    // RFC 5321, 4.2.1: 4yz is for now, 5yz for good.
    const code =
      error instanceof Error && 'responseCode' in error && typeof error.responseCode === 'number'
        ? error.responseCode
        : null
    return failure(textOf(error), { statusCode: code, isFinal: code !== null && code >= 500 })
  }
}

function failure(
  error: string,
  rest: {
    readonly statusCode?: number | null
    readonly isFinal?: boolean
    readonly retryAfterMs?: number | undefined
  },
): SendOutcome {
  return {
    ok: false,
    // Text of a stranger: PostgreSQL takes no NUL.
    error: error.replaceAll('\0', '').toWellFormed().slice(0, ERROR_MAX),
    statusCode: rest.statusCode ?? null,
    isFinal: rest.isFinal ?? false,
    retryAfterMs: rest.retryAfterMs,
  }
}

function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const code = 'code' in error && typeof error.code === 'string' ? ` (${error.code})` : ''
  return `${error.message === '' ? 'The connection failed' : error.message}${code}`
}
