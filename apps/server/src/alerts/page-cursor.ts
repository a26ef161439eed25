import { z } from 'zod'
import { parseCursor } from '../http/page-cursor.ts'

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

/** Where an item of a list by time and id stands in it. */
export function positionAt(at: Date, id: string): readonly [string, string] {
  return [at.toISOString(), id]
}
