import { z } from 'zod'

/** What the bench says to the measured application, and what it answers. */

export const variantSchema = z.enum(['bare', 'tokentally', 'opentelemetry'])
export type Variant = z.infer<typeof variantSchema>

/** Ways of calling an LLM, beside the official OpenAI client over the global `fetch`. */
export const waySchema = z.enum(['undici', 'node:http', 'meter(client)', 'Vercel AI SDK', 'LangChain'])
export type Way = z.infer<typeof waySchema>

export const commandSchema = z.discriminatedUnion('do', [
  z.object({ do: z.literal('start') }),
  z.object({
    do: z.literal('calls'),
    count: z.int(),
    /** How many calls are under way at a time. */
    concurrency: z.int(),
    isStreamed: z.boolean(),
    /** Tokens of an answer; a stream sends a chunk for each. */
    tokens: z.int(),
    /** Undefined: by the official OpenAI client. */
    way: waySchema.optional(),
  }),
  z.object({ do: z.literal('stop') }),
])
export type AppCommand = z.infer<typeof commandSchema>

export const readySchema = z.object({ port: z.int() })
/** CPU time since the last `start`. */
export const doneSchema = z.object({ cpuMicroseconds: z.number() })
