import { DEFAULT_JOURNAL_ACCOUNTS, type JournalAccounts, journalAccountsSchema } from '@tokentally/core'
import { z } from 'zod'
import type { BillingSystem } from '../billing-system.ts'
import { type JsonObject, jsonObject } from '../json.ts'
import { refused } from '../outcome.ts'

/** The accounts of those who import entries by hand. Nothing is sent. */

const journalSettingsSchema = z.strictObject({ accounts: journalAccountsSchema })

/** @param settings null: the organization has set none */
export function journalAccounts(settings: JsonObject | null): JournalAccounts {
  return settings === null ? DEFAULT_JOURNAL_ACCOUNTS : journalSettingsSchema.parse(settings).accounts
}

export function createJournalSystem(): BillingSystem {
  return {
    name: 'journal',
    reach: 'every',
    settingsSchema: journalSettingsSchema.transform((value): JsonObject => jsonObject.parse(value)),
    secretNames: [],
    invoiceSteps: () => [],
    creditNoteSteps: () => [],
    voidSteps: () => [],
    perform: async () => refused('The journal is not sent anywhere.'),
  }
}
