import { createReadStream } from 'node:fs'
import { access } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { z } from 'zod'
import { askService, type ServiceAddress, ServiceError, sendFile } from './service-request.ts'
import { tableLines } from './table.ts'
import type { Terminal } from './terminal.ts'
import { WrongFile } from './wrong-file.ts'

const importSchema = z.object({
  source: z.string(),
  vendor: z.string(),
  days: z.array(z.string()).min(1),
  repeated: z.boolean(),
})

const comparison = z.object({
  vendor_quantity: z.string().nullable(),
  ledger_quantity: z.string(),
  vendor_cost: z.string().nullable(),
  ledger_cost: z.string(),
  causes: z.array(z.object({ cause: z.string() })),
})
const reportSchema = z.object({
  vendors: z.array(
    z.object({
      coverage: z.object({ tokens_percent: z.string().nullable(), cost_percent: z.string().nullable() }),
      totals: comparison,
      rows: z.array(comparison.extend({ model: z.string().nullable(), meter: z.string().nullable() })),
    }),
  ),
})

export interface ReconcileRequest {
  readonly path: string
  /** Undefined: told by the file itself. */
  readonly source: string | undefined
  readonly part: string | undefined
}

const COLUMNS = [
  { title: 'MODEL', alignment: 'left' },
  { title: 'METER', alignment: 'left' },
  { title: 'VENDOR', alignment: 'decimal' },
  { title: 'METERED', alignment: 'decimal' },
  { title: 'VENDOR USD', alignment: 'decimal' },
  { title: 'LIST USD', alignment: 'decimal' },
  { title: 'CAUSES', alignment: 'left' },
] as const
const DAY_MS = 24 * 3_600_000
/** As many days as a report may have. */
const DAYS_MAX = 92

/**
 * Sends a vendor's file to a service and shows it beside the ledger, by model and meter.
 *
 * @throws WrongFile when the service cannot read it
 * @throws ServiceError when the service does not answer, or refuses
 */
export async function reconcileFile(
  { path, source, part }: ReconcileRequest,
  service: ServiceAddress,
  terminal: Terminal,
): Promise<void> {
  await access(path)
  const query = new URLSearchParams({
    ...(source !== undefined && { source }),
    ...(part !== undefined && { part }),
  })
  const file = Readable.toWeb(createReadStream(path))
  const sent = await sendFile(service, `/api/v1/reconciliation/imports?${query}`, file)
  if (!sent.ok) {
    const { problem } = sent
    const issues = (problem.errors ?? []).map((issue) => `${issue.path}: ${issue.message}`)
    const reason = [problem.detail ?? problem.title ?? `answered ${sent.status}`, ...issues].join('\n  ')
    throw sent.status === 400 ? new WrongFile(`${path}: ${reason}`) : new ServiceError(reason)
  }
  const { vendor, days, ...imported } = importSchema.parse(sent.json)
  const [first = ''] = days
  const endMs = Date.parse(days.at(-1) ?? first) + DAY_MS
  const startMs = Math.max(Date.parse(first), endMs - DAYS_MAX * DAY_MS)
  const range = new URLSearchParams({
    vendor,
    start: new Date(startMs).toISOString().slice(0, 10),
    end: new Date(endMs).toISOString().slice(0, 10),
    group_by: 'model,meter',
  })
  const answer = await askService(service, `/api/v1/reconciliation?${range}`)
  if (!answer.ok) throw new ServiceError(answer.problem.detail ?? `answered ${answer.status}`)
  const [report] = reportSchema.parse(answer.json).vendors
  if (report === undefined) throw new ServiceError('the service has no figures of these days')
  const table = tableLines(
    COLUMNS,
    report.rows.map((row) => [row.model ?? '', row.meter ?? '', ...cellsOf(row)]),
    ['total', '', ...cellsOf(report.totals)],
  )
  const { tokens_percent: tokens, cost_percent: cost } = report.coverage
  terminal.stdout.write(
    [
      `${imported.source}, ${range.get('start')} to ${days.at(-1)}${imported.repeated ? ' (was there already)' : ''}`,
      table.title,
      ...table.rows,
      table.totals,
      `metered: ${tokens ?? '-'} % of tokens, ${cost ?? '-'} % of costs`,
      '',
    ].join('\n'),
  )
}

function cellsOf(row: z.infer<typeof comparison>): readonly string[] {
  return [
    row.vendor_quantity ?? '-',
    row.ledger_quantity,
    row.vendor_cost ?? '-',
    row.ledger_cost,
    row.causes.map(({ cause }) => cause).join(', '),
  ]
}
