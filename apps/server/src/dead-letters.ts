import { parseArgs } from 'node:util'
import { z } from 'zod'
import { readCommandConfig } from './config.ts'

/**
 * `npm run dead-letters -- list|replay`: shows what could not be understood, and tries it again. Talks to the
 * running service like anybody else, with a key of the scope `admin`.
 */

const HELP = `Usage: npm run dead-letters -- list [--limit N]
       npm run dead-letters -- replay [--id ID]

Options
  --url URL   the service (TOKENTALLY_URL), default http://127.0.0.1:4000
  --key KEY   a key with the scope admin (TOKENTALLY_API_KEY)
  --help      this text
`

const lettersSchema = z.object({
  dead_letters: z.array(
    z.object({
      dead_letter_id: z.string(),
      received_at: z.string(),
      door: z.string(),
      event_id: z.string().nullable(),
      issues: z.array(z.object({ path: z.string(), message: z.string() })),
    }),
  ),
})
const replaySchema = z.object({ replayed: z.number(), still_rejected: z.number() })

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      url: { type: 'string' },
      key: { type: 'string' },
      id: { type: 'string' },
      limit: { type: 'string' },
      help: { type: 'boolean' },
    },
  })
  const [command] = positionals
  if (values.help === true || command === undefined) {
    process.stdout.write(HELP)
    return
  }
  const { url, apiKey } = readCommandConfig()
  const call = callerOf(values.url ?? url, values.key ?? apiKey)
  if (command === 'list') {
    const { dead_letters } = lettersSchema.parse(
      await call('GET', `/api/v1/dead-letters?limit=${values.limit ?? 100}`),
    )
    for (const letter of dead_letters) {
      const reasons = letter.issues.map(({ path, message }) => `${path} ${message}`).join('; ')
      process.stdout.write(
        `${letter.dead_letter_id}  ${letter.received_at}  ${letter.door}  ${letter.event_id ?? '-'}  ${reasons}\n`,
      )
    }
    process.stdout.write(`${dead_letters.length} dead letters\n`)
  } else if (command === 'replay') {
    const query = values.id === undefined ? '' : `?id=${encodeURIComponent(values.id)}`
    const replay = replaySchema.parse(await call('POST', `/api/v1/dead-letters/replay${query}`))
    process.stdout.write(`${replay.replayed} replayed, ${replay.still_rejected} still rejected\n`)
  } else {
    throw new Error(`"${command}" is no command; see --help`)
  }
}

function callerOf(url: string, key: string | undefined) {
  if (key === undefined) throw new Error('a key is missing: --key, or TOKENTALLY_API_KEY')
  return async (method: string, path: string): Promise<unknown> => {
    const response = await fetch(url + path, { method, headers: { authorization: `Bearer ${key}` } })
    if (!response.ok) throw new Error(`the service answered ${response.status}: ${await response.text()}`)
    return response.json()
  }
}

try {
  await main()
} catch (error) {
  process.stderr.write(`dead-letters: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
