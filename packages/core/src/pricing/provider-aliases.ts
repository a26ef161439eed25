/**
 * Provider names as they arrive, and the names that prices are kept under: the provider ids of
 * `@pydantic/genai-prices` 0.1.8. Sources: the well-known values of `gen_ai.provider.name` and of its
 * predecessor `gen_ai.system` in the OpenTelemetry GenAI semantic conventions, and the names that the
 * Vercel AI SDK, LiteLLM and LangChain give providers.
 */
const CATALOGUE_ID_BY_ALIAS: ReadonlyMap<string, string> = new Map([
  ['azure.ai.openai', 'azure'],
  ['azure.ai.inference', 'azure'],
  ['az.ai.openai', 'azure'],
  ['az.ai.inference', 'azure'],
  ['azure_openai', 'azure'],
  ['azure-openai', 'azure'],
  ['azure_ai', 'azure'],
  ['azureopenai', 'azure'],
  ['aws.bedrock', 'aws'],
  ['aws_bedrock', 'aws'],
  ['aws-bedrock', 'aws'],
  ['amazon-bedrock', 'aws'],
  ['amazon_bedrock', 'aws'],
  ['bedrock', 'aws'],
  ['bedrock_converse', 'aws'],
  ['gcp.gemini', 'google'],
  ['gcp.vertex_ai', 'google'],
  ['gcp.gen_ai', 'google'],
  ['gemini', 'google'],
  ['vertex', 'google'],
  ['vertexai', 'google'],
  ['vertex_ai', 'google'],
  ['vertex-ai', 'google'],
  ['google-vertex', 'google'],
  ['google_vertexai', 'google'],
  ['google_genai', 'google'],
  ['google-genai', 'google'],
  ['google.generative-ai', 'google'],
  ['x_ai', 'x-ai'],
  ['xai', 'x-ai'],
  ['mistral_ai', 'mistral'],
  ['mistralai', 'mistral'],
  ['moonshot_ai', 'moonshotai'],
  ['moonshot', 'moonshotai'],
  ['together_ai', 'together'],
  ['together-ai', 'together'],
  ['togetherai', 'together'],
  ['fireworks_ai', 'fireworks'],
  ['fireworks-ai', 'fireworks'],
  ['voyage', 'voyageai'],
  ['voyage_ai', 'voyageai'],
  ['cohere_chat', 'cohere'],
  ['github_copilot', 'github-copilot'],
  ['z.ai', 'zai'],
])

/**
 * The name that a provider's prices are kept under. An unknown name is its own, so that an organization can
 * price a provider that no catalogue lists.
 */
export function catalogueProvider(provider: string): string {
  const name = provider.trim().toLowerCase()
  return CATALOGUE_ID_BY_ALIAS.get(name) ?? name
}

/**
 * Providers that resell others' models at the maker's list price: where they have no entry of their own for a
 * model, the catalogue entry of these applies, in this order. From `fallback_model_providers` of
 * `@pydantic/genai-prices` 0.1.8.
 */
const FALLBACKS: ReadonlyMap<string, readonly string[]> = new Map([
  ['azure', ['openai', 'anthropic', 'deepseek', 'x-ai', 'moonshotai']],
  ['google', ['anthropic']],
])

/** The catalogue ids to search for a model of this provider, the provider itself first. */
export function providersToSearch(catalogueId: string): readonly string[] {
  return [catalogueId, ...(FALLBACKS.get(catalogueId) ?? [])]
}
