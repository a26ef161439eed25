import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { parse } from 'csv-parse/sync'

/** A daily series of public data. */
export interface PublicSeries {
  readonly name: string
  readonly days: readonly number[]
}

/**
 * Daily weather of Seattle and New York, 2012 to 2015, of the US National Oceanic and Atmospheric Administration
 * (public domain), as the npm package vega-datasets 2 ships it. No spending, but not made up by us either: level,
 * yearly waves, scatter, days of nothing.
 */
export function publicSeries(): readonly PublicSeries[] {
  const file = createRequire(import.meta.url).resolve('vega-datasets/data/weather.csv')
  const rows: unknown[] = parse(readFileSync(file, 'utf8'), { columns: true })
  const series = new Map<string, number[]>()
  for (const row of rows) {
    if (typeof row !== 'object' || row === null) continue
    const field = new Map<string, unknown>(Object.entries(row))
    for (const measure of ['wind', 'temp_max', 'precipitation']) {
      const name = `${String(field.get('location'))} ${measure}`
      const value = Math.max(0, Number(field.get(measure)))
      const days = series.get(name) ?? []
      days.push(value)
      series.set(name, days)
    }
  }
  return [...series].map(([name, days]) => ({ name, days }))
}
