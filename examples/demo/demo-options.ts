import { parseArgs } from 'node:util'

/** What the demo was asked to do. */
export interface DemoOptions {
  /** Requests fired before the report. */
  readonly requests: number
  /** Ends after the report instead of going on. */
  readonly isOnce: boolean
  readonly isHelp: boolean
}

export const HELP = `npm run demo [-- OPTIONS]

Starts the service on data of its own, a local fake LLM provider and an Express app that calls it with the
official OpenAI and Anthropic clients, and shows what each customer, feature and model cost.

  --requests N   requests before the report (default 60)
  --once         end after the report; without it a trickle of calls goes on until Ctrl-C
  --help         this text
`

const REQUESTS_MAX = 100_000

/** @throws Error with one line that names the wrong option */
export function readDemoOptions(args: readonly string[]): DemoOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      requests: { type: 'string', default: '60' },
      once: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const requests = Number(values.requests)
  if (!Number.isInteger(requests) || requests < 1 || requests > REQUESTS_MAX) {
    throw new Error(`--requests must be a whole number from 1 to ${REQUESTS_MAX}, not "${values.requests}"`)
  }
  return { requests, isOnce: values.once, isHelp: values.help }
}
