import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import type { TestProject } from 'vitest/node'
import { startEmbeddedDatabase } from '../../apps/server/src/database/embedded.ts'
import { migrate } from '../../apps/server/src/database/migrate.ts'
import { databaseUrl, dropDatabase, onServer, testDatabaseName } from './database.ts'
import { startRedis } from './redis.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    /** Connection URL of the maintenance database on the tests' server. */
    databaseServerUrl: string
    /** A migrated database to clone. */
    databaseTemplate: string
    /** Undefined: there is no Redis here. */
    redisUrl: string | undefined
  }
}

/** Starts the servers that the tests of one run share, and stops them afterwards. */
export default async function startTestServers(project: TestProject): Promise<() => Promise<void>> {
  const directory = await mkdtemp(join(tmpdir(), 'tokentally-test-'))
  const given = process.env['TEST_DATABASE_URL']
  const logger = pino({ level: 'silent' })
  const [database, redis] = await Promise.all([
    given === undefined || given === ''
      ? startEmbeddedDatabase({ dataDir: join(directory, 'database'), logger })
      : undefined,
    startRedis(join(directory, 'redis')),
  ])
  const serverUrl = database === undefined ? (given ?? '') : databaseUrl(database.url, 'postgres')
  const template = testDatabaseName()
  await onServer(serverUrl, (client) => client.query(`create database ${template}`))
  await migrate(databaseUrl(serverUrl, template))

  project.provide('databaseServerUrl', serverUrl)
  project.provide('databaseTemplate', template)
  project.provide('redisUrl', redis?.url)
  return async () => {
    await dropDatabase(serverUrl, template)
    await redis?.stop()
    await database?.stop()
    await rm(directory, { recursive: true, force: true })
  }
}
