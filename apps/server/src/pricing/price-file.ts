import { open } from 'node:fs/promises'
import { type CatalogueModel, parseCatalogueFile } from '@tokentally/prices'
import { collectBytes } from '../http/collect-bytes.ts'

/** A price file is fetched in this time or not at all. */
const TIMEOUT_MS = 30_000
/** The file of today has less than 2 MB. */
const MAX_BYTES = 32 * 1024 * 1024

/** A price file that is not there. The message is for the operator and names no credentials. */
export class PriceFileUnavailable extends Error {
  override readonly name = 'PriceFileUnavailable'
}

/**
 * Reads the configured price file.
 *
 * @param location an http(s) URL or a path
 * @throws {PriceFileUnavailable} when it cannot be read
 * @throws CatalogueFileError when it is not valid; then nothing of it may be used
 */
export async function readPriceFile(location: string): Promise<readonly CatalogueModel[]> {
  return parseCatalogueFile(await textAt(location))
}

/** How prices from a location are marked: without a user name, a password or a query, which may be secret. */
export function priceFileSource(location: string): string {
  const url = URL.parse(location)
  return url === null || !/^https?:$/.test(url.protocol) ? `file ${location}` : `${url.origin}${url.pathname}`
}

async function textAt(location: string): Promise<string> {
  try {
    return /^https?:\/\//.test(location) ? await fetchText(location) : await fileText(location)
  } catch (cause) {
    if (cause instanceof PriceFileUnavailable) throw cause
    const reason = cause instanceof Error ? cause.message : 'unknown'
    throw new PriceFileUnavailable(`${priceFileSource(location)} cannot be read: ${reason}`, { cause })
  }
}

async function fetchText(url: string): Promise<string> {
  const response = await fetch(url, {
    headers: { accept: 'application/json' },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  })
  if (!response.ok || response.body === null) {
    await response.body?.cancel()
    throw new PriceFileUnavailable(`${priceFileSource(url)} answered ${response.status}`)
  }
  return collect(response.body, url)
}

async function fileText(path: string): Promise<string> {
  const file = await open(path)
  return collect(file.createReadStream(), path)
}

async function collect(chunks: AsyncIterable<Uint8Array>, location: string): Promise<string> {
  const tooLarge = () => new PriceFileUnavailable(`${priceFileSource(location)} is larger than 32 MiB`)
  return new TextDecoder('utf-8', { fatal: true }).decode(await collectBytes(chunks, MAX_BYTES, tooLarge))
}
