import { ALERT_KINDS, ALERT_STATES, SNOOZE_MAX_MS } from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { pageOf } from '../http/page-cursor.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { type Alert, alertDetailsSchema, isOfBudget, scopeOf } from './alert.ts'
import { acknowledgeAlerts, findAlert, listAlerts, snoozeAlert } from './alert-store.ts'
import { pageParameters, positionAt, positionOfCursor } from './page-cursor.ts'
import { type AlertSettings, readSettings, writeSettings } from './settings-store.ts'

export interface AlertsDependencies {
  readonly pool: Pool
  readonly now: () => Date
}

const ACK_MAX = 1_000
const TAGS = ['alerts']

const alertJson = z.object({
  id: z.uuid(),
  kind: z.enum(ALERT_KINDS),
  state: z.enum(ALERT_STATES),
  scope: z
    .string()
    .nullable()
    .describe('Such as `team:engineering`; null where the alert is about no scope.'),
  budget_id: z.string().nullable(),
  threshold: z.number().nullable().describe('Percent of the budget; null for other kinds.'),
  period: z.object({ start: z.string(), end: z.string() }),
  fired_at: z.string(),
  acknowledged_at: z.string().nullable(),
  acknowledged_by: z.uuid().nullable().describe('The API key that did.'),
  snoozed_until: z.string().nullable(),
  resolved_at: z.string().nullable(),
  details: alertDetailsSchema.describe('What was known when it fired.'),
})

const settingsJson = z.strictObject({
  anomaly_enabled: z.boolean().describe('Whether unusual spending is looked for.'),
  anomaly_sensitivity: z.number().min(1).max(50).describe('Robust standard deviations; less is more alerts.'),
  anomaly_min_factor: z.number().min(1).max(1000).describe('Times what is usual, at least.'),
  anomaly_min_usd: z
    .string()
    .regex(/^\d{1,9}(\.\d{1,12})?$/, 'must be an amount such as "5" or "0.50"')
    .describe('US dollars an hour above what is usual, at least.'),
})

/** Registers everything under `/api/v1/alerts`. */
export function registerAlertList(app: App, { pool, now }: AlertsDependencies): void {
  app.get(
    '/api/v1/alerts',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'Alerts, newest first',
        querystring: z.strictObject({
          state: z.enum(ALERT_STATES).optional(),
          kind: z.enum(ALERT_KINDS).optional(),
          budget_id: z.string().max(128).optional(),
          ...pageParameters,
        }),
        response: {
          200: z.object({ alerts: z.array(alertJson), next_cursor: z.string().nullable() }),
          400: problemSchema,
        },
      },
    },
    async ({ organizationId, query }) => {
      const after = query.cursor === undefined ? undefined : positionOfCursor(query.cursor)
      const alerts = await listAlerts(pool, {
        organizationId,
        state: query.state,
        kind: query.kind,
        budgetId: query.budget_id,
        limit: query.limit + 1,
        after: after === undefined ? undefined : { firedAt: after.at, id: after.id },
      })
      const { page, nextCursor } = pageOf(alerts, query.limit, ({ firedAt, id }) => positionAt(firedAt, id))
      return { alerts: page.map(alertToJson), next_cursor: nextCursor }
    },
  )

  app.post(
    '/api/v1/alerts/ack',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Acknowledge alerts',
        description:
          'Those named, or all open ones of a budget. To repeat it changes nothing. Resolved alerts and unknown ids are left out of the answer.',
        body: z.union([
          z.strictObject({ alert_ids: z.array(z.uuid()).min(1).max(ACK_MAX) }),
          z.strictObject({ budget_id: z.string().min(1).max(128) }),
        ]),
        response: {
          200: z.object({
            acknowledged: z.array(z.uuid()).describe('Ids of all that are acknowledged now.'),
          }),
          400: problemSchema,
        },
      },
    },
    async ({ organizationId, apiKeyId, body }) => ({
      acknowledged: [
        ...(await acknowledgeAlerts(
          pool,
          { organizationId, by: apiKeyId, at: now() },
          'alert_ids' in body ? { alertIds: body.alert_ids } : { budgetId: body.budget_id },
        )),
      ],
    }),
  )

  app.post(
    '/api/v1/alerts/:id/snooze',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Put an alert off',
        description:
          'Until then it is out of the way; then it is `fired` again, and its channels are reminded once.',
        params: z.object({ id: z.uuid() }),
        body: z.strictObject({ until: z.iso.datetime({ offset: true }) }),
        response: { 200: alertJson, 400: problemSchema, 404: problemSchema, 409: problemSchema },
      },
    },
    async ({ organizationId, params, body }) => {
      const { id } = params
      const until = new Date(body.until)
      const aheadMs = until.getTime() - now().getTime()
      if (aheadMs <= 0 || aheadMs > SNOOZE_MAX_MS) {
        throw new Problem({
          code: 'invalid-request',
          errors: [{ path: 'until', message: aheadMs <= 0 ? 'must lie ahead' : 'must lie within a year' }],
        })
      }
      const snoozed = await snoozeAlert(pool, { organizationId, id, until, now: now() })
      if (snoozed !== undefined) return alertToJson(snoozed)
      const alert = await existing(pool, organizationId, id)
      throw new Problem({
        code: 'conflict',
        detail: `The alert is ${alert.state === 'acknowledged' ? 'acknowledged' : 'resolved'}; only open alerts can be put off.`,
      })
    },
  )

  app.get(
    '/api/v1/alerts/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'One alert',
        params: z.object({ id: z.uuid() }),
        response: { 200: alertJson, 404: problemSchema },
      },
    },
    async ({ organizationId, params }) => alertToJson(await existing(pool, organizationId, params.id)),
  )
}

/** Registers `/api/v1/alert-settings`. */
export function registerAlertSettings(app: App, { pool, now }: AlertsDependencies): void {
  app.get(
    '/api/v1/alert-settings',
    {
      config: { scope: 'read' },
      schema: { tags: TAGS, summary: 'When unusual spending is told of', response: { 200: settingsJson } },
    },
    async ({ organizationId }) => settingsToJson(await readSettings(pool, organizationId)),
  )

  app.post(
    '/api/v1/alert-settings',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Set when unusual spending is told of',
        description: 'What is left out stays as it is.',
        body: settingsJson.partial(),
        response: { 200: settingsJson, 400: problemSchema },
      },
    },
    async ({ organizationId, body }) => {
      const current = await readSettings(pool, organizationId)
      const settings: AlertSettings = {
        anomalyEnabled: body.anomaly_enabled ?? current.anomalyEnabled,
        anomalySensitivity: body.anomaly_sensitivity ?? current.anomalySensitivity,
        anomalyMinFactor: body.anomaly_min_factor ?? current.anomalyMinFactor,
        anomalyMinUsd: body.anomaly_min_usd ?? current.anomalyMinUsd,
      }
      await writeSettings(pool, organizationId, settings, now())
      return settingsToJson(settings)
    },
  )
}

async function existing(pool: Pool, organizationId: string, id: string): Promise<Alert> {
  const alert = await findAlert(pool, organizationId, id)
  if (alert === undefined) throw new Problem({ code: 'not-found', detail: 'There is no such alert.' })
  return alert
}

function alertToJson(alert: Alert): z.infer<typeof alertJson> {
  return {
    id: alert.id,
    kind: alert.details.kind,
    state: alert.state,
    scope: scopeOf(alert.details) ?? null,
    budget_id: alert.budgetId,
    threshold: isOfBudget(alert.details) ? alert.threshold : null,
    period: {
      start: new Date(alert.period.startMs).toISOString(),
      end: new Date(alert.period.endMs).toISOString(),
    },
    fired_at: alert.firedAt.toISOString(),
    acknowledged_at: alert.acknowledgedAt?.toISOString() ?? null,
    acknowledged_by: alert.acknowledgedBy,
    snoozed_until: alert.snoozedUntil?.toISOString() ?? null,
    resolved_at: alert.resolvedAt?.toISOString() ?? null,
    details: alert.details,
  }
}

function settingsToJson(settings: AlertSettings): z.infer<typeof settingsJson> {
  return {
    anomaly_enabled: settings.anomalyEnabled,
    anomaly_sensitivity: settings.anomalySensitivity,
    anomaly_min_factor: settings.anomalyMinFactor,
    anomaly_min_usd: settings.anomalyMinUsd,
  }
}
