import { createServer } from 'node:http'
import { startFakeProvider } from '../../test/fake-provider/index.ts'

/**
 * The other ends, in a process of their own so that their CPU time is not the application's: the provider,
 * and a place that takes every batch of spans.
 */
const provider = await startFakeProvider()
const sink = createServer((request, response) => {
  request.resume()
  request.on('end', () => {
    const isJson = request.headers['content-type'] === 'application/json'
    response.setHeader('content-type', isJson ? 'application/json' : 'application/x-protobuf')
    response.end(isJson ? '{}' : '')
  })
})
sink.listen(0, '127.0.0.1', () => {
  const address = sink.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  process.send?.({ providerUrl: provider.url, sinkUrl: `http://127.0.0.1:${port}` })
})

process.on('disconnect', () => process.exit())
