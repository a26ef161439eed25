import { z } from 'zod'
import type { App } from '../../http/app.ts'
import { Problem } from '../../http/problem.ts'
import { type DecisionHub, TooManyStreams } from './decision-hub.ts'

const TAGS = ['decisions']

const scope = z.record(z.string(), z.string()).describe('`{}`: everything; else one dimension and its value.')
const snapshotSchema = z.object({
  as_of: z.string(),
  decisions: z.array(
    z.object({
      action: z.enum(['block', 'rate_limit', 'downgrade']),
      scope,
      reason: z.enum(['budget_exceeded', 'credit_exhausted']),
      budget: z.object({ id: z.string(), name: z.string() }).nullable().describe('Null for credit.'),
      detail: z.string(),
      until: z.string().nullable().describe("The period's end; null for credit."),
      requests_per_minute: z.number().int().optional().describe('For `rate_limit`.'),
      models: z.array(z.string()).optional().describe('For `downgrade`, in order of preference.'),
    }),
  ),
  preferences: z.array(z.object({ scope, prefer: z.array(z.string()), fallback: z.string().nullable() })),
})

/** Registers `GET /api/v1/decisions` and its stream. */
export function registerDecisionRoutes(app: App, hub: DecisionHub): void {
  app.get(
    '/api/v1/decisions',
    {
      config: { scope: ['ingest', 'read'] },
      schema: {
        tags: TAGS,
        summary: 'What calls must do now: scopes whose limits are used up, and preferred models',
        querystring: z.strictObject({}),
        response: { 200: snapshotSchema },
      },
    },
    async (request) =>
      snapshotSchema.parse(JSON.parse(await hub.snapshot(request.organizationId, request.apiKeyId))),
  )

  app.get(
    '/api/v1/decisions/stream',
    {
      config: { scope: ['ingest', 'read'] },
      schema: {
        tags: TAGS,
        summary: 'The same as Server-Sent Events: now, and at every change',
        description:
          'Each event is called `decisions` and has the whole snapshot as its data; a change reaches every stream within a second. In between comes a comment line at least every 500 ms.',
        querystring: z.strictObject({}),
        produces: ['text/event-stream'],
        response: { 200: z.unknown().describe('Server-Sent Events') },
      },
    },
    async (request, reply) => {
      try {
        await hub.open(request.organizationId, request.apiKeyId, () => {
          reply.hijack()
          reply.raw.writeHead(200, {
            'content-type': 'text/event-stream; charset=utf-8',
            'cache-control': 'no-store',
            // Proxies such as nginx would gather the events otherwise.
            'x-accel-buffering': 'no',
          })
          return reply.raw
        })
      } catch (error) {
        if (!(error instanceof TooManyStreams)) throw error
        throw new Problem({
          code: 'unavailable',
          detail: 'This process keeps no further stream open.',
          retryAfterS: 2,
          cause: error,
        })
      }
    },
  )
}
