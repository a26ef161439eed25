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

/**
 * Splits what was read, one more than asked for if there was more, into the page and the cursor of the next one.
 *
 * @param positionOf where an item stands in the list's order
 */
export function pageOf<Item>(
  items: readonly Item[],
  limit: number,
  positionOf: (item: Item) => readonly (string | number)[],
): { readonly page: readonly Item[]; readonly nextCursor: string | null } {
  const page = items.slice(0, limit)
  const last = items.length > limit ? page.at(-1) : undefined
  return { page, nextCursor: last === undefined ? null : formatCursor(positionOf(last)) }
}
