import type { z } from 'zod'
import { Problem } from './problem.ts'

/** Where a page ended, as the text that callers send back; opaque to them. */
export function formatCursor(position: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify(position)).toString('base64url')
}

/**
 * Reads what `formatCursor` wrote.
 *
 * @param position what the list's positions look like
 * @throws Problem `invalid-request` naming `cursor` when the text is no cursor of such a list
 */
export function parseCursor<Position>(cursor: string, position: z.ZodType<Position>): Position {
  try {
    return position.parse(JSON.parse(Buffer.from(cursor, 'base64url').toString()))
  } catch (cause) {
    throw new Problem({
      code: 'invalid-request',
      errors: [{ path: 'cursor', message: 'is not a cursor from an earlier page' }],
      cause,
    })
  }
}
