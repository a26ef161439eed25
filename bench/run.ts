import { writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { closingBench } from './closing/closing.ts'
import { type Bench, type Comparison, tableOf } from './figures.ts'
import { forecastBench } from './forecast/forecast.ts'
import { ingestBench } from './ingest/ingest.ts'
import { memoryBench } from './memory/memory.ts'
import { perCallBench, waysBench } from './per-call/per-call.ts'
import { previewBench } from './preview/preview.ts'
import { ratingBench } from './rating/rating.ts'
import { reportBench } from './report/report.ts'

const BENCHES: Readonly<Record<string, Bench>> = {
  call: perCallBench,
  ways: waysBench,
  ingest: ingestBench,
  report: reportBench,
  rating: ratingBench,
  preview: previewBench,
  closing: closingBench,
  forecast: forecastBench,
  memory: memoryBench,
}

const HELP = `npm run bench -- [options]

Measures TokenTally beside a rival or a baseline, in turns within one run, and prints a table with the median of
all rounds and its 95 % confidence interval (with fewer than six rounds, the smallest and largest value). Everything runs on this machine; nothing else should.

  call     CPU added to an LLM call, and to a request without one, in an Express app with the official OpenAI
           client: beside the same app bare, and with @opentelemetry/instrumentation-openai
  ways     CPU added to an LLM call by other ways than fetch: undici, node:http, meter(client), the Vercel AI SDK,
           LangChain; beside what OpenTelemetry adds to a call by the OpenAI client
  ingest   events per second over HTTP with 1, 100 and 1,000 events a request: beside binary COPY with dedupe
           of the same rows into the same database
  report   the 30-day report by customer and model on 10 million events: beside the same query on the ledger
  rating   events rated and sold per second on one core with 200 markup rules: beside the same without rules
  preview  what a month of 1 million events would have cost under other markup rules: beside the sums of the
           same events from the ledger
  closing  closing a month of 1,000 customers and 10 million events: beside the sums of the same events from the
           ledger
  forecast estimates of month ends on simulated and public series: beside the last week repeated; and the time of
           1,000 forecasts
  memory   heap of a metered app after 100,000 streamed calls: beside its heap after 10,000

  --only NAMES   comma-separated: call, ways, ingest, report, rating, preview, closing, forecast, memory (default: all)
  --quick        less of everything, to see whether it works
  --output FILE  where to write the figures as JSON (default: bench/results.json)
  --help
`

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: Object.keys(BENCHES).join(',') },
    quick: { type: 'boolean', default: false },
    output: { type: 'string', default: fileURLToPath(new URL('./results.json', import.meta.url)) },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) process.stdout.write(HELP)
else await run(values.only.split(','))

async function run(names: readonly string[]): Promise<void> {
  const unknown = names.find((name) => !(name in BENCHES))
  if (unknown !== undefined) {
    process.stderr.write(`unknown bench "${unknown}"\n\n${HELP}`)
    process.exitCode = 2
    return
  }
  const comparisons: Comparison[] = []
  for (const name of names) {
    const progress = (text: string) => process.stderr.write(`${name}: ${text}\n`)
    comparisons.push(...((await BENCHES[name]?.({ isQuick: values.quick, progress })) ?? []))
  }
  process.stdout.write(`${tableOf(comparisons)}\n`)
  const machine = { node: process.version, cores: cpus().length, cpu: cpus()[0]?.model }
  await writeFile(
    values.output,
    `${JSON.stringify({ machine, isQuick: values.quick, comparisons }, null, 2)}\n`,
  )
}
