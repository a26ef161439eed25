import { AdaptedCall, type AdaptedEnd, countOf, fieldOf, isAbort, textIn, textOf } from './adapted-call.ts'
import { budgetErrorOf } from './enforce/budget-exceeded-error.ts'
import { type CallKind, type CallScope, markScope, openScope, runInScope } from './metered-calls.ts'
import { runningTap } from './start.ts'
import { forgotten, guarded, type TapDependencies } from './tap/tap.ts'

/**
 * The way in for the Vercel AI SDK, versions 6 and 7: middleware for `wrapLanguageModel` and `wrapEmbeddingModel`.
 * Where the model's provider sends through a transport that is metered already, that event stands and the
 * middleware adds none; where it does not (a `fetch` of the application's own that answers by itself, gRPC,
 * a model that runs in the process), the event is made of what the model reports.
 *
 * The types are of the shape of `@ai-sdk/provider` 3 and 4 (`LanguageModelV3Middleware`, `V4`), so that the SDK itself
 * is not needed. Both versions report usage alike: `inputTokens.total` is all input, `outputTokens.total` all output.
 */

/** Options of the middleware. */
export interface VercelAiOptions {
  /** The provider on events. Default: what the model calls its provider, in the meter's words. */
  readonly provider?: string
}

/** A model, as far as it is needed. */
interface ModelName {
  readonly provider: string
  readonly modelId: string
}

/** Middleware for language models. */
export interface LanguageModelMeter {
  /** `ai` 6 wants this version; `ai` 7 takes any. */
  readonly specificationVersion: 'v3'
  readonly wrapGenerate: <Result extends object>(options: {
    readonly doGenerate: () => PromiseLike<Result>
    readonly params: { readonly prompt: unknown }
    readonly model: ModelName
  }) => Promise<Result>
  readonly wrapStream: <Part, Result extends { stream: ReadableStream<Part> }>(options: {
    readonly doStream: () => PromiseLike<Result>
    readonly params: { readonly prompt: unknown }
    readonly model: ModelName
  }) => Promise<Result>
}

/** Middleware for embedding models. */
export interface EmbeddingModelMeter {
  readonly specificationVersion: 'v3'
  readonly wrapEmbed: <Result extends object>(options: {
    readonly doEmbed: () => PromiseLike<Result>
    readonly params: { readonly values: readonly unknown[] }
    readonly model: ModelName
  }) => Promise<Result>
}

/**
 * Meters a language model, each call once.
 *
 * @example wrapLanguageModel({ model: openai('gpt-4o-mini'), middleware: tokenTallyMiddleware() })
 */
export function tokenTallyMiddleware(options: VercelAiOptions = {}): LanguageModelMeter {
  return {
    specificationVersion: 'v3',
    wrapGenerate: ({ doGenerate, params, model }) =>
      metered('text', doGenerate, (dependencies) => callOf(dependencies, model, params.prompt, options), {
        read: readAnswer,
      }),
    wrapStream: ({ doStream, params, model }) =>
      metered('text', doStream, (dependencies) => callOf(dependencies, model, params.prompt, options), {
        watch: watchStream,
      }),
  }
}

/**
 * Meters an embedding model, each call once.
 *
 * @example wrapEmbeddingModel({ model, middleware: tokenTallyEmbeddingMiddleware() })
 */
export function tokenTallyEmbeddingMiddleware(options: VercelAiOptions = {}): EmbeddingModelMeter {
  return {
    specificationVersion: 'v3',
    wrapEmbed: ({ doEmbed, params, model }) =>
      metered(
        'embeddings',
        doEmbed,
        (dependencies) =>
          new AdaptedCall(dependencies, {
            provider: options.provider ?? model.provider,
            model: model.modelId,
            operation: 'embeddings',
            promptText: () => textIn(params.values),
          }),
        { read: readEmbeddings },
      ),
  }
}

function callOf(
  dependencies: TapDependencies,
  model: ModelName,
  prompt: unknown,
  { provider }: VercelAiOptions,
): AdaptedCall {
  return new AdaptedCall(dependencies, {
    provider: provider ?? model.provider,
    model: model.modelId,
    operation: 'chat',
    promptText: () => textIn(prompt),
  })
}

/** A call that the middleware meters itself if nothing inside of it does. */
interface Own {
  readonly call: AdaptedCall
  readonly finish: (end: AdaptedEnd) => void
  readonly scope: CallScope
}

/** What becomes of an answer that no tap has seen: it is read at once, or watched as it passes. */
type Reading<Result> =
  | { readonly read: (result: Result, call: AdaptedCall) => void }
  | { readonly watch: (result: Result, own: Own) => Result }

async function metered<Result extends object>(
  kind: CallKind,
  work: () => PromiseLike<Result>,
  callFor: (dependencies: TapDependencies) => AdaptedCall,
  reading: Reading<Result>,
): Promise<Result> {
  const dependencies = runningTap()
  const call = dependencies && guarded(dependencies, () => callFor(dependencies))
  if (dependencies === undefined || call === undefined) return work()
  const refusal = dependencies.enforcer?.refusalOf(call.calledModel)
  if (refusal !== undefined) throw refusal
  const scope = openScope(kind)
  const finish = finisher(call, scope, dependencies)
  let result: Result
  try {
    result = await runInScope(scope, work)
  } catch (error) {
    if (budgetErrorOf(error) !== undefined) throw error
    call.failed(error)
    finish('failed')
    throw error
  }
  if (scope.isMetered) return result
  if ('watch' in reading)
    return guarded(dependencies, () => reading.watch(result, { call, finish, scope })) ?? result
  guarded(dependencies, () => reading.read(result, call))
  finish('complete')
  return result
}

/** Makes the event once, unless a tap has made one meanwhile. */
function finisher(
  call: AdaptedCall,
  scope: CallScope,
  dependencies: TapDependencies,
): (end: AdaptedEnd) => void {
  let isFinished = false
  return (end) => {
    if (isFinished || scope.isMetered) return
    isFinished = true
    markScope(scope, scope.kind)
    guarded(dependencies, () => call.meter(end))
  }
}

function readAnswer(result: object, call: AdaptedCall): void {
  readResponse(fieldOf(result, 'response'), call)
  readUsage(fieldOf(result, 'usage'), fieldOf(result, 'providerMetadata'), call)
  const content = fieldOf(result, 'content')
  if (!Array.isArray(content)) return
  for (const part of content) {
    call.addOutput(fieldOf(part, 'text'))
    if (fieldOf(part, 'type') === 'tool-call') addToolCall(part, call)
  }
}

function readEmbeddings(result: object, call: AdaptedCall): void {
  readResponse(fieldOf(result, 'response'), call)
  const tokens = countOf(fieldOf(fieldOf(result, 'usage'), 'tokens'))
  call.report({ quantities: { input_tokens: Number.isNaN(tokens) ? undefined : tokens } })
}

function readResponse(response: unknown, call: AdaptedCall): void {
  call.report({
    responseId: textOf(fieldOf(response, 'id')),
    responseModel: textOf(fieldOf(response, 'modelId')),
  })
  call.respond(headersOf(fieldOf(response, 'headers')))
}

function readUsage(usage: unknown, providerMetadata: unknown, call: AdaptedCall): void {
  const input = fieldOf(usage, 'inputTokens')
  const output = fieldOf(usage, 'outputTokens')
  const raw = fieldOf(usage, 'raw')
  call.report({
    serviceTier: tierOf(providerMetadata) ?? textOf(fieldOf(raw, 'service_tier')),
    quantities: {
      input_tokens: countOf(fieldOf(input, 'total')),
      cache_read_tokens: countOf(fieldOf(input, 'cacheRead')),
      cache_write_tokens: countOf(fieldOf(input, 'cacheWrite')),
      // Anthropic's own words: its writes that last an hour have another price.
      cache_write_1h_tokens: countOf(fieldOf(fieldOf(raw, 'cache_creation'), 'ephemeral_1h_input_tokens')),
      output_tokens: countOf(fieldOf(output, 'total')),
      reasoning_tokens: countOf(fieldOf(output, 'reasoning')),
    },
    raw,
  })
}

/** Metadata stand under each provider's own name. */
function tierOf(providerMetadata: unknown): string | undefined {
  if (typeof providerMetadata !== 'object' || providerMetadata === null) return undefined
  for (const metadata of Object.values(providerMetadata)) {
    const tier = textOf(fieldOf(metadata, 'serviceTier'))
    if (tier !== undefined) return tier
  }
  return undefined
}

function headersOf(headers: unknown): Readonly<Record<string, string | undefined>> {
  if (typeof headers !== 'object' || headers === null) return {}
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name.toLowerCase(),
      typeof value === 'string' ? value : undefined,
    ]),
  )
}

/** Puts a stream that is watched in the place of the answer's own. */
function watchStream<Part, Result extends { stream: ReadableStream<Part> }>(
  result: Result,
  own: Own,
): Result {
  own.call.report({ isStreamed: true })
  own.call.respond(headersOf(fieldOf(fieldOf(result, 'response'), 'headers')))
  return { ...result, stream: watched(result.stream, own) }
}

/**
 * The same parts at the same pace: one is asked for where the application asks for one. A stream that is left or
 * forgotten has what came until then.
 */
function watched<Part>(source: ReadableStream<Part>, own: Own): ReadableStream<Part> {
  const reader = source.getReader()
  const parts = new StreamParts(own.call)
  const leave = () => own.finish('abandoned')
  const stream = new ReadableStream<Part>(
    {
      async pull(controller) {
        // A source may send its request only now: a tap's call in here is the same one.
        const next = await runInScope(own.scope, () => reader.read()).catch((error: unknown) => {
          own.call.failed(error)
          own.finish(isAbort(error) && own.call.hasOutput ? 'abandoned' : parts.endOf('dropped'))
          throw error
        })
        if (next.done) {
          own.finish(parts.endOf(parts.isFinished ? 'complete' : 'dropped'))
          controller.close()
          return
        }
        parts.see(next.value)
        controller.enqueue(next.value)
      },
      cancel(reason) {
        leave()
        return reader.cancel(reason)
      },
    },
    { highWaterMark: 0 },
  )
  forgotten.register(stream, leave)
  return stream
}

/** The parts of a stream, as far as they say something of usage. */
class StreamParts {
  readonly #call: AdaptedCall
  isFinished = false
  #hasFailed = false
  #hasToolInput = false

  constructor(call: AdaptedCall) {
    this.#call = call
  }

  see(part: unknown): void {
    switch (fieldOf(part, 'type')) {
      case 'text-delta':
      case 'reasoning-delta':
        this.#call.addOutput(fieldOf(part, 'delta'))
        break
      case 'tool-input-delta':
        this.#hasToolInput = true
        this.#call.addOutput(fieldOf(part, 'delta'))
        break
      case 'tool-call':
        if (!this.#hasToolInput) addToolCall(part, this.#call)
        break
      case 'response-metadata':
        this.#call.report({
          responseId: textOf(fieldOf(part, 'id')),
          responseModel: textOf(fieldOf(part, 'modelId')),
        })
        break
      case 'finish':
        this.isFinished = true
        readUsage(fieldOf(part, 'usage'), fieldOf(part, 'providerMetadata'), this.#call)
        break
      case 'error':
        this.#hasFailed = true
        this.#call.failed(fieldOf(part, 'error'))
        break
    }
  }

  /** A stream that only said that it failed is a failure. */
  endOf(end: AdaptedEnd): AdaptedEnd {
    if (this.#call.hasOutput) return this.#hasFailed ? 'dropped' : end
    return this.#hasFailed || end === 'dropped' ? 'failed' : end
  }
}

function addToolCall(part: unknown, call: AdaptedCall): void {
  call.addOutput(fieldOf(part, 'toolName'))
  call.addOutput(fieldOf(part, 'input'))
}
