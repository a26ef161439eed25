import { expect, it } from 'vitest'
import { heapAfter } from '../../bench/memory/memory.ts'

/**
 * Promise 1: never in the way, not by memory either. The bench (`npm run bench -- --only memory`) makes 100,000
 * calls; a leak of half a kilobyte a call shows in fewer.
 */

const CALLS = 500
/** What caches and the compiler may still add. */
const TOLERANCE_BYTES = 1.5 * 2 ** 20

it('the heap is as large after ten times as many streamed calls', async () => {
  const [before = 0, after = 0] = await heapAfter([CALLS, 9 * CALLS])
  expect((after - before) / (9 * CALLS), 'bytes kept of each call').toBeLessThan(
    TOLERANCE_BYTES / (9 * CALLS),
  )
})
