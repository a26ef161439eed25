import type { ChildProcess } from 'node:child_process'
import { open, readFile, stat, truncate } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { Logger } from '../telemetry/log.ts'
import { type Cluster, EMBEDDED_DATABASE, openCluster } from './embedded-cluster.ts'
import { OWNER_LOCK_KEY, stopOrphan } from './embedded-orphan.ts'

/** Crash recovery replays at most this much: `max_wal_size` bounds it to well under a minute. */
const READY_TIMEOUT_MS = 120_000
const READY_POLL_MS = 40
/** Wait between attempts to start a server that died; its last processes need a moment to go. */
const RESTART_DELAY_MS = 500
const RESTART_DELAY_MAX_MS = 5_000
/** How long a stop may take until the server is stopped the hard way (it recovers at the next start). */
const STOP_TIMEOUT_MS = 6_000
const LOG_MAX_BYTES = 10 * 1024 * 1024

/** Durable, local only, sized for a laptop or a small server. */
const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '100',
  shared_buffers: '256MB',
  max_wal_size: '2GB',
  checkpoint_timeout: '15min',
  wal_compression: 'on',
  fsync: 'on',
  synchronous_commit: 'on',
  TimeZone: 'UTC',
  log_timezone: 'UTC',
}

/** A PostgreSQL server of the service's own. */
export interface EmbeddedDatabase {
  /** Connection URL of the service's database, with its password. */
  readonly url: string
  /** The server's process id; undefined while it is being restarted. */
  pid(): number | undefined
  /** Stops the server in order. Close all connections first. */
  stop(): Promise<void>
}

/**
 * Starts PostgreSQL 18 on data under `dataDir`, creating it at the first start, and keeps it running: a server
 * that dies is started again. A server left by a killed service is stopped first.
 * @throws when the data is in use by another service, or the server does not start
 */
export async function startEmbeddedDatabase(options: {
  readonly dataDir: string
  readonly logger: Logger
}): Promise<EmbeddedDatabase> {
  const cluster = await openCluster(options.dataDir)
  await stopOrphan(cluster, options.logger)
  await cluster.claimPort()
  const server = new SupervisedServer(cluster, options.logger)
  await server.start()
  await ensureDatabase(cluster)
  return { url: cluster.url(EMBEDDED_DATABASE), pid: () => server.pid, stop: () => server.stop() }
}

class SupervisedServer {
  readonly #cluster: Cluster
  readonly #logger: Logger
  #child: ChildProcess | undefined
  #owner: pg.Client | undefined
  #isStopping = false

  constructor(cluster: Cluster, logger: Logger) {
    this.#cluster = cluster
    this.#logger = logger
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** Starts the server and waits until it answers. */
  async start(): Promise<void> {
    const child = await spawnServer(this.#cluster)
    this.#child = child
    const ended = new Promise<void>((resolve) => {
      child.once('exit', resolve)
      child.once('error', () => resolve())
    })
    const failed = ended.then(async () => {
      throw new Error(`The embedded PostgreSQL did not start: ${await lastLines(this.#cluster.logFile)}`)
    })
    failed.catch(() => undefined)
    await Promise.race([this.#own(child), failed])
    void ended.then(() => this.#onEnd(child))
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    const child = this.#child
    await this.#owner?.end().catch(() => undefined)
    if (child === undefined || hasExited(child)) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGINT')
    const timer = setTimeout(() => child.kill('SIGQUIT'), STOP_TIMEOUT_MS)
    await ended
    clearTimeout(timer)
  }

  /** Waits for the server and marks it as ours, by a lock that goes when this process goes. */
  async #own(child: ChildProcess): Promise<void> {
    for (const end = Date.now() + READY_TIMEOUT_MS; Date.now() < end; await delay(READY_POLL_MS)) {
      if (this.#isStopping || hasExited(child)) return
      const client = new pg.Client({ connectionString: this.#cluster.url('postgres'), keepAlive: true })
      client.on('error', () => undefined)
      try {
        await client.connect()
        await client.query('select pg_advisory_lock($1)', [OWNER_LOCK_KEY])
        this.#owner = client
        client.once('end', () => this.#onOwnershipLost(child))
        return
      } catch {
        await client.end().catch(() => undefined)
      }
    }
    throw new Error(`The embedded PostgreSQL does not answer: ${await lastLines(this.#cluster.logFile)}`)
  }

  /** The server recovers from a crash of one of its own processes by dropping every connection. */
  #onOwnershipLost(child: ChildProcess): void {
    if (this.#isStopping || hasExited(child)) return
    this.#own(child).catch((error: unknown) => this.#logger.error({ err: error }, 'the database was lost'))
  }

  #onEnd(child: ChildProcess): void {
    if (this.#isStopping || this.#child !== child) return
    this.#child = undefined
    this.#logger.error({ pid: child.pid }, 'the database server ended; starting it again')
    void this.#restart()
  }

  async #restart(): Promise<void> {
    for (
      let waitMs = RESTART_DELAY_MS;
      !this.#isStopping;
      waitMs = Math.min(waitMs * 2, RESTART_DELAY_MAX_MS)
    ) {
      await delay(waitMs)
      if (this.#isStopping) return
      try {
        await this.start()
        this.#logger.info({ pid: this.pid }, 'the database server runs again')
        return
      } catch (error) {
        this.#logger.error({ err: error }, 'the database server does not start; trying again')
      }
    }
  }
}

async function spawnServer(cluster: Cluster): Promise<ChildProcess> {
  const { size } = await stat(cluster.logFile).catch(() => ({ size: 0 }))
  if (size > LOG_MAX_BYTES) await truncate(cluster.logFile)
  const log = await open(cluster.logFile, 'a', 0o600)
  try {
    const settings = Object.entries(SETTINGS).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    return cluster.account.spawn(
      cluster.binaries.postgres,
      ['-D', cluster.directory, '-p', String(cluster.port()), ...settings],
      {
        // A group of its own: Ctrl-C in a terminal reaches the service, which then stops the database last.
        detached: true,
        stdio: ['ignore', log.fd, log.fd],
        env: { LC_ALL: 'C', TZ: 'UTC' },
      },
    )
  } finally {
    await log.close()
  }
}

function hasExited(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}

async function ensureDatabase(cluster: Cluster): Promise<void> {
  const client = new pg.Client({ connectionString: cluster.url('postgres') })
  client.on('error', () => undefined)
  await client.connect()
  try {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [EMBEDDED_DATABASE])
    if (rowCount === 0) await client.query(`create database ${pg.escapeIdentifier(EMBEDDED_DATABASE)}`)
  } finally {
    await client.end()
  }
}

async function lastLines(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '')
  return text.trim().split('\n').slice(-3).join(' | ')
}
