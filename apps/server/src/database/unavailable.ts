/** SQLSTATE classes and codes that say: the server is away, starting, stopping, or out of connections. */
const AWAY_SQLSTATES = new Set(['57P01', '57P02', '57P03', '57P05', '53300', '25006'])
const AWAY_SQLSTATE_CLASS = '08'
/** What Node reports when the connection cannot be made or breaks. */
const AWAY_ERRNOS = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ENOENT',
])
/** What node-postgres says without a code. */
const AWAY_MESSAGES =
  /connection terminated|timeout exceeded when trying to connect|client has encountered a connection error|not queryable|timeout expired|cannot use a pool after calling end/i

/** Whether an error means that the database cannot be reached now, rather than that the query is wrong. */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.some(isDatabaseUnavailable)
  if (!(error instanceof Error)) return false
  if ('code' in error && typeof error.code === 'string') {
    const { code } = error
    // A socket path that does not exist and a missing file share ENOENT; only a connect call means the database.
    if (code === 'ENOENT') return 'syscall' in error && error.syscall === 'connect'
    if (AWAY_SQLSTATES.has(code) || AWAY_ERRNOS.has(code)) return true
    if (code.length === 5 && code.startsWith(AWAY_SQLSTATE_CLASS)) return true
  }
  return AWAY_MESSAGES.test(error.message)
}
