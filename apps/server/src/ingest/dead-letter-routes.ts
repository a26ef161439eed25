import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import type { Ledger } from '../ledger/index.ts'
import { listDeadLetters, replayDeadLetters } from './dead-letters.ts'

/** `GET /api/v1/dead-letters` and their replay; both need the scope `admin`. */
export function registerDeadLetterRoutes(
  app: App,
  { pool, ledger, now }: { pool: Pool; ledger: Pick<Ledger, 'append'>; now: () => Date },
): void {
  app.route({
    method: 'GET',
    url: '/api/v1/dead-letters',
    config: { scope: 'admin' },
    schema: {
      tags: ['ingestion'],
      summary: 'Events that could not be understood, newest first',
      querystring: z.strictObject({ limit: z.coerce.number().int().min(1).max(1000).default(100) }),
      response: { 200: z.object({ dead_letters: z.array(z.record(z.string(), z.unknown())) }) },
    },
    handler: async (request) => {
      const letters = await listDeadLetters(pool, {
        organizationId: request.organizationId,
        limit: request.query.limit,
      })
      return { dead_letters: letters.map((letter) => ({ ...letter })) }
    },
  })
  app.route({
    method: 'POST',
    url: '/api/v1/dead-letters/replay',
    config: { scope: 'admin' },
    schema: {
      tags: ['ingestion'],
      summary: 'Try dead letters again',
      querystring: z.strictObject({ id: z.uuid().optional().describe('Only this one.') }),
      response: { 200: z.object({ replayed: z.number().int(), still_rejected: z.number().int() }) },
    },
    handler: async (request) => {
      const { id } = request.query
      const replay = await replayDeadLetters(
        { pool, ledger, now },
        { organizationId: request.organizationId, ...(id !== undefined && { deadLetterId: id }) },
      )
      return { replayed: replay.replayed, still_rejected: replay.stillRejected }
    },
  })
}
