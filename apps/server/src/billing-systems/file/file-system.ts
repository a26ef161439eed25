import { join } from 'node:path'
import type { InvoiceDocument } from '@tokentally/core'
import { z } from 'zod'
import type { BillingSystem, CreditNoteDocument, PlannedStep, StepOutcome } from '../billing-system.ts'
import { csvRow } from '../csv-row.ts'
import { creditNoteDocumentToJson, invoiceDocumentToJson } from '../document-json.ts'
import { dryRunSetting } from '../dry-run.ts'
import type { JsonObject } from '../json.ts'
import { refused } from '../outcome.ts'
import { writeOnce } from './write-once.ts'

/**
 * Invoices and credit notes as files, for systems that read folders:
 * `<folder of the service>/<organization id>/<folder>/INV-2026-000001.json`. A file is written once and never changed; the voiding of an
 * invoice is a file of its own.
 */

export const fileSettingsSchema = z.strictObject({
  formats: z
    .array(z.enum(['json', 'csv']))
    .min(1)
    .refine((list) => new Set(list).size === list.length, 'must differ from each other')
    .default(['json', 'csv']),
  folder: z
    .string()
    .max(200)
    .regex(
      /^[\w-][\w.-]*(\/[\w-][\w.-]*)*$/,
      'must be the relative path of a folder such as outgoing/invoices',
    )
    .default('documents')
    .describe('Below the folder of the organization.'),
  dry_run: dryRunSetting,
})

const payloadSchema = z.object({
  name: z.string().regex(/^[\w-][\w.-]*$/),
  content: z.string(),
})

/** @param root the folder of the service that holds those of all organizations */
export function createFileSystem(root: string): BillingSystem {
  return {
    name: 'file',
    reach: 'every',
    settingsSchema: fileSettingsSchema,
    secretNames: [],
    invoiceSteps: (document, settings) =>
      filesOf(settings, numberOf(document), invoiceDocumentToJson(document), () => invoiceCsv(document)),
    creditNoteSteps: (note, settings) =>
      filesOf(settings, note.number, creditNoteDocumentToJson(note), () => creditNoteCsv(note)),
    voidSteps: (document, settings) =>
      filesOf(settings, `${numberOf(document)}-void`, invoiceDocumentToJson(document), () =>
        invoiceCsv(document),
      ),
    perform: (step, context) =>
      writeDocument(
        join(root, context.organizationId, fileSettingsSchema.parse(context.settings).folder),
        step,
      ),
  }
}

function filesOf(
  settings: JsonObject,
  name: string,
  json: JsonObject,
  csv: () => string,
): readonly PlannedStep[] {
  return fileSettingsSchema.parse(settings).formats.map((format) => ({
    action: `write:${format}`,
    payload: {
      name: `${name}.${format}`,
      content: format === 'json' ? `${JSON.stringify(json, undefined, 2)}\n` : csv(),
    },
  }))
}

async function writeDocument(folder: string, step: PlannedStep): Promise<StepOutcome> {
  const { name, content } = payloadSchema.parse(step.payload)
  const outcome = await writeOnce(join(folder, name), content)
  if (outcome === 'different')
    return refused(`The file ${name} is there with another content; it is left as it is.`)
  return { kind: 'done', result: { file: name } }
}

function numberOf({ invoice }: InvoiceDocument): string {
  if (invoice.number === null) throw new Error(`invoice ${invoice.id} has no number`)
  return invoice.number
}

function invoiceCsv({ invoice, lines }: InvoiceDocument): string {
  const header =
    'invoice_number,customer_id,line_no,kind,description,is_late,events,quantity,currency,amount\r\n'
  const rows = lines.map((line) =>
    csvRow([
      invoice.number ?? '',
      invoice.customer,
      String(line.lineNo),
      line.kind,
      line.description,
      String(line.isLate),
      String(line.events),
      line.quantity,
      invoice.currency,
      line.amount,
    ]),
  )
  return header + rows.join('')
}

function creditNoteCsv(note: CreditNoteDocument): string {
  const header = 'credit_note_number,invoice_number,customer_id,line_no,currency,amount\r\n'
  const { number, customer } = note.invoice.invoice
  const rows = note.lines.map(({ lineNo, amount }) =>
    csvRow([note.number, number ?? '', customer, String(lineNo), note.currency, amount]),
  )
  return header + rows.join('')
}
