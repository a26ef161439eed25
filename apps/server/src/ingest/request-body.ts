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
 * Reads a request body, decompressed. What exceeds a limit is discarded as it arrives: the sender gets the
 * answer instead of a broken connection, and the connection is free for the next request.
 *
 * @throws Problem `content-too-large`, `unsupported-content-encoding`, or `invalid-request` for broken data
 */
export async function readBody(stream: Readable, headers: BodyHeaders, limits: BodyLimits): Promise<Buffer> {
  try {
    if (Number(headers['content-length'] ?? 0) > limits.bodyMaxBytes) throw tooLarge(limits.bodyMaxBytes)
    const decompress = decompressorOf(headers['content-encoding'])
    if (decompress === undefined) return await collect(stream, limits.bodyMaxBytes)
    return await collectDecompressed(stream, decompress, limits)
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

/** Listens to the stream until its end, also after the limit: what nobody reads would block its connection. */
function collect(stream: Readable, maxBytes: number): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const chunks: Buffer[] = []
  let bytes = 0
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes <= maxBytes) {
      chunks.push(chunk)
    } else {
      chunks.length = 0
      reject(tooLarge(maxBytes))
    }
  })
  stream.on('end', () => resolve(Buffer.concat(chunks)))
  stream.on('error', reject)
  return promise
}

async function collectDecompressed(
  stream: Readable,
  decompress: Transform,
  limits: BodyLimits,
): Promise<Buffer> {
  let bytes = 0
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > limits.bodyMaxBytes) decompress.destroy(tooLarge(limits.bodyMaxBytes))
    else if (!decompress.destroyed && !decompress.write(chunk)) stream.pause()
  })
  stream.on('end', () => decompress.end())
  stream.on('error', (error) => decompress.destroy(error))
  decompress.on('drain', () => stream.resume())
  try {
    return await collect(decompress, limits.decompressedMaxBytes)
  } catch (error) {
    if (error instanceof Problem) throw error
    throw new Problem({ code: 'invalid-request', detail: 'The compressed body is broken.', cause: error })
  } finally {
    decompress.destroy()
  }
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
