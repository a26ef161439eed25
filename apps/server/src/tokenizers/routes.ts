import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import {
  DRIFT_MAX_RATIO,
  type DriftSums,
  decidingSums,
  driftRatio,
  driftStatus,
  SAMPLE_MIN_EVENTS,
  SAMPLE_MIN_TOKENS,
} from './drift.ts'
import { measureDrift } from './store.ts'

export interface TokenizerRouteDependencies {
  readonly pool: Pool
  readonly now: () => Date
}

const count = z.number().int()
const sample = z.object({
  events: count,
  reported_tokens: count.describe('What the provider reported'),
  counted_tokens: count.describe('What the tokenizer counts for the same texts'),
  drift_ratio: z
    .number()
    .nullable()
    .describe('How much more the tokenizer counts, as a share of what was reported; null without a sample'),
})

/** Registers `GET /api/v1/tokenizers/drift`. */
export function registerTokenizerRoutes(app: App, { pool, now }: TokenizerRouteDependencies): void {
  app.route({
    method: 'GET',
    url: '/api/v1/tokenizers/drift',
    config: { scope: 'read' },
    schema: {
      tags: ['tokenizers'],
      summary: 'How far tokenizers are from what providers report',
      description:
        'From the sample of calls whose tokens the meter counted beside the provider (`tokenizerSample`), by tokenizer, provider and model; the largest samples first, at most 200.',
      response: {
        200: z.object({
          drift_max_ratio: z.number().describe('Beyond this, either way, a tokenizer is `drifting`'),
          sample_min_events: count.describe('Smaller samples are `too_few`'),
          sample_min_tokens: count,
          tokenizers: z.array(
            z.object({
              tokenizer: z.string(),
              provider: z.string(),
              model: z.string().describe('The model that answered'),
              status: z
                .enum(['ok', 'drifting', 'too_few'])
                .describe('By the last day, or by the last 7 days where a day has too few'),
              day: sample,
              week: sample,
            }),
          ),
        }),
      },
    },
    handler: async ({ organizationId }) => ({
      drift_max_ratio: DRIFT_MAX_RATIO,
      sample_min_events: SAMPLE_MIN_EVENTS,
      sample_min_tokens: SAMPLE_MIN_TOKENS,
      tokenizers: (await measureDrift(pool, organizationId, now().getTime())).map(
        ({ tokenizer, provider, model, day, week }) => ({
          tokenizer,
          provider,
          model,
          status: driftStatus(decidingSums(day, week)),
          day: sampleJson(day),
          week: sampleJson(week),
        }),
      ),
    }),
  })
}

function sampleJson(sums: DriftSums): z.infer<typeof sample> {
  return {
    events: sums.events,
    reported_tokens: sums.reportedTokens,
    counted_tokens: sums.countedTokens,
    drift_ratio: driftRatio(sums) ?? null,
  }
}
