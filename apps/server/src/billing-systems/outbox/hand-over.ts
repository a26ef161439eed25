import type { InvoiceDocument } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { inTransaction } from '../../database/transaction.ts'
import { findInvoiceDocument } from '../../invoicing/index.ts'
import type { Logger } from '../../telemetry/log.ts'
import { type BillingSystem, isNamedBy, type PlannedStep } from '../billing-system.ts'
import type { JsonObject } from '../json.ts'
import { findSettings, listSettings } from '../settings-store.ts'
import {
  type HandOverId,
  listCreditNotesToHandOver,
  listDeferredToHandOver,
  listInvoicesToHandOver,
  listVoidsToHandOver,
  lockCreditNoteToHandOver,
  lockInvoiceToHandOver,
  lockVoidToHandOver,
  markHandedOver,
  readCreditNote,
} from './hand-over-store.ts'
import { invoiceStream } from './outbox-reads.ts'
import { appendSteps, systemsOfStream } from './outbox-store.ts'
import { appendDeferred, lockDeferred, lockStream, skipUnfinished } from './stuck-streams.ts'

/**
 * Writes what other systems are to be told: the steps of finalized invoices, of their voiding and of credit notes, each
 * in one transaction with the note that they were written. All steps about an invoice are one stream, so that a system
 * never hears of a credit note before the invoice.
 */

/** What steps of a credit note are about begins with it; its id follows. */
const NOTE = 'credit_note:'

export interface HandOverDependencies {
  readonly pool: Pool
  readonly systems: readonly BillingSystem[]
  readonly now: () => Date
  readonly logger: Pick<Logger, 'error'>
}

/** Hands over all that waits for it. What fails is logged and stays for the next run. @returns how many documents */
export async function handOver(dependencies: HandOverDependencies): Promise<number> {
  const { pool } = dependencies
  return (
    (await handOverAll(dependencies, (after) => listDeferredToHandOver(pool, after), handOverDeferred)) +
    (await handOverAll(dependencies, (after) => listInvoicesToHandOver(pool, after), handOverInvoice)) +
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
    const enabled = await enabledSettings(client, which.organizationId)
    for (const system of systems) {
      const settings = enabled.get(system.name)
      const isNamed = system.reach === 'customer' && isNamedBy(system, document.invoice.profile.system)
      if (settings !== undefined && (isNamed || system.reach === 'every')) {
        await append(client, which, system, 'invoice', system.invoiceSteps(document, settings), now())
      } else if (isNamed) {
        // The others are told; this one when it is set up.
        await defer(client, which, system, 'invoice', now())
      }
    }
  }
  await markHandedOver(client, 'invoice', which, now())
  return true
}

/** Plans what systems were to be told before they were set up. */
async function handOverDeferred(
  client: PoolClient,
  { systems, now }: HandOverDependencies,
  which: HandOverId,
): Promise<boolean> {
  const document = await documentOf(client, which)
  // Its voiding ends what stands there.
  if (document.invoice.status === 'void') return false
  const { organizationId } = which
  const stream = invoiceStream(which.id)
  const enabled = await enabledSettings(client, organizationId)
  let isPlanned = false
  for (const [name, abouts] of await lockDeferred(client, organizationId, stream)) {
    const system = systems.find((candidate) => candidate.name === name)
    const settings = enabled.get(name)
    if (system === undefined || settings === undefined) continue
    await skipUnfinished(client, { organizationId, system: name, stream }, now())
    for (const about of abouts) {
      const noteId = about.startsWith(NOTE) ? about.slice(NOTE.length) : undefined
      const note =
        noteId === undefined ? undefined : await readCreditNote(client, { organizationId, id: noteId })
      if (noteId === undefined) {
        await append(client, which, system, about, system.invoiceSteps(document, settings), now())
      } else if (note !== undefined) {
        await append(client, which, system, about, system.creditNoteSteps(note.document, settings), now())
      }
    }
    isPlanned = true
  }
  return isPlanned
}

async function handOverVoid(
  client: PoolClient,
  { systems, now }: HandOverDependencies,
  which: HandOverId,
): Promise<boolean> {
  if (!(await lockVoidToHandOver(client, which))) return false
  const document = await documentOf(client, which)
  for (const { system, settings } of await toldOf(client, systems, which)) {
    const stream = {
      organizationId: which.organizationId,
      system: system.name,
      stream: invoiceStream(which.id),
    }
    const { isStuck, isBegun } = await lockStream(client, stream)
    // What nobody wants any more must not hold up the voiding.
    if (isStuck) await skipUnfinished(client, stream, now())
    // Where nothing was begun, nothing is to be taken back.
    if (settings === undefined || (isStuck && !isBegun)) continue
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
  const deferred = await lockDeferred(client, which.organizationId, invoiceStream(invoice.id))
  for (const { system, settings } of await toldOf(client, systems, invoice)) {
    // What the customer's billing system issued itself, it is not told back.
    if (note.isForeign && system.reach === 'customer') continue
    const about = `${NOTE}${note.document.id}`
    if (deferred.has(system.name)) {
      await defer(client, invoice, system, about, now())
    } else if (settings !== undefined) {
      await append(client, invoice, system, about, system.creditNoteSteps(note.document, settings), now())
    }
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

/** Notes what a system is to be told that is not set up. */
async function defer(
  client: PoolClient,
  { organizationId, id }: HandOverId,
  { name }: BillingSystem,
  about: string,
  now: Date,
): Promise<void> {
  const settings = await findSettings(client, organizationId, name)
  const title = `${name.slice(0, 1).toUpperCase()}${name.slice(1)}`
  const reason = `${title} is ${settings === undefined ? 'not set up' : 'disabled'}: PUT /api/v1/billing-systems/${name}`
  await appendDeferred(
    client,
    { organizationId, system: name, stream: invoiceStream(id), about },
    reason,
    now,
  )
}

/** Systems that have steps of an invoice, enabled or not: what they were told needs an end. */
async function toldOf(
  client: PoolClient,
  systems: readonly BillingSystem[],
  { organizationId, id }: HandOverId,
): Promise<readonly { readonly system: BillingSystem; readonly settings: JsonObject | undefined }[]> {
  const told = await systemsOfStream(client, organizationId, invoiceStream(id))
  const settings = new Map(
    (await listSettings(client, { organizationId })).map((one) => [one.system, one.settings]),
  )
  return systems
    .filter(({ name }) => told.has(name))
    .map((system) => ({ system, settings: settings.get(system.name) }))
}

async function enabledSettings(
  client: PoolClient,
  organizationId: string,
): Promise<ReadonlyMap<string, JsonObject>> {
  const all = await listSettings(client, { organizationId })
  return new Map(all.filter(({ isEnabled }) => isEnabled).map(({ system, settings }) => [system, settings]))
}

async function documentOf(client: PoolClient, { organizationId, id }: HandOverId): Promise<InvoiceDocument> {
  const document = await findInvoiceDocument(client, organizationId, id)
  if (document === undefined) throw new Error(`Invoice ${id} is gone.`)
  return document
}
