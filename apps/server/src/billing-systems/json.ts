import { z } from 'zod'

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject
export interface JsonObject {
  readonly [key: string]: JsonValue
}

/** An object as it comes back from a `jsonb` column. */
export const jsonObject: z.ZodType<JsonObject> = z.record(z.string(), z.json())
