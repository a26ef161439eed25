import { expect, it } from 'vitest'
import { heapAfter } from '../../bench/memory/memory.ts'

/**
 * Promise 1: never in the way, not by memory either. The bench (`npm run bench -- --only memory`) makes 100,000
 * calls; a leak of half a kilobyte a call shows in fewer.
 */

/** The compiler and caches have settled by then. */
const FIRST_CALLS = 2_000
const FURTHER_CALLS = 4_000
const TOLERANCE_BYTES = 1.5 * 2 ** 20

it('the heap is as large after three times as many streamed calls', async () => {
  const [before = 0, after = 0] = await heapAfter([FIRST_CALLS, FURTHER_CALLS])
  expect((after - before) / FURTHER_CALLS, 'bytes kept of each call').toBeLessThan(
    TOLERANCE_BYTES / FURTHER_CALLS,
  )
})
