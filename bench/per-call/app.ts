import { createRequire } from 'node:module'
import type OpenAI from 'openai'
import { type AppCommand, commandSchema, type Variant, variantSchema } from './protocol.ts'
import { openWay } from './ways.ts'

/**
 * The measured application: an Express app with the official OpenAI client, bare, with TokenTally, or with
 * OpenTelemetry's OpenAI instrumentation. It counts its own CPU time for what it is told to do, delivery of
 * what was recorded included.
 */

// Loaded as CommonJS in every variant: the form that OpenTelemetry's instrumentation can patch without a
// loader of its own.
const require = createRequire(import.meta.url)
const variant = variantSchema.parse(process.argv[2])
const providerUrl = process.argv[3] ?? ''
const sinkUrl = process.argv[4] ?? ''
const spool = process.argv[5] ?? ''

const { middleware, flush } = await instrument(variant)
const { OpenAI: Client }: { OpenAI: typeof OpenAI } = require('openai')
const client = new Client({ apiKey: 'sk-bench', baseURL: `${providerUrl}/v1`, maxRetries: 0 })
const { default: express } = await import('express')
const app = express()
if (middleware !== undefined) app.use(middleware)
app.get('/hello', (_request, response) => {
  response.json({ hello: 'world' })
})
const server = app.listen(0, '127.0.0.1', () => {
  const address = server.address()
  process.send?.({ port: typeof address === 'object' && address !== null ? address.port : 0 })
})

process.on('disconnect', () => process.exit())

let before = process.cpuUsage()
process.on('message', (message) => {
  void answer(commandSchema.parse(message))
})

async function answer(command: AppCommand): Promise<void> {
  switch (command.do) {
    case 'start':
      globalThis.gc?.()
      before = process.cpuUsage()
      break
    case 'calls':
      await calls(command)
      break
    case 'stop':
      await flush()
      break
  }
  const { user, system } = process.cpuUsage(before)
  process.send?.({ cpuMicroseconds: user + system })
}

async function calls(command: Extract<AppCommand, { do: 'calls' }>): Promise<void> {
  const { way, tokens, isStreamed } = command
  const make =
    way === undefined
      ? () => call(isStreamed, tokens)
      : await openWay(way, { baseUrl: `${providerUrl}/v1`, tokens, isMetered: variant === 'tokentally' })
  let left = command.count
  const oneAfterAnother = async () => {
    while (left-- > 0) await make()
  }
  await Promise.all(Array.from({ length: command.concurrency }, oneAfterAnother))
}

async function call(isStreamed: boolean, tokens: number): Promise<void> {
  const request = {
    model: 'gpt-4o-mini',
    max_tokens: tokens,
    messages: [{ role: 'user' as const, content: 'Say something that takes a while to say.' }],
  }
  if (!isStreamed) {
    await client.chat.completions.create(request)
    return
  }
  // The provider takes its time between chunks, so that each arrives by itself, as in life.
  const options = { headers: { 'x-fake': 'slow=1' } }
  for await (const _ of await client.chat.completions.create({ ...request, stream: true }, options)) {
    // The application reads; what it does with the text is not measured.
  }
}

async function instrument(kind: Variant) {
  switch (kind) {
    case 'bare':
      return { middleware: undefined, flush: async () => undefined }
    case 'tokentally': {
      const { tokenTally, flush: deliver } = await import('@tokentally/express')
      const handler = tokenTally({
        url: sinkUrl,
        apiKey: 'tt_bench',
        spool,
        endpoints: `${providerUrl}/v1=openai`,
        customer: (request) => request.get('x-customer-id'),
        feature: (request) => request.path,
        onError: (error) => process.stderr.write(`${String(error)}\n`),
      })
      return { middleware: handler, flush: () => deliver() }
    }
    case 'opentelemetry': {
      const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-proto')
      const { NodeSDK } = await import('@opentelemetry/sdk-node')
      const { BatchSpanProcessor } = await import('@opentelemetry/sdk-trace-node')
      const { OpenAIInstrumentation } = await import('@opentelemetry/instrumentation-openai')
      const processor = new BatchSpanProcessor(new OTLPTraceExporter({ url: `${sinkUrl}/v1/traces` }))
      const instrumentations = [new OpenAIInstrumentation()]
      new NodeSDK({
        spanProcessors: [processor],
        metricReaders: [],
        resourceDetectors: [],
        instrumentations,
      }).start()
      return { middleware: undefined, flush: () => processor.forceFlush() }
    }
  }
}
