import { setTimeout as delay } from 'node:timers/promises'

const POLL_MS = 20

/**
 * Waits until a condition holds; a condition that throws does not hold yet.
 * @throws after `timeoutMs`, with the description and the last error
 */
export async function waitFor(
  condition: () => boolean | Promise<boolean>,
  description: string,
  timeoutMs = 30_000,
): Promise<void> {
  let last: unknown
  for (const end = Date.now() + timeoutMs; Date.now() < end; await delay(POLL_MS)) {
    try {
      if (await condition()) return
    } catch (error) {
      last = error
    }
  }
  throw new Error(`It never happened that ${description}.`, { cause: last })
}
