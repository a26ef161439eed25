import { parentPort } from 'node:worker_threads'
import { type ForecastRequest, forecastSeries } from '@tokentally/core'
import { arima } from './arima.ts'
import type { ForecastAnswer, ForecastQuestion } from './forecast-thread.ts'

/** The thread that forecasts: one question at a time, from the numbers that it is sent. */
parentPort?.on('message', ({ id, hours, horizonHours, chosen }: ForecastQuestion) => {
  const request: ForecastRequest = { hours: [...hours], horizonHours, chosen, further: { arima } }
  let answer: ForecastAnswer
  try {
    answer = { id, forecast: forecastSeries(request) }
  } catch (error) {
    answer = { id, problem: error instanceof Error ? error.message : String(error) }
  }
  parentPort?.postMessage(answer)
})
