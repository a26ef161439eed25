import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import knex, { type Knex } from 'knex'
import pg from 'pg'
import { z } from 'zod'

/** Key of the advisory lock that lets one replica migrate while the others wait. Spells "tally". */
const MIGRATION_LOCK_KEY = 0x74_61_6c_6c_79
const MIGRATIONS_DIR = fileURLToPath(new URL('../../../../migrations', import.meta.url))

type MigrationFunction = (db: Knex) => Promise<unknown>
const isFunction = (value: unknown): value is MigrationFunction => typeof value === 'function'
const migrationModuleSchema = z.object({
  up: z.custom<MigrationFunction>(isFunction, 'exports no function up'),
  down: z.custom<MigrationFunction>(isFunction, 'exports no function down'),
  config: z.object({ transaction: z.boolean() }).optional(),
})

/** Brings a database to the newest schema; does nothing when it is there. Safe from many processes at once. */
export async function migrate(url: string): Promise<void> {
  await withMigrationLock(url, (db) => db.migrate.latest())
}

/** Takes every migration back, newest first. For tests of the migrations themselves. */
export async function rollbackAll(url: string): Promise<void> {
  await withMigrationLock(url, (db) => db.migrate.rollback(undefined, true))
}

/**
 * Runs migrations alone. The lock belongs to a connection of its own and ends with it, so that a replica that
 * is killed in the middle blocks nobody; knex's own lock table would stay locked for ever.
 */
async function withMigrationLock(url: string, work: (db: Knex) => Promise<unknown>): Promise<void> {
  const locker = new pg.Client({ connectionString: url, application_name: 'tokentally migrations' })
  locker.on('error', () => undefined)
  await locker.connect()
  try {
    await locker.query('select pg_advisory_lock($1)', [MIGRATION_LOCK_KEY])
    await withKnex(url, work)
  } finally {
    await locker.end()
  }
}

async function withKnex(url: string, work: (db: Knex) => Promise<unknown>): Promise<void> {
  const db = knex({
    client: 'pg',
    connection: { connectionString: url, application_name: 'tokentally migrations' },
    pool: { min: 0, max: 2 },
    migrations: {
      migrationSource: new MigrationFiles(MIGRATIONS_DIR),
      tableName: 'schema_migration',
      disableMigrationsListValidation: false,
    },
  })
  // The advisory lock serializes; the rows of knex's lock table only remember a process that died.
  try {
    if (await db.schema.hasTable('schema_migration_lock'))
      await db('schema_migration_lock').update({ is_locked: 0 })
    await work(db)
  } finally {
    await db.destroy()
  }
}

/** The numbered files of one directory, loaded by Node itself. */
class MigrationFiles implements Knex.MigrationSource<string> {
  readonly #directory: string

  constructor(directory: string) {
    this.#directory = directory
  }

  async getMigrations(): Promise<string[]> {
    const names = await readdir(this.#directory)
    return names.filter((name) => /^\d{4}-.*(?<!\.test)\.ts$/.test(name)).sort()
  }

  /** Without the ending, so that compiled files are the same migrations. */
  getMigrationName(file: string): string {
    return file.replace(/\.ts$/, '')
  }

  async getMigration(file: string): Promise<Knex.Migration> {
    const module: unknown = await import(pathToFileURL(join(this.#directory, file)).href)
    const parsed = migrationModuleSchema.safeParse(module)
    if (!parsed.success)
      throw new Error(`migration ${file}: ${parsed.error.issues[0]?.message ?? 'is not valid'}`)
    const { up, down, config } = parsed.data
    return {
      up: async (db) => void (await up(db)),
      down: async (db) => void (await down(db)),
      ...(config === undefined ? {} : { config }),
    }
  }
}
