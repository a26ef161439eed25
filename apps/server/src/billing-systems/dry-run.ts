import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import type { BillingSystem } from './billing-system.ts'
import { writeOnce } from './file/write-once.ts'
import { refused } from './outcome.ts'

/** A setting of every system. */
export const dryRunSetting = z
  .boolean()
  .default(false)
  .describe(
    'Write what would be sent to files instead of sending it. What was handed over meanwhile is not sent later.',
  )

const settingsSchema = z.looseObject({ dry_run: z.boolean().default(false) })

/**
 * The same system, but for organizations with the setting `dry_run`: what each step would send is written to
 * `<root>/<organization id>/dry-run/<system>/`, and the step counts as done. So it is with what is told later of an
 * invoice that was handed over so.
 *
 * @param root the folder of the service that holds those of all organizations
 */
export function withDryRun(system: BillingSystem, root: string): BillingSystem {
  return {
    ...system,
    async perform(step, context) {
      const { earlier, idempotencyKey, organizationId } = context
      // What was begun dry has nothing there that it could go on with.
      const isBegunDry = Object.values(earlier).some((result) => result['dry_run'] === true)
      if (!isBegunDry && !settingsSchema.parse(context.settings).dry_run) return system.perform(step, context)
      // Keys contain what no file name may.
      const id = createHash('sha256').update(idempotencyKey).digest('hex').slice(0, 16)
      const name = `${step.action.replaceAll(/[^\w.-]/g, '-')}-${id}.json`
      const outcome = await writeOnce(
        join(root, organizationId, 'dry-run', system.name, name),
        `${JSON.stringify({ system: system.name, action: step.action, idempotency_key: idempotencyKey, payload: step.payload }, undefined, 2)}\n`,
      )
      if (outcome === 'different') return refused(`The file ${name} is there with another content.`)
      return { kind: 'done', result: { dry_run: true, file: name } }
    },
  }
}
