import { z } from 'zod'
import { type GuardedAnswer, type GuardOptions, guardedRequest } from '../../http/guarded-request.ts'
import type { BillingSystem, PlannedStep, StepOutcome } from '../billing-system.ts'
import { bookingSteps, entryOfJson } from '../journal/book.ts'
import { type JsonObject, jsonObject } from '../json.ts'
import { jsonOf } from '../json-text.ts'
import { failedWith, refused, unanswered } from '../outcome.ts'
import { type NetsuiteClient, NetsuiteTokens, NotAllowed } from './access-token.ts'
import { UnusableKey } from './client-assertion.ts'
import {
  type NetsuiteSettings,
  netsuiteAccounts,
  netsuiteExternalId,
  netsuiteJournalEntry,
  netsuiteSettingsSchema,
} from './journal-entry.ts'

/**
 * Invoices as journal entries of NetSuite. The entry is put under its external id, its lines in place of those that are there: a
 * repeat finds the entry and leaves it as it was.
 */

const RECORD_PATH = '/services/rest/record/v1/journalEntry'
const CALL_TIMEOUT_MS = 20_000

const problemSchema = z.object({
  'o:errorDetails': z.array(z.object({ detail: z.string(), 'o:errorCode': z.string().default('') })),
})

export function createNetsuiteSystem(guard: GuardOptions): BillingSystem {
  const tokens = new NetsuiteTokens(guard)
  return {
    name: 'netsuite',
    reach: 'every',
    settingsSchema: netsuiteSettingsSchema.transform((value): JsonObject => jsonObject.parse(value)),
    secretNames: ['private_key'],
    ...bookingSteps(netsuiteAccounts),
    async perform(step, { secrets, settings: given, at }) {
      const privateKey = secrets['private_key']
      if (privateKey === undefined) return refused('The settings of NetSuite have no private_key.')
      const settings = netsuiteSettingsSchema.parse(given)
      const client: NetsuiteClient = {
        baseUrl: baseUrl(settings),
        clientId: settings.client_id,
        certificateId: settings.certificate_id,
        privateKey,
        at,
      }
      try {
        return await put(step, { settings, client, tokens, guard })
      } catch (error) {
        if (error instanceof UnusableKey || error instanceof NotAllowed) return refused(error.message)
        return unanswered(error)
      }
    },
  }
}

interface Putting {
  readonly settings: NetsuiteSettings
  readonly client: NetsuiteClient
  readonly tokens: NetsuiteTokens
  readonly guard: GuardOptions
}

async function put(step: PlannedStep, putting: Putting): Promise<StepOutcome> {
  const { settings, client, tokens } = putting
  const entry = entryOfJson(step.payload)
  const record = netsuiteJournalEntry(entry, settings)
  if (record === undefined) {
    return refused(
      `The settings of NetSuite name no id for the currency ${entry.currency}: add it to currencies.`,
    )
  }
  const externalId = netsuiteExternalId(entry)
  let answer = await send(externalId, record, putting)
  if (answer.status === 401) {
    // Ended before its time; one that is new decides.
    tokens.forget(client)
    answer = await send(externalId, record, putting)
  }
  const { status, headers, retryAfter, text } = answer
  if (status >= 200 && status < 300) {
    const id = /\/(\d+)$/.exec(headers.location ?? '')?.[1] ?? null
    return { kind: 'done', result: { external_id: externalId, journal_entry_id: id } }
  }
  const details = problemSchema.safeParse(jsonOf(text)).data?.['o:errorDetails'] ?? []
  const said = details.map((one) => `${one.detail} (${one['o:errorCode']})`).join('; ')
  return failedWith({ status, retryAfter }, said === '' ? text.slice(0, 200) : said, client.at)
}

async function send(
  externalId: string,
  record: JsonObject,
  { client, tokens, guard }: Putting,
): Promise<GuardedAnswer> {
  // Without "replace", the lines of a repeat would be added to those that are there.
  const url = new URL(`${RECORD_PATH}/eid:${externalId}?replace=line`, client.baseUrl)
  return guardedRequest(
    {
      method: 'PUT',
      url: url.href,
      headers: {
        authorization: `Bearer ${await tokens.get(client)}`,
        'content-type': 'application/json',
        accept: 'application/json',
        'user-agent': 'TokenTally',
      },
      body: JSON.stringify(record),
      timeoutMs: CALL_TIMEOUT_MS,
    },
    guard,
  )
}

function baseUrl({ account_id, api_url }: NetsuiteSettings): string {
  return api_url ?? `https://${account_id.toLowerCase().replace('_', '-')}.suitetalk.api.netsuite.com`
}
