import { randomUUID } from 'node:crypto'
import { type Dimensions, dimensionsToJson, parseUsageEvent, type UsageEventJson } from '@tokentally/core'
import { createTokenCounter } from '@tokentally/providers'
import { currentContext } from './context.ts'
import { type CostSource, createLocalCost, createServiceCost } from './cost.ts'
import { Delivery } from './deliver/delivery.ts'
import { DecisionSource } from './enforce/decision-source.ts'
import { Enforcer } from './enforce/enforcer.ts'
import type { EventSink } from './event-sink.ts'
import { detectHost } from './host/host.ts'
import { localFilePath } from './local/local-file.ts'
import { LocalLedger } from './local/local-ledger.ts'
import type { Settings } from './options.ts'
import { pendingEvents } from './pending-events.ts'
import { Spool } from './spool/spool.ts'
import type { TapDependencies } from './tap/tap.ts'
import { uuidV7 } from './uuid-v7.ts'

export const VERSION = '0.1.0'

/** How long `shutdown` delivers before it leaves the rest to the spool. */
const SHUTDOWN_TIMEOUT_MS = 5_000
const FLUSH_TIMEOUT_MS = 30_000
/** How long `flush` and `shutdown` wait for counts under way; what is later is counted by bytes. */
export const COUNTS_TIMEOUT_MS = 5_000

/** A running meter. */
export interface Meter {
  readonly tap: TapDependencies
  readonly cost: CostSource
  readonly settings: Settings
  record(event: UsageEventJson): void
  flush(timeoutMs?: number): Promise<number>
  /** Whether the service's decisions are known within this time; true where limits are not enforced. */
  decisionsReady(timeoutMs: number): Promise<boolean>
  shutdown(): Promise<void>
}

/**
 * Builds the meter's parts.
 *
 * @param untappedFetch carries the meter's own requests, which are never metered
 * @param processDimensions whom calls are for unless their context says otherwise
 */
export function createMeter(
  settings: Settings,
  untappedFetch: typeof fetch,
  processDimensions: () => Dimensions,
): Meter {
  const { onError, url, apiKey } = settings
  const host = detectHost(process.env, settings.detectHost)
  const now = () => Date.now()
  let sink: EventSink
  let cost: CostSource
  let flush: (timeoutMs: number) => Promise<number>
  let close: () => Promise<void>

  if (url === undefined) {
    const local = new LocalLedger(localFilePath(settings.spoolDirectory), onError, () => performance.now())
    sink = local
    cost = createLocalCost(local, now)
    flush = async () => local.settle()
    close = async () => local.close()
  } else {
    const spool = new Spool({
      directory: settings.spoolDirectory,
      bytesMax: settings.spoolBytesMax,
      name: `${process.pid}-${randomUUID().slice(0, 8)}`,
      onError,
    })
    const delivery = new Delivery({
      url,
      apiKey,
      spool,
      fetch: untappedFetch,
      random: Math.random,
      version: VERSION,
      onError,
    })
    sink = spool
    cost = createServiceCost({ url, apiKey, fetch: untappedFetch, now })
    flush = (timeoutMs) => delivery.flush(timeoutMs)
    close = async () => {
      await delivery.stop(SHUTDOWN_TIMEOUT_MS)
      spool.close()
    }
  }

  const tokenCounter = createTokenCounter()
  const defaults = (): Dimensions => ({
    ...(settings.environment !== undefined && { environment: settings.environment }),
    ...processDimensions(),
  })
  const elapsed = () => performance.now()
  const { enforcer, source } = createEnforcer(settings, { now, elapsed, defaults })
  let isShutDown: Promise<void> | undefined
  return {
    settings,
    cost,
    tap: {
      sink,
      tokenCounter,
      now,
      elapsed,
      onError,
      promptHashKey: settings.promptHashKey,
      tokenizerSample: settings.tokenizerSample,
      // Read for each event: more is known later.
      get host() {
        return host.current
      },
      defaults,
      batchDimensions: settings.batchDimensions,
      models: settings.models,
      endpoints: settings.endpoints,
      injectStreamUsage: settings.injectStreamUsage,
      finishLeftStreams: settings.finishLeftStreams,
      enforcer,
    },
    decisionsReady: async (timeoutMs) => source?.ready(timeoutMs) ?? true,
    record(event) {
      try {
        const surroundings = dimensionsToJson({ ...defaults(), ...currentContext()?.dimensions })
        const parsed = parseUsageEvent(
          { ...surroundings, ...event },
          { nowMs: now(), newEventId: () => uuidV7(now()) },
        )
        if (parsed.ok) sink.append(parsed.event)
        else {
          onError(
            new TypeError(
              `record: ${parsed.issues.map(({ path, message }) => `${path} ${message}`).join('; ')}`,
            ),
          )
        }
      } catch (error) {
        onError(error)
      }
    },
    async flush(timeoutMs = FLUSH_TIMEOUT_MS) {
      const startedAt = performance.now()
      await pendingEvents.settle(Math.min(timeoutMs, COUNTS_TIMEOUT_MS))
      // Whole milliseconds: AbortSignal takes no others.
      return flush(Math.max(0, Math.round(timeoutMs - (performance.now() - startedAt))))
    },
    shutdown() {
      isShutDown ??= (async () => {
        host.stop()
        source?.close()
        // Before the spool closes: an event that comes later would be lost.
        await pendingEvents.settle(COUNTS_TIMEOUT_MS)
        await close()
        await tokenCounter.close()
      })()
      return isShutDown
    },
  }
}

/** Nothing at all where limits are not enforced. */
function createEnforcer(
  { enforce, url, apiKey, onError }: Settings,
  surroundings: Pick<TapDependencies, 'now' | 'elapsed' | 'defaults'>,
): { readonly enforcer?: Enforcer; readonly source?: DecisionSource } {
  if (enforce === false || url === undefined) return {}
  const enforcer = new Enforcer({
    ...surroundings,
    whenUnavailable: enforce,
    isFresh: () => source.isFresh,
    onError,
  })
  const source = new DecisionSource({
    url,
    apiKey,
    random: Math.random,
    version: VERSION,
    onSnapshot: (snapshot) => enforcer.update(snapshot),
    onError,
  })
  return { enforcer, source }
}
