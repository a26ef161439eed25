import type { Dimensions } from '@tokentally/core'
import { COUNTS_TIMEOUT_MS, createMeter, type Meter } from './meter.ts'
import { meteredCalls } from './metered-calls.ts'
import { type DimensionResolvers, type MeterOptions, readOptions, resolveDimensions } from './options.ts'
import { pendingEvents } from './pending-events.ts'
import { type AwsClient, tapAwsClient } from './tap/aws-sdk.ts'
import { type Dispatcher, tapDispatcher, tapGlobalDispatchers } from './tap/dispatcher.ts'
import { abandonLeft } from './tap/exchange.ts'
import { tapFetch } from './tap/fetch.ts'
import { IDLE_AT_FLUSH_MS, idleBodies } from './tap/idle-bodies.ts'
import { tapNodeHttp } from './tap/node-http.ts'
import { tapNodeHttp2 } from './tap/node-http2.ts'
import type { TapDependencies } from './tap/tap.ts'
import { watchUnmetered } from './tap/unmetered.ts'

/**
 * The one meter of the process. SDKs copy the global `fetch` when a client is made, often at import: so the
 * tap goes in when this module is loaded, and passes everything through until `start`.
 */
const untappedFetch = globalThis.fetch
let running: Meter | undefined

const tappedFetches = new WeakSet<typeof fetch>()

/** A `fetch` that is metered from `start` on. Twice is once. */
export function tap(original: typeof fetch): typeof fetch {
  if (tappedFetches.has(original)) return original
  const tapped = tapFetch(original, () => running?.tap, original === untappedFetch)
  tappedFetches.add(tapped)
  return tapped
}

/** What adapters meter with; undefined while metering is off. */
export function runningTap(): TapDependencies | undefined {
  return running?.tap
}

globalThis.fetch = tap(untappedFetch)

/** Meters what goes through an undici dispatcher from `start` on. */
export function tapOwnDispatcher(dispatcher: Dispatcher): void {
  tapDispatcher(dispatcher, () => running?.tap)
}

/** Meters a client of the AWS SDK from `start` on. */
export function tapOwnAwsClient(client: AwsClient): void {
  tapAwsClient(client, () => running?.tap)
}

/** Taps the global dispatcher of the moment: the application may have set another one. */
export function tapUndici(): void {
  tapGlobalDispatchers(() => running?.tap)
}

/** The running meter. @throws Error when `start` was not called */
export function runningMeter(): Meter {
  if (running === undefined) throw new Error('tokentally: call start() first')
  return running
}

/**
 * Starts metering. A second call while the meter runs returns the same meter; other options are reported and
 * not taken.
 *
 * @throws TypeError for a wrong option
 */
export function start(options: MeterOptions & DimensionResolvers<undefined> = {}): Meter {
  return startWith(options, (onError) => resolveDimensions(options, undefined, onError))
}

/**
 * `start` for middleware: its dimensions depend on a request and are resolved in the request's own context.
 *
 * @throws TypeError for a wrong option
 */
export function startForRequests(options: MeterOptions & DimensionResolvers<never>): Meter {
  return startWith(options, () => ({}))
}

function startWith(
  options: MeterOptions & DimensionResolvers<never>,
  defaults: (onError: (error: unknown) => void) => Dimensions,
): Meter {
  const settings = readOptions(options, process.env)
  if (running !== undefined) {
    if (
      settings.url !== running.settings.url ||
      // Whoever asks for limits must know that they are not held.
      settings.enforce !== running.settings.enforce ||
      settings.spoolDirectory !== running.settings.spoolDirectory
    ) {
      settings.onError(new Error('the meter runs already, with other options; the first ones stand'))
    }
    return running
  }
  const meter = createMeter(settings, untappedFetch, () => defaults(settings.onError))
  // Node loads its undici, and with it the global dispatcher, when one of its names is first used.
  if (typeof globalThis.Headers === 'function') tapUndici()
  const dependenciesOf = () => running?.tap
  const untap = [
    tapNodeHttp(dependenciesOf),
    tapNodeHttp2(dependenciesOf),
    watchUnmetered(settings.onError, tapUndici),
  ]
  const deliverBeforeExit = () => {
    meteredCalls.decideNow()
    void meter.flush().catch(settings.onError)
  }
  process.once('beforeExit', deliverBeforeExit)
  // By `process.exit`, nothing is waited for: what is being counted or decoded goes into the spool as it is.
  const settlePending = () => pendingEvents.settleNow()
  process.once('exit', settlePending)
  running = {
    ...meter,
    async flush(timeoutMs) {
      idleBodies.check(IDLE_AT_FLUSH_MS)
      return meter.flush(timeoutMs)
    },
    async shutdown() {
      process.off('beforeExit', deliverBeforeExit)
      process.off('exit', settlePending)
      for (const stop of untap) stop()
      running = undefined
      // What was not read to its end is counted with what came: later there is nobody to tell.
      idleBodies.settle()
      abandonLeft()
      await pendingEvents.settle(COUNTS_TIMEOUT_MS)
      meteredCalls.decideNow()
      await meter.shutdown()
    },
  }
  return running
}
