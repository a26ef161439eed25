import { z } from 'zod'
import { comparableModel } from '../pricing/model-match.ts'
import { catalogueProvider } from '../pricing/provider-aliases.ts'
import { plainText } from './plain-text.ts'

const name = plainText(256)

/** What else can do a model's small calls. Anyone may edit it: which model is good enough is the organization's to say. */
export const modelAlternativesSchema = z
  .array(
    z.strictObject({
      provider: name.describe('As in the price book.'),
      model: name.describe('As in the price book, or as the calls name it.'),
      alternatives: z
        .array(
          z.strictObject({
            model: name.describe('Of the same provider.'),
            note: plainText(1000).optional().describe('What it can do, and what it cannot.'),
          }),
        )
        .min(1)
        .max(20),
      source: plainText(1000).optional(),
    }),
  )
  .max(500)

export type ModelAlternatives = z.output<typeof modelAlternativesSchema>
export type ModelAlternative = ModelAlternatives[number]['alternatives'][number]

/**
 * Finds the alternatives to a model.
 *
 * @param models names of the model, the surest first: that of its price, then those of the call
 */
export function alternativesTo(
  table: ModelAlternatives,
  provider: string,
  models: readonly string[],
): readonly ModelAlternative[] {
  const id = catalogueProvider(provider)
  for (const model of models) {
    const found = table.find(
      (entry) =>
        catalogueProvider(entry.provider) === id && comparableModel(entry.model) === comparableModel(model),
    )
    if (found !== undefined) return found.alternatives
  }
  return []
}

const OPENAI =
  'https://platform.openai.com/docs/models: the vendor names mini and nano as the smaller models of the family'
const ANTHROPIC =
  'https://docs.claude.com/en/docs/about-claude/models/overview: the vendor ranks Opus, Sonnet, Haiku by capability and speed'
const GOOGLE =
  'https://ai.google.dev/gemini-api/docs/models: the vendor ranks Pro, Flash, Flash-Lite by capability and cost'
const MISTRAL = 'https://docs.mistral.ai/getting-started/models/models_overview: sizes of one family'

const smaller = (model: string, note: string) => ({ model, note })
const SMALLER_GPT = 'Same API, tools, vision and structured output; weaker at long reasoning and code.'
const SMALLEST_GPT = 'For classification, extraction and routing; weak at reasoning over several steps.'
const SONNET = 'Same API, tools and vision; weaker at the hardest reasoning and long agentic work.'
const HAIKU = 'Same API, tools and vision; for short, well-described tasks.'
const FLASH = 'Same API, tools and media; weaker at the hardest reasoning.'
const FLASH_LITE = 'For high volumes of classification, extraction and translation.'

/** The table that an organization begins with: smaller models of the same family and provider, of which the vendor says so. */
export const DEFAULT_MODEL_ALTERNATIVES: ModelAlternatives = [
  {
    provider: 'openai',
    model: 'gpt-4o',
    alternatives: [smaller('gpt-4o-mini', SMALLER_GPT)],
    source: OPENAI,
  },
  ...['gpt-4.1', 'gpt-5', 'gpt-5.4'].map((model) => ({
    provider: 'openai',
    model,
    alternatives: [smaller(`${model}-mini`, SMALLER_GPT), smaller(`${model}-nano`, SMALLEST_GPT)],
    source: OPENAI,
  })),
  ...['gpt-4.1', 'gpt-5', 'gpt-5.4'].map((model) => ({
    provider: 'openai',
    model: `${model}-mini`,
    alternatives: [smaller(`${model}-nano`, SMALLEST_GPT)],
    source: OPENAI,
  })),
  ...['claude-opus-4-0', 'claude-opus-4-1', 'claude-opus-4-5', 'claude-opus-4-6', 'claude-opus-4-7'].map(
    (model) => ({
      provider: 'anthropic',
      model,
      alternatives: [smaller('claude-sonnet-4-5', SONNET), smaller('claude-haiku-4-5', HAIKU)],
      source: ANTHROPIC,
    }),
  ),
  ...['claude-sonnet-4-0', 'claude-sonnet-4-5', 'claude-sonnet-4-6'].map((model) => ({
    provider: 'anthropic',
    model,
    alternatives: [smaller('claude-haiku-4-5', HAIKU)],
    source: ANTHROPIC,
  })),
  {
    provider: 'google',
    model: 'gemini-2.5-pro',
    alternatives: [smaller('gemini-2.5-flash', FLASH), smaller('gemini-2.5-flash-lite', FLASH_LITE)],
    source: GOOGLE,
  },
  {
    provider: 'google',
    model: 'gemini-2.5-flash',
    alternatives: [smaller('gemini-2.5-flash-lite', FLASH_LITE)],
    source: GOOGLE,
  },
  {
    provider: 'mistral',
    model: 'mistral-large',
    alternatives: [smaller('mistral-small-latest', 'Same API and tools; weaker at reasoning and code.')],
    source: MISTRAL,
  },
]
