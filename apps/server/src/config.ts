import { join, resolve } from 'node:path'
import { z } from 'zod'
import { type GpuTarget, gpuTargetsSchema } from './gpu-targets.ts'
import { allowedTargets } from './http/forbidden-address.ts'

/** The parts of the program that one process can play. */
export const ROLES = ['api', 'worker'] as const
export type Role = (typeof ROLES)[number]

/** A wrong setting; the message is one line that names the variable. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

const SECRET_BYTES = 32
const MIB = 1024 * 1024

const port = z.coerce.number('must be a port number').int('must be a port number').min(0).max(65_535)
const urlOf = (schemes: readonly string[]) =>
  z.string().refine(
    (value) => {
      const parsed = URL.parse(value)
      return parsed !== null && schemes.includes(parsed.protocol)
    },
    `must be a URL that begins with ${schemes.map((scheme) => `${scheme}//`).join(' or ')}`,
  )

/** Every variable that the service reads. An empty value counts as unset. */
const environmentSchema = z.object({
  TOKENTALLY_HOST: z.string().default('127.0.0.1'),
  TOKENTALLY_PORT: port.default(4000),
  TOKENTALLY_ROLES: z
    .string()
    .default(ROLES.join(','))
    .transform((value, context): readonly Role[] => {
      const names = value
        .split(',')
        .map((name) => name.trim())
        .filter((name) => name !== '')
      const unknown = names.find((name) => !isRole(name))
      if (unknown !== undefined || names.length === 0) {
        context.addIssue({
          code: 'custom',
          message: `${unknown === undefined ? 'names no role' : `names the unknown role "${unknown}"`}; known are ${ROLES.join(', ')}`,
        })
      }
      return names.filter(isRole)
    }),
  DATABASE_URL: urlOf(['postgres:', 'postgresql:']).optional(),
  REDIS_URL: urlOf(['redis:', 'rediss:']).optional(),
  TOKENTALLY_DATABASE_POOL: z.coerce
    .number('must be a number of connections')
    .int('must be a whole number of connections')
    .min(4, 'must be at least 4')
    .max(500, 'must be at most 500')
    .default(16),
  TOKENTALLY_DATA_DIR: z.string().default('.tokentally'),
  TOKENTALLY_INVOICE_DIR: z.string().optional(),
  TOKENTALLY_BOOTSTRAP_KEY: z.string().min(24, 'must have at least 24 characters').max(256).optional(),
  TOKENTALLY_SECRET_KEY: z
    .string()
    .refine(
      (value) => /^[A-Za-z0-9+/_-]+={0,2}$/.test(value) && decodeSecret(value).length === SECRET_BYTES,
      'must be 32 bytes in base64 (make one with: openssl rand -base64 32)',
    )
    .transform(decodeSecret)
    .optional(),
  TOKENTALLY_BODY_MAX_MIB: z.coerce
    .number('must be a number of MiB')
    .positive('must be above zero')
    .max(1024, 'must be at most 1024')
    .default(32),
  TOKENTALLY_PRICES_URL: z
    .string()
    .refine(
      (value) => !value.includes('://') || /^https?:\/\/[^/]/.test(value),
      'must be a URL that begins with https:// or http://, or the path of a file',
    )
    .optional(),
  TOKENTALLY_GPU_TARGETS: gpuTargetsSchema.optional(),
  TOKENTALLY_FX_URL: z
    .union([z.literal('off'), urlOf(['http:', 'https:'])], 'must be an http:// or https:// URL, or off')
    .default('https://www.ecb.europa.eu/stats/eurofxref/eurofxref-hist-90d.xml'),
  TOKENTALLY_PUBLIC_URL: urlOf(['http:', 'https:'])
    .transform((value) => value.replace(/\/+$/, ''))
    .optional(),
  TOKENTALLY_WEBHOOK_ALLOW: z
    .string()
    .default('')
    .transform((value, context): readonly string[] => {
      const entries = value
        .split(',')
        .map((entry) => entry.trim())
        .filter((entry) => entry !== '')
      try {
        allowedTargets(entries)
      } catch (error) {
        context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) })
      }
      return entries
    }),
  TOKENTALLY_STRIPE_URL: urlOf(['http:', 'https:']).optional(),
  TOKENTALLY_SMTP_URL: urlOf(['smtp:', 'smtps:']).optional(),
  TOKENTALLY_SMTP_FROM: z
    .string()
    .regex(
      /^(?:[^<>@\r\n]*<[^<>@\s]+@[^<>@\s]+>|[^<>@\s]+@[^<>@\s]+)$/,
      'must be an address such as alerts@example.com or TokenTally <alerts@example.com>',
    )
    .optional(),
  TOKENTALLY_FORECAST_SCOPES: z.coerce
    .number('must be a number of scopes')
    .int('must be a whole number of scopes')
    .min(0, 'must not be negative')
    .max(10_000, 'must be at most 10000')
    .default(100),
  LOG_LEVEL: z
    .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
      error: 'must be one of fatal, error, warn, info, debug, trace, silent',
    })
    .default('info'),
})

/** The names of those variables, for what must keep up with them: documentation, deployments. */
export const VARIABLES: readonly string[] = Object.keys(environmentSchema.shape)

/** The service's settings, checked. */
export interface Config {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  readonly roles: readonly Role[]
  /** Absent: the embedded PostgreSQL. */
  readonly databaseUrl: string | undefined
  /** Most connections of one process for its own queries; jobs use a few of their own. */
  readonly databasePoolMax: number
  /** Absent: jobs run on the database. */
  readonly redisUrl: string | undefined
  /** Absolute path. */
  readonly dataDir: string
  /** Where the billing system `file`, and dry runs, write. */
  readonly invoiceDir: string
  readonly bootstrapKey: string | undefined
  /** 32 bytes. Absent only on the embedded PostgreSQL: generated into the data directory. */
  readonly secretKey: Buffer | undefined
  readonly bodyMaxBytes: number
  /** URL or path of a price file that is looked at daily; absent: none. */
  readonly pricesUrl: string | undefined
  /** Hosts of GPUs whose metrics are read; for the organization `default`. */
  readonly gpuTargets: readonly GpuTarget[]
  /** A file of the European Central Bank's rates, XML or CSV. Absent: rates are loaded by hand. */
  readonly fxUrl: string | undefined
  /** Where people reach the portal; without a slash at the end. Absent: alerts carry no link. */
  readonly publicUrl: string | undefined
  /** Networks and hosts that webhooks may go to although they are not public. */
  readonly webhookAllow: readonly string[]
  /** Where Stripe's API answers, for tests. Absent: at Stripe. */
  readonly stripeUrl: string | undefined
  /** Absent: no e-mail can be sent. */
  readonly smtp: { readonly url: string; readonly from: string } | undefined
  /** Values of each dimension that are forecast every hour; budgets' scopes come on top. */
  readonly forecastScopesMax: number
  readonly logLevel: z.infer<typeof environmentSchema>['LOG_LEVEL']
  /** Whether standard output is a terminal, for readable logs. */
  readonly isTerminal: boolean
}

/** Reads the process's environment. @throws {ConfigError} that names the first wrong variable */
export function readConfig(
  environment: Readonly<Record<string, string | undefined>> = process.env,
  isTerminal: boolean = process.stdout.isTTY === true,
): Config {
  const present = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''))
  const parsed = environmentSchema.safeParse(present)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new ConfigError(`${issue?.path.join('.') ?? 'environment'}: ${issue?.message ?? 'is not valid'}`)
  }
  const values = parsed.data
  if (values.DATABASE_URL !== undefined && values.TOKENTALLY_SECRET_KEY === undefined) {
    throw new ConfigError(
      'TOKENTALLY_SECRET_KEY: required with DATABASE_URL, the same on every replica (make one with: openssl rand -base64 32)',
    )
  }
  if (values.TOKENTALLY_SMTP_URL !== undefined && values.TOKENTALLY_SMTP_FROM === undefined) {
    throw new ConfigError(
      'TOKENTALLY_SMTP_FROM: required with TOKENTALLY_SMTP_URL, such as alerts@example.com',
    )
  }
  return {
    host: values.TOKENTALLY_HOST,
    port: values.TOKENTALLY_PORT,
    roles: values.TOKENTALLY_ROLES,
    databaseUrl: values.DATABASE_URL,
    databasePoolMax: values.TOKENTALLY_DATABASE_POOL,
    redisUrl: values.REDIS_URL,
    dataDir: resolve(values.TOKENTALLY_DATA_DIR),
    invoiceDir: resolve(values.TOKENTALLY_INVOICE_DIR ?? join(values.TOKENTALLY_DATA_DIR, 'invoices')),
    bootstrapKey: values.TOKENTALLY_BOOTSTRAP_KEY,
    secretKey: values.TOKENTALLY_SECRET_KEY,
    bodyMaxBytes: Math.round(values.TOKENTALLY_BODY_MAX_MIB * MIB),
    pricesUrl: values.TOKENTALLY_PRICES_URL,
    gpuTargets: values.TOKENTALLY_GPU_TARGETS ?? [],
    fxUrl: values.TOKENTALLY_FX_URL === 'off' ? undefined : values.TOKENTALLY_FX_URL,
    publicUrl: values.TOKENTALLY_PUBLIC_URL,
    webhookAllow: values.TOKENTALLY_WEBHOOK_ALLOW,
    stripeUrl: values.TOKENTALLY_STRIPE_URL,
    smtp:
      values.TOKENTALLY_SMTP_URL === undefined || values.TOKENTALLY_SMTP_FROM === undefined
        ? undefined
        : { url: values.TOKENTALLY_SMTP_URL, from: values.TOKENTALLY_SMTP_FROM },
    forecastScopesMax: values.TOKENTALLY_FORECAST_SCOPES,
    logLevel: values.LOG_LEVEL,
    isTerminal,
  }
}

function isRole(name: string): name is Role {
  return ROLES.some((role) => role === name)
}

function decodeSecret(value: string): Buffer {
  return Buffer.from(value, 'base64')
}

/** Where commands find the service. */
export function readCommandConfig(environment: NodeJS.ProcessEnv = process.env): {
  readonly url: string
  readonly apiKey: string | undefined
} {
  return {
    url: environment['TOKENTALLY_URL'] ?? 'http://127.0.0.1:4000',
    apiKey: environment['TOKENTALLY_API_KEY'],
  }
}
