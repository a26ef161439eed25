import type { InvoiceDocument } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { inTransaction } from '../../database/transaction.ts'
import { findInvoiceDocument } from '../../invoicing/index.ts'
import type { Logger } from '../../telemetry/log.ts'
import { type BillingSystem, isNamedBy, type PlannedStep } from '../billing-system.ts'
import type { JsonObject } from '../json.ts'
import { listSettings } from '../settings-store.ts'
import {
  type HandOverId,
  listCreditNotesToHandOver,
  listInvoicesToHandOver,
  listVoidsToHandOver,
  lockCreditNoteToHandOver,
  lockInvoiceToHandOver,
  lockVoidToHandOver,
  markHandedOver,
  type ServedBy,
} from './hand-over-store.ts'
import { invoiceStream } from './outbox-reads.ts'
import { appendSteps, systemsOfStream } from './outbox-store.ts'

/**
 * Writes what other systems are to be told: the steps of finalized invoices, of their voiding and of credit notes, each
 * in one transaction with the note that they were written. All steps about an invoice are one stream, so that a system
 * never hears of a credit note before the invoice.
 */

export interface HandOverDependencies {
  readonly pool: Pool
  readonly systems: readonly BillingSystem[]
  readonly now: () => Date
  readonly logger: Pick<Logger, 'error'>
}

/** Hands over all that waits for it. What fails is logged and stays for the next run. @returns how many documents */
export async function handOver(dependencies: HandOverDependencies): Promise<number> {
  const { pool, systems } = dependencies
  const served = systems.flatMap((system): ServedBy[] =>
    system.reach === 'customer'
      ? (system.profileSystems ?? [system.name]).map((profileSystem) => [profileSystem, system.name])
      : [],
  )
  return (
    (await handOverAll(
      dependencies,
      (after) => listInvoicesToHandOver(pool, served, after),
      handOverInvoice,
    )) +
    (await handOverAll(dependencies, (after) => listCreditNotesToHandOver(pool, after), handOverCreditNote)) +
    (await handOverAll(dependencies, (after) => listVoidsToHandOver(pool, after), handOverVoid))
  )
}

type HandOverOne = (
  client: PoolClient,
  dependencies: HandOverDependencies,
  which: HandOverId,
) => Promise<boolean>

async function handOverAll(
  dependencies: HandOverDependencies,
  list: (after: HandOverId | undefined) => Promise<readonly HandOverId[]>,
  one: HandOverOne,
): Promise<number> {
  let count = 0
  let after: HandOverId | undefined
  for (;;) {
    const page = await list(after)
    for (const which of page) {
      try {
        if (await inTransaction(dependencies.pool, (client) => one(client, dependencies, which))) count += 1
      } catch (error) {
        // One that cannot be planned must not hold up the others.
        dependencies.logger.error(
          { err: error, ...which },
          'what other systems are told could not be planned',
        )
      }
    }
    after = page.at(-1)
    if (after === undefined) return count
  }
}

async function handOverInvoice(
  client: PoolClient,
  { systems, now }: HandOverDependencies,
  which: HandOverId,
): Promise<boolean> {
  const locked = await lockInvoiceToHandOver(client, which)
  if (locked === undefined) return false
  if (locked.isVoid) {
    // Nobody was told of the invoice, so nobody needs to be told that it is void.
    await markHandedOver(client, 'void', which, now())
  } else {
    const document = await documentOf(client, which)
    for (const [name, settings] of await enabledSettings(client, which.organizationId)) {
      const system = systems.find((candidate) => candidate.name === name)
      if (system === undefined) continue
      if (system.reach === 'customer' && !isNamedBy(system, document.invoice.profile.system)) continue
      await append(client, which, system, 'invoice', system.invoiceSteps(document, settings), now())
    }
  }
  await markHandedOver(client, 'invoice', which, now())
  return true
}

async function handOverVoid(
  client: PoolClient,
  { systems, now }: HandOverDependencies,
  which: HandOverId,
): Promise<boolean> {
  if (!(await lockVoidToHandOver(client, which))) return false
  const document = await documentOf(client, which)
  for (const { system, settings } of await toldOf(client, systems, which)) {
    await append(client, which, system, 'void', system.voidSteps(document, settings), now())
  }
  await markHandedOver(client, 'void', which, now())
  return true
}

async function handOverCreditNote(
  client: PoolClient,
  { systems, now }: HandOverDependencies,
  which: HandOverId,
): Promise<boolean> {
  const note = await lockCreditNoteToHandOver(client, which)
  if (note === undefined) return false
  const invoice = { organizationId: which.organizationId, id: note.document.invoice.invoice.id }
  for (const { system, settings } of await toldOf(client, systems, invoice)) {
    // What the customer's billing system issued itself, it is not told back.
    if (note.isForeign && system.reach === 'customer') continue
    const steps = system.creditNoteSteps(note.document, settings)
    await append(client, invoice, system, `credit_note:${note.document.id}`, steps, now())
  }
  await markHandedOver(client, 'creditNote', which, now())
  return true
}

async function append(
  client: PoolClient,
  invoice: HandOverId,
  system: BillingSystem,
  about: string,
  steps: readonly PlannedStep[],
  now: Date,
): Promise<void> {
  const stream = invoiceStream(invoice.id)
  await appendSteps(
    client,
    { organizationId: invoice.organizationId, system: system.name, stream, about, steps },
    now,
  )
}

/** Systems that have steps of an invoice, enabled or not: what they were told needs an end. */
async function toldOf(
  client: PoolClient,
  systems: readonly BillingSystem[],
  { organizationId, id }: HandOverId,
): Promise<readonly { readonly system: BillingSystem; readonly settings: JsonObject }[]> {
  const told = await systemsOfStream(client, organizationId, invoiceStream(id))
  const settings = new Map(
    (await listSettings(client, { organizationId })).map((one) => [one.system, one.settings]),
  )
  return systems.flatMap((system) => {
    const own = settings.get(system.name)
    return told.has(system.name) && own !== undefined ? [{ system, settings: own }] : []
  })
}

async function enabledSettings(
  client: PoolClient,
  organizationId: string,
): Promise<readonly (readonly [system: string, settings: JsonObject])[]> {
  const all = await listSettings(client, { organizationId })
  return all.filter(({ isEnabled }) => isEnabled).map(({ system, settings }) => [system, settings])
}

async function documentOf(client: PoolClient, { organizationId, id }: HandOverId): Promise<InvoiceDocument> {
  const document = await findInvoiceDocument(client, organizationId, id)
  if (document === undefined) throw new Error(`Invoice ${id} is gone.`)
  return document
}
