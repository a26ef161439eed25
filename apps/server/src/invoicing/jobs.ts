import type { Jobs } from '../queue/jobs.ts'
import type { Logger } from '../telemetry/log.ts'
import { type ClosingDependencies, closeCycles } from './close-cycles.ts'
import { computeInvoices } from './compute-invoice.ts'

const CLOSE = 'close-cycles'
const CLOSE_EVERY_MS = 5 * 60_000

/** Names the job that closes cycles which are due, and computes what is pending. It may run anywhere, twice or late. */
export function defineInvoicingJobs(
  jobs: Pick<Jobs, 'define'>,
  dependencies: ClosingDependencies & {
    readonly logger: Logger
    /** Invoices may have been finalized: other systems are to be told. */
    readonly onChanged: () => void
  },
): void {
  const { pool, logger, onChanged } = dependencies
  jobs.define(
    CLOSE,
    async () => {
      const { rows } = await pool.query<{ id: string }>(
        'select id from organization where id in (select organization_id from billing_profile) order by id',
      )
      for (const { id: organizationId } of rows) {
        try {
          await closeCycles(dependencies, { organizationId })
          if ((await computeInvoices(dependencies, { organizationId })) > 0) onChanged()
        } catch (error) {
          // One organization does not stop the others; the next run tries again.
          logger.error({ err: error, organizationId }, 'cycles could not be closed')
        }
      }
    },
    { everyMs: CLOSE_EVERY_MS, isChore: true },
  )
}
