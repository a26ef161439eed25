import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { startEmbeddedDatabase } from '../apps/server/src/database/embedded.ts'
import { migrate } from '../apps/server/src/database/migrate.ts'

export interface BenchDatabase {
  readonly url: string
  stop(): Promise<void>
}

/** A new, migrated database on a server of the bench's own, with the embedded server's durable settings. */
export async function startBenchDatabase(): Promise<BenchDatabase> {
  const directory = await mkdtemp(join(tmpdir(), 'tokentally-bench-'))
  const database = await startEmbeddedDatabase({ dataDir: directory, logger: pino({ level: 'warn' }) })
  await migrate(database.url)
  return {
    url: database.url,
    async stop() {
      await database.stop()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
