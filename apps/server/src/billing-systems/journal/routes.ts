import { once } from 'node:events'
import { Readable } from 'node:stream'
import type { JournalEntry } from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../../http/app.ts'
import { Problem, problemSchema } from '../../http/problem.ts'
import { findInvoiceDocument } from '../../invoicing/index.ts'
import { rangeParameters, readPeriod } from '../../reports/index.ts'
import { csvRow } from '../csv-row.ts'
import type { JsonObject } from '../json.ts'
import {
  NETSUITE_CSV_HEADER,
  netsuiteCsv,
  netsuiteJournalEntry,
  netsuiteSettingsSchema,
} from '../netsuite/journal-entry.ts'
import { quickbooksJournalEntry, quickbooksSettingsSchema } from '../quickbooks/journal-entry.ts'
import { findSettings } from '../settings-store.ts'
import { entryToJson, journalEntryJson } from './book.ts'
import { entriesOfInvoice, entriesOfPeriod } from './journal-store.ts'
import { journalAccounts } from './journal-system.ts'

export interface JournalRouteDependencies {
  readonly pool: Pool
  readonly now: () => Date
}

const TAGS = ['general ledger']
const CSV_HEADER = csvRow([
  'entry_id',
  'reference',
  'kind',
  'date',
  'customer_id',
  'currency',
  'account',
  'debit',
  'credit',
  'memo',
])
const csvText = z.string().describe('CSV, RFC 4180')

/** Registers invoices as entries of the general ledger, for those who import them by hand. */
export function registerJournalRoutes(app: App, { pool, now }: JournalRouteDependencies): void {
  app.get(
    '/api/v1/invoices/:id/journal',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'A finalized invoice as entries of the general ledger',
        description:
          'Its own entry, those of its credit notes, and that of its voiding. Accounts are those of the billing system `quickbooks`, `netsuite`, or else `journal`.',
        params: z.object({ id: z.string().max(64) }),
        querystring: z.strictObject({
          format: z.enum(['json', 'csv', 'quickbooks', 'netsuite', 'netsuite_csv']).default('json'),
        }),
        response: {
          200: z.union([
            z.object({
              entries: z
                .array(z.union([journalEntryJson, z.record(z.string(), z.unknown())]))
                .describe('Entries; or what is sent to QuickBooks or NetSuite, in their form.'),
            }),
            csvText,
          ]),
          404: problemSchema,
          409: problemSchema,
        },
      },
    },
    async ({ organizationId, params, query }, reply) => {
      const document = await findInvoiceDocument(pool, organizationId, params.id)
      if (document === undefined)
        throw new Problem({ code: 'not-found', detail: 'There is no such invoice.' })
      if (document.invoice.finalizedAt === null) {
        throw new Problem({
          code: 'conflict',
          detail: 'The invoice is not finalized: nothing is booked yet.',
        })
      }
      const { format } = query
      switch (format) {
        case 'json':
        case 'csv': {
          const accounts = journalAccounts(await settingsOf(pool, organizationId, 'journal'))
          const entries = await entriesOfInvoice(pool, document, accounts)
          if (format === 'json') return { entries: entries.map(entryToJson) }
          return reply.type('text/csv; charset=utf-8').send(CSV_HEADER + entries.map(entryCsv).join(''))
        }
        case 'quickbooks': {
          const settings = quickbooksSettingsSchema.parse(await needed(pool, organizationId, 'quickbooks'))
          const entries = await entriesOfInvoice(pool, document, settings.accounts)
          return {
            entries: entries.map((entry) => orConflict(quickbooksJournalEntry(entry, settings), 'customers')),
          }
        }
        case 'netsuite':
        case 'netsuite_csv': {
          const settings = netsuiteSettingsSchema.parse(await needed(pool, organizationId, 'netsuite'))
          const entries = await entriesOfInvoice(pool, document, settings.accounts)
          if (format === 'netsuite') {
            return {
              entries: entries.map((entry) =>
                orConflict(netsuiteJournalEntry(entry, settings), 'currencies'),
              ),
            }
          }
          const rows = entries.map((entry) => netsuiteCsv(entry, settings)).join('')
          return reply.type('text/csv; charset=utf-8').send(NETSUITE_CSV_HEADER + rows)
        }
      }
    },
  )

  app.get(
    '/api/v1/journal.csv',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'All entries of a period as CSV',
        description:
          'Invoices by when they were finalized, credit notes by when they were issued, voidings by when they happened.',
        querystring: z.strictObject({
          ...rangeParameters,
          format: z.enum(['csv', 'netsuite_csv']).default('csv'),
        }),
        produces: ['text/csv'],
        response: { 200: z.unknown().describe('CSV, RFC 4180') },
      },
    },
    async ({ organizationId, query }, reply) => {
      const { format, ...range } = query
      const period = { organizationId, ...readPeriod(range, now().getTime()) }
      let csv: AsyncGenerator<string>
      if (format === 'csv') {
        const accounts = journalAccounts(await settingsOf(pool, organizationId, 'journal'))
        csv = csvOf(CSV_HEADER, entriesOfPeriod(pool, period, accounts), entryCsv)
      } else {
        const settings = netsuiteSettingsSchema.parse(await needed(pool, organizationId, 'netsuite'))
        csv = csvOf(NETSUITE_CSV_HEADER, entriesOfPeriod(pool, period, settings.accounts), (entry) =>
          netsuiteCsv(entry, settings),
        )
      }
      const stream = Readable.from(csv)
      // What fails at the beginning can still be answered.
      await once(stream, 'readable')
      return reply.type('text/csv; charset=utf-8').send(stream)
    },
  )
}

async function* csvOf(
  header: string,
  entries: AsyncGenerator<JournalEntry>,
  rowsOf: (entry: JournalEntry) => string,
): AsyncGenerator<string> {
  yield header
  for await (const entry of entries) {
    const rows = rowsOf(entry)
    if (rows !== '') yield rows
  }
}

function entryCsv(entry: JournalEntry): string {
  return entry.lines
    .map(({ account, side, amount, memo }) =>
      csvRow([
        entry.id,
        entry.reference,
        entry.kind,
        entry.date,
        entry.customer,
        entry.currency,
        account,
        side === 'debit' ? amount : '',
        side === 'credit' ? amount : '',
        memo,
      ]),
    )
    .join('')
}

async function settingsOf(pool: Pool, organizationId: string, system: string): Promise<JsonObject | null> {
  return (await findSettings(pool, organizationId, system))?.settings ?? null
}

/** @throws Problem when the organization has set nothing for the system */
async function needed(pool: Pool, organizationId: string, system: string): Promise<JsonObject> {
  const settings = await settingsOf(pool, organizationId, system)
  if (settings !== null) return settings
  throw new Problem({
    code: 'conflict',
    detail: `${system} is not set up: its accounts are not known. PUT /api/v1/billing-systems/${system} does.`,
  })
}

function orConflict(payload: JsonObject | undefined, setting: string): JsonObject {
  if (payload !== undefined) return payload
  throw new Problem({
    code: 'conflict',
    detail: `The entry has no form: the setting ${setting} lacks an id.`,
  })
}
