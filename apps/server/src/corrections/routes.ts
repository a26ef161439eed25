import { z } from 'zod'
import type { App } from '../http/app.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { encodeCursor, listCorrectionEntries, noCursor, readCursor } from '../reports/index.ts'
import { applyCorrection, type CorrectionDependencies, EVENTS_MAX, previewCorrection } from './correct.ts'
import { correctionJson, correctionToJson, previewJson, previewToJson } from './correction-json.ts'
import { correctionRequestSchema } from './request.ts'
import { type CorrectionPosition, findCorrection, listCorrections } from './store.ts'

export type CorrectionRouteDependencies = CorrectionDependencies

const page = {
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  cursor: z.string().optional().describe('`next_cursor` of the page before.'),
}

/** Registers everything under `/api/v1/corrections`. */
export function registerCorrectionRoutes(app: App, dependencies: CorrectionRouteDependencies): void {
  registerCorrect(app, dependencies)
  registerList(app, dependencies)
  registerOne(app, dependencies)
}

function registerCorrect(app: App, dependencies: CorrectionRouteDependencies): void {
  app.post(
    '/api/v1/corrections',
    {
      config: { scope: 'write' },
      schema: {
        tags: ['corrections'],
        summary: 'Correct events, or preview it',
        description: `Takes events back and lets others stand in for them; nothing is updated. All of it happens or nothing, for at most ${EVENTS_MAX} events.`,
        body: correctionRequestSchema,
        response: {
          200: z
            .union([previewJson, correctionJson])
            .describe('A preview, or the correction that stands under this id'),
          201: correctionJson,
          400: problemSchema,
          409: problemSchema,
        },
      },
    },
    async (request, reply) => {
      const { body } = request
      if (body.preview === true || body.dry_run === true) {
        return previewToJson(await previewCorrection(dependencies, request, body))
      }
      const { correction, isRepeat } = await applyCorrection(dependencies, request, body)
      return reply.code(isRepeat ? 200 : 201).send(correctionToJson(correction))
    },
  )
}

function registerList(app: App, { pool }: CorrectionRouteDependencies): void {
  app.get(
    '/api/v1/corrections',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['corrections'],
        summary: 'Corrections, newest first',
        querystring: z.strictObject(page),
        response: {
          200: z.object({ corrections: z.array(correctionJson), next_cursor: z.string().nullable() }),
        },
      },
    },
    async ({ organizationId, query }) => {
      const after = query.cursor === undefined ? undefined : positionOf(query.cursor)
      const corrections = await listCorrections(pool, { organizationId, limit: query.limit + 1, after })
      const shown = corrections.slice(0, query.limit)
      const last = corrections.length > query.limit ? shown.at(-1) : undefined
      return {
        corrections: shown.map(correctionToJson),
        next_cursor:
          last === undefined ? null : encodeCursor({ tsMs: last.createdAt.getTime(), eventId: last.id }),
      }
    },
  )
}

function registerOne(app: App, { pool }: CorrectionRouteDependencies): void {
  app.get(
    '/api/v1/corrections/:correction_id',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['corrections'],
        summary: 'One correction with its entries',
        params: z.object({ correction_id: z.string() }),
        querystring: z.strictObject(page),
        response: {
          200: correctionJson.extend({
            entries: z
              .array(z.record(z.string(), z.unknown()))
              .describe(
                'Reversals and replacements in the form of GET /api/v1/usage, by the time of the events',
              ),
            next_cursor: z.string().nullable(),
          }),
          404: problemSchema,
        },
      },
    },
    async ({ organizationId, params, query }) => {
      const correctionId = params.correction_id
      const after = query.cursor === undefined ? undefined : readCursor(query.cursor)
      const found = isUuid(correctionId)
        ? await findCorrection(pool, organizationId, correctionId)
        : undefined
      if (found === undefined) {
        throw new Problem({ code: 'not-found', detail: 'There is no correction with this id.' })
      }
      const { limit } = query
      const entries = await listCorrectionEntries(pool, {
        organizationId,
        correctionId,
        limit: limit + 1,
        after,
      })
      const shown = entries.slice(0, limit)
      const last = entries.length > limit ? shown.at(-1) : undefined
      return {
        ...correctionToJson(found.correction),
        entries: shown.map((entry) => ({ ...entry })),
        next_cursor:
          last?.ts === undefined || last.event_id === undefined
            ? null
            : encodeCursor({ tsMs: Date.parse(last.ts), eventId: last.event_id }),
      }
    },
  )
}

function positionOf(text: string): CorrectionPosition {
  const { tsMs, eventId } = readCursor(text)
  if (!isUuid(eventId)) throw noCursor()
  return { createdAtMs: tsMs, id: eventId }
}

function isUuid(text: string): boolean {
  return z.guid().safeParse(text).success
}
