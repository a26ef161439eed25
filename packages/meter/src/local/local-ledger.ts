import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import {
  buildPriceBook,
  decimal,
  decimalText,
  type PriceBook,
  parseUsageEvent,
  rate,
  type UsageEvent,
  usageEventToJson,
  ZERO,
} from '@tokentally/core'
import { bundledCatalogue, bundledCatalogueSource, cataloguePriceId } from '@tokentally/prices'
import type { EventSink } from '../event-sink.ts'

/**
 * Local mode: the ledger is a SQLite file that several processes may share. Events are appended as they come
 * and rated by the list prices when they are first asked for; a rating is kept, so that newer prices change
 * no past cost. While another process writes, events wait in memory for a moment.
 */

const RETRY_MS = 50
const WAITING_MAX = 10_000
const LOCAL_ORGANIZATION = 'local'

/** Sums over a time range. Money is exact decimal text, US dollars at list price. */
export interface CostSummary {
  readonly requests: number
  readonly inputTokens: number
  readonly outputTokens: number
  readonly listCostUsd: string
  /** Requests with a meter that has no known price; they are not in the cost. */
  readonly unpricedRequests: number
  readonly byModel: readonly ModelCost[]
}

export interface ModelCost {
  readonly provider: string
  readonly model: string | null
  readonly requests: number
  readonly inputTokens: number
  readonly outputTokens: number
  readonly listCostUsd: string
  readonly unpricedRequests: number
}

export class LocalLedger implements EventSink {
  readonly #database: DatabaseSync
  readonly #onError: (error: unknown) => void
  #waiting: UsageEvent[] = []
  #book: Promise<PriceBook> | undefined

  /** @throws when the file cannot be opened */
  constructor(path: string, onError: (error: unknown) => void) {
    this.#onError = onError
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    this.#database = new DatabaseSync(path, { timeout: 0 })
    this.#database.exec(`
      pragma busy_timeout = 2000;
      pragma journal_mode = wal;
      pragma synchronous = normal;
      create table if not exists usage_event (
        event_id text primary key, ts_ms integer not null, provider text not null, model text, customer text,
        feature text, status text not null, input_tokens integer not null, output_tokens integer not null,
        json text not null, list_cost_usd text, rating_status text
      ) strict;
      create index if not exists usage_event_ts on usage_event (ts_ms);
      pragma busy_timeout = 0`)
  }

  append(event: UsageEvent): void {
    try {
      this.#insert(event)
    } catch (error) {
      if (this.#waiting.length >= WAITING_MAX) this.#onError(error)
      else this.#waiting.push(event)
      this.#retryLater()
    }
  }

  /** Writes what waits for another process. @returns how many events still wait */
  settle(): number {
    const waiting = this.#waiting
    this.#waiting = []
    for (const event of waiting) this.append(event)
    return this.#waiting.length
  }

  /** @param startMs included @param endMs excluded, UTC milliseconds */
  async cost(startMs: number, endMs: number, provider: string | undefined): Promise<CostSummary> {
    this.settle()
    await this.#rate(startMs, endMs)
    const rows = this.#database
      .prepare(
        `select provider, model, input_tokens, output_tokens, list_cost_usd, rating_status
        from usage_event where ts_ms >= ? and ts_ms < ? and (? is null or provider = ?)`,
      )
      .iterate(startMs, endMs, provider ?? null, provider ?? null)
    const models = new Map<string, Sum>()
    const total = new Sum('', null)
    for (const row of rows) {
      const name = String(row['provider'])
      const model = row['model'] === null ? null : String(row['model'])
      const key = `${name}\n${model}`
      const sum = models.get(key) ?? new Sum(name, model)
      models.set(key, sum)
      for (const one of [sum, total]) one.add(row)
    }
    const { requests, inputTokens, outputTokens, listCostUsd, unpricedRequests } = total.summary()
    const byModel = [...models.values()]
      .map((sum) => sum.summary())
      .sort((a, b) => decimal(b.listCostUsd).cmp(decimal(a.listCostUsd)))
    return { requests, inputTokens, outputTokens, listCostUsd, unpricedRequests, byModel }
  }

  close(): void {
    this.settle()
    this.#database.close()
  }

  #insert(event: UsageEvent): void {
    this.#database
      .prepare(
        `insert into usage_event (event_id, ts_ms, provider, model, customer, feature, status, input_tokens,
          output_tokens, json) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing`,
      )
      .run(
        event.eventId,
        event.tsMs,
        event.provider,
        event.model ?? null,
        event.customer ?? null,
        event.feature ?? null,
        event.status,
        event.quantities['input_tokens'] ?? 0,
        event.quantities['output_tokens'] ?? 0,
        JSON.stringify(usageEventToJson(event)),
      )
  }

  #retryLater(): void {
    setTimeout(() => {
      if (this.#waiting.length > 0) this.settle()
    }, RETRY_MS).unref()
  }

  async #rate(startMs: number, endMs: number): Promise<void> {
    const unrated = this.#database
      .prepare(
        `select event_id, json from usage_event
        where ts_ms >= ? and ts_ms < ? and (rating_status is null or rating_status <> 'rated')`,
      )
      .all(startMs, endMs)
    if (unrated.length === 0) return
    this.#book ??= bundledPriceBook()
    const book = await this.#book
    const update = this.#database.prepare(
      'update usage_event set list_cost_usd = ?, rating_status = ? where event_id = ?',
    )
    for (const row of unrated) {
      const parsed = parseUsageEvent(JSON.parse(String(row['json'])), {
        nowMs: Number.MAX_SAFE_INTEGER,
        newEventId: () => '',
      })
      if (!parsed.ok) continue
      const rating = rate(LOCAL_ORGANIZATION, parsed.event, book)
      update.run(decimalText(rating.listCostUsd), rating.status, String(row['event_id']))
    }
  }
}

class Sum {
  readonly #provider: string
  readonly #model: string | null
  #requests = 0
  #unpriced = 0
  #input = 0
  #output = 0
  #cost = ZERO

  constructor(provider: string, model: string | null) {
    this.#provider = provider
    this.#model = model
  }

  add(row: Readonly<Record<string, unknown>>): void {
    this.#requests += 1
    this.#input += Number(row['input_tokens'])
    this.#output += Number(row['output_tokens'])
    if (row['rating_status'] !== 'rated') this.#unpriced += 1
    const cost = row['list_cost_usd']
    if (typeof cost === 'string') this.#cost = this.#cost.plus(decimal(cost))
  }

  summary(): ModelCost {
    return {
      provider: this.#provider,
      model: this.#model,
      requests: this.#requests,
      inputTokens: this.#input,
      outputTokens: this.#output,
      listCostUsd: decimalText(this.#cost),
      unpricedRequests: this.#unpriced,
    }
  }
}

async function bundledPriceBook(): Promise<PriceBook> {
  const catalogue = await bundledCatalogue()
  const source = bundledCatalogueSource()
  let sequence = 0
  const versions = catalogue.flatMap((model) =>
    model.prices.map((price, position) => ({
      id: cataloguePriceId(model, position, null),
      organizationId: null,
      provider: model.provider,
      model: model.model,
      match: model.match,
      effectiveFromMs: price.startMs,
      ...(price.timeOfDay !== undefined && { timeOfDay: price.timeOfDay }),
      rates: price.rates,
      source,
      sequence: sequence++,
    })),
  )
  return buildPriceBook(versions, 1)
}
