import { type Logger, pino } from 'pino'
import pretty from 'pino-pretty'

export type { Logger } from 'pino'

export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent'

/** Values under these names never reach a log line. */
const SECRET_PATHS = [
  'req.headers.authorization',
  'req.headers["x-tokentally-key"]',
  'req.headers.cookie',
  'headers.authorization',
  'headers["x-tokentally-key"]',
  'password',
  'connectionString',
]

/**
 * The service's log: JSON lines on standard output, or readable lines on a terminal.
 * Bodies, prompts and keys are never handed to it.
 */
export function createLogger(options: { level: LogLevel; isTerminal: boolean }): Logger {
  const settings = { level: options.level, redact: { paths: SECRET_PATHS, censor: '[redacted]' } }
  if (!options.isTerminal) return pino(settings)
  return pino(settings, pretty({ colorize: true, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss.l' }))
}
