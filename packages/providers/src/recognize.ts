import { anthropicCall } from './families/anthropic.ts'
import { bedrockCall } from './families/bedrock.ts'
import { cohereCall } from './families/cohere.ts'
import { geminiCall, vertexCall } from './families/google.ts'
import { ollamaCall } from './families/ollama.ts'
import { openaiCall } from './families/openai.ts'
import type { WireFormat } from './formats.ts'

/**
 * From a URL to the wire format spoken there: the host tells the vendor, the vendor's family of APIs (a file in
 * `families/`) reads the rest. Facts: the vendors' API references, read 2026-11.
 */

/** What a call does, in the words of the OpenTelemetry GenAI conventions where they have one. */
export type Operation =
  | 'chat'
  | 'text_completion'
  | 'generate_content'
  | 'embeddings'
  | 'rerank'
  | 'image_generation'
  | 'speech'
  | 'transcription'
  /** Fetches an answer that was made, and billed, before. */
  | 'fetch_response'
  /** Asks how a batch stands, or fetches its results, each of which is a call of its own. */
  | 'fetch_batch'

/** What a family of APIs knows of a call from its URL alone. */
export interface FamilyCall {
  readonly format: WireFormat
  readonly operation: Operation
  /** The model, where the URL names it. */
  readonly model?: string
  /** The file or batch whose results are fetched. */
  readonly resultsId?: string
}

/** Reads method and path below a base URL. @returns undefined for what is free or has no reader */
export type Family = (method: string, path: string) => FamilyCall | undefined

/** A billable call whose answer a reader understands. */
export interface RecognizedCall extends FamilyCall {
  /** `gen_ai.provider.name` of the OpenTelemetry conventions. */
  readonly provider: string
  /** The provider's region that answers, where the host names it. */
  readonly region?: string
}

/** The families by the names that endpoint mappings use. */
const FAMILIES = {
  openai: openaiCall,
  anthropic: anthropicCall,
  bedrock: bedrockCall,
  gemini: geminiCall,
  vertex: vertexCall,
  cohere: cohereCall,
  ollama: ollamaCall,
} as const satisfies Record<string, Family>
type FamilyName = keyof typeof FAMILIES

/** A vendor's hosts, and what is spoken there. */
interface Vendor {
  readonly provider: string
  /** Its group `region` is the region that answers. */
  readonly host: RegExp
  readonly family: FamilyName
  /** What stands before the family's own paths; its group `model` is the model, as far as the URL names one. */
  readonly prefix?: RegExp
}

const VENDORS: readonly Vendor[] = [
  { provider: 'openai', host: /^(?:(?<region>eu|us)\.)?api\.openai\.com$/, family: 'openai' },
  { provider: 'anthropic', host: /^api\.anthropic\.com$/, family: 'anthropic' },
  {
    provider: 'azure.ai.openai',
    host: /\.(openai\.azure\.com|cognitiveservices\.azure\.com|services\.ai\.azure\.com)$/,
    family: 'openai',
    prefix: /^\/openai(\/deployments\/(?<model>[^/]+))?/,
  },
  { provider: 'mistral_ai', host: /^api\.(eu\.|us\.)?mistral\.ai$/, family: 'openai' },
  { provider: 'groq', host: /^api\.groq\.com$/, family: 'openai', prefix: /^\/openai/ },
  { provider: 'deepseek', host: /^api\.deepseek\.com$/, family: 'openai', prefix: /^\/beta/ },
  { provider: 'x_ai', host: /^(eu-west-1\.|us-east-1\.)?api\.x\.ai$/, family: 'openai' },
  { provider: 'openrouter', host: /^openrouter\.ai$/, family: 'openai', prefix: /^\/api/ },
  {
    provider: 'aws.bedrock',
    host: /(?:^|\.)bedrock-(?:runtime(?:-fips)?|mantle)\.(?<region>[a-z0-9-]+)\.(?:(?:vpce\.)?amazonaws\.com(?:\.cn)?|api\.aws)$/,
    family: 'bedrock',
  },
  { provider: 'gcp.gemini', host: /^generativelanguage\.googleapis\.com$/, family: 'gemini' },
  {
    provider: 'gcp.vertex_ai',
    host: /^(?:(?<region>[a-z0-9-]+)-)?aiplatform(?:\.(?:us|eu)\.rep)?\.googleapis\.com$/,
    family: 'vertex',
  },
  { provider: 'cohere', host: /^api\.cohere\.(?:com|ai)$/, family: 'cohere' },
  { provider: 'together_ai', host: /^api\.together\.(xyz|ai)$/, family: 'openai' },
]

/** A part of every path that a family may recognize; a quick look that spares other URLs the rest. */
const BILLABLE_PATH =
  /\/completions|\/messages|\/responses|\/embeddings|\/images\/|\/audio\/|\/converse|\/invoke|:\w*(?:enerateContent|mbedContents?|redict)\b|\/(?:api|v1|v2)\/(?:chat|generate|embed|rerank)|\/files\/[^/]+(?:\/content|:download)|\/interactions\b|\/batch(?:es|\/jobs)\//

/** Whether a URL or its path may be a call's. */
export function mayBeCall(url: string): boolean {
  return BILLABLE_PATH.test(url)
}

/** A further base URL and the wire format spoken there. */
export interface EndpointMapping {
  readonly origin: string
  /** Path of the base URL, without a slash at its end. */
  readonly path: string
  readonly format: FamilyName
  /** The provider that events name; the format's vendor unless given as `openai/vllm`. */
  readonly provider: string
}

/**
 * Reads endpoint mappings: `http://127.0.0.1:11434=openai,https://llm.corp.example/v1=openai/vllm`.
 *
 * @throws TypeError naming the entry that is wrong and how to write it
 */
export function parseEndpoints(text: string): readonly EndpointMapping[] {
  return text
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '')
    .map(parseEndpoint)
}

function parseEndpoint(entry: string): EndpointMapping {
  const split = entry.lastIndexOf('=')
  const url = URL.parse(entry.slice(0, split))
  // `localhost:8000` is a URL too, with the scheme `localhost:`.
  if (split === -1 || url === null || !/^https?:$/.test(url.protocol)) {
    throw new TypeError(
      `endpoint "${entry}" must be written as BASE_URL=FORMAT, e.g. http://127.0.0.1:8000/v1=openai`,
    )
  }
  const [name = '', provider = ''] = entry.slice(split + 1).split('/')
  const format = name
  if (!isFamily(format)) {
    throw new TypeError(
      `endpoint "${entry}" names an unknown wire format "${name}"; known: ${Object.keys(FAMILIES).join(', ')}`,
    )
  }
  return { origin: url.origin, path: url.pathname.replace(/\/+$/, ''), format, provider: provider || format }
}

/**
 * What kind of call a request is.
 *
 * @returns undefined when no reader understands it, or when it is free
 */
export function recognize(
  url: URL,
  method: string,
  endpoints: readonly EndpointMapping[] = [],
): RecognizedCall | undefined {
  for (const endpoint of endpoints) {
    if (url.origin !== endpoint.origin || !url.pathname.startsWith(endpoint.path)) continue
    const call = FAMILIES[endpoint.format](method, url.pathname.slice(endpoint.path.length))
    if (call !== undefined) return { ...call, provider: endpoint.provider }
  }
  const vendor = VENDORS.find(({ host }) => host.test(url.hostname))
  if (vendor === undefined) return undefined
  const region = vendor.host.exec(url.hostname)?.groups?.['region']
  const prefix = vendor.prefix?.exec(url.pathname)
  const call = FAMILIES[vendor.family](method, url.pathname.slice(prefix?.[0].length ?? 0))
  if (call === undefined) return undefined
  const model = decoded(prefix?.groups?.['model'])
  return {
    ...(model !== undefined && { model }),
    ...call,
    provider: vendor.provider,
    ...(region !== undefined && { region }),
  }
}

function decoded(segment: string | undefined): string | undefined {
  try {
    return segment === undefined ? undefined : decodeURIComponent(segment)
  } catch {
    return segment
  }
}

function isFamily(name: string): name is FamilyName {
  return Object.hasOwn(FAMILIES, name)
}

/** Hosts of LLM providers, for noticing calls that nothing metered. */
const KNOWN_HOST =
  /(^|\.)(api\.openai\.com|api\.anthropic\.com|openai\.azure\.com|services\.ai\.azure\.com|generativelanguage\.googleapis\.com|aiplatform\.googleapis\.com|api\.(eu\.|us\.)?mistral\.ai|api\.cohere\.com|api\.groq\.com|api\.x\.ai|api\.deepseek\.com|openrouter\.ai|api\.together\.(xyz|ai))$|^bedrock-(?:runtime(?:-fips)?|mantle)\.[a-z0-9-]+\.(?:amazonaws\.com|api\.aws)$|-aiplatform\.googleapis\.com$/

/** Whether an LLM provider answers at this host, whatever the path. */
export function isKnownProviderHost(hostname: string): boolean {
  return KNOWN_HOST.test(hostname)
}
