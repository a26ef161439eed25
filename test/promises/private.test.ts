import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import Anthropic from '@anthropic-ai/sdk'
import { BedrockRuntimeClient, ConverseCommand, ConverseStreamCommand } from '@aws-sdk/client-bedrock-runtime'
import { GoogleGenAI } from '@google/genai'
import { trace } from '@opentelemetry/api'
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node'
import { attribute, flush, meter, shutdown, start } from '@tokentally/meter'
import { CohereClientV2 } from 'cohere-ai'
import Groq from 'groq-sdk'
import { Ollama } from 'ollama'
import OpenAI, { toFile } from 'openai'
import Together from 'together-ai'
import { getGlobalDispatcher, setGlobalDispatcher } from 'undici'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { type FakeVendors, MARKER, type Plan, startFakeVendors } from '../fake-provider/vendors/index.ts'
import {
  createTestDatabase,
  type SpawnedService,
  spawnService,
  type TestDatabase,
  waitFor,
} from '../harness/index.ts'
import { Mistral } from './exact/mistral.ts'

/**
 * Promise 5: private. Words that nobody else uses are planted wherever an application and a provider put text, in
 * calls that are answered, streamed, refused and left. Afterwards everything that was written is searched for them.
 */

const CANARY = 'Kanarienvogel9F3Q'
const PROMPT = `${CANARY}-prompt "quoted" é\nwith a second line`
/** What must be found: the search finds what is there. */
const CONTROL = 'control-of-the-search'
const LOCAL_CONTROL = 'control-of-local-mode'
const HEADERS = { 'x-secret': `${CANARY}-header` }
const REQUEST = { model: 'a-model', messages: [{ role: 'user' as const, content: PROMPT }] }
const TOOL = {
  type: 'function' as const,
  function: {
    name: `${CANARY}-tool`,
    description: `${CANARY}-description`,
    parameters: { type: 'object', properties: {} },
  },
}

const PLAN: Partial<Plan> = {
  truth: { input: 20, output: 30 },
  say: {
    reasoning: [`${CANARY}-thought`],
    text: [`${CANARY}-answer`, MARKER, ` ${CANARY}-answer`],
    tool: { name: 'a_tool', arguments: ['{"city":"', `${CANARY}-argument"}`] },
  },
  quoted: `You said: ${PROMPT}`,
}

/** Waits between attempts have nothing to do with what is tested. */
const once = { maxRetries: 0, defaultHeaders: HEADERS } as const

/** What each SDK is asked, plain or streamed. Clients are made once the meter is there. */
type Ask = (isStreamed: boolean) => Promise<unknown>

function asks(bedrock: BedrockRuntimeClient): Readonly<Record<string, Ask>> {
  const openai = new OpenAI({ apiKey: 'k', ...once })
  const deepseek = new OpenAI({ apiKey: 'k', baseURL: 'https://api.deepseek.com', ...once })
  const anthropic = new Anthropic({ apiKey: 'k', ...once })
  const groq = new Groq({ apiKey: 'k', ...once })
  const together = new Together({ apiKey: 'k', ...once })
  const mistral = new Mistral({ apiKey: 'k' })
  const cohere = new CohereClientV2({ token: 'k', maxRetries: 0, headers: HEADERS })
  const google = new GoogleGenAI({ apiKey: 'k', httpOptions: { headers: HEADERS } })
  const ollama = new Ollama({ headers: HEADERS })
  const bedrockInput = {
    modelId: 'eu.anthropic.claude-opus-5-20260701-v1:0',
    messages: [{ role: 'user' as const, content: [{ text: PROMPT }] }],
  }
  return {
    openai: (stream) => openai.chat.completions.create({ ...REQUEST, stream, tools: [TOOL] }),
    'openai responses': (stream) => openai.responses.create({ model: 'gpt-5', input: PROMPT, stream }),
    'openai transcription': async (stream) =>
      openai.audio.transcriptions.create({
        model: 'gpt-4o-transcribe',
        file: await toFile(Buffer.from(`${CANARY}-file`), `${CANARY}-name.wav`, { type: 'audio/wav' }),
        prompt: PROMPT,
        stream,
      }),
    deepseek: (stream) => deepseek.chat.completions.create({ ...REQUEST, stream }),
    anthropic: (stream) => anthropic.messages.create({ ...REQUEST, max_tokens: 100, stream }),
    groq: (stream) => groq.chat.completions.create({ ...REQUEST, stream }),
    together: (stream) => together.chat.completions.create({ ...REQUEST, stream }),
    mistral: (stream) => (stream ? mistral.chat.stream(REQUEST) : mistral.chat.complete(REQUEST)),
    cohere: async (stream) => (stream ? cohere.chatStream(REQUEST) : cohere.chat(REQUEST)),
    gemini: (stream) => {
      const request = { model: 'gemini-2.5-flash', contents: PROMPT }
      return stream ? google.models.generateContentStream(request) : google.models.generateContent(request)
    },
    // It writes into what it is given.
    ollama: (stream) => (stream ? ollama.chat({ ...REQUEST, stream }) : ollama.chat({ ...REQUEST })),
    bedrock: async (stream) =>
      stream
        ? (await bedrock.send(new ConverseStreamCommand(bedrockInput))).stream
        : bedrock.send(new ConverseCommand(bedrockInput)),
  }
}

let vendors: FakeVendors
let database: TestDatabase
let service: SpawnedService
let directory: string
let tracerProvider: NodeTracerProvider
const spans = new InMemorySpanExporter()
const errors: unknown[] = []
const before = getGlobalDispatcher()
const written: string[] = []

beforeAll(async () => {
  vendors = await startFakeVendors()
  setGlobalDispatcher(vendors.dispatcher())
  database = await createTestDatabase()
  service = await spawnService({ databaseUrl: database.url, environment: { LOG_LEVEL: 'trace' } })
  directory = await mkdtemp(join(tmpdir(), 'tokentally-'))
  tracerProvider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] })
  tracerProvider.register()
  for (const stream of [process.stdout, process.stderr]) {
    const write = stream.write
    vi.spyOn(stream, 'write').mockImplementation((...args: unknown[]) => {
      written.push(String(args[0]))
      return Reflect.apply(write, stream, args)
    })
  }
})
afterAll(async () => {
  vi.restoreAllMocks()
  await tracerProvider.shutdown()
  trace.disable()
  setGlobalDispatcher(before)
  await service.stop()
  await vendors.close()
  await database.drop()
  await rm(directory, { recursive: true })
})

/** Makes every call in every way. @returns how many there were */
async function callEverything(): Promise<number> {
  const bedrock = meter(
    new BedrockRuntimeClient({
      region: 'eu-central-1',
      endpoint: vendors.bedrockEndpoint,
      credentials: { accessKeyId: 'k', secretAccessKey: 'k' },
      maxAttempts: 1,
    }),
  )
  let calls = 0
  for (const ask of Object.values(asks(bedrock))) {
    vendors.next(PLAN)
    await ask(false)
    vendors.next(PLAN)
    await readAll(await ask(true))
    for (const isStreamed of [false, true]) {
      vendors.next({ ...PLAN, failures: [400] })
      await expect(ask(isStreamed)).rejects.toThrow(CANARY)
    }
    vendors.next({ ...PLAN, isPausing: true })
    await readAll(await ask(true), true)
    vendors.next({ ...PLAN, isPausing: true, isDropped: true })
    await expect(readAll(await ask(true))).rejects.toThrow()
    calls += 6
  }
  bedrock.destroy()
  return calls
}

async function readAll(stream: unknown, isLeaving = false): Promise<void> {
  if (!isAsyncIterable(stream)) throw new TypeError('the answer is no stream')
  for await (const item of stream) {
    if (!JSON.stringify(item).includes(MARKER.trim())) continue
    vendors.goOn()
    if (isLeaving) break
  }
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value
}

/** A text as it may stand in files and logs: itself, and in base64, where it begins at any of three places. */
function formsOf(text: string): string[] {
  const encoded = [0, 1, 2].map((shift) => {
    const base64 = Buffer.from(`${' '.repeat(shift)}${text}`).toString('base64')
    // What the neighbours change is left out on both sides.
    return base64.slice(shift === 0 ? 0 : 4, -4)
  })
  return [
    text,
    ...encoded,
    Buffer.from(text).toString('hex'),
    Buffer.from(text, 'utf16le').toString('latin1'),
  ]
}

/** Where a text is found, among all that was written anywhere. */
async function whereIs(text: string): Promise<string[]> {
  const found: string[] = []
  const look = (place: string, content: string) => {
    if (formsOf(text).some((form) => content.includes(form))) found.push(place)
  }
  for (const file of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue
    look(`file ${file.name}`, await readFile(join(file.parentPath, file.name), 'latin1'))
  }
  const tables = await database.pool.query<{ name: string }>(
    "select format('%I.%I', table_schema, table_name) as name from information_schema.tables where table_schema not in ('pg_catalog', 'information_schema') and table_type = 'BASE TABLE'",
  )
  for (const { name } of tables.rows) {
    const { rows } = await database.pool.query<{ row: string }>(`select t::text as row from ${name} as t`)
    look(`table ${name}`, rows.map(({ row }) => row).join('\n'))
  }
  look('log of the service', service.output())
  look('metrics', await (await fetch(`${service.url}/metrics`)).text())
  const told = spans.getFinishedSpans().map(({ name, attributes, events, status, links, resource }) => ({
    name,
    attributes,
    events,
    status,
    links,
    resource: resource.attributes,
  }))
  look('spans', JSON.stringify(told))
  look('errors', inspect(errors, { depth: 10 }))
  look('output of the application', written.join(''))
  return found
}

const options = () => ({
  endpoints: 'http://127.0.0.1:11434=ollama',
  spool: join(directory, 'spool'),
  promptHashKey: 'a key of this test',
  onError: (error: unknown) => errors.push(error),
})

describe('no word of a prompt or an answer is found', () => {
  it('with a service: in the spool, the database, logs, spans, errors or metrics', async () => {
    // Nobody listens on the discard port: everything stays in the spool for the meter that comes next.
    start({ ...options(), url: 'http://127.0.0.1:9', apiKey: 'none' })
    const calls = await attribute({ customer: CONTROL }, callEverything)
    await waitFor(() => spans.getFinishedSpans().length >= calls, 'each call has ended')
    expect(await whereIs(CANARY)).toEqual([])
    expect((await whereIs(CONTROL)).filter((place) => place.startsWith('file '))).not.toEqual([])
    await shutdown()

    start({ ...options(), url: service.url, apiKey: service.ownerKey })
    await waitFor(async () => {
      await flush()
      const { rows } = await database.pool.query('select count(*)::int as events from event_key')
      return Number(rows[0]?.events) >= calls
    }, `${calls} events arrived`)
    expect(await whereIs(CANARY)).toEqual([])
    expect(await whereIs(CONTROL)).toContain('table public.dimension_set')
    await shutdown()
  })

  it('without a service: in the file of local mode', async () => {
    await rm(directory, { recursive: true })
    start(options())
    await attribute({ customer: LOCAL_CONTROL }, callEverything)
    await flush()
    expect(await whereIs(CANARY)).toEqual([])
    await shutdown()
    expect(await whereIs(CANARY)).toEqual([])
    expect(await whereIs(LOCAL_CONTROL)).not.toEqual([])
  })
})
