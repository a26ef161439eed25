import { z } from 'zod'
import { isTimeZone } from '../calendar/time-zone.ts'
import { comparablePattern, fitsPattern } from '../markup/model-pattern.ts'
import { comparableModel } from '../pricing/model-match.ts'
import type { InvoiceLine } from './invoice.ts'

/** Which accounts of the general ledger invoices are booked to. Accounts are named as the books name them. */

const account = z.string().trim().min(1).max(100)

const revenueRule = z
  .strictObject({
    account,
    feature: z.string().min(1).max(512).optional(),
    provider: z.string().min(1).max(512).optional(),
    project: z.string().min(1).max(512).optional(),
    model: z.string().min(1).max(512).optional().describe('A model, or a pattern such as `gpt-4o*`.'),
  })
  .refine(
    ({ account: _, ...conditions }) => Object.values(conditions).some((value) => value !== undefined),
    'must name a feature, a provider, a project or a model; account `revenue` takes what no rule fits',
  )

export const journalAccountsSchema = z.strictObject({
  receivable: account.describe('What customers owe: accounts receivable.'),
  receivable_by_currency: z
    .partialRecord(z.string().regex(/^[A-Z]{3}$/, 'must be an ISO 4217 code such as EUR'), account)
    .default({})
    .describe('Where the books have one account of receivables for each currency.'),
  revenue: account.describe('Revenue that no rule of `revenue_rules` fits.'),
  revenue_rules: z
    .array(revenueRule)
    .max(200)
    .default([])
    .describe(
      'The first rule that fits a usage line decides. A line knows only what the profile’s `lines_by` tells apart.',
    ),
  discounts: account.optional().describe('Contra revenue: allowances and discounts. Default: `revenue`.'),
  minimum: account.optional().describe('What was missing to the minimum. Default: `revenue`.'),
  carried: account
    .optional()
    .describe('What a negative invoice hands on to the next one, a liability. Default: the receivables.'),
  cost_of_revenue: z
    .strictObject({
      expense: account.describe('Debited with what the vendors charge for the usage, at list prices.'),
      accrued: account.describe('Credited: owed to vendors, not invoiced yet.'),
    })
    .optional(),
  detail: z
    .enum(['line', 'account'])
    .default('line')
    .describe('`line`: one journal line for each invoice line; `account`: one for each account and side.'),
  timezone: z
    .string()
    .max(64)
    .refine(
      (name) => /^[A-Za-z]/.test(name) && isTimeZone(name),
      'is no IANA time zone, such as Europe/Paris',
    )
    .default('UTC')
    .describe('Decides on which day an entry is booked.'),
})

export type JournalAccounts = z.output<typeof journalAccountsSchema>

/** Accounts for those who have not set any: their names say what they are. */
export const DEFAULT_JOURNAL_ACCOUNTS: JournalAccounts = journalAccountsSchema.parse({
  receivable: 'Accounts receivable',
  revenue: 'Revenue',
  discounts: 'Discounts',
  carried: 'Customer credits',
})

/** The account of what customers owe in a currency. */
export function receivableAccount(accounts: JournalAccounts, currency: string): string {
  return accounts.receivable_by_currency[currency] ?? accounts.receivable
}

/** The account that faces the receivables for a line. Every line has one. */
export function accountOfLine(
  { kind, keys }: Pick<InvoiceLine, 'kind' | 'keys'>,
  accounts: JournalAccounts,
  currency: string,
): string {
  switch (kind) {
    case 'usage':
      return accounts.revenue_rules.find((rule) => fits(rule, keys))?.account ?? accounts.revenue
    case 'allowance':
    case 'discount':
      return accounts.discounts ?? accounts.revenue
    case 'minimum':
      return accounts.minimum ?? accounts.revenue
    case 'carried_in':
    case 'carried_out':
      return accounts.carried ?? receivableAccount(accounts, currency)
  }
}

function fits(rule: JournalAccounts['revenue_rules'][number], keys: InvoiceLine['keys']): boolean {
  const { feature, provider, project, model } = rule
  if (feature !== undefined && keys.feature !== feature) return false
  if (provider !== undefined && keys.provider !== provider) return false
  if (project !== undefined && keys.project !== project) return false
  if (model === undefined) return true
  const name = keys.model ?? undefined
  return name !== undefined && fitsPattern(comparablePattern(model), comparableModel(name))
}
