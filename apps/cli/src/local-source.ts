import { openLocalReader, sumOf } from '@tokentally/meter/local'
import type { UsageSource } from './usage-source.ts'

/**
 * Usage from the file of local mode, which is neither made nor changed.
 *
 * @throws LocalFileError when it is missing or cannot be read
 */
export function openLocalSource(path: string): UsageSource {
  const reader = openLocalReader(path)
  return {
    name: path,
    async costs({ by, timeZone, ...range }) {
      const groups = await reader.groups(range, by, timeZone)
      return { groups, totals: sumOf(groups) }
    },
    async *events(range) {
      for await (const { event, rating } of reader.events(range)) {
        yield {
          ...event,
          list_cost_usd: rating.status === 'unpriced' ? null : rating.listCostUsd,
          rating_status: rating.status,
        }
      }
    },
    close: () => reader.close(),
  }
}
