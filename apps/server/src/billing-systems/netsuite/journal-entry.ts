import {
  decimal,
  decimalText,
  divideToSignificant,
  type JournalAccounts,
  type JournalEntry,
  journalAccountsSchema,
} from '@tokentally/core'
import { z } from 'zod'
import { csvRow } from '../csv-row.ts'
import { dryRunSetting } from '../dry-run.ts'
import type { JsonObject } from '../json.ts'
import { jsonNumber } from '../json-number.ts'

/**
 * Entries as NetSuite takes them: the record `journalEntry` of its REST web services (docs.oracle.com, "REST web services", read
 * 2026-11-24), and the rows of its CSV import. Accounts, currencies, customers and subsidiaries are internal ids.
 */

const internalId = z.string().regex(/^\d{1,20}$/, 'must be an internal id, in digits')
const currencyCode = z.string().regex(/^[A-Z]{3}$/, 'must be an ISO 4217 code such as USD')

export const netsuiteSettingsSchema = z.strictObject({
  account_id: z
    .string()
    .regex(
      /^[A-Za-z0-9]{1,30}([_-][A-Za-z0-9]{1,30})?$/,
      'must be an account id such as 1234567 or 1234567_SB1',
    ),
  client_id: z.string().min(1).max(200).describe('Of the integration record.'),
  certificate_id: z.string().min(1).max(200).describe('Of the mapping for client credentials.'),
  accounts: journalAccountsSchema,
  subsidiary: internalId.optional().describe('Needed where the account has several.'),
  home_currency: currencyCode.default('USD').describe('Of the subsidiary.'),
  currencies: z
    .partialRecord(currencyCode, internalId)
    .default({})
    .describe('Internal ids by code. Entries in another currency than `home_currency` need theirs.'),
  customers: z
    .record(z.string().min(1).max(512), internalId)
    .default({})
    .describe('Internal ids of customers by ours; named on lines of the receivables.'),
  csv_date_format: z.enum(['MM/DD/YYYY', 'DD/MM/YYYY', 'YYYY-MM-DD']).default('MM/DD/YYYY'),
  api_url: z
    .url({ protocol: /^https?$/ })
    .max(512)
    .optional()
    .describe('Another address than that of the account, such as that of a proxy.'),
  dry_run: dryRunSetting,
})

export type NetsuiteSettings = z.output<typeof netsuiteSettingsSchema>

/** Limits of NetSuite. */
const MEMO_MAX = 999
const RATE_DIGITS = 12

export function netsuiteAccounts(settings: JsonObject): JournalAccounts {
  return netsuiteSettingsSchema.parse(settings).accounts
}

/** Names the entry in NetSuite, where an external id is unique among journal entries. */
export function netsuiteExternalId({ id }: Pick<JournalEntry, 'id'>): string {
  return `tokentally-${id.replaceAll(/[^\w-]/g, '-')}`
}

/** @returns undefined when the id of the entry's currency is not set */
export function netsuiteJournalEntry(
  entry: JournalEntry,
  settings: NetsuiteSettings,
): JsonObject | undefined {
  const { subsidiary, home_currency: home, currencies, customers } = settings
  const currency = currencies[entry.currency]
  if (currency === undefined && entry.currency !== home) return undefined
  const customer = customers[entry.customer]
  const rate = exchangeRate(entry, home)
  return {
    externalId: netsuiteExternalId(entry),
    tranDate: entry.date,
    memo: `${entry.memo}, ${entry.id}`.slice(0, MEMO_MAX),
    ...(subsidiary === undefined ? {} : { subsidiary: { id: subsidiary } }),
    ...(currency === undefined ? {} : { currency: { id: currency } }),
    ...(rate === undefined ? {} : { exchangeRate: jsonNumber(rate) }),
    line: {
      items: entry.lines.map(({ account, side, amount, memo, isReceivable }) => ({
        account: { id: account },
        [side]: jsonNumber(amount),
        memo: memo.slice(0, MEMO_MAX),
        ...(isReceivable && customer !== undefined ? { entity: { id: customer } } : {}),
      })),
    },
  }
}

export const NETSUITE_CSV_HEADER = csvRow([
  'External ID',
  'Date',
  'Subsidiary',
  'Currency',
  'Exchange Rate',
  'Memo',
  'Account',
  'Debit',
  'Credit',
  'Line Memo',
  'Name',
])

/** Rows of NetSuite's import "Journal Entry, single file": the rows of an entry share its external id. */
export function netsuiteCsv(entry: JournalEntry, settings: NetsuiteSettings): string {
  const { subsidiary = '', home_currency: home, customers, csv_date_format: format } = settings
  const [year = '', month = '', day = ''] = entry.date.split('-')
  const date = format.replace('YYYY', year).replace('MM', month).replace('DD', day)
  return entry.lines
    .map(({ account, side, amount, memo, isReceivable }) =>
      csvRow([
        netsuiteExternalId(entry),
        date,
        subsidiary,
        entry.currency,
        exchangeRate(entry, home) ?? '',
        entry.memo,
        account,
        side === 'debit' ? amount : '',
        side === 'credit' ? amount : '',
        memo,
        isReceivable ? (customers[entry.customer] ?? '') : '',
      ]),
    )
    .join('')
}

/** Units of the home currency for one of the entry's; where we do not know it, NetSuite takes its own of that day. */
function exchangeRate({ currency, ratePerUsd }: JournalEntry, home: string): string | undefined {
  if (currency === home || home !== 'USD' || ratePerUsd === null) return undefined
  return decimalText(divideToSignificant(decimal('1'), decimal(ratePerUsd), RATE_DIGITS))
}
