/**
 * From a URL to the wire format spoken there. Facts: OpenAI, Azure OpenAI and Anthropic API references,
 * read 2026-11.
 */

/** Wire formats that have a reader. */
export type WireFormat = 'openai-chat' | 'anthropic-messages'

/** A billable call whose answer a reader understands. */
export interface RecognizedCall {
  /** `gen_ai.provider.name` of the OpenTelemetry conventions. */
  readonly provider: string
  readonly format: WireFormat
  readonly operation: 'chat'
}

/** A further base URL and the wire format spoken there. */
export interface EndpointMapping {
  readonly origin: string
  /** Path of the base URL, without a slash at its end. */
  readonly path: string
  readonly format: 'openai' | 'anthropic'
  /** The provider that events name; the format's vendor unless given as `openai/vllm`. */
  readonly provider: string
}

const FORMATS = ['openai', 'anthropic'] as const

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
  const format = FORMATS.find((known) => known === name)
  if (format === undefined) {
    throw new TypeError(
      `endpoint "${entry}" names an unknown wire format "${name}"; known: ${FORMATS.join(', ')}`,
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
  if (method !== 'POST') return undefined
  for (const endpoint of endpoints) {
    if (url.origin !== endpoint.origin || !url.pathname.startsWith(endpoint.path)) continue
    const call = callOf(endpoint.format, url.pathname.slice(endpoint.path.length))
    if (call !== undefined) return { ...call, provider: endpoint.provider }
  }
  const host = url.hostname
  if (host === 'api.openai.com' || host === 'eu.api.openai.com' || host === 'us.api.openai.com') {
    return callOf('openai', url.pathname)
  }
  if (host === 'api.anthropic.com') return callOf('anthropic', url.pathname)
  if (AZURE_HOST.test(host)) {
    const call = callOf('openai', url.pathname.replace(/^\/openai(\/deployments\/[^/]+)?/, ''))
    return call === undefined ? undefined : { ...call, provider: 'azure.ai.openai' }
  }
  return undefined
}

const AZURE_HOST = /\.(openai\.azure\.com|cognitiveservices\.azure\.com|services\.ai\.azure\.com)$/

function callOf(format: EndpointMapping['format'], path: string): RecognizedCall | undefined {
  const plain = path.replace(/^\/v1(?=\/)/, '')
  if (format === 'openai' && plain === '/chat/completions') {
    return { provider: 'openai', format: 'openai-chat', operation: 'chat' }
  }
  if (format === 'anthropic' && plain === '/messages') {
    return { provider: 'anthropic', format: 'anthropic-messages', operation: 'chat' }
  }
  return undefined
}

/** Hosts of LLM providers, for noticing calls that nothing metered. */
const KNOWN_HOST =
  /(^|\.)(api\.openai\.com|api\.anthropic\.com|openai\.azure\.com|services\.ai\.azure\.com|generativelanguage\.googleapis\.com|aiplatform\.googleapis\.com|api\.mistral\.ai|api\.cohere\.com|api\.groq\.com|api\.x\.ai|api\.deepseek\.com|openrouter\.ai|api\.together\.xyz)$|^bedrock-runtime\.[a-z0-9-]+\.amazonaws\.com$|-aiplatform\.googleapis\.com$/

/** Whether an LLM provider answers at this host, whatever the path. */
export function isKnownProviderHost(hostname: string): boolean {
  return KNOWN_HOST.test(hostname)
}
