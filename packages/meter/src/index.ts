import type { Dimensions, UsageEventJson } from '@tokentally/core'
import { meterClient } from './client.ts'
import {
  attribute as attributeInContext,
  type CallContext,
  runInContext as runIn,
  type UsageSoFar,
} from './context.ts'
import type { CostSource } from './cost.ts'
import { cleanDimensions } from './options.ts'
import { type RealtimeSession, realtimeEvent } from './realtime-event.ts'
import { runningMeter, tap, tapOwnAwsClient, tapOwnDispatcher, tapUndici } from './start.ts'

export type { Dimensions, UsageEventJson } from '@tokentally/core'
export { CallContext, currentContext, type UsageSoFar } from './context.ts'
export type { CostSource } from './cost.ts'
export {
  BudgetExceededError,
  budgetErrorOf,
  type RefusalCode,
  type RefusalProblem,
} from './enforce/budget-exceeded-error.ts'
export type { BudgetName, DecisionAction } from './enforce/decision.ts'
export type {
  CostSummary,
  CostSums,
  CustomerCost,
  ExecutionCost,
  FeatureCost,
  ModelCost,
  ProviderCost,
} from './local/cost-summary.ts'
export type { Meter } from './meter.ts'
export {
  cleanDimensions,
  type DimensionResolvers,
  type MeterOptions,
  type Resolver,
  resolveDimensions,
} from './options.ts'
export type { RealtimeSession } from './realtime-event.ts'
export { start, startForRequests } from './start.ts'
export { unmeteredCalls } from './tap/unmetered.ts'

/**
 * Runs `work` with further dimensions for every LLM call that it makes, also after an `await`.
 *
 * @example await attribute({ agent: 'researcher' }, () => client.chat.completions.create(…))
 */
export function attribute<T>(dimensions: Dimensions, work: () => T): T {
  tapUndici()
  return attributeInContext(cleanDimensions(dimensions), work)
}

/** Runs `work` in a context of its own inside the current one. */
export function runInContext<T>(context: CallContext, work: () => T): T {
  tapUndici()
  return runIn(context, work)
}

/** A request's own account, as the web frameworks' middleware hands it to the application. */
export class RequestTally {
  readonly #context: CallContext

  constructor(context: CallContext) {
    this.#context = context
  }

  /** Adds dimensions, for calls that are not finished yet. */
  add(dimensions: Dimensions): void {
    this.#context.add(cleanDimensions(dimensions))
  }

  /** What the request has used so far. */
  get usage(): UsageSoFar {
    return this.#context.usage
  }
}

/**
 * Meters a client explicitly: one that was made before the meter was imported, that has a `fetch` of its own, or
 * that uses none (AWS SDK v3); or a dispatcher of undici (`Agent`, `ProxyAgent` …) that the application passes to
 * its requests instead of the global one. Clients made of it (`client.withOptions()`) are metered too.
 *
 * @returns the same client
 * @throws TypeError when nothing is known of how the client sends its requests
 */
export function meter<Client extends object>(client: Client): Client {
  return meterClient(client, tap, tapOwnDispatcher, tapOwnAwsClient)
}

/**
 * Records anything else that is billed. Takes the dimensions of the surrounding request; an invalid event is
 * reported to `onError`.
 *
 * @throws Error when `start` was not called
 */
export function record(event: UsageEventJson): void {
  runningMeter().record(event)
}

/**
 * Records the usage of an OpenAI realtime session, which goes over a WebSocket that the meter does not see. Give it
 * every event of the session: it takes what it needs of `response.done`.
 *
 * @example socket.on('message', (data) => recordRealtime(JSON.parse(data), { model: 'gpt-realtime' }))
 * @throws Error when `start` was not called
 */
export function recordRealtime(event: unknown, session: RealtimeSession): void {
  const usage = realtimeEvent(event, session)
  if (usage !== undefined) record(usage)
}

/** What calls cost, from local mode's file or the service's reports. */
export const cost: CostSource = {
  lastHour: (provider) => runningMeter().cost.lastHour(provider),
  lastDay: (provider) => runningMeter().cost.lastDay(provider),
  lastWeek: (provider) => runningMeter().cost.lastWeek(provider),
  lastMonth: (provider) => runningMeter().cost.lastMonth(provider),
  between: (from, to, provider) => runningMeter().cost.between(from, to, provider),
}

/**
 * Delivers what was metered so far.
 *
 * @returns how many events still wait when the time is up (default 30 s); they stay in the spool
 */
export function flush(timeoutMs?: number): Promise<number> {
  return runningMeter().flush(timeoutMs)
}

/**
 * Waits until the service's decisions on budgets are known, so that the first calls are held to them too.
 *
 * @returns whether they are within this time (default 2 s); true where limits are not enforced
 */
export function decisionsReady(timeoutMs = 2_000): Promise<boolean> {
  return runningMeter().decisionsReady(timeoutMs)
}

/** Delivers for 5 s at most, then stops the meter; what is left stays in the spool for the next start. */
export async function shutdown(): Promise<void> {
  await runningMeter().shutdown()
}
