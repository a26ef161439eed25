import { randomUUID } from 'node:crypto'
import {
  allRuleSpans,
  type MarkupRuleVersion,
  markupRuleBody,
  markupRuleJson,
  newMarkupRuleJson,
  RULES_MAX,
  type RuleChange,
  type RuleSpan,
  ruleDraft,
  ruleId,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { formatCursor, parseCursor } from '../http/page-cursor.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { changeMarkupRules } from './change-markup-rules.ts'
import { markupRuleAnswer, versionToJson } from './markup-json.ts'
import { listMarkupRules } from './markup-store.ts'
import type { RatingBookCache } from './rating-book-cache.ts'

/** What the routes of markup rules need. */
export interface MarkupRoutesDeps {
  readonly pool: Pool
  readonly ratingBooks: RatingBookCache
  readonly now: () => Date
}

const tags = ['markup rules']
const idParameter = z.object({ id: ruleId })
const flag = z.enum(['true', 'false']).transform((value) => value === 'true')
const instant = z.union([z.iso.date(), z.iso.datetime({ offset: true })], {
  error: 'must be a date (2026-11-01) or an instant (2026-11-01T00:00:00Z)',
})

/** Registers everything under `/api/v1/markup-rules`, but the preview. */
export function registerMarkupRoutes(app: App, deps: MarkupRoutesDeps): void {
  registerReading(app, deps)
  registerChanging(app, deps)
  registerApply(app, deps)
}

function registerReading(app: App, { pool, now }: MarkupRoutesDeps): void {
  app.get(
    '/api/v1/markup-rules',
    {
      config: { scope: 'read' },
      schema: {
        summary: 'Markup rules',
        description:
          'What is in force and what is planned, ordered by id and version. `at`: what is or was in force then; `history`: every version.',
        tags,
        querystring: z.strictObject({
          at: instant.optional().describe('A date (00:00 UTC) or an RFC 3339 instant.'),
          history: flag.optional(),
          limit: z.coerce.number().int().min(1).max(1000).default(100),
          cursor: z.string().optional().describe('`next_cursor` of the page before.'),
        }),
        response: {
          200: z.object({ rules: z.array(markupRuleAnswer), next_cursor: z.string().nullable() }),
          400: problemSchema,
        },
      },
    },
    async ({ organizationId, query }) => {
      if (query.at !== undefined && query.history === true) {
        throw new Problem({
          code: 'invalid-request',
          errors: [{ path: 'history', message: 'goes without at' }],
        })
      }
      const nowMs = now().getTime()
      const atMs = query.at === undefined ? undefined : Date.parse(query.at)
      const after = query.cursor === undefined ? undefined : parseCursor(query.cursor, cursorSchema)
      const shown = shownRules(await listMarkupRules(pool, organizationId), nowMs)
        .filter(({ span }) => {
          if (query.history === true) return true
          if (span === undefined) return false
          return atMs === undefined ? span.endMs > nowMs : span.startMs <= atMs && atMs < span.endMs
        })
        .filter(({ version }) => after === undefined || comparePositions(positionOf(version), after) > 0)
      const page = shown.slice(0, query.limit)
      const last = shown.length > page.length ? page.at(-1) : undefined
      return {
        rules: page.map(({ json }) => json),
        next_cursor: last === undefined ? null : formatCursor(positionOf(last.version)),
      }
    },
  )

  app.get(
    '/api/v1/markup-rules/:id',
    {
      config: { scope: 'read' },
      schema: {
        summary: 'A markup rule with all its versions',
        tags,
        params: idParameter,
        response: {
          200: markupRuleAnswer.extend({
            versions: z.array(markupRuleAnswer).describe('In order of entry; the last one is the rule.'),
          }),
          404: problemSchema,
        },
      },
    },
    async ({ organizationId, params }) => {
      const versions = await listMarkupRules(pool, organizationId, params.id)
      const shown = shownRules(versions, now().getTime())
      const last = shown.at(-1)
      if (last === undefined) throw unknownRule(params.id)
      return { ...last.json, versions: shown.map(({ json }) => json) }
    },
  )
}

function registerChanging(app: App, deps: MarkupRoutesDeps): void {
  app.post(
    '/api/v1/markup-rules',
    {
      config: { scope: 'write' },
      schema: {
        summary: 'Add a markup rule',
        description:
          'It is in force from `effective_date`, at once when absent, never earlier: what was sold stays as it was. Of the rules that match an event the most specific one prices it. A rule that would tie with another is refused with 409, which names the other.',
        tags,
        body: newMarkupRuleJson,
        response: { 201: markupRuleAnswer, 400: problemSchema, 409: problemSchema },
      },
    },
    async ({ organizationId, body }, reply) => {
      const { id = `rule-${randomUUID()}`, ...fields } = body
      const changes = await changeMarkupRules(deps, {
        organizationId,
        drafts: [ruleDraft(id, fields)],
        removals: [],
        isDryRun: false,
        pathOf: (_, field) => field,
        check(existing) {
          if (!existing.has(id)) return
          throw new Problem({
            code: 'conflict',
            detail: `There is a rule "${id}" already. PUT /api/v1/markup-rules/${id} makes another version of it.`,
            errors: [{ path: 'id', message: 'is the id of a rule already' }],
          })
        },
      })
      return reply.code(201).send(answerOf(changes, deps.now()))
    },
  )

  app.put(
    '/api/v1/markup-rules/:id',
    {
      config: { scope: 'write' },
      schema: {
        summary: 'Change a markup rule from a time on',
        description:
          'Makes a version that takes the place of the present one at `effective_date`, at once when absent. The whole rule is to be given. A version that was planned and has not begun is replaced. A rule that is as asked for already stays as it is.',
        tags,
        params: idParameter,
        body: markupRuleBody,
        response: { 200: markupRuleAnswer, 400: problemSchema, 404: problemSchema, 409: problemSchema },
      },
    },
    async ({ organizationId, params, body }) => {
      const changes = await changeMarkupRules(deps, {
        organizationId,
        drafts: [ruleDraft(params.id, body)],
        removals: [],
        isDryRun: false,
        pathOf: (_, field) => field,
        check: mustExist(params.id),
      })
      return answerOf(changes, deps.now())
    },
  )

  app.delete(
    '/api/v1/markup-rules/:id',
    {
      config: { scope: 'write' },
      schema: {
        summary: 'End a markup rule now',
        description: 'Events up to now keep what they were sold for, and the rule its history.',
        tags,
        params: idParameter,
        response: { 200: markupRuleAnswer, 404: problemSchema },
      },
    },
    async ({ organizationId, params }) => {
      const changes = await changeMarkupRules(deps, {
        organizationId,
        drafts: [],
        removals: [params.id],
        isDryRun: false,
        pathOf: (_, field) => field,
        check: mustExist(params.id),
      })
      return answerOf(changes, deps.now())
    },
  )
}

function registerApply(app: App, deps: MarkupRoutesDeps): void {
  app.post(
    '/api/v1/markup-rules/apply',
    {
      config: { scope: 'write' },
      schema: {
        summary: 'Make the markup rules as given, all at once',
        description:
          'For rule files. Rules that are new are added, those that differ get another version, those that are as given stay as they are. With `prune` all others end. All of it happens or nothing.',
        tags,
        body: z.strictObject({
          rules: z
            .array(markupRuleJson)
            .max(RULES_MAX)
            .superRefine((rules, context) => {
              const seen = new Set<string>()
              for (const [index, { id }] of rules.entries()) {
                if (seen.has(id)) {
                  context.addIssue({ code: 'custom', path: [index, 'id'], message: 'stands twice' })
                }
                seen.add(id)
              }
            }),
          prune: z.boolean().default(false).describe('End the rules that are not given.'),
          dry_run: z.boolean().default(false).describe('Only say what would happen.'),
        }),
        response: {
          200: z.object({
            dry_run: z.boolean(),
            changes: z.array(
              z.object({
                kind: z.enum(['create', 'update', 'remove', 'unchanged']),
                id: z.string(),
                before: markupRuleAnswer.nullable(),
                after: markupRuleAnswer,
              }),
            ),
          }),
          400: problemSchema,
          409: problemSchema,
        },
      },
    },
    async ({ organizationId, body }) => {
      const indexById = new Map(body.rules.map(({ id }, index) => [id, index]))
      const changes = await changeMarkupRules(deps, {
        organizationId,
        drafts: body.rules.map(({ id, ...fields }) => ruleDraft(id, fields)),
        removals: body.prune ? 'others' : [],
        isDryRun: body.dry_run,
        pathOf: (id, field) => `rules.${indexById.get(id) ?? ''}.${field}`,
      })
      const nowMs = deps.now().getTime()
      return {
        dry_run: body.dry_run,
        changes: changes.map(({ kind, id, before, after }) => ({
          kind,
          id,
          before: before === undefined ? null : versionToJson(before, spanOf(before), nowMs),
          after: versionToJson(after, spanOf(after), nowMs),
        })),
      }
    },
  )
}

interface ShownRule {
  readonly version: MarkupRuleVersion
  readonly span: RuleSpan | undefined
  readonly json: ReturnType<typeof versionToJson>
}

/** Versions as they stand now, by id and version. */
function shownRules(versions: readonly MarkupRuleVersion[], nowMs: number): readonly ShownRule[] {
  const spans = new Map(allRuleSpans(versions).map((span) => [span.version.versionId, span]))
  return versions
    .toSorted((a, b) => comparePositions(positionOf(a), positionOf(b)))
    .map((version) => {
      const span = spans.get(version.versionId)
      return { version, span, json: versionToJson(version, span, nowMs) }
    })
}

function answerOf(changes: readonly RuleChange[], now: Date) {
  const [change] = changes
  if (change === undefined) throw new RangeError('a change of a rule has a result')
  return versionToJson(change.after, spanOf(change.after), now.getTime())
}

/** When a version is in force, for all that is known at its entry. */
function spanOf(version: MarkupRuleVersion): RuleSpan {
  return { version, startMs: version.fromMs, endMs: version.untilMs ?? Infinity }
}

function mustExist(id: string): (existing: ReadonlySet<string>) => void {
  return (existing) => {
    if (!existing.has(id)) throw unknownRule(id)
  }
}

function unknownRule(id: string): Problem {
  return new Problem({ code: 'not-found', detail: `There is no markup rule "${id}".` })
}

type RulePosition = readonly [id: string, version: number]

function positionOf({ id, version }: MarkupRuleVersion): RulePosition {
  return [id, version]
}

function comparePositions(a: RulePosition, b: RulePosition): number {
  return a[0] === b[0] ? a[1] - b[1] : a[0] < b[0] ? -1 : 1
}

const cursorSchema = z.tuple([z.string(), z.number().int().min(0)])
