import { z } from 'zod'
import { formatCursor, parseCursor } from '../http/page-cursor.ts'

const cursorSchema = z.tuple([z.iso.datetime(), z.uuid()])

/** Where a page that is ordered by time and id ended. */
export interface PagePosition {
  readonly at: Date
  readonly id: string
}

/** @throws Problem when the text is no cursor */
export function positionOfCursor(cursor: string): PagePosition {
  const [at, id] = parseCursor(cursor, cursorSchema)
  return { at: new Date(at), id }
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
  if (last === undefined) return { page, nextCursor: null }
  const { at, id } = positionOf(last)
  return { page, nextCursor: formatCursor([at.toISOString(), id]) }
}
