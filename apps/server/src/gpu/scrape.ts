import type { Pool } from 'pg'
import type { GpuTarget, ServedModel } from '../gpu-targets.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { DCGM_METRICS, readGpus } from './dcgm.ts'
import { fetchMetrics, ScrapeError } from './fetch-metrics.ts'
import { type MetricSample, PrometheusTextError, parsePrometheusText } from './prometheus-text.ts'
import { insertGpuSamples, insertServingSamples } from './sample-store.ts'
import { readEngines, VLLM_METRICS } from './vllm.ts'

/** A third of the scrape interval: a target that hangs delays nobody's next look. */
const TIMEOUT_MS = 5_000
const BYTES_MAX = 10 * 1024 * 1024

export interface ScrapeDependencies {
  readonly pool: Pool
  readonly metrics: Metrics
  readonly logger: Pick<Logger, 'warn'>
  readonly now: () => Date
  readonly timeoutMs?: number
  readonly bytesMax?: number
}

/**
 * Looks at every target once, at all of them at the same time. One that fails is counted and logged; it leaves a
 * gap in its own samples and nothing in those of others.
 *
 * @throws when the database does not answer
 */
export async function scrapeTargets(
  dependencies: ScrapeDependencies,
  organizationId: string,
  targets: readonly GpuTarget[],
): Promise<void> {
  const looks = targets.flatMap((target) => [
    scrapeGpus(dependencies, organizationId, target),
    scrapeEngines(dependencies, organizationId, target),
  ])
  const failed = (await Promise.allSettled(looks)).find((look) => look.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

async function scrapeGpus(
  dependencies: ScrapeDependencies,
  organizationId: string,
  target: GpuTarget,
): Promise<void> {
  const samples = await scrape(dependencies, target, 'dcgm', target.dcgmUrl, DCGM_METRICS)
  if (samples === undefined) return
  const readings = readGpus(samples).flatMap((reading) => {
    const [uuid = ''] = reading.gpu.split('/')
    const served = target.gpus.get(reading.gpu) ?? target.gpus.get(uuid) ?? target.served
    return served === undefined ? [] : [{ ...reading, served }]
  })
  if (readings.length === 0) return
  await insertGpuSamples(dependencies.pool, {
    organizationId,
    target: target.name,
    at: dependencies.now(),
    readings,
  })
}

/** All engines of a target in one statement: its servers share the name of the target. */
async function scrapeEngines(
  dependencies: ScrapeDependencies,
  organizationId: string,
  target: GpuTarget,
): Promise<void> {
  const servers = await Promise.all(
    target.vllmUrls.map((url) => scrape(dependencies, target, 'vllm', url, VLLM_METRICS)),
  )
  const readings = servers.flatMap((samples, server) =>
    readEngines(samples ?? []).flatMap((reading) => {
      const served = servedAs(target, reading.modelName)
      const engine = `${server}/${reading.engine}/${reading.modelName}`
      return served === undefined ? [] : [{ ...reading, engine, served }]
    }),
  )
  if (readings.length === 0) return
  await insertServingSamples(dependencies.pool, {
    organizationId,
    target: target.name,
    at: dependencies.now(),
    readings,
  })
}

/** Which of the target's models an engine serves: the one of its name, or the only one there is. */
function servedAs(target: GpuTarget, modelName: string): ServedModel | undefined {
  const all = [...target.gpus.values(), ...(target.served === undefined ? [] : [target.served])]
  const named = all.find(({ model }) => model === modelName)
  if (named !== undefined) return named
  return all.every(({ model }) => model === all[0]?.model) ? all[0] : undefined
}

/** The samples behind a URL; undefined when they could not be had, which is counted and logged. */
async function scrape(
  { metrics, logger, timeoutMs = TIMEOUT_MS, bytesMax = BYTES_MAX }: ScrapeDependencies,
  target: GpuTarget,
  exporter: 'dcgm' | 'vllm',
  url: string,
  names: ReadonlySet<string>,
): Promise<readonly MetricSample[] | undefined> {
  try {
    const samples = parse(await fetchMetrics(url, { timeoutMs, bytesMax }), names)
    metrics.gpuScrapes.inc({ target: target.name, exporter })
    return samples
  } catch (error) {
    if (!(error instanceof ScrapeError)) throw error
    metrics.gpuScrapeFailures.inc({ target: target.name, exporter, reason: error.reason })
    logger.warn(
      { target: target.name, exporter, url, reason: error.reason },
      `GPU metrics could not be read: ${error.message}`,
    )
    return undefined
  }
}

function parse(text: string, names: ReadonlySet<string>): readonly MetricSample[] {
  let samples: readonly MetricSample[]
  try {
    samples = parsePrometheusText(text, names)
  } catch (error) {
    if (!(error instanceof PrometheusTextError)) throw error
    throw new ScrapeError('unreadable', error.message, { cause: error })
  }
  if (samples.length === 0) throw new ScrapeError('empty', `has none of ${[...names].join(', ')}`)
  return samples
}
