import { z } from 'zod'
import { Problem } from '../http/problem.ts'

/** The key that makes a repeat of a request harmless, in a body. */
export const idempotencyKeySchema = z
  .string()
  .min(1)
  .max(200)
  .refine((value) => value.isWellFormed() && !value.includes('\0'), 'must be well-formed text without NUL')

/**
 * The key of a request: the header `Idempotency-Key`, or the body's field.
 *
 * @throws Problem `invalid-request` when they differ, or the header is no key
 */
export function idempotencyKeyOf(
  headers: Readonly<Record<string, string | readonly string[] | undefined>>,
  field: string | undefined,
): string | undefined {
  const header = headers['idempotency-key']
  if (header === undefined) return field
  const parsed = idempotencyKeySchema.safeParse(header)
  if (!parsed.success || (field !== undefined && parsed.data !== field)) {
    throw new Problem({
      code: 'invalid-request',
      errors: [
        {
          path: 'idempotency_key',
          message: parsed.success ? 'differs from the header Idempotency-Key' : 'the header is no such key',
        },
      ],
    })
  }
  return parsed.data
}
