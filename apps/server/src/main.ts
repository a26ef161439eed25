import { startService } from './compose.ts'
import { type Config, ConfigError, readConfig } from './config.ts'
import { createLogger } from './telemetry/log.ts'

/** Longest that a stop may take; supervisors kill after ten seconds. */
const STOP_TIMEOUT_MS = 9_000

async function main(): Promise<void> {
  const config = readConfig()
  const logger = createLogger({ level: config.logLevel, isTerminal: config.isTerminal })
  const stopRequested = new Promise<void>((resolve) => {
    process.once('SIGTERM', () => resolve())
    process.once('SIGINT', () => resolve())
  })
  const starting = startService(config, logger)
  // A stop that comes during the start has nothing to finish, but is not left waiting for a database either.
  const first = await Promise.race([starting, stopRequested])
  if (first !== undefined) {
    announce(config, first.url, first.newOwnerKey)
    await stopRequested
  }
  const timer = setTimeout(() => {
    logger.error('stopping took too long')
    process.exit(0)
  }, STOP_TIMEOUT_MS)
  timer.unref()
  await (await starting).stop()
}

/** Plain lines for people; the log may go elsewhere. */
function announce(config: Config, url: string, newOwnerKey: string | undefined): void {
  const lines = [`TokenTally is ready at ${url} (API: ${url}/docs)`]
  if (config.databaseUrl === undefined) lines.push(`Data: ${config.dataDir}`)
  if (newOwnerKey !== undefined && config.bootstrapKey === undefined) {
    lines.push(`API key of the owner, shown only now: ${newOwnerKey}`)
  }
  process.stdout.write(`${lines.join('\n')}\n`)
}

try {
  await main()
  process.exit(0)
} catch (error) {
  if (error instanceof ConfigError) process.stderr.write(`${error.message}\n`)
  else
    process.stderr.write(
      `TokenTally could not start: ${error instanceof Error ? error.message : String(error)}\n`,
    )
  process.exit(1)
}
