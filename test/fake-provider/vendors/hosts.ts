import type { Vendor, VendorRequest } from './answer.ts'
import { anthropic } from './anthropic.ts'
import { bedrock } from './bedrock.ts'
import { cohere } from './cohere.ts'
import { google } from './google.ts'
import { ollama } from './ollama.ts'
import { DIALECTS, openaiChat } from './openai-chat.ts'
import { openaiMedia } from './openai-media.ts'
import { openaiResponses } from './openai-responses.ts'

/** Which vendor answers at a host; those of OpenAI's family by what they differ in. */
const HOSTS: readonly (readonly [host: RegExp, vendor: Vendor | keyof typeof DIALECTS])[] = [
  [/^api\.openai\.com$/, 'openai'],
  [/\.openai\.azure\.com$/, 'azure'],
  [/^api\.deepseek\.com$/, 'deepseek'],
  [/^api\.x\.ai$/, 'xai'],
  [/^openrouter\.ai$/, 'openrouter'],
  [/^api\.groq\.com$/, 'groq'],
  [/^api\.together\.(?:xyz|ai)$/, 'together'],
  [/^api\.mistral\.ai$/, 'mistral'],
  [/^vllm\.corp\.example/, 'vllm'],
  [/^api\.anthropic\.com$/, anthropic],
  [/^bedrock-runtime\./, bedrock],
  [/googleapis\.com$/, google],
  [/^api\.cohere\.com$/, cohere],
  [/:11434$/, ollama],
]

/** @throws Error for a host that none of the vendors has */
export function vendorOf({ host, path }: VendorRequest): Vendor {
  const vendor = HOSTS.find(([pattern]) => pattern.test(host))?.[1]
  if (vendor === undefined) throw new Error(`no vendor answers at ${host}`)
  if (typeof vendor !== 'string') return vendor
  if (path.endsWith('/responses')) return openaiResponses
  return path.endsWith('/completions') ? openaiChat(DIALECTS[vendor]) : openaiMedia
}
