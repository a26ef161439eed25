import { Worker } from 'node:worker_threads'
import type { ForecastMethod, SeriesForecast } from '@tokentally/core'
import { Problem } from '../../http/problem.ts'

/** What the thread is asked. */
export interface ForecastQuestion {
  readonly id: number
  readonly hours: Float64Array
  readonly horizonHours: number
  readonly chosen: ForecastMethod | undefined
}

export type ForecastAnswer =
  | { readonly id: number; readonly forecast: SeriesForecast }
  | { readonly id: number; readonly problem: string }

/** Questions that may wait; a job asks one after the other, so that more are requests of the API. */
const WAITING_MAX = 200

/**
 * Forecasts in a thread of its own, so that requests are answered meanwhile: nothing of a forecast but handing over
 * its numbers happens on the event loop. The thread starts with the first question; one that dies takes the
 * questions that waited with it, and the next question starts another.
 */
export class ForecastThread {
  #worker: Worker | undefined
  #nextId = 0
  #isClosed = false
  readonly #waiting = new Map<number, PromiseWithResolvers<SeriesForecast>>()

  /** Whether the service stops: there will be no further forecast. */
  get isClosed(): boolean {
    return this.#isClosed
  }

  /** @throws {Problem} `unavailable` when too many wait, or the service stops */
  forecast(question: Omit<ForecastQuestion, 'id'>): Promise<SeriesForecast> {
    if (this.#isClosed || this.#waiting.size >= WAITING_MAX) {
      throw new Problem({ code: 'unavailable', detail: 'Too many forecasts are being made; try again soon.' })
    }
    const id = this.#nextId++
    const waiting = Promise.withResolvers<SeriesForecast>()
    this.#waiting.set(id, waiting)
    this.#worker ??= this.#start()
    this.#worker.postMessage({ ...question, id } satisfies ForecastQuestion)
    return waiting.promise
  }

  async close(): Promise<void> {
    this.#isClosed = true
    const worker = this.#worker
    this.#lose(worker, new Error('the service stops'))
    await worker?.terminate()
  }

  #start(): Worker {
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    const worker = new Worker(new URL(`./forecast-worker.${extension}`, import.meta.url), {
      execArgv: extension === 'ts' ? ['--conditions=source'] : [],
      env: {},
      // The optimizer of ARIMA complains of singular matrices; a method that fails there loses the contest.
      stdout: true,
      stderr: true,
    })
    worker.stdout.resume()
    worker.stderr.resume()
    worker.on('message', (answer: ForecastAnswer) => {
      const waiting = this.#waiting.get(answer.id)
      this.#waiting.delete(answer.id)
      if ('forecast' in answer) waiting?.resolve(answer.forecast)
      else waiting?.reject(new Error(`no forecast: ${answer.problem}`))
    })
    worker.on('error', (error) => this.#lose(worker, error))
    worker.on('exit', () => this.#lose(worker, new Error('the forecasting thread ended')))
    worker.unref()
    return worker
  }

  #lose(worker: Worker | undefined, error: unknown): void {
    if (worker === undefined || this.#worker !== worker) return
    this.#worker = undefined
    for (const waiting of this.#waiting.values()) waiting.reject(error)
    this.#waiting.clear()
  }
}
