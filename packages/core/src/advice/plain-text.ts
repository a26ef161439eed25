import { z } from 'zod'

/** Text that people wrote and the database can keep: well-formed Unicode without NUL, not empty. */
export function plainText(charsMax: number) {
  return z
    .string()
    .min(1)
    .max(charsMax)
    .refine((text) => text.isWellFormed() && !text.includes('\0'), 'must be well-formed Unicode without NUL')
}
