import { z } from 'zod'
import { Problem } from '../http/problem.ts'

const cursorSchema = z.tuple([z.iso.datetime(), z.uuid()])

/** Where a page that is ordered by time and id ended. */
export interface PagePosition {
  readonly at: Date
  readonly id: string
}

export function formatCursor({ at, id }: PagePosition): string {
  return Buffer.from(JSON.stringify([at.toISOString(), id])).toString('base64url')
}

/** @throws Problem when the text is no cursor */
export function parseCursor(cursor: string): PagePosition {
  try {
    const [at, id] = cursorSchema.parse(JSON.parse(Buffer.from(cursor, 'base64url').toString()))
    return { at: new Date(at), id }
  } catch (cause) {
    throw new Problem({
      code: 'invalid-request',
      errors: [{ path: 'cursor', message: 'is not a cursor from an earlier page' }],
      cause,
    })
  }
}

/** The query parameters of every list here. */
export const pageParameters = {
  limit: z.coerce.number().int().min(1).max(500).default(50),
  cursor: z.string().max(200).optional().describe('`next_cursor` of the page before.'),
}

/** Splits what was read with one more than asked for into the page and the cursor of the next. */
export function pageOf<Item>(
  items: readonly Item[],
  limit: number,
  positionOf: (item: Item) => PagePosition,
): { readonly page: readonly Item[]; readonly nextCursor: string | null } {
  const page = items.slice(0, limit)
  const last = items.length > limit ? page.at(-1) : undefined
  return { page, nextCursor: last === undefined ? null : formatCursor(positionOf(last)) }
}
