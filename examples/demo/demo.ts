import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { flush, shutdown } from '@tokentally/meter'
import { startFakeProvider } from '../../test/fake-provider/index.ts'
import { awaitAlerts, BUDGET_USD, MARKUP, setUpBudgets, startDemoSlack } from './demo-alerts.ts'
import { startDemoApp } from './demo-app.ts'
import { type DemoOptions, HELP, readDemoOptions } from './demo-options.ts'
import { fetchReport, reportTable, reportUrl } from './demo-report.ts'
import { startDemoService } from './demo-service.ts'
import { sendRequest, sendRequests } from './demo-traffic.ts'

const TRICKLE_MS = 2_000

const say = (line: string) => process.stdout.write(`${line}\n`)

async function demo(options: DemoOptions, stopped: AbortSignal): Promise<void> {
  await using stack = new AsyncDisposableStack()
  await mkdir(resolve('.tokentally'), { recursive: true })
  const directory = await mkdtemp(resolve('.tokentally', 'demo-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const apiKey = `tt_demo_${randomBytes(24).toString('base64url')}`

  say('Starting the service on data of its own (the first time takes some seconds) …')
  const service = await startDemoService(join(directory, 'data'), apiKey)
  stack.defer(() => service.stop())
  say(`Service:        ${service.url}`)

  const provider = await startFakeProvider()
  stack.defer(() => provider.close())
  say(`Fake provider:  ${provider.url}`)

  const slack = await startDemoSlack()
  stack.defer(() => slack.close())
  await setUpBudgets(service.url, apiKey, slack.url)
  say(
    `Sold for:       list price + ${Number(MARKUP) * 100} %; a budget of $${BUDGET_USD} a month for each customer`,
  )

  const app = await startDemoApp({
    serviceUrl: service.url,
    apiKey,
    providerUrl: provider.url,
    spool: join(directory, 'spool'),
  })
  stack.defer(() => shutdown())
  stack.defer(() => app.stop())
  say(`Express app:    ${app.url}`)
  if (stopped.aborted) return

  say(`Sending ${options.requests} requests of three customers …\n`)
  await sendRequests(app.url, options.requests)
  await flush()
  const report = await fetchReport(service.url, apiKey)
  say(reportTable(report))
  say('')
  for (const message of await awaitAlerts(service.url, apiKey, slack))
    say(`Budget alert to Slack: ${message}`)
  say(`\nLook at it:     ${service.url}/docs`)
  say(`Report:         curl -H 'Authorization: Bearer ${apiKey}' '${reportUrl(service.url)}'`)

  if (!options.isOnce) {
    say('\nA call every two seconds goes on. Ctrl-C ends everything and removes the demo data.')
    for (let number = options.requests; !stopped.aborted; number++) {
      await delay(TRICKLE_MS, undefined, { signal: stopped }).catch(() => undefined)
      if (!stopped.aborted) await sendRequest(app.url, number)
    }
  }
}

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort())
try {
  const options = readDemoOptions(process.argv.slice(2))
  if (options.isHelp) say(HELP)
  else await demo(options, stop.signal)
  process.exit(0)
} catch (error) {
  process.stderr.write(`The demo failed: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(1)
}
