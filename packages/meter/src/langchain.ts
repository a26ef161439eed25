import { AdaptedCall, countOf, fieldOf, isAbort, textIn, textOf } from './adapted-call.ts'
import { budgetErrorOf } from './enforce/budget-exceeded-error.ts'
import { type EndedRun, meteredCalls, type OpenRun } from './metered-calls.ts'
import { runningTap } from './start.ts'
import { guarded, type TapDependencies } from './tap/tap.ts'

/**
 * The way in for LangChain.js 1: a callback handler, given to a model, a chain or a single call. Where a run's call
 * goes through a transport that is metered already, that event stands; where it does not, the event is made of
 * what the model's message reports (`usage_metadata`, where `input_tokens` is all input).
 *
 * The class has the shape of `BaseCallbackHandler` of `@langchain/core` 1, so that LangChain itself is not needed.
 *
 * A run is open from its start to its end or failure. LangChain says nothing of a stream that the application
 * leaves: such a run is over when nothing has come for ten minutes, and has what came until then.
 */

/** After this long without a word, a run was left. */
const IDLE_MAX_MS = 600_000
const SWEEP_MS = 60_000

interface Run {
  readonly call: AdaptedCall
  readonly register: OpenRun
  readonly dependencies: TapDependencies
  readonly provider: string
  readonly model: string | undefined
  readonly responseIds: Set<string>
  /** Anthropic's own count so far: each chunk's replaces the one before, and LangChain adds them up. */
  anthropicOutputTokens: number | undefined
  lastElapsed: number
  hasTokens: boolean
}

/** By LangChain's id of the run, for all handlers: a run that is told to two of them is one. */
const runs = new Map<string, Run>()
let isSweeping = false

/**
 * Meters the calls of LangChain's models, each once.
 *
 * @example await model.invoke('…', { callbacks: [new TokenTallyCallbackHandler()] })
 */
export class TokenTallyCallbackHandler {
  readonly name = 'tokentally'
  /** LangChain waits for us, so that a run starts in the context of whoever makes the call. */
  readonly awaitHandlers = true
  readonly raiseError = false
  readonly ignoreLLM = false
  readonly ignoreChain = true
  readonly ignoreAgent = true
  readonly ignoreRetriever = true
  readonly ignoreCustomEvent = true

  /** A handler has no state of its own: all copies are the same. */
  copy(): this {
    return this
  }

  handleChatModelStart(
    model: unknown,
    messages: readonly (readonly unknown[])[],
    runId: string,
    _parentRunId?: string,
    extraParams?: Readonly<Record<string, unknown>>,
    _tags?: readonly string[],
    metadata?: Readonly<Record<string, unknown>>,
  ): void {
    open(runId, 'chat', () => textIn(messages), { model, extraParams, metadata })
  }

  handleLLMStart(
    model: unknown,
    prompts: readonly string[],
    runId: string,
    _parentRunId?: string,
    extraParams?: Readonly<Record<string, unknown>>,
    _tags?: readonly string[],
    metadata?: Readonly<Record<string, unknown>>,
  ): void {
    open(runId, 'text_completion', () => textIn(prompts), { model, extraParams, metadata })
  }

  handleLLMNewToken(
    token: string,
    _index: unknown,
    runId: string,
    _parentRunId?: string,
    _tags?: readonly string[],
    fields?: unknown,
  ): void {
    const run = runs.get(runId)
    if (run === undefined) return
    run.hasTokens = true
    run.lastElapsed = run.dependencies.elapsed()
    run.call.report({ isStreamed: true })
    run.call.addOutput(token)
    const message = fieldOf(fieldOf(fields, 'chunk'), 'message')
    addId(run, fieldOf(message, 'id'))
    const toolCalls = fieldOf(message, 'tool_call_chunks')
    if (Array.isArray(toolCalls)) {
      for (const toolCall of toolCalls)
        for (const name of ['name', 'args']) run.call.addOutput(fieldOf(toolCall, name))
    }
    const usage = fieldOf(message, 'usage_metadata')
    if (usage !== undefined && run.provider === 'anthropic') {
      run.anthropicOutputTokens = countOf(fieldOf(usage, 'output_tokens'))
    }
  }

  handleLLMEnd(
    output: { readonly generations: readonly (readonly unknown[])[] },
    runId: string,
    _parentRunId?: string,
    _tags?: readonly string[],
    extraParams?: Readonly<Record<string, unknown>>,
  ): void {
    const run = take(runId)
    if (run === undefined) return
    // From LangChain's cache: nothing was called.
    if (extraParams?.['cached'] === true) run.register.drop()
    else endOk(run, output)
  }

  handleLLMError(
    error: unknown,
    runId: string,
    _parentRunId?: string,
    _tags?: readonly string[],
    extraParams?: Readonly<Record<string, unknown>>,
  ): void {
    const run = take(runId)
    if (run === undefined) return
    // A call that was refused was none.
    if (extraParams?.['cached'] === true || budgetErrorOf(error) !== undefined) {
      run.register.drop()
      return
    }
    run.call.failed(error)
    endEarly(run, run.hasTokens || isAbort(error) ? 'cut' : 'failed', isAbort(error))
  }
}

function open(
  runId: string,
  operation: 'chat' | 'text_completion',
  promptText: () => string,
  told: { readonly model: unknown; readonly extraParams: unknown; readonly metadata: unknown },
): void {
  const dependencies = runningTap()
  if (dependencies === undefined || runs.has(runId)) return
  guarded(dependencies, () => {
    const params = fieldOf(told.extraParams, 'invocation_params')
    const model =
      textOf(fieldOf(params, 'model')) ??
      textOf(fieldOf(params, 'model_name')) ??
      textOf(fieldOf(told.metadata, 'ls_model_name'))
    const provider = textOf(fieldOf(told.metadata, 'ls_provider')) ?? packageOf(told.model) ?? 'unknown'
    const call = new AdaptedCall(dependencies, { provider, model, operation, promptText, callId: runId })
    runs.set(runId, {
      call,
      register: meteredCalls.open(call.startedElapsed),
      dependencies,
      provider,
      model,
      anthropicOutputTokens: undefined,
      responseIds: new Set(),
      lastElapsed: call.startedElapsed,
      hasTokens: false,
    })
    sweepLater()
  })
}

/** Where a model comes from, by its own serialized name: `langchain`, `llms`, `openai`, `OpenAI`. */
function packageOf(model: unknown): string | undefined {
  const id = fieldOf(model, 'id')
  return Array.isArray(id) ? textOf(id[2]) : undefined
}

function take(runId: string): Run | undefined {
  const run = runs.get(runId)
  runs.delete(runId)
  return run
}

function sweepLater(): void {
  if (isSweeping) return
  isSweeping = true
  setTimeout(sweep, SWEEP_MS).unref()
}

/** Ends runs that were left. */
function sweep(): void {
  isSweeping = false
  for (const [runId, run] of runs) {
    if (run.dependencies.elapsed() - run.lastElapsed < IDLE_MAX_MS) continue
    runs.delete(runId)
    if (run.hasTokens) endEarly(run, 'cut', true)
    else run.register.drop()
  }
  if (runs.size > 0) sweepLater()
}

function endOk(run: Run, output: unknown): void {
  const generations = fieldOf(output, 'generations')
  const first = Array.isArray(generations) && Array.isArray(generations[0]) ? generations[0] : []
  const llmOutput = fieldOf(output, 'llmOutput')
  const tokenUsage = fieldOf(llmOutput, 'tokenUsage')
  const message = fieldOf(first[0], 'message')
  const metadata = fieldOf(message, 'response_metadata')
  // Several prompts in one request: the usage of all is told with the first one.
  if (message === undefined && (first.length === 0 || isEmpty(tokenUsage))) {
    run.register.drop()
    return
  }
  const responseModel =
    textOf(fieldOf(metadata, 'model_name')) ??
    textOf(fieldOf(metadata, 'model')) ??
    textOf(fieldOf(fieldOf(message, 'additional_kwargs'), 'model')) ??
    textOf(fieldOf(llmOutput, 'model_name')) ??
    textOf(fieldOf(llmOutput, 'model'))
  for (const holder of [metadata, llmOutput, message]) addId(run, fieldOf(holder, 'id'))
  if (!run.call.hasOutput) {
    for (const generation of first) run.call.addOutput(fieldOf(generation, 'text'))
    for (const generation of first) {
      const toolCalls = fieldOf(fieldOf(generation, 'message'), 'tool_calls')
      if (Array.isArray(toolCalls)) run.call.addOutput(JSON.stringify(toolCalls))
    }
  }
  const said = quantitiesOf(fieldOf(message, 'usage_metadata'), tokenUsage, metadata)
  const quantities = { ...said, output_tokens: run.anthropicOutputTokens ?? said.output_tokens }
  const [responseId] = run.responseIds
  run.call.report({
    responseModel,
    responseId,
    serviceTier: textOf(fieldOf(metadata, 'service_tier')),
    quantities,
    // LangChain adds up the usages of a stream's chunks, which is not what the provider said.
    raw: run.hasTokens ? undefined : fieldOf(metadata, 'usage'),
  })
  end(run, {
    status: 'ok',
    models: [run.model, responseModel].filter((model) => model !== undefined),
    inputTokens: quantities.input_tokens,
    outputTokens: quantities.output_tokens,
  })
}

/** A run without a whole answer. */
function endEarly(run: Run, status: 'cut' | 'failed', isLeft: boolean): void {
  const models = run.model === undefined ? [] : [run.model]
  end(run, { status, models, inputTokens: undefined, outputTokens: undefined }, isLeft)
}

function end(run: Run, ended: Omit<EndedRun, 'endedElapsed' | 'responseIds'>, isLeft = false): void {
  const { call, dependencies, register, responseIds } = run
  const how =
    ended.status === 'ok' ? 'complete' : !call.hasOutput ? 'failed' : isLeft ? 'abandoned' : 'dropped'
  register.end({ ...ended, endedElapsed: call.ended(), responseIds: [...responseIds] }, () => {
    guarded(dependencies, () => call.meter(how))
  })
}

function addId({ responseIds }: Run, id: unknown): void {
  // LangChain makes ids of its own where the provider gives none.
  if (typeof id === 'string' && id !== '' && !/^(lc_)?run-/.test(id)) responseIds.add(id)
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}

function quantitiesOf(usage: unknown, tokenUsage: unknown, metadata: unknown) {
  const input = countOf(fieldOf(usage, 'input_tokens')) ?? countOf(fieldOf(tokenUsage, 'promptTokens'))
  const output = countOf(fieldOf(usage, 'output_tokens')) ?? countOf(fieldOf(tokenUsage, 'completionTokens'))
  const total = countOf(fieldOf(usage, 'total_tokens'))
  const inputDetails = fieldOf(usage, 'input_token_details')
  const outputDetails = fieldOf(usage, 'output_token_details')
  const cacheCreation = fieldOf(fieldOf(metadata, 'usage'), 'cache_creation')
  return {
    input_tokens: input,
    cache_read_tokens: countOf(fieldOf(inputDetails, 'cache_read')),
    cache_write_tokens: countOf(fieldOf(inputDetails, 'cache_creation')),
    cache_write_1h_tokens: countOf(fieldOf(cacheCreation, 'ephemeral_1h_input_tokens')),
    audio_input_tokens: countOf(fieldOf(inputDetails, 'audio')),
    // Google's thoughts are beside its output, and in the total alone.
    output_tokens:
      output === undefined || input === undefined || total === undefined
        ? output
        : Math.max(output, total - input),
    reasoning_tokens: countOf(fieldOf(outputDetails, 'reasoning')),
    audio_output_tokens: countOf(fieldOf(outputDetails, 'audio')),
  }
}
