import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** Seconds; from a single group commit to the longest request that is still answered. */
const SECONDS_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** The service's metrics and the registry that `GET /metrics` shows. */
export type Metrics = ReturnType<typeof createMetrics>

/** Makes a registry of its own with every metric of the service, so that several services fit one process. */
export function createMetrics() {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry, prefix: 'tokentally_' })
  const counter = <Label extends string = never>(
    name: string,
    help: string,
    labelNames: readonly Label[] = [],
  ) => new Counter<Label>({ name: `tokentally_${name}`, help, labelNames: [...labelNames], registers })
  const gauge = <Label extends string = never>(
    name: string,
    help: string,
    labelNames: readonly Label[] = [],
  ) => new Gauge<Label>({ name: `tokentally_${name}`, help, labelNames: [...labelNames], registers })
  const histogram = <Label extends string = never>(
    name: string,
    help: string,
    labelNames: readonly Label[] = [],
  ) =>
    new Histogram<Label>({
      name: `tokentally_${name}`,
      help,
      labelNames: [...labelNames],
      buckets: SECONDS_BUCKETS,
      registers,
    })

  return {
    registry,
    ingestedEvents: counter('ingested_events_total', 'Usage events that were committed to the ledger'),
    duplicateEvents: counter('duplicate_events_total', 'Usage events that the ledger already held'),
    rejectedEvents: counter('rejected_events_total', 'Usage events that were refused', ['reason']),
    ignoredSpans: counter('ignored_spans_total', 'Spans that describe no LLM usage'),
    deadLetters: counter('dead_letters_total', 'Payloads set aside because they could not be understood'),
    unpricedEvents: counter('unpriced_events_total', 'Usage events committed without a known price'),
    estimatedEvents: counter('estimated_events_total', 'Usage events committed with counts of a tokenizer'),
    mismatchedEvents: counter(
      'mismatched_events_total',
      "Usage events committed whose provider's counts contradict each other",
    ),
    tokenizerDriftRatio: gauge(
      'tokenizer_drift_ratio',
      'How much more a tokenizer counts than providers report, as a share; more than 0.0005 either way is too much',
      ['tokenizer', 'model'],
    ),
    appendSeconds: histogram('append_seconds', 'Time of one transaction that appends to the ledger'),
    requestSeconds: histogram('request_seconds', 'Time to answer an HTTP request', [
      'route',
      'method',
      'status',
    ]),
    rollupLagSeconds: gauge('rollup_lag_seconds', 'Age of the oldest batch that is not rolled up yet'),
    openBatches: gauge('open_batches', 'Committed batches that are not rolled up yet'),
    gpuScrapes: counter('gpu_scrapes_total', 'Reads of GPU and vLLM metrics that succeeded', [
      'target',
      'exporter',
    ]),
    gpuScrapeFailures: counter('gpu_scrape_failures_total', 'Reads of GPU and vLLM metrics that failed', [
      'target',
      'exporter',
      'reason',
    ]),
    gpuSeconds: counter('gpu_seconds_total', 'GPU seconds of closed intervals, by what became of them', [
      'target',
      'kind',
    ]),
    fxRefreshFailures: counter('fx_refresh_failures_total', 'Exchange rates that could not be fetched'),
    priceRefreshesWaiting: gauge(
      'price_refreshes_waiting',
      'Refreshes of the price catalogue with a change that waits for a person',
    ),
    priceRefreshFailures: counter(
      'price_refresh_failures_total',
      'Price files that could not be fetched or were not valid',
    ),
    limitDifferences: gauge(
      'limit_differences',
      'Sums that limits are judged by and that are not the sum of the ledger; anything but 0 is a defect',
    ),
    staleHolds: gauge('stale_holds', 'Expired holds that nobody has swept for minutes'),
    alertsFired: counter('alerts_fired_total', 'Alerts that fired', ['kind']),
    notificationAttempts: counter(
      'notification_attempts_total',
      'Attempts to tell a channel: delivered, to be tried again, or given up',
      ['channel', 'outcome'],
    ),
    outboxAttempts: counter(
      'outbox_attempts_total',
      'Attempts of steps that tell other systems, by outcome',
      ['system', 'outcome'],
    ),
    outboxWaiting: gauge('outbox_steps_waiting', 'Steps that another system is still to be told', ['system']),
    outboxRefused: gauge('outbox_steps_refused', 'Steps that another system refuses until a person acts', [
      'system',
    ]),
    outboxOldestSeconds: gauge('outbox_oldest_waiting_seconds', 'Age of the oldest step that waits', [
      'system',
    ]),
    billingDifferences: gauge(
      'billing_differences',
      'Differences between invoices here and at another system, of the last days',
      ['system'],
    ),
    forecasts: counter('forecasts_total', 'Forecasts made by the hourly job, by method; failed: none', [
      'method',
    ]),
    forecastsScored: counter('forecasts_scored_total', 'Forecasts that were held against what came'),
    forecastRunSeconds: histogram('forecast_run_seconds', 'Time of one hourly run over all organizations'),
    reconciliationCoverage: gauge(
      'reconciliation_coverage_ratio',
      "The share of a vendor's tokens that was metered, by its own figures of the last 30 days; the lowest of all organizations",
      ['vendor'],
    ),
    vendorFetchFailures: counter(
      'vendor_fetch_failures_total',
      "Vendors' figures that could not be fetched",
      ['vendor'],
    ),
    queueDepth: gauge('queue_depth', 'Jobs that are waiting, delayed or running'),
  } as const
}
