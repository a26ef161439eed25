import { catalogueProvider } from '@tokentally/core'

/** The names that events bear, where they are not those that prices are kept under. */
const EVENT_NAMES: ReadonlyMap<string, string> = new Map([
  ['azure', 'azure.ai.openai'],
  ['aws', 'aws.bedrock'],
  ['google', 'gcp.gemini'],
  ['mistral', 'mistral_ai'],
  ['x-ai', 'x_ai'],
  ['together', 'together_ai'],
])

/** Longest name that the service takes. */
const NAME_MAX = 128

/**
 * The provider as the taps name it, from what a framework calls it: `openai.chat` and `amazon-bedrock` of the
 * Vercel AI SDK, `google_genai` of LangChain.
 */
export function providerName(name: string): string {
  const lower = name.trim().toLowerCase()
  if (/vertex/.test(lower)) return 'gcp.vertex_ai'
  if (/^google\b|^google_genai|^gemini/.test(lower)) return 'gcp.gemini'
  const [vendor = lower] = lower.split('.')
  const catalogued = catalogueProvider(vendor)
  const known = EVENT_NAMES.get(catalogued) ?? catalogued
  return known === '' ? 'unknown' : known.slice(0, NAME_MAX)
}
