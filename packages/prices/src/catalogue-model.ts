import { createHash } from 'node:crypto'
import {
  type ModelMatch,
  modelMatchSchema,
  type Rate,
  ratesSchema,
  type TimeOfDay,
  timeOfDaySchema,
} from '@tokentally/core'
import { z } from 'zod'

/** All prices of one model, in the catalogue's order: of those that apply at a time, the last one wins. */
export interface CatalogueModel {
  readonly provider: string
  readonly model: string
  /** The service tier that these prices are for; absent: the standard one. */
  readonly serviceTier?: string
  readonly match: ModelMatch
  readonly prices: readonly CataloguePrice[]
  /** Where these prices come from, when not from the catalogue itself. */
  readonly source?: string
  /** Hash of everything but the source: tells whether a newer catalogue says something else. */
  readonly edition: string
}

export interface CataloguePrice {
  /** Start of validity, UTC milliseconds; null: no start is known. */
  readonly startMs: number | null
  readonly timeOfDay?: TimeOfDay
  /** Only for requests whose total input is not larger. */
  readonly inputTokensMax?: number
  readonly rates: Readonly<Record<string, Rate>>
}

/** Completes an entry. */
export function withEdition(content: Omit<CatalogueModel, 'edition'>): CatalogueModel {
  return { ...content, edition: sha256(content).toString('hex') }
}

/** Reads a catalogue entry that was stored as JSON. */
export const catalogueModelSchema = z.object({
  provider: z.string(),
  model: z.string(),
  serviceTier: z.string().optional(),
  match: modelMatchSchema,
  prices: z.array(
    z.object({
      startMs: z.number().nullable(),
      timeOfDay: timeOfDaySchema.optional(),
      inputTokensMax: z.number().optional(),
      rates: ratesSchema,
    }),
  ),
  source: z.string().optional(),
  edition: z.string(),
})

/** A digest of what JSON says. */
export function sha256(content: unknown): Buffer {
  return createHash('sha256').update(JSON.stringify(content)).digest()
}
