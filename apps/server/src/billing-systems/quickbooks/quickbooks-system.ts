import { createHash } from 'node:crypto'
import { z } from 'zod'
import { type GuardedAnswer, type GuardOptions, guardedRequest } from '../../http/guarded-request.ts'
import type { BillingSystem, PlannedStep, StepContext, StepOutcome } from '../billing-system.ts'
import { bookingSteps, entryOfJson } from '../journal/book.ts'
import { type JsonObject, jsonObject } from '../json.ts'
import { jsonOf } from '../json-text.ts'
import type { KeepSecret } from '../keep-secret.ts'
import { failedWith, refused, unanswered } from '../outcome.ts'
import { AccessTokens, NotConnected, type TokenRequest } from './access-tokens.ts'
import {
  type QuickbooksSettings,
  quickbooksAccounts,
  quickbooksJournalEntry,
  quickbooksSettingsSchema,
} from './journal-entry.ts'

/**
 * Invoices as journal entries of QuickBooks Online. `requestid` makes a repeat harmless: QuickBooks answers it as it did the first
 * time, without a second entry.
 */

const API_URLS = {
  production: 'https://quickbooks.api.intuit.com',
  sandbox: 'https://sandbox-quickbooks.api.intuit.com',
} as const
const MINOR_VERSION = '75'
const CALL_TIMEOUT_MS = 20_000
/** An entry comes back with all its lines. */
const ANSWER_MAX_BYTES = 8 * 1024 * 1024

const createdSchema = z.object({ JournalEntry: z.object({ Id: z.string() }) })
const faultSchema = z.object({
  Fault: z.object({
    Error: z.array(
      z.object({ Message: z.string(), Detail: z.string().default(''), code: z.string().default('') }),
    ),
  }),
})

export function createQuickbooksSystem(guard: GuardOptions, keepSecret: KeepSecret): BillingSystem {
  const tokens = new AccessTokens(guard)
  return {
    name: 'quickbooks',
    reach: 'every',
    settingsSchema: quickbooksSettingsSchema.transform((value): JsonObject => jsonObject.parse(value)),
    secretNames: ['client_secret', 'refresh_token'],
    ...bookingSteps(quickbooksAccounts),
    async perform(step, context) {
      const { client_secret: clientSecret, refresh_token: refreshToken } = context.secrets
      if (clientSecret === undefined || refreshToken === undefined) {
        return refused('The settings of QuickBooks have no client_secret or no refresh_token.')
      }
      const settings = quickbooksSettingsSchema.parse(context.settings)
      const request: TokenRequest = {
        tokenUrl: settings.token_url,
        clientId: settings.client_id,
        clientSecret,
        refreshToken,
        at: context.at,
        keepRefreshToken: (value) =>
          keepSecret({
            organizationId: context.organizationId,
            system: 'quickbooks',
            name: 'refresh_token',
            before: refreshToken,
            value,
          }),
      }
      try {
        return await post(step, { context, settings, request, tokens, guard })
      } catch (error) {
        return error instanceof NotConnected ? refused(error.message) : unanswered(error)
      }
    },
  }
}

interface Posting {
  readonly context: StepContext
  readonly settings: QuickbooksSettings
  readonly request: TokenRequest
  readonly tokens: AccessTokens
  readonly guard: GuardOptions
}

async function post(step: PlannedStep, posting: Posting): Promise<StepOutcome> {
  const { context, settings, request, tokens } = posting
  const entry = entryOfJson(step.payload)
  const body = quickbooksJournalEntry(entry, settings)
  if (body === undefined) {
    return refused(`The settings of QuickBooks name no customer for ${entry.customer}: add it to customers.`)
  }
  let answer = await send(JSON.stringify(body), await tokens.get(request), posting)
  if (answer.status === 401) {
    // Ended before its time; one that is new decides.
    tokens.forget(request)
    answer = await send(JSON.stringify(body), await tokens.get(request), posting)
  }
  return outcomeOf(answer, context.at)
}

function send(
  body: string,
  accessToken: string,
  { context, settings, guard }: Posting,
): Promise<GuardedAnswer> {
  const url = new URL(
    `/v3/company/${settings.realm_id}/journalentry`,
    settings.api_url ?? API_URLS[settings.environment],
  )
  url.searchParams.set('minorversion', MINOR_VERSION)
  url.searchParams.set('requestid', requestId(context.idempotencyKey))
  return guardedRequest(
    {
      url: url.href,
      headers: {
        authorization: `Bearer ${accessToken}`,
        accept: 'application/json',
        'content-type': 'application/json',
        'user-agent': 'TokenTally',
      },
      body,
      timeoutMs: CALL_TIMEOUT_MS,
      answerMaxBytes: ANSWER_MAX_BYTES,
    },
    guard,
  )
}

function outcomeOf(answer: GuardedAnswer, at: Date): StepOutcome {
  const json = jsonOf(answer.text)
  if (answer.status === 200) {
    const created = createdSchema.safeParse(json)
    if (created.success) return { kind: 'done', result: { journal_entry_id: created.data.JournalEntry.Id } }
  }
  const errors = faultSchema.safeParse(json).data?.Fault.Error ?? []
  const said = errors
    .map(({ code, Message, Detail }) => `${Message} (${code})${Detail === '' ? '' : `, ${Detail}`}`)
    .join('; ')
  // 200 with a fault is possible in principle, and no success.
  const status = answer.status === 200 ? 400 : answer.status
  return failedWith(
    { status, retryAfter: answer.retryAfter },
    said === '' ? answer.text.slice(0, 200) : said,
    at,
  )
}

/** QuickBooks takes at most 50 characters. */
function requestId(idempotencyKey: string): string {
  return createHash('sha256').update(idempotencyKey).digest('hex').slice(0, 48)
}
