import { parsePolicies, policySchema } from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../../http/app.ts'
import { Problem } from '../../http/problem.ts'
import { applyPolicies } from './apply.ts'
import { listPolicies } from './store.ts'

const TAGS = ['policies']

const bodySchema = z.strictObject({
  policies: z.array(policySchema).max(1_000),
  prune: z
    .boolean()
    .optional()
    .describe('Remove what earlier policies made and these do not name. Default false.'),
  dry_run: z.boolean().optional().describe('Say what would be done, and do nothing. Default false.'),
})
const optionsSchema = bodySchema.omit({ policies: true })
/** The handler checks the body: all problems are named at once, by the same words as on the command line. */
const acceptAsItIs = () => (value: unknown) => ({ value })

/** Registers everything under `/api/v1/policies`. */
export function registerPolicyRoutes(
  app: App,
  { pool, now }: { readonly pool: Pool; readonly now: () => Date },
): void {
  app.get(
    '/api/v1/policies',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'Policies as they were applied last, in the order of their file',
        querystring: z.strictObject({}),
        response: {
          200: z.object({
            policies: z.array(policySchema.extend({ applied_at: z.string() })),
          }),
        },
      },
    },
    async (request) => ({
      policies: (await listPolicies(pool, request.organizationId)).map(({ policy, appliedAt }) => ({
        ...policy.source,
        applied_at: appliedAt.toISOString(),
      })),
    }),
  )

  app.route({
    method: 'POST',
    url: '/api/v1/policies/apply',
    config: { scope: 'write' },
    validatorCompiler: acceptAsItIs,
    schema: {
      tags: TAGS,
      summary: 'Make budgets and preferences what policies say, all of it or nothing',
      body: bodySchema,
      response: {
        200: z.object({
          dry_run: z.boolean(),
          changes: z.array(
            z.object({
              name: z.string(),
              kind: z.enum(['budget', 'preference']),
              action: z.enum(['create', 'update', 'unchanged', 'delete']),
            }),
          ),
        }),
      },
    },
    handler: async (request) => {
      const body: unknown = request.body
      const { policies, ...rest } = objectOf(body)
      const parsed = parsePolicies({ policies })
      const options = optionsSchema.safeParse(rest)
      const issues = [
        ...(parsed.ok ? [] : parsed.issues),
        ...(options.success
          ? []
          : options.error.issues.flatMap((issue) =>
              issue.code === 'unrecognized_keys'
                ? issue.keys.map((path) => ({ path, message: 'is not a known field' }))
                : [{ path: issue.path.join('.'), message: issue.message }],
            )),
      ]
      if (!parsed.ok || !options.success) {
        throw new Problem({
          code: 'invalid-request',
          detail: 'Some policies are not valid. Nothing was applied.',
          errors: issues,
        })
      }
      const isDryRun = options.data.dry_run ?? false
      const changes = await applyPolicies(
        pool,
        parsed.policies,
        {
          organizationId: request.organizationId,
          apiKeyId: request.apiKeyId,
          source: 'policies',
          at: now(),
        },
        { prune: options.data.prune ?? false, isDryRun },
      )
      return { dry_run: isDryRun, changes: changes.map((change) => ({ ...change })) }
    },
  })
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}
