import { fork } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { startFakeProvider } from '../../test/fake-provider/index.ts'
import { type BenchOptions, type Comparison, compare } from '../figures.ts'

const heapSchema = z.object({ heapBytes: z.number() })

/** What the heap of a metered application holds, after it has been told to make more and more calls. */
export async function heapAfter(counts: readonly number[]): Promise<readonly number[]> {
  const directory = await mkdtemp(join(tmpdir(), 'tokentally-memory-'))
  const provider = await startFakeProvider()
  // It takes everything, as a service would.
  const sink = createServer((request, response) => {
    request.resume()
    request.on('end', () => response.setHeader('content-type', 'application/x-protobuf').end())
  })
  await new Promise<void>((resolve) => sink.listen(0, '127.0.0.1', resolve))
  const address = sink.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const child = fork(
    fileURLToPath(new URL('./app.ts', import.meta.url)),
    [provider.url, `http://127.0.0.1:${port}`, join(directory, 'spool')],
    { execArgv: ['--conditions=source', '--expose-gc'] },
  )
  try {
    const heaps: number[] = []
    for (const count of counts) {
      const { promise, resolve, reject } = Promise.withResolvers<unknown>()
      child.once('message', resolve)
      child.once('exit', () => reject(new Error('the measured application has ended')))
      child.send(count)
      heaps.push(heapSchema.parse(await promise).heapBytes)
    }
    return heaps
  } finally {
    child.kill()
    sink.closeAllConnections()
    sink.close()
    await provider.close()
    await rm(directory, { recursive: true, force: true })
  }
}

/** Whether the heap stays as it is over many streamed calls. */
export async function memoryBench({ isQuick, progress }: BenchOptions): Promise<readonly Comparison[]> {
  const first = isQuick ? 100 : 10_000
  progress(`${first}, then ${9 * first} streamed calls`)
  const [before = 0, after = 0] = await heapAfter([first, 9 * first])
  return [
    compare(
      {
        name: `Heap after ${(10 * first).toLocaleString('en-US')} streamed calls`,
        unit: 'MiB',
        rivalName: `after ${first.toLocaleString('en-US')}`,
        bar: 'flat',
      },
      [{ ours: after / 2 ** 20, rival: before / 2 ** 20 }],
    ),
  ]
}
