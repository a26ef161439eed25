import { randomBytes } from 'node:crypto'
import { chmod, chown, mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { z } from 'zod'
import { type Account, chooseAccount } from './embedded-account.ts'
import { findPostgresBinaries, openToAll, type PostgresBinaries } from './embedded-binaries.ts'

/** The superuser of the embedded PostgreSQL and the database in it. */
export const EMBEDDED_USER = 'tokentally'
export const EMBEDDED_DATABASE = 'tokentally'
const HOST = '127.0.0.1'

const accessSchema = z.object({ port: z.number().int(), password: z.string().min(1) })

/** A data directory of PostgreSQL, ready to be served. */
export interface Cluster {
  readonly binaries: PostgresBinaries
  readonly account: Account
  /** PostgreSQL's own data directory. */
  readonly directory: string
  /** Where the server writes its log. */
  readonly logFile: string
  port(): number
  /** Keeps the remembered port when it is free, else takes another one and remembers it. */
  claimPort(): Promise<void>
  /** A connection URL, with the password. */
  url(database: string): string
}

/**
 * Opens the cluster under `dataDir/postgres`; creates it at the first start, with a random password that only
 * this user can read. A creation that was interrupted is done again from the start.
 */
export async function openCluster(dataDir: string): Promise<Cluster> {
  const directory = join(dataDir, 'postgres')
  const accessFile = join(dataDir, 'postgres.json')
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  const binaries = await openToAll(await findPostgresBinaries())
  // When root lends the database to another account, that account must pass through this directory.
  if (process.getuid?.() === 0) await chmod(dataDir, 0o711)
  const account = await chooseAccount(binaries.postgres, dataDir, directory)

  let access = await readAccess(accessFile)
  if (!(await exists(join(directory, 'PG_VERSION')))) {
    const password = randomBytes(24).toString('base64url')
    await createCluster({ binaries, account, directory, password })
    access = { port: 0, password }
    await writeAccess(accessFile, access)
  }
  if (access === undefined)
    throw new Error(`${accessFile} is missing; it holds the password of ${directory}.`)
  const current = access

  return {
    binaries,
    account,
    directory,
    logFile: join(dataDir, 'postgres.log'),
    port: () => current.port,
    async claimPort() {
      const port = (await freePort(current.port)) ?? (await freePort(0))
      if (port === undefined) throw new Error(`No free port on ${HOST} for the embedded PostgreSQL.`)
      if (port === current.port) return
      current.port = port
      await writeAccess(accessFile, current)
    },
    url: (database) => `postgres://${EMBEDDED_USER}:${current.password}@${HOST}:${current.port}/${database}`,
  }
}

interface NewCluster {
  readonly binaries: PostgresBinaries
  readonly account: Account
  readonly directory: string
  readonly password: string
}

/** Creates the files beside their final place and moves them there at once. */
async function createCluster({ binaries, account, directory, password }: NewCluster): Promise<void> {
  const staging = `${directory}.new`
  const passwordFile = `${directory}.password`
  await rm(staging, { recursive: true, force: true })
  await mkdir(staging, { mode: 0o700 })
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
  try {
    if (account.owner !== undefined) {
      await chown(staging, account.owner.uid, account.owner.gid)
      await chown(passwordFile, account.owner.uid, account.owner.gid)
    }
    await initdb({ binaries, account, directory: staging }, passwordFile)
    await rm(directory, { recursive: true, force: true })
    await rename(staging, directory)
  } finally {
    await rm(passwordFile, { force: true })
  }
}

async function initdb(cluster: Omit<NewCluster, 'password'>, passwordFile: string): Promise<void> {
  const child = cluster.account.spawn(
    cluster.binaries.initdb,
    [
      `--pgdata=${cluster.directory}`,
      `--username=${EMBEDDED_USER}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      // Sorts the same on every machine, whatever locales are installed there.
      '--locale=C',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'], env: { LC_ALL: 'C', TZ: 'UTC' } },
  )
  let complaint = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    complaint += chunk.toString()
  })
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      if (code === 0) resolve()
      else reject(new Error(`The embedded PostgreSQL could not be created: ${complaint.trim()}`))
    })
  })
}

async function readAccess(file: string): Promise<z.infer<typeof accessSchema> | undefined> {
  try {
    return accessSchema.parse(JSON.parse(await readFile(file, 'utf8')))
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw new Error(`${file} cannot be read; it holds the password of the embedded PostgreSQL.`, {
      cause: error,
    })
  }
}

async function writeAccess(file: string, access: z.infer<typeof accessSchema>): Promise<void> {
  const handle = await open(`${file}.new`, 'w', 0o600)
  try {
    await handle.writeFile(`${JSON.stringify(access)}\n`)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(`${file}.new`, file)
}

async function exists(path: string): Promise<boolean> {
  return readFile(path).then(
    () => true,
    () => false,
  )
}

/** The port itself (0: any) if nothing listens there, else nothing. */
function freePort(wanted: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const probe = createServer()
    probe.once('error', () => resolve(undefined))
    probe.listen(wanted, HOST, () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : undefined))
    })
  })
}
