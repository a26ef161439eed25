import { randomUUID } from 'node:crypto'
import { link, mkdir, open, readFile, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Writes a file that is never changed again. It is there whole or not at all, and is on the disk when this resolves:
 * written under another name, synced, and linked to its own, which fails where a file stands; the folder is synced too.
 *
 * @returns `written`; `same` when it stands there with these bytes; `different` when another content stands there, which is left
 */
export async function writeOnce(path: string, content: string): Promise<'written' | 'same' | 'different'> {
  const folder = dirname(path)
  await mkdir(folder, { recursive: true, mode: 0o750 })
  const temporary = `${path}.${randomUUID()}.tmp`
  try {
    const file = await open(temporary, 'wx', 0o640)
    try {
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    await link(temporary, path)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
    // Whoever wrote it may have been killed before the folder was synced.
    await syncFolder(folder)
    return (await readFile(path, 'utf8')) === content ? 'same' : 'different'
  } finally {
    await rm(temporary, { force: true })
  }
  await syncFolder(folder)
  return 'written'
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
