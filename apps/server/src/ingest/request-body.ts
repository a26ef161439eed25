import type { Readable, Transform } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib'
import { Problem } from '../http/problem.ts'

/** Limits of one request body, in bytes. */
export interface BodyLimits {
  /** As it arrives. */
  readonly bodyMaxBytes: number
  /** After decompression: what keeps a gzip bomb harmless. */
  readonly decompressedMaxBytes: number
}

/** What the sender said about the body. */
export interface BodyHeaders {
  readonly 'content-length'?: string | undefined
  readonly 'content-encoding'?: string | undefined
}

/**
 * Reads a request body, decompressed. What exceeds a limit is discarded as it arrives, so that the sender
 * gets the answer instead of a broken connection.
 *
 * @throws Problem `content-too-large`, `unsupported-content-encoding`, or `invalid-request` for broken data
 */
export async function readBody(stream: Readable, headers: BodyHeaders, limits: BodyLimits): Promise<Buffer> {
  try {
    if (Number(headers['content-length'] ?? 0) > limits.bodyMaxBytes) throw tooLarge(limits.bodyMaxBytes)
    const decompress = decompressorOf(headers['content-encoding'])
    const arrived = limited(stream, limits.bodyMaxBytes)
    if (decompress === undefined) return Buffer.concat(await Array.fromAsync(arrived))
    return await decompressed(arrived, decompress, limits.decompressedMaxBytes)
  } finally {
    stream.resume()
  }
}

function decompressorOf(encoding: string | undefined): Transform | undefined {
  switch (encoding?.trim().toLowerCase()) {
    case undefined:
    case '':
    case 'identity':
      return undefined
    case 'gzip':
    case 'x-gzip':
      return createGunzip()
    case 'deflate':
      return createInflate()
    case 'br':
      return createBrotliDecompress()
    default:
      throw new Problem({
        code: 'unsupported-content-encoding',
        detail: 'content-encoding may be gzip, deflate, br or identity.',
      })
  }
}

async function* limited(stream: Readable, maxBytes: number): AsyncGenerator<Buffer> {
  let bytes = 0
  // Without destroying the stream on the way out: the rest of an oversized body is drained by the caller.
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    const buffer = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk))
    bytes += buffer.length
    if (bytes > maxBytes) throw tooLarge(maxBytes)
    yield buffer
  }
}

async function decompressed(
  arrived: AsyncIterable<Buffer>,
  decompress: Transform,
  maxBytes: number,
): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const chunks: Buffer[] = []
  let bytes = 0
  decompress.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > maxBytes) decompress.destroy(tooLarge(maxBytes))
    else chunks.push(chunk)
  })
  decompress.on('end', () => resolve(Buffer.concat(chunks)))
  decompress.on('error', (error) =>
    reject(
      error instanceof Problem
        ? error
        : new Problem({ code: 'invalid-request', detail: 'The compressed body is broken.', cause: error }),
    ),
  )
  const feed = async () => {
    for await (const chunk of arrived) {
      if (decompress.destroyed) return
      if (!decompress.write(chunk)) await drained(decompress)
    }
    decompress.end()
  }
  feed().catch((error: unknown) =>
    decompress.destroy(error instanceof Error ? error : new Error(String(error))),
  )
  return promise
}

function drained(stream: Transform): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  stream.once('drain', resolve)
  stream.once('close', resolve)
  return promise
}

function tooLarge(maxBytes: number): Problem {
  return new Problem({
    code: 'content-too-large',
    detail: `The body exceeds ${Math.floor(maxBytes / 1024 / 1024)} MiB; nothing of it was stored. Send smaller batches.`,
  })
}

/**
 * Decodes UTF-8 strictly.
 *
 * @throws Problem `invalid-request` when the bytes are no UTF-8
 */
export function decodeUtf8(body: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body)
  } catch (cause) {
    throw new Problem({ code: 'invalid-request', detail: 'The body is not valid UTF-8.', cause })
  }
}
