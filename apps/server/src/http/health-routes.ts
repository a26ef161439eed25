import type { Metrics } from '../telemetry/metrics.ts'
import type { App } from './app.ts'
import { Problem } from './problem.ts'

/** How long one part may take to say that it is ready. */
const CHECK_TIMEOUT_MS = 2_000

/** Says whether one part the service needs is ready. @throws with a short reason when it is not */
export type ReadinessCheck = () => Promise<void>

export interface HealthDeps {
  readonly metrics: Metrics
  /** By the name that a 503 shows. */
  readonly checks: Readonly<Record<string, ReadinessCheck>>
  /** Brings gauges up to date before they are shown. */
  readonly refreshGauges: () => Promise<void>
}

/** Registers `GET /healthz`, `GET /readyz` and `GET /metrics`. */
export function registerHealthRoutes(app: App, deps: HealthDeps): void {
  app.get('/healthz', { schema: { hide: true } }, async () => ({ status: 'ok' }))

  app.get('/readyz', { schema: { hide: true } }, async () => {
    const results = await Promise.all(
      Object.entries(deps.checks).map(async ([path, check]) => ({ path, message: await failureOf(check) })),
    )
    const errors = results.flatMap(({ path, message }) => (message === undefined ? [] : [{ path, message }]))
    if (errors.length === 0) return { status: 'ready' }
    throw new Problem({
      code: 'unavailable',
      title: 'The service is not ready',
      detail: `Not ready: ${errors.map((error) => error.path).join(', ')}.`,
      errors,
      retryAfterS: 1,
    })
  })

  app.get('/metrics', { schema: { hide: true } }, async (_request, reply) => {
    // The numbers that the process holds are shown even while the database is away.
    await withTimeout(deps.refreshGauges()).catch((error: unknown) =>
      app.log.debug({ err: error }, 'gauges are stale'),
    )
    return reply.type(deps.metrics.registry.contentType).send(await deps.metrics.registry.metrics())
  })
}

async function failureOf(check: ReadinessCheck): Promise<string | undefined> {
  try {
    await withTimeout(check())
    return undefined
  } catch (error) {
    return error instanceof Problem ? error.message : 'does not answer'
  }
}

async function withTimeout(work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('timed out')), CHECK_TIMEOUT_MS)
  })
  try {
    await Promise.race([work, timeout])
  } finally {
    clearTimeout(timer)
  }
}
