import { catalogueProvider } from '@tokentally/core'
import type { Operation, RecognizedCall } from '@tokentally/providers'

/**
 * Which cheaper model a call can be given instead of its own, and the body that asks for it. Only a model that the
 * same provider serves for the same kind of call will do: the wire format stays.
 */

/** How the makers name their models, by the name that their prices are kept under (their documentation, read 2026-11). */
const MAKERS: Readonly<Record<string, RegExp>> = {
  openai: /^(gpt-(?!oss)|o\d|chatgpt-|codex-|text-embedding-|davinci|babbage)/,
  anthropic: /^claude-/,
  google: /^(gemini-|gemma-)/,
  mistral: /^(mistral|ministral|magistral|codestral|devstral|pixtral|open-mi)/,
  cohere: /^(command|c4ai-|embed-|rerank-)/,
  'x-ai': /^grok-/,
  deepseek: /^deepseek-(chat|reasoner|v\d)/,
}

const EMBEDS = /embed/
const OTHER_THAN_TEXT = /embed|rerank|whisper|transcribe|tts|dall-e|image|moderation|realtime|imagen|veo/
const TEXT: ReadonlySet<Operation> = new Set(['chat', 'text_completion', 'generate_content'])
/** The ends of names that say which edition of the same model is meant. */
const EDITION = /^(-\d{8}|-\d{4}-\d{2}-\d{2}|-latest|-\d{3,4})$/

/** Whether a model is one of those named, in whatever edition. */
export function isOneOf(models: readonly string[], model: string): boolean {
  return models.some(
    (named) => named === model || (model.startsWith(named) && EDITION.test(model.slice(named.length))),
  )
}

/** Whether a provider that serves `model` serves `other` for the same kind of call, as far as names tell. */
export function fits({ provider, operation }: RecognizedCall, model: string, other: string): boolean {
  if (!isFor(operation, other)) return false
  const own = MAKERS[catalogueProvider(provider)]
  if (own !== undefined) return own.test(other)
  // A host of many makers' models: with the maker in the name or without, and of the same maker where that is known.
  if (model.includes('/') !== other.includes('/')) return false
  return model.includes('/') || makerOf(model) === makerOf(other)
}

function isFor(operation: Operation, model: string): boolean {
  if (operation === 'embeddings') return EMBEDS.test(model)
  return TEXT.has(operation) && !OTHER_THAN_TEXT.test(model)
}

function makerOf(model: string): string | undefined {
  return Object.keys(MAKERS).find((maker) => MAKERS[maker]?.test(model))
}

/** Whether the model of a call can be changed: it stands in a body that nothing has signed. */
export function isModelInBody({ provider, model }: RecognizedCall): boolean {
  const catalogued = catalogueProvider(provider)
  // Azure's models are deployments, whose names only their owner knows.
  return model === undefined && catalogued !== 'aws' && catalogued !== 'azure'
}

const MODEL_FIRST = /^(\{"model":")([^"\\]+)(",)/

/**
 * The same request for another model.
 *
 * @returns undefined when the body is no JSON object that asks for `from` at its top
 */
export function bodyFor(bodyText: string, from: string, to: string): string | undefined {
  // The usual form: nothing else of the text is touched.
  const first = MODEL_FIRST.exec(bodyText)
  if (first?.[2] === from && isPlain(to)) {
    return `${first[1]}${to}${first[3]}${bodyText.slice(first[0].length)}`
  }
  try {
    const body: unknown = JSON.parse(bodyText)
    if (typeof body !== 'object' || body === null || !('model' in body) || body.model !== from)
      return undefined
    return JSON.stringify({ ...body, model: to })
  } catch {
    return undefined
  }
}

function isPlain(model: string): boolean {
  return JSON.stringify(model) === `"${model}"`
}
