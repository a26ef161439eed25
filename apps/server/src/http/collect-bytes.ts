/**
 * Reads chunks to their end, as far as they may go: a sender has no say in how much memory this takes.
 *
 * @param tooLarge makes the error for more than `bytesMax`; the rest is not read then
 */
export async function collectBytes(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  bytesMax: number,
  tooLarge: () => Error,
): Promise<Buffer> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of chunks) {
    bytes += chunk.byteLength
    // Leaving the loop cancels the rest.
    if (bytes > bytesMax) throw tooLarge()
    parts.push(chunk)
  }
  return Buffer.concat(parts)
}
