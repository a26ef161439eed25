import { styleText } from 'node:util'
import { formatInstant } from '@tokentally/core'
import type { CostDimension, CostGroup, CostSums } from '@tokentally/meter/local'
import { csvLine } from './csv.ts'
import type { Range } from './range.ts'
import { type Column, countText, printable, tableLines } from './table.ts'
import type { Terminal } from './terminal.ts'
import type { CostReport, UsageSource } from './usage-source.ts'

export const COST_FORMATS = ['table', 'csv', 'json'] as const
export type CostFormat = (typeof COST_FORMATS)[number]

export interface CostRequest extends Range {
  readonly provider: string | undefined
  readonly customer: string | undefined
  readonly by: CostDimension
  readonly timeZone: string
  readonly format: CostFormat
}

/** More rows are not read by anybody; CSV and JSON have all. */
const TABLE_ROWS_MAX = 50

/** Prints what calls cost at list price, in groups. */
export async function printCosts(
  source: UsageSource,
  request: CostRequest,
  terminal: Terminal,
): Promise<void> {
  const { format, ...query } = request
  const report = await source.costs(query)
  switch (format) {
    case 'table':
      terminal.stdout.write(asTable(source, request, report, terminal))
      return
    case 'csv':
      terminal.stdout.write(asCsv(request.by, report))
      return
    case 'json':
      terminal.stdout.write(`${JSON.stringify(asJson(request, report), null, 2)}\n`)
  }
}

function asTable(source: UsageSource, request: CostRequest, report: CostReport, terminal: Terminal): string {
  const range = `${instantText(request.startMs, request.timeZone)} to ${instantText(request.endMs, request.timeZone)}`
  const only = [
    ...(request.provider === undefined ? [] : [`of provider ${request.provider}`]),
    ...(request.customer === undefined ? [] : [`of customer ${request.customer}`]),
  ].join(' ')
  const { groups, totals } = report
  if (totals.requests === 0) {
    return `No calls${only && ` ${printable(only)}`} from ${range} in ${printable(source.name)}.\n`
  }
  const names = keyNames(request.by)
  const columns: Column[] = [
    ...names.map((name) => ({ title: name.toUpperCase(), alignment: 'left' as const })),
    { title: 'REQUESTS', alignment: 'right' },
    { title: 'INPUT', alignment: 'right' },
    { title: 'OUTPUT', alignment: 'right' },
    { title: 'COST USD', alignment: 'decimal' },
    ...(totals.unpricedRequests > 0 ? [{ title: 'UNPRICED', alignment: 'right' as const }] : []),
  ]
  const cells = (sums: CostSums) => [
    countText(sums.requests),
    countText(sums.inputTokens),
    countText(sums.outputTokens),
    isUnpriced(sums) ? 'unpriced' : sums.listCostUsd,
    ...(totals.unpricedRequests > 0 ? [countText(sums.unpricedRequests)] : []),
  ]
  const shown = groups.slice(0, TABLE_ROWS_MAX)
  const table = tableLines(
    columns,
    shown.map((group) => [...names.map((name) => group.keys[name] ?? '(none)'), ...cells(group)]),
    [...names.map((_, index) => (index === 0 ? 'total' : '')), ...cells(totals)],
  )
  const more = groups.length - shown.length
  const notes = [
    ...(more > 0 ? [`${countText(more)} further rows are in the total; --format csv shows all.`] : []),
    ...(totals.unpricedRequests > 0
      ? [
          `${countText(totals.unpricedRequests)} of ${countText(totals.requests)} requests have a meter without a known price: what is unpriced is not in the cost, and not free.`,
        ]
      : []),
  ]
  const bold = (text: string) =>
    isColourful(terminal) ? styleText('bold', text, { validateStream: false }) : text
  const lines = [
    `List price of calls${only && ` ${printable(only)}`} from ${range}, ${printable(source.name)}`,
    '',
    bold(table.title),
    ...table.rows,
    bold(table.totals),
    ...(notes.length > 0 ? ['', ...notes] : []),
  ]
  return `${lines.join('\n')}\n`
}

function asCsv(by: CostDimension, { groups }: CostReport): string {
  const names = keyNames(by)
  const header = csvLine([
    ...names,
    'requests',
    'input_tokens',
    'output_tokens',
    'list_cost_usd',
    'unpriced_requests',
  ])
  const lines = groups.map((group) =>
    csvLine([
      ...names.map((name) => group.keys[name]),
      group.requests,
      group.inputTokens,
      group.outputTokens,
      isUnpriced(group) ? undefined : group.listCostUsd,
      group.unpricedRequests,
    ]),
  )
  return header + lines.join('')
}

function asJson({ startMs, endMs, timeZone }: CostRequest, { groups, totals }: CostReport) {
  return {
    period: { start: formatInstant(startMs, timeZone), end: formatInstant(endMs, timeZone) },
    currency: 'USD',
    groups: groups.map((group: CostGroup) => ({ ...group.keys, ...sumsJson(group) })),
    totals: sumsJson(totals),
  }
}

function sumsJson(sums: CostSums) {
  return {
    requests: sums.requests,
    input_tokens: sums.inputTokens,
    output_tokens: sums.outputTokens,
    list_cost: isUnpriced(sums) ? null : sums.listCostUsd,
    unpriced_requests: sums.unpricedRequests,
  }
}

function keyNames(by: CostDimension): readonly string[] {
  return by === 'model' ? ['provider', 'model'] : [by]
}

/** Nothing of it has a price: a zero would be a lie. */
function isUnpriced(sums: CostSums): boolean {
  return sums.listCostUsd === '0' && sums.unpricedRequests > 0
}

function instantText(ms: number, timeZone: string): string {
  return formatInstant(Math.floor(ms / 1000) * 1000, timeZone)
}

function isColourful({ stdout, environment }: Terminal): boolean {
  return stdout.isTTY === true && !environment['NO_COLOR'] && environment['TERM'] !== 'dumb'
}
