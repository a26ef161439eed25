import { Worker } from 'node:worker_threads'
import type { WireFormat } from '../formats.ts'
import type { KeptOutput } from '../reader.ts'
import { type CountTask, countTaskByBytes, quarterOfBytes } from './count-task.ts'
import type { CalledModel } from './registry.ts'

/** A count and what made it. */
export interface TokenCount {
  readonly tokens: number
  /** Tokenizer and version, such as `tiktoken/o200k_base@1.0.22`; `+sampled` where a part stood for the whole. */
  readonly tokenizer: string
  /** Whether the tokenizer claims to count what the provider counts. */
  readonly isExact?: boolean
}

/** A request as the application sent it. */
export interface SentRequest extends CalledModel {
  readonly format: WireFormat
  readonly body: string | undefined
}

/** What a model wrote, as its reader keeps it. */
export interface WrittenAnswer extends CalledModel, KeptOutput {
  readonly format: WireFormat
}

/**
 * Counts tokens where the provider reported none. The work is done in a worker thread that starts with the first
 * count and never keeps the process alive: reading a request and loading a tokenizer too, so that the caller only
 * hands strings over, half a million characters in one turn of its event loop.
 *
 * No count ever rejects. When the worker cannot start, dies or is too far behind, bytes are counted.
 */
export interface TokenCounter {
  /** A text that belongs to no conversation. */
  count(text: string, model: string): Promise<TokenCount>
  /** A request with all that its provider adds: roles, tools, the beginning of the reply. */
  countRequest(request: SentRequest): Promise<TokenCount>
  countAnswer(answer: WrittenAnswer): Promise<TokenCount>
  close(): Promise<void>
}

/** A piece of a text for the worker; the last one carries the task. */
export interface CountRequest {
  readonly id: number
  readonly slice: string
  readonly task?: CountTask
}
export interface CountAnswer {
  readonly id: number
  readonly tokens: number
  readonly tokenizer: string
  readonly isExact: boolean
}

/** Handed to the worker in one turn of the event loop, in characters. A million took 1 to 3 ms on two busy cores. */
const SLICE_CHARS = 512 * 1024
/** Texts that wait for their count, in characters together; what comes beyond is counted by bytes. */
const WAITING_CHARS_MAX = 64 * 1024 * 1024
/** A worker that never answered is not started again after so many attempts. */
const STARTS_MAX = 3
/** A worker that needs more than this on JavaScript's heap has gone wrong, and is given up. */
const WORKER_HEAP_MAX_MB = 1024

export const BYTES_TOKENIZER = 'bytes/4'

/** Where no tokenizer is at hand: a token is about four bytes of UTF-8 (`countTaskByBytes`). */
export function countByBytes(text: string): TokenCount {
  return { tokens: quarterOfBytes(text), tokenizer: BYTES_TOKENIZER }
}

/** The same for a request. */
export function countRequestByBytes({ body = '', ...request }: SentRequest): TokenCount {
  return { tokens: countTaskByBytes({ kind: 'request', ...request }, body), tokenizer: BYTES_TOKENIZER }
}

/** The same for an answer, whose events must be read for it. */
export function countAnswerByBytes(answer: WrittenAnswer): TokenCount {
  const tokens = countTaskByBytes(answerTask(answer), answer.text + answer.events)
  return { tokens, tokenizer: BYTES_TOKENIZER }
}

function answerTask({ text, events: _, ...answer }: WrittenAnswer): CountTask {
  return { kind: 'answer', eventsAt: text.length, ...answer }
}

interface Waiting {
  readonly task: CountTask
  readonly text: string
  readonly resolve: (count: TokenCount) => void
}

/** Another worker, in tests. */
export interface TokenCounterOptions {
  readonly workerUrl?: URL
  readonly workerHeapMaxMb?: number
}

/** A counter whose worker starts with the first count. */
export function createTokenCounter({
  workerUrl = defaultWorkerUrl(),
  workerHeapMaxMb = WORKER_HEAP_MAX_MB,
}: TokenCounterOptions = {}): TokenCounter {
  let worker: Worker | undefined
  let failedStarts = 0
  let nextId = 0
  let waitingChars = 0
  const waiting = new Map<number, Waiting>()

  const settle = (id: number, count: (waiting: Waiting) => TokenCount) => {
    const entry = waiting.get(id)
    if (entry === undefined) return
    waiting.delete(id)
    waitingChars -= entry.text.length
    entry.resolve(count(entry))
  }
  const giveUp = () => {
    worker = undefined
    for (const id of [...waiting.keys()]) settle(id, byBytes)
  }
  const start = (): Worker => {
    const started = new Worker(workerUrl, {
      // What the app's own start preloads is not for this thread: a meter above all.
      execArgv: workerUrl.pathname.endsWith('.ts') ? ['--conditions=source'] : [],
      env: {},
      resourceLimits: { maxOldGenerationSizeMb: workerHeapMaxMb },
    })
    failedStarts++
    started.on('message', ({ id, tokens, tokenizer, isExact }: CountAnswer) => {
      failedStarts = 0
      settle(id, () => ({ tokens, tokenizer, ...(isExact && { isExact }) }))
    })
    // One that was closed ends later, when another may be at work.
    const lost = () => {
      if (worker === started) giveUp()
    }
    started.on('error', lost)
    started.on('exit', lost)
    // Last: listening for messages keeps the process alive again.
    started.unref()
    return started
  }
  const handOver = (to: Worker, id: number, text: string, task: CountTask, start = 0) => {
    const slice = text.slice(start, start + SLICE_CHARS)
    const next = start + slice.length
    if (next >= text.length) {
      to.postMessage({ id, slice, task } satisfies CountRequest)
      return
    }
    to.postMessage({ id, slice } satisfies CountRequest)
    setImmediate(() => {
      // Given up meanwhile: nobody waits.
      if (waiting.has(id) && worker === to) handOver(to, id, text, task, next)
    })
  }
  const count = (task: CountTask, text: string): Promise<TokenCount> => {
    if (text === '') return Promise.resolve({ tokens: 0, tokenizer: 'none' })
    const { promise, resolve } = Promise.withResolvers<TokenCount>()
    const entry = { task, text, resolve }
    if (waitingChars + text.length > WAITING_CHARS_MAX || failedStarts >= STARTS_MAX) {
      resolve(byBytes(entry))
      return promise
    }
    const id = nextId++
    waiting.set(id, entry)
    waitingChars += text.length
    try {
      worker ??= start()
      handOver(worker, id, text, task)
    } catch {
      giveUp()
    }
    return promise
  }

  return {
    count: (text, model) => count({ kind: 'text', provider: '', model }, text),
    countRequest: ({ body = '', ...request }) => count({ kind: 'request', ...request }, body),
    countAnswer: (answer) => count(answerTask(answer), answer.text + answer.events),
    async close() {
      const running = worker
      giveUp()
      failedStarts = 0
      await running?.terminate()
    },
  }
}

function byBytes({ task, text }: Waiting): TokenCount {
  return { tokens: countTaskByBytes(task, text), tokenizer: BYTES_TOKENIZER }
}

/** The worker stands beside this file under the same extension, as source and as what is published. */
function defaultWorkerUrl(): URL {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  return new URL(`./token-worker.${extension}`, import.meta.url)
}
