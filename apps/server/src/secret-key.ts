import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

const SECRET_BYTES = 32

/**
 * The key that encrypts stored secrets where none is configured: generated into the data directory at the first
 * start, readable by this user only.
 */
export async function embeddedSecretKey(dataDir: string): Promise<Buffer> {
  const file = join(dataDir, 'secret-key')
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  try {
    await writeFile(file, `${randomBytes(SECRET_BYTES).toString('base64')}\n`, { mode: 0o600, flag: 'wx' })
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
  const key = Buffer.from(await readFile(file, 'utf8'), 'base64')
  if (key.length !== SECRET_BYTES) throw new Error(`${file} does not hold a key of ${SECRET_BYTES} bytes.`)
  return key
}
