import { describe, expect, it } from 'vitest'
import { ForecastThread } from './forecast-thread.ts'

const question = { hours: new Float64Array(24 * 60).fill(1), horizonHours: 24, chosen: undefined }

describe('the thread that forecasts', () => {
  it('answers many at once, with ARIMA in the contest', async () => {
    const thread = new ForecastThread()
    const noisy = Float64Array.from({ length: 24 * 60 }, (_, hour) => 1 + ((hour * 7919) % 13) / 13)
    const answers = await Promise.all([
      thread.forecast(question),
      thread.forecast({ ...question, hours: noisy }),
    ])
    expect(answers.map(({ hours }) => hours.length)).toEqual([24, 24])
    expect(answers[1]?.contest.map(({ method }) => method)).toContain('arima')
    await thread.close()
  })

  it('refuses more than a bounded number, and everything once it is closed', async () => {
    const thread = new ForecastThread()
    const waiting = Array.from({ length: 200 }, () =>
      thread.forecast(question).catch((error: unknown) => String(error)),
    )
    expect(() => thread.forecast(question)).toThrow('Too many')
    await thread.close()
    const answers = await Promise.all(waiting)
    expect(answers.filter((answer) => typeof answer === 'string').length).toBeGreaterThan(0)
    expect(() => thread.forecast(question)).toThrow()
    expect(thread.isClosed).toBe(true)
  })
})
