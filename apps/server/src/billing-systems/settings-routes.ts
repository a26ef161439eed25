import type { FieldIssue } from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import type { BillingSystem } from './billing-system.ts'
import {
  deleteSettings,
  findSettings,
  putSettings,
  type SystemSettings,
  sealSystemSecret,
} from './settings-store.ts'

export interface SettingsRouteDependencies {
  readonly pool: Pool
  readonly now: () => Date
  readonly secretKey: Buffer
  readonly systems: readonly BillingSystem[]
  /** Told when settings were written: what waited for them can go on. */
  readonly onSettings: () => void
}

const TAGS = ['billing systems']
const ROUTE = '/api/v1/billing-systems/:name'
const params = z.object({ name: z.string().max(64).describe('Such as `stripe`.') })
const settingsBody = z.record(z.string(), z.unknown())

const settingsJson = z.object({
  system: z.string(),
  enabled: z.boolean(),
  settings: settingsBody.describe(
    'With the defaults of what was left out. The reference lists them by system.',
  ),
  secrets: z
    .record(z.string(), z.boolean())
    .describe('By name, whether one is stored. They are never shown.'),
  updated_at: z.string(),
})

/** Registers the settings of billing systems. */
export function registerSettingsRoutes(app: App, dependencies: SettingsRouteDependencies): void {
  const { pool, now, onSettings } = dependencies
  app.get(
    ROUTE,
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'How a billing system is set up',
        params,
        response: { 200: settingsJson, 404: problemSchema },
      },
    },
    async ({ organizationId, params }) => {
      const system = systemOf(dependencies, params.name)
      const found = await findSettings(pool, organizationId, system.name)
      if (found === undefined) throw notSetUp(system)
      return settingsToJson(system, found)
    },
  )

  app.put(
    ROUTE,
    {
      config: { scope: 'admin' },
      schema: {
        tags: TAGS,
        summary: 'Set up a billing system',
        description:
          'Replaces all settings. Steps that are planned already stay as they are. Secrets that are left out stay; null removes one.',
        params,
        body: z.strictObject({
          enabled: z.boolean().default(true),
          settings: settingsBody.default({}),
          secrets: z.record(z.string().max(64), z.string().min(1).max(8_192).nullable()).default({}),
        }),
        response: { 200: settingsJson, 400: problemSchema, 404: problemSchema },
      },
    },
    async ({ organizationId, params, body }) => {
      const system = systemOf(dependencies, params.name)
      const before = await findSettings(pool, organizationId, system.name)
      const settings = system.settingsSchema.safeParse(body.settings)
      const issues: FieldIssue[] = [
        ...(settings.success ? [] : settings.error.issues).map(({ path, message }) => ({
          path: ['settings', ...path].join('.'),
          message,
        })),
        ...Object.keys(body.secrets)
          .filter((name) => !system.secretNames.includes(name))
          .map((name) => ({
            path: `secrets.${name}`,
            message: `is no secret of ${system.name}; those are: ${system.secretNames.join(', ') || 'none'}`,
          })),
      ]
      if (!settings.success || issues.length > 0) {
        throw new Problem({ code: 'invalid-request', detail: 'The settings are not valid.', errors: issues })
      }
      const written: SystemSettings = {
        organizationId,
        system: system.name,
        isEnabled: body.enabled,
        settings: settings.data,
        sealedSecrets: sealedSecrets(dependencies, organizationId, system.name, {
          before: before?.sealedSecrets ?? {},
          secrets: body.secrets,
        }),
        updatedAt: now(),
      }
      await putSettings(pool, written)
      onSettings()
      return settingsToJson(system, written)
    },
  )

  app.delete(
    ROUTE,
    {
      config: { scope: 'admin' },
      schema: {
        tags: TAGS,
        summary: 'Forget how a billing system is set up, with its secrets',
        description: 'Steps that wait go on waiting, and say so, until it is set up again.',
        params,
        response: { 204: z.null(), 404: problemSchema },
      },
    },
    async ({ organizationId, params }, reply) => {
      const system = systemOf(dependencies, params.name)
      if (!(await deleteSettings(pool, organizationId, system.name))) throw notSetUp(system)
      return reply.code(204).send(null)
    },
  )
}

function sealedSecrets(
  { secretKey }: SettingsRouteDependencies,
  organizationId: string,
  system: string,
  {
    before,
    secrets,
  }: {
    readonly before: Readonly<Record<string, string>>
    readonly secrets: Readonly<Record<string, string | null>>
  },
): Record<string, string> {
  const kept = Object.entries(before).filter(([name]) => secrets[name] === undefined)
  const fresh = Object.entries(secrets).flatMap(([name, secret]) =>
    secret === null ? [] : [[name, sealSystemSecret(secretKey, { organizationId, system }, name, secret)]],
  )
  return Object.fromEntries([...kept, ...fresh])
}

function systemOf({ systems }: SettingsRouteDependencies, name: string): BillingSystem {
  const system = systems.find((candidate) => candidate.name === name)
  if (system === undefined) {
    throw new Problem({
      code: 'not-found',
      detail: `There is no such billing system; there are: ${systems.map((one) => one.name).join(', ')}.`,
    })
  }
  return system
}

function notSetUp(system: BillingSystem): Problem {
  return new Problem({ code: 'not-found', detail: `${system.name} is not set up.` })
}

function settingsToJson(
  system: BillingSystem,
  { isEnabled, settings, sealedSecrets, updatedAt }: SystemSettings,
): z.infer<typeof settingsJson> {
  return {
    system: system.name,
    enabled: isEnabled,
    settings: { ...settings },
    secrets: Object.fromEntries(system.secretNames.map((name) => [name, sealedSecrets[name] !== undefined])),
    updated_at: updatedAt.toISOString(),
  }
}
