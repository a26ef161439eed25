import {
  decimal,
  decimalText,
  divideToSignificant,
  type JournalAccounts,
  type JournalEntry,
  journalAccountsSchema,
} from '@tokentally/core'
import { z } from 'zod'
import { dryRunSetting } from '../dry-run.ts'
import type { JsonObject } from '../json.ts'
import { jsonNumber } from '../json-number.ts'

/**
 * Entries as QuickBooks Online takes them: `JournalEntry` of the Accounting API, minor version 75 (developer.intuit.com, read
 * 2026-11-24). Accounts are ids of its chart of accounts.
 */

export const quickbooksSettingsSchema = z.strictObject({
  realm_id: z.string().regex(/^\d{1,30}$/, 'must be the id of a company, in digits'),
  environment: z.enum(['production', 'sandbox']).default('production'),
  client_id: z.string().min(1).max(200).describe('Of the app that the company has connected.'),
  accounts: journalAccountsSchema,
  home_currency: z
    .string()
    .regex(/^[A-Z]{3}$/, 'must be an ISO 4217 code such as USD')
    .default('USD')
    .describe('Of the company. Entries in others need multicurrency to be on.'),
  customers: z
    .record(
      z.string().min(1).max(512),
      z.string().regex(/^\d{1,30}$/, 'must be the id of a customer, in digits'),
    )
    .default({})
    .describe('Ids of customers in QuickBooks by ours. A line of accounts receivable needs one.'),
  default_customer: z
    .string()
    .regex(/^\d{1,30}$/, 'must be the id of a customer, in digits')
    .optional()
    .describe('The id in QuickBooks of whom `customers` does not name.'),
  api_url: z
    .url({ protocol: /^https?$/ })
    .max(512)
    .optional()
    .describe('Another address than Intuit’s, such as that of a proxy.'),
  token_url: z
    .url({ protocol: /^https?$/ })
    .max(512)
    .optional(),
  dry_run: dryRunSetting,
})

export type QuickbooksSettings = z.output<typeof quickbooksSettingsSchema>

/** Limits of QuickBooks. */
const DOC_NUMBER_MAX = 21
const DESCRIPTION_MAX = 4000
const RATE_DIGITS = 12

export function quickbooksAccounts(settings: JsonObject): JournalAccounts {
  return quickbooksSettingsSchema.parse(settings).accounts
}

/** @returns undefined when the customer is not known in QuickBooks and a line needs it */
export function quickbooksJournalEntry(
  entry: JournalEntry,
  { customers, default_customer, home_currency }: QuickbooksSettings,
): JsonObject | undefined {
  const customer = customers[entry.customer] ?? default_customer
  if (customer === undefined && entry.lines.some(({ isReceivable }) => isReceivable)) return undefined
  return {
    DocNumber: entry.reference.slice(0, DOC_NUMBER_MAX),
    TxnDate: entry.date,
    PrivateNote: `${entry.memo}, ${entry.id}`.slice(0, DESCRIPTION_MAX),
    CurrencyRef: { value: entry.currency },
    ...exchangeRate(entry, home_currency),
    Line: entry.lines.map(({ account, side, amount, memo, isReceivable }, index) => ({
      Id: String(index),
      DetailType: 'JournalEntryLineDetail',
      Amount: jsonNumber(amount),
      Description: memo.slice(0, DESCRIPTION_MAX),
      JournalEntryLineDetail: {
        PostingType: side === 'debit' ? 'Debit' : 'Credit',
        AccountRef: { value: account },
        ...(isReceivable && customer !== undefined
          ? { Entity: { Type: 'Customer', EntityRef: { value: customer } } }
          : {}),
      },
    })),
  }
}

/** Units of the home currency for one of the entry's; where we do not know it, QuickBooks takes its own of that day. */
function exchangeRate({ currency, ratePerUsd }: JournalEntry, home: string): JsonObject {
  if (currency === home || home !== 'USD' || ratePerUsd === null) return {}
  const rate = divideToSignificant(decimal('1'), decimal(ratePerUsd), RATE_DIGITS)
  return { ExchangeRate: jsonNumber(decimalText(rate)) }
}
