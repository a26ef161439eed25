import { decimal } from '@tokentally/core'
import { z } from 'zod'

const sums = z.object({
  requests: z.number(),
  unpriced_requests: z.number(),
  input_tokens: z.number(),
  output_tokens: z.number(),
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
    ['Customer', 'Feature', 'Model', 'Calls', 'Input', 'Output', 'Cost in $'],
    ...report.groups.map((group) => [group.customer, group.feature, group.model, ...figures(group)]),
    ['Total', '', '', ...figures(report.totals)],
  ]
  const widths = [0, 1, 2, 3, 4, 5, 6].map((column) =>
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
  return [String(row.requests), String(row.input_tokens), String(row.output_tokens), row.total_cost]
}

const BUDGET_USD = '0.05'
const ALERT_SHARES = ['100', '75', '50']

/** The demo's own check of its report: which customers passed a share of a budget made up for the demo. */
export function budgetAlerts(report: DemoReport): readonly string[] {
  const customers = new Map<string, ReturnType<typeof decimal>>()
  for (const group of report.groups) {
    const before = customers.get(group.customer) ?? decimal('0')
    customers.set(group.customer, before.plus(decimal(group.total_cost)))
  }
  return [...customers].flatMap(([customer, cost]) => {
    const share = ALERT_SHARES.find((percent) =>
      cost.gte(decimal(BUDGET_USD).times(decimal(percent)).div(decimal('100'))),
    )
    if (share === undefined) return []
    return [
      `Budget alert (this demo's own check): ${customer} passed ${share} % of its demo budget of $${BUDGET_USD}`,
    ]
  })
}
