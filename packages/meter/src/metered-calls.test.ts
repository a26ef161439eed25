import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import {
  type CallOutcome,
  type EndedRun,
  type FinishCall,
  MeteredCalls,
  markScope,
  markScopes,
  openScope,
  runInScope,
} from './metered-calls.ts'

const OK: CallOutcome = {
  status: 'ok',
  estimated: false,
  quantities: { input_tokens: 10, output_tokens: 5 },
}
const ENDED: EndedRun = {
  endedElapsed: 100,
  responseIds: [],
  models: ['gpt-4o-mini'],
  inputTokens: 10,
  outputTokens: 5,
  status: 'ok',
}

/** A register whose call begins at the given times, and counts what it takes for unmetered. */
function register() {
  const calls = new MeteredCalls()
  const begin = (startedElapsed: number, requestedModel = 'gpt-4o-mini', soFar = {}) => {
    const finish = calls.begin({ startedElapsed, operation: 'chat', requestedModel, soFar: () => soFar })
    return (outcome: CallOutcome = OK) => finish?.(outcome)
  }
  const unmetered = vi.fn<() => void>()
  return { calls, begin, unmetered }
}

describe('a run that has ended', () => {
  it('claims the call with its response id, whatever else is said', () => {
    const { calls, begin, unmetered } = register()
    const run = calls.open(0)
    begin(1, 'other-model')({ ...OK, responseId: 'chatcmpl-1', quantities: { input_tokens: 99 } })
    run.end({ ...ENDED, responseIds: ['chatcmpl-1'] }, unmetered)
    expect(unmetered).not.toHaveBeenCalled()
  })

  it('claims the call with its response id while the end of it is still being read', () => {
    const { calls, begin, unmetered } = register()
    const run = calls.open(0)
    begin(1, 'gpt-4o-mini', { responseId: 'chatcmpl-1' })
    run.end({ ...ENDED, responseIds: ['chatcmpl-1'] }, unmetered)
    expect(unmetered).not.toHaveBeenCalled()
    expect(calls.isOn).toBe(false)
  })

  it.each<[string, Partial<EndedRun>, Partial<CallOutcome>, number, string]>([
    ['of another id', { responseIds: ['chatcmpl-1'] }, { responseId: 'chatcmpl-2' }, 1, 'gpt-4o-mini'],
    ['of other counts', { inputTokens: 11 }, {}, 1, 'gpt-4o-mini'],
    ['of another model', {}, {}, 1, 'gpt-4o'],
    ['that was begun before it', {}, {}, -1, 'gpt-4o-mini'],
    ['that failed', {}, { status: 'error', quantities: {} }, 1, 'gpt-4o-mini'],
    ['that succeeded where it failed', { status: 'failed' }, {}, 1, 'gpt-4o-mini'],
  ])('does not claim a call %s', (_what, ended, outcome, startedElapsed, model) => {
    const { calls, begin, unmetered } = register()
    calls.open(-2)
    const run = calls.open(0)
    begin(startedElapsed, model)({ ...OK, ...outcome })
    run.end({ ...ENDED, ...ended }, unmetered)
    expect(unmetered).toHaveBeenCalledOnce()
  })

  it.each<[string, Partial<EndedRun>, Partial<CallOutcome>]>([
    ['of the same model and counts', {}, {}],
    ['whose id is of another kind', { responseIds: ['msg_1'] }, { responseId: 'resp_1' }],
    ['that answered as another model', { models: ['gpt-4o-2024'] }, { responseModel: 'gpt-4o-2024' }],
    [
      'whose counts were estimated',
      {},
      { estimated: true, quantities: { input_tokens: 3, output_tokens: 4 } },
    ],
    ['whose counts it does not know', { inputTokens: undefined, outputTokens: undefined }, {}],
    ['that failed as it did', { status: 'failed' }, { status: 'error', quantities: {} }],
    ['that was read on after it was left', { status: 'cut' }, {}],
  ])('claims a call %s', (_what, ended, outcome) => {
    const { calls, begin, unmetered } = register()
    const run = calls.open(0)
    begin(1)({ ...OK, ...outcome })
    run.end({ ...ENDED, ...ended }, unmetered)
    expect(unmetered).not.toHaveBeenCalled()
  })

  it('claims a call of Gemini that tells what it read of tools as input, after one of the very same counts', () => {
    const calls = new MeteredCalls()
    const unmetered = vi.fn<() => void>()
    const begin = (quantities: Record<string, number>) =>
      calls.begin({
        startedElapsed: 1,
        operation: 'generate_content',
        requestedModel: 'gemini-2.5-flash',
        soFar: () => ({}),
      })?.({ ...OK, quantities })
    const ended = { ...ENDED, models: ['gemini-2.5-flash'], inputTokens: 10, outputTokens: 105 }
    const [first, second, third] = [calls.open(0), calls.open(0), calls.open(0)]
    begin({ input_tokens: 110, output_tokens: 5 })
    begin({ input_tokens: 10, output_tokens: 105 })
    first.end(ended, unmetered)
    second.end(ended, unmetered)
    expect(unmetered).not.toHaveBeenCalled()
    begin({ input_tokens: 5, output_tokens: 110 })
    third.end(ended, unmetered)
    expect(unmetered).toHaveBeenCalledOnce()
  })

  it('waits for a call that may be its own, and claims it when it is', () => {
    const { calls, begin, unmetered } = register()
    const run = calls.open(0)
    const finish = begin(1)
    run.end(ENDED, unmetered)
    finish()
    expect(unmetered).not.toHaveBeenCalled()
    expect(calls.isOn).toBe(false)
  })

  it('waits for a call that may be its own, and is counted when it is not', () => {
    const { calls, begin, unmetered } = register()
    const run = calls.open(0)
    const finish = begin(1)
    run.end(ENDED, unmetered)
    expect(unmetered).not.toHaveBeenCalled()
    finish({ ...OK, quantities: { input_tokens: 1, output_tokens: 1 } })
    expect(unmetered).toHaveBeenCalledOnce()
  })

  it('waits for a minute at most', () => {
    vi.useFakeTimers()
    const { calls, begin, unmetered } = register()
    const run = calls.open(0)
    begin(1)
    run.end(ENDED, unmetered)
    vi.advanceTimersByTime(59_999)
    expect(unmetered).not.toHaveBeenCalled()
    vi.advanceTimersByTime(1)
    expect(unmetered).toHaveBeenCalledOnce()
    vi.useRealTimers()
  })

  it('drops without a word what called nothing', () => {
    const { calls } = register()
    calls.open(0).drop()
    expect(calls.isOn).toBe(false)
  })
})

it('calls are not kept while nobody asks', () => {
  const { calls } = register()
  const begun = { startedElapsed: 1, operation: 'chat', requestedModel: 'm', soFar: () => ({}) }
  expect(calls.begin(begun)).toBeUndefined()
})

it('a run that is open for long finds its call among the last ones, and one that is still open among all', () => {
  const { calls, begin, unmetered } = register()
  const long = calls.open(0)
  const short = calls.open(0)
  const finish = begin(1, 'long')
  for (let index = 0; index < 10_000; index++) begin(2, 'other')()
  begin(3)()
  short.end(ENDED, unmetered)
  finish()
  long.end({ ...ENDED, models: ['long'] }, unmetered)
  expect(unmetered).not.toHaveBeenCalled()
})

/** Runs as they overlap in time: each is metered by a tap, or not. */
const runsArbitrary = fc.array(
  fc.record({
    startedElapsed: fc.integer({ min: 0, max: 50 }),
    length: fc.integer({ min: 2, max: 50 }),
    isMetered: fc.boolean(),
    hasId: fc.boolean(),
    /** Few, so that many are the same. */
    inputTokens: fc.integer({ min: 1, max: 2 }),
    model: fc.constantFrom('a', 'b'),
    /** When the tap has read the call's end, before the run's end or after. */
    finishesLate: fc.boolean(),
  }),
  { maxLength: 12 },
)

describe('however runs and calls overlap', () => {
  it('each call is counted once: what taps metered, and what adapters count beside', () => {
    fc.assert(
      fc.property(runsArbitrary, (runs) => {
        const calls = new MeteredCalls()
        const counted: string[] = []
        const expected: string[] = []
        const moments: { at: number; order: number; act: () => void }[] = []
        for (const [index, run] of runs.entries()) {
          const { startedElapsed, length, model, inputTokens } = run
          const what = `${model} ${inputTokens}`
          expected.push(what)
          const outcome: CallOutcome = {
            status: 'ok',
            estimated: false,
            ...(run.hasId && { responseId: `id-${index}` }),
            quantities: { input_tokens: inputTokens, output_tokens: 1 },
          }
          let open: ReturnType<MeteredCalls['open']> | undefined
          let finish: FinishCall | undefined
          const endedElapsed = startedElapsed + length
          moments.push({ at: startedElapsed, order: 0, act: () => (open = calls.open(startedElapsed)) })
          if (run.isMetered) {
            moments.push({
              at: startedElapsed + 1,
              order: 1,
              act: () => {
                finish = calls.begin({
                  startedElapsed: startedElapsed + 1,
                  operation: 'chat',
                  requestedModel: model,
                  soFar: () => ({}),
                })
              },
            })
            moments.push({
              at: endedElapsed,
              order: run.finishesLate ? 4 : 2,
              act: () => {
                counted.push(what)
                finish?.(outcome)
              },
            })
          }
          moments.push({
            at: endedElapsed,
            order: 3,
            act: () =>
              open?.end(
                {
                  endedElapsed,
                  responseIds: run.hasId ? [`id-${index}`] : [],
                  models: [model],
                  inputTokens,
                  outputTokens: 1,
                  status: 'ok',
                },
                () => counted.push(what),
              ),
          })
        }
        moments.sort((one, other) => one.at - other.at || one.order - other.order)
        for (const { act } of moments) act()
        calls.decideNow()
        expect(counted.sort()).toEqual(expected.sort())
        expect(calls.isOn).toBe(false)
      }),
      { numRuns: 500 },
    )
  })
})

describe('a scope', () => {
  it('is marked by a call inside, also after an await, and so are those around it', async () => {
    const outer = openScope('text')
    await runInScope(outer, async () => {
      const inner = openScope('text')
      await runInScope(inner, async () => {
        await Promise.resolve()
        markScopes('chat')
      })
      expect(inner.isMetered).toBe(true)
    })
    expect(outer.isMetered).toBe(true)
  })

  it('is not marked by a call of another kind, nor by one beside it', () => {
    const scope = openScope('text')
    runInScope(scope, () => {
      markScopes('embeddings')
      markScopes('fetch_response')
    })
    markScopes('chat')
    markScope(openScope('text'), 'text')
    expect(scope.isMetered).toBe(false)
  })
})

it('a call that is finished holds on to nothing of its prompt and answer', async () => {
  setFlagsFromString('--expose-gc')
  const collect: unknown = runInNewContext('gc')
  const calls = new MeteredCalls()
  calls.open(0)
  const begin = () => {
    const prompt = { text: 'Hi' }
    const begun = { startedElapsed: 1, operation: 'chat', requestedModel: 'm' }
    const finish = calls.begin({ ...begun, soFar: () => (prompt.text === '' ? {} : { responseId: 'r' }) })
    return { finish, prompt: new WeakRef(prompt) }
  }
  const { finish, prompt } = begin()
  finish?.(OK)
  // A WeakRef holds on until the job that has made it is over.
  await new Promise(setImmediate)
  if (typeof collect === 'function') collect()
  expect(prompt.deref()).toBeUndefined()
})
