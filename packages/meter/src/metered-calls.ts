import { AsyncLocalStorage } from 'node:async_hooks'

/**
 * Counts a call once, whichever ways see it. A framework's adapter (Vercel AI SDK, LangChain) sees calls from
 * above, a tap sees their transport from below. The tap's event wins: it has what the provider said in full. The
 * adapter makes an event only for a call that no tap has metered. It learns that in one of two ways.
 *
 * **Scope**, where the adapter wraps the call: `CallScope` is open around it, and each metered call that is begun
 * inside marks it. A scope inside another marks both.
 *
 * **Claim**, where the adapter is only told of a run's start and end, outside of the call's own async context:
 * - A *run* is open from its start to its end, then either decided at once or *waiting*.
 * - A *call* that a tap meters while any run is open is *begun*, then *finished*; and once in its life *claimed*.
 * - A run that ends claims the call that it made: the one with its response id; else one of the same model and the
 *   same counts that was begun while the run was open, the earliest of them, because a run that started later has
 *   less to choose from. Whoever claims which of two equal ones does not matter: each call is claimed once, so
 *   that equal calls count as often as they were made.
 * - Where a call that may be the run's own has not said enough yet (its end is still being read), the run waits
 *   for it, a minute at most. What finds nothing to claim was not metered: the adapter counts it.
 * - When no run is open or waiting, everything is forgotten, and calls are not kept at all.
 */

/** What a metered call's answer has said so far. */
export interface SoFar {
  readonly responseId?: string
  readonly responseModel?: string
  readonly quantities?: Readonly<Record<string, number>>
}

/** A call as a tap begins it. */
export interface BegunCall {
  readonly startedElapsed: number
  readonly operation: string
  readonly requestedModel: string | undefined
  readonly soFar: () => SoFar
}

/** What is known of a call when it begins. */
type KnownCall = Omit<BegunCall, 'soFar'>

/** A call's outcome. */
export interface CallOutcome extends SoFar {
  readonly status: 'ok' | 'error' | 'aborted'
  /** Its counts are a tokenizer's: they say nothing about whose they are. */
  readonly estimated: boolean
}

/** Finishes a call that was begun. */
export type FinishCall = (outcome: CallOutcome) => void

/** What an adapter knows of a run that has ended. */
export interface EndedRun {
  readonly endedElapsed: number
  /** Ids that may be the provider's own of the answer. */
  readonly responseIds: readonly string[]
  /** Names of the model that was asked for and of the one that answered. */
  readonly models: readonly string[]
  readonly inputTokens: number | undefined
  readonly outputTokens: number | undefined
  /** `cut`: something of an answer came, or the application gave up; `failed`: nothing came. */
  readonly status: 'ok' | 'cut' | 'failed'
}

/** A run that is open. */
export interface OpenRun {
  /** @param onUnmetered called, now or within a minute, if no tap has metered the run's call */
  end(run: EndedRun, onUnmetered: () => void): void
  /** Nothing was called. */
  drop(): void
}

/**
 * Calls that are remembered for open runs. Beyond it half of them are forgotten, the oldest finished ones: a run
 * ends right after its own call.
 */
const CALLS_MAX = 2_000
/** Longer than a tap reads on in the background by itself. */
const WAIT_MAX_MS = 60_000

interface Call {
  readonly begun: KnownCall
  /** Forgotten once there is an outcome: it holds on to the prompt and the answer. */
  soFar: (() => SoFar) | undefined
  outcome: CallOutcome | undefined
}

interface Run {
  readonly startedElapsed: number
}

interface WaitingRun {
  readonly ended: EndedRun
  readonly onUnmetered: () => void
}

/** Register of the calls that taps meter while an adapter has runs open. */
export class MeteredCalls {
  /** In the order in which they were begun. */
  readonly #calls = new Set<Call>()
  /** Finished ones. Mostly a run's own call is here, and nothing need be looked through. */
  readonly #byResponseId = new Map<string, Call[]>()
  /** Open and waiting ones, in the order in which they were opened. */
  readonly #runs = new Set<Run>()
  readonly #waiting = new Map<Run, WaitingRun>()
  #timer: NodeJS.Timeout | undefined

  /** Whether anybody asks about calls. */
  get isOn(): boolean {
    return this.#runs.size > 0
  }

  /**
   * A tap begins to meter a call.
   *
   * @returns what to call at its end; undefined when nobody asks
   */
  begin(begun: BegunCall): FinishCall | undefined {
    if (!this.isOn) return undefined
    const { soFar, ...known } = begun
    const call: Call = { begun: known, soFar, outcome: undefined }
    this.#calls.add(call)
    if (this.#calls.size > CALLS_MAX) this.#forgetOldest()
    return (outcome) => {
      call.outcome = essence(outcome)
      call.soFar = undefined
      const { responseId } = outcome
      if (responseId !== undefined && this.#calls.has(call)) {
        const others = this.#byResponseId.get(responseId)
        if (others === undefined) this.#byResponseId.set(responseId, [call])
        else others.push(call)
      }
      if (this.#waiting.size > 0) this.#decide()
    }
  }

  open(startedElapsed: number): OpenRun {
    const run: Run = { startedElapsed }
    this.#runs.add(run)
    return {
      end: (ended, onUnmetered) => {
        if (!this.#runs.has(run)) return
        this.#waiting.set(run, { ended, onUnmetered })
        this.#decide()
        if (this.#waiting.size === 0 || this.#timer !== undefined) return
        this.#timer = setTimeout(() => this.decideNow(), WAIT_MAX_MS)
        this.#timer.unref()
      },
      drop: () => {
        this.#waiting.delete(run)
        this.#close(run)
      },
    }
  }

  /** Decides about all runs that wait, as if the calls that they wait for were not theirs. */
  decideNow(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    for (const [run, { onUnmetered }] of this.#waiting) {
      this.#waiting.delete(run)
      this.#close(run)
      onUnmetered()
    }
  }

  #decide(): void {
    // In the order in which they ended. What one of them may still claim, those after it cannot take away.
    const reserved = new Set<Call>()
    for (const [run, { ended, onUnmetered }] of this.#waiting) {
      const own = this.#ownCall(run.startedElapsed, ended, reserved)
      if (own === 'unknown') continue
      if (own !== undefined) this.#remove(own)
      this.#waiting.delete(run)
      this.#close(run)
      if (own === undefined) onUnmetered()
    }
  }

  /** @param reserved calls that others may claim first; those that this run may claim later are added */
  #ownCall(startedElapsed: number, run: EndedRun, reserved: Set<Call>): Call | 'unknown' | undefined {
    for (const id of run.responseIds) {
      const call = this.#byResponseId.get(id)?.find(({ begun }) => isWithin(begun, startedElapsed, run))
      if (call !== undefined) return call
    }
    const possible: Call[] = []
    let isUnknown = false
    let own: Call | undefined
    let alike: Call | undefined
    for (const call of this.#calls) {
      const { begun, outcome } = call
      if (!isWithin(begun, startedElapsed, run)) continue
      const said = outcome ?? call.soFar?.() ?? {}
      if (said.responseId !== undefined && run.responseIds.includes(said.responseId)) return call
      const fit = fits(run, begun, said, outcome)
      if (fit === 'no') continue
      possible.push(call)
      if (fit === 'unknown' || reserved.has(call)) isUnknown = true
      else if (fit === 'alike') alike ??= call
      // A later one is not taken while an earlier one may be the run's own.
      else if (!isUnknown) own ??= call
    }
    if (own !== undefined) return own
    if (alike !== undefined && !isUnknown) return alike
    for (const call of possible) reserved.add(call)
    return isUnknown ? 'unknown' : undefined
  }

  /** Forgets the run, and the calls that began before every other one. */
  #close(run: Run): void {
    this.#runs.delete(run)
    const [earliest] = this.#runs
    for (const call of this.#calls) {
      if (earliest !== undefined && call.begun.startedElapsed >= earliest.startedElapsed) break
      this.#remove(call)
    }
  }

  #remove(call: Call): void {
    this.#calls.delete(call)
    const responseId = call.outcome?.responseId
    if (responseId === undefined) return
    const others = this.#byResponseId.get(responseId)?.filter((other) => other !== call) ?? []
    if (others.length === 0) this.#byResponseId.delete(responseId)
    else this.#byResponseId.set(responseId, others)
  }

  #forgetOldest(): void {
    let left = CALLS_MAX / 2
    for (const call of this.#calls) {
      if (call.outcome === undefined) continue
      this.#remove(call)
      if (--left === 0) return
    }
  }
}

/** An outcome alone, whatever else it came with. */
function essence({ status, estimated, responseId, responseModel, quantities }: CallOutcome): CallOutcome {
  return {
    status,
    estimated,
    ...(responseId !== undefined && { responseId }),
    ...(responseModel !== undefined && { responseModel }),
    ...(quantities !== undefined && { quantities }),
  }
}

const GENERATES_TEXT: ReadonlySet<string> = new Set(['chat', 'text_completion', 'generate_content'])

/** Whether a call of the kind that runs make was begun while the run was open. */
function isWithin(begun: KnownCall, startedElapsed: number, { endedElapsed }: EndedRun): boolean {
  return (
    begun.startedElapsed >= startedElapsed &&
    begun.startedElapsed <= endedElapsed &&
    GENERATES_TEXT.has(begun.operation)
  )
}

/** Whether a call that does not have the run's response id may be the run's. */
function fits(
  run: EndedRun,
  { requestedModel, operation }: KnownCall,
  said: SoFar,
  outcome: CallOutcome | undefined,
): 'yes' | 'alike' | 'no' | 'unknown' {
  const { responseId } = said
  if (responseId !== undefined && run.responseIds.some((id) => isSameKind(id, responseId))) return 'no'
  const models = [requestedModel, said.responseModel].filter((model) => model !== undefined)
  if (models.length > 0 && run.models.length > 0 && !models.some((model) => run.models.includes(model))) {
    return 'no'
  }
  if (run.status !== 'ok') {
    if (outcome === undefined) return 'unknown'
    // What the provider answered in full is never the call of a run to which nothing came.
    return run.status === 'failed' && outcome.status === 'ok' ? 'no' : 'yes'
  }
  if (outcome?.status === 'error') return 'no'
  if (outcome?.estimated === true) return 'yes'
  const { input_tokens: input, output_tokens: output } = said.quantities ?? {}
  const isSame =
    isEqualIfKnown(run.inputTokens, input) &&
    isEqualIfKnown(run.outputTokens, output) &&
    (outcome !== undefined || (input !== undefined && output !== undefined))
  if (isSame) return 'yes'
  if (isSplitOtherwise(run, operation, input, output)) return 'alike'
  return outcome === undefined ? 'unknown' : 'no'
}

function isEqualIfKnown(one: number | undefined, other: number | undefined): boolean {
  return one === undefined || other === undefined || one === other
}

/**
 * Whether the counts are the same but for what Gemini read of its tools: that is input, and LangChain, which knows
 * the prompt and the total alone, takes it for output.
 */
function isSplitOtherwise(
  { inputTokens, outputTokens }: EndedRun,
  operation: string,
  input: number | undefined,
  output: number | undefined,
): boolean {
  if (operation !== 'generate_content') return false
  if (inputTokens === undefined || outputTokens === undefined) return false
  if (input === undefined || output === undefined) return false
  return input > inputTokens && input + output === inputTokens + outputTokens
}

/** Providers begin each kind of id in its own way: `chatcmpl-…`, `msg_…`. Ids of one kind that differ name two answers. */
function isSameKind(one: string, other: string): boolean {
  const kind = /^[a-z]+[-_]/i.exec(one)?.[0]
  return kind !== undefined && other.startsWith(kind)
}

/** Shared by all taps and adapters. */
export const meteredCalls = new MeteredCalls()

/** What a scope is about; calls of another kind inside of it are not its own. */
export type CallKind = 'text' | 'embeddings'

/** Around a call that an adapter wraps. */
export interface CallScope {
  readonly kind: CallKind
  readonly parent: CallScope | undefined
  isMetered: boolean
}

const scopes = new AsyncLocalStorage<CallScope>()
let areScopesInUse = false

/** A scope inside the current one. */
export function openScope(kind: CallKind): CallScope {
  areScopesInUse = true
  return { kind, parent: scopes.getStore(), isMetered: false }
}

export function runInScope<T>(scope: CallScope, work: () => T): T {
  return scopes.run(scope, work)
}

/** A tap meters a call here: all scopes around it know. */
export function markScopes(operation: string): void {
  if (!areScopesInUse) return
  if (operation === 'embeddings') markScope(scopes.getStore(), 'embeddings')
  else if (GENERATES_TEXT.has(operation)) markScope(scopes.getStore(), 'text')
}

/** Marks a scope and those around it. */
export function markScope(innermost: CallScope | undefined, kind: CallKind): void {
  for (let scope = innermost; scope !== undefined; scope = scope.parent) {
    if (scope.kind === kind) scope.isMetered = true
  }
}
