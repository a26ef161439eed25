import { once } from 'node:events'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'

/** Customers pay the list price and this much more. */
export const MARKUP = '0.20'
/** What each customer may cost in a month. */
export const BUDGET_USD = '0.05'

const ALERTS_WAIT_MS = 20_000
const ALERTS_POLL_MS = 100

/** A stand-in for Slack: an incoming webhook on this machine that keeps what it is sent. */
export interface DemoSlack {
  readonly url: string
  /** The text of each message, in the order of their arrival. */
  readonly messages: readonly string[]
  close(): void
}

/** Starts the stand-in for Slack on a free port. */
export async function startDemoSlack(): Promise<DemoSlack> {
  const messages: string[] = []
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      messages.push(z.object({ text: z.string() }).parse(JSON.parse(body)).text)
      response.end('ok')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the stand-in for Slack has no port')
  return {
    url: `http://127.0.0.1:${address.port}/services/demo`,
    messages,
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
}

/** Sets a markup, a monthly budget for each customer and the channel that its alerts go to, as anybody would. */
export async function setUpBudgets(serviceUrl: string, apiKey: string, slackUrl: string): Promise<void> {
  const post = async (path: string, body: object) => {
    const response = await fetch(`${serviceUrl}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`)
  }
  await post('/api/v1/markup-rules', { id: 'resale', markup: MARKUP })
  await post('/api/v1/channels', { kind: 'slack', name: '#llm-costs', target: slackUrl })
  await post('/api/v1/budgets', {
    name: 'customer-budget',
    amount: BUDGET_USD,
    period: 'month',
    scope: { dimension: 'customer', value: '*' },
    thresholds: [50, 75, 100],
  })
}

const statusesSchema = z.object({
  statuses: z.array(
    z.object({
      scope: z.object({ value: z.string() }),
      percent: z.number(),
      thresholds: z.array(z.number()),
    }),
  ),
})

/**
 * Waits until Slack was told of the highest threshold that each customer has reached.
 *
 * @returns the messages; those that came in time if some did not
 */
export async function awaitAlerts(
  serviceUrl: string,
  apiKey: string,
  slack: DemoSlack,
): Promise<readonly string[]> {
  const response = await fetch(`${serviceUrl}/api/v1/budgets/status`, {
    headers: { authorization: `Bearer ${apiKey}` },
  })
  const { statuses } = statusesSchema.parse(await response.json())
  const expected = statuses.flatMap(({ scope, percent, thresholds }) => {
    const highest = thresholds.findLast((threshold) => percent >= threshold)
    return highest === undefined ? [] : [{ title: `${highest} % reached`, scope: `customer:${scope.value}` }]
  })
  const isTold = ({ title, scope }: (typeof expected)[number]) =>
    slack.messages.some((message) => message.includes(title) && message.includes(scope))
  for (let waitedMs = 0; waitedMs < ALERTS_WAIT_MS && !expected.every(isTold); waitedMs += ALERTS_POLL_MS) {
    await delay(ALERTS_POLL_MS)
  }
  return slack.messages
}
