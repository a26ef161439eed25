import { z } from 'zod'

const sums = z.object({
  requests: z.number(),
  unpriced_requests: z.number(),
  input_tokens: z.number(),
  output_tokens: z.number(),
  list_cost: z.string(),
  total_cost: z.string(),
})
const reportSchema = z.object({
  groups: z.array(sums.extend({ customer: z.string(), feature: z.string(), model: z.string() })),
  totals: sums,
})
export type DemoReport = z.infer<typeof reportSchema>

/** Where the report is read from. */
export function reportUrl(serviceUrl: string): string {
  return `${serviceUrl}/api/v1/costs/aggregate?group_by=customer,feature,model`
}

/** Reads the report of the last 30 days. */
export async function fetchReport(serviceUrl: string, apiKey: string): Promise<DemoReport> {
  const response = await fetch(reportUrl(serviceUrl), { headers: { authorization: `Bearer ${apiKey}` } })
  if (!response.ok) throw new Error(`the report answered ${response.status}: ${await response.text()}`)
  return reportSchema.parse(await response.json())
}

/** The report as a table for a terminal. Costs are shown as they came, to the last digit. */
export function reportTable(report: DemoReport): string {
  const rows = [
    ['Customer', 'Feature', 'Model', 'Calls', 'Input', 'Output', 'Cost in $', 'Sold for $'],
    ...report.groups.map((group) => [group.customer, group.feature, group.model, ...figures(group)]),
    ['Total', '', '', ...figures(report.totals)],
  ]
  const widths = [0, 1, 2, 3, 4, 5, 6, 7].map((column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  )
  const lines = rows.map((row) =>
    row
      .map((cell, column) =>
        column < 3 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  '),
  )
  const rule = '-'.repeat(lines[0]?.length ?? 0)
  return [lines[0], rule, ...lines.slice(1, -1), rule, lines.at(-1)].join('\n')
}

function figures(row: z.infer<typeof sums>): string[] {
  const { requests, input_tokens, output_tokens, list_cost, total_cost } = row
  return [String(requests), String(input_tokens), String(output_tokens), list_cost, total_cost]
}
