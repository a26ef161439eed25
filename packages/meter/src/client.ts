import { type AwsClient, isAwsClient } from './tap/aws-sdk.ts'
import { type Dispatcher, isDispatcher } from './tap/dispatcher.ts'

/**
 * Metering of one client, whose official SDK keeps the function that sends its requests somewhere of its own. That
 * function is replaced in place, so that the client stays what it is, with its type. Where an SDK takes the global
 * `fetch` at each call there is nothing to replace: the tap of the global one sees its calls.
 *
 * Read in the SDKs' code: openai 7, @anthropic-ai/sdk 1 (and bedrock-sdk, vertex-sdk), groq-sdk 1, together-ai 0.52,
 * ollama 0.6 (`client.fetch`, handed on to `withOptions()`), @google/genai 3 (`apiClient.clientOptions.httpOptions.fetch`),
 * @mistralai/mistralai 2 (`_options.httpClient.fetcher`), cohere-ai 8 (`_options.fetch`, once for each of the clients
 * inside of `CohereClientV2`).
 */

const meteredClients = new WeakSet<object>()

/**
 * Meters a client, also one that was built before the tap was there. Twice is once, and so is a client whose
 * transport is metered already.
 *
 * @param tap gives back a `fetch` that is tapped already
 * @returns the same client
 * @throws TypeError when nothing is known of how the client sends its requests
 */
export function meterClient<Client extends object>(
  client: Client,
  tap: (original: typeof fetch) => typeof fetch,
  tapDispatcher: (dispatcher: Dispatcher) => void,
  tapAwsClient: (client: AwsClient) => void,
): Client {
  if (meteredClients.has(client)) return client
  if (isDispatcher(client)) {
    tapDispatcher(client)
    return client
  }
  if (isAwsClient(client)) {
    tapAwsClient(client)
  } else {
    const places = placesOfFetch(client)
    if (places === undefined) {
      throw new TypeError(
        'meter(client) takes a client of OpenAI, Azure OpenAI, Anthropic, Groq, Together, Ollama, Mistral, Cohere, Google Gen AI or the AWS SDK v3, or a dispatcher of undici; others are metered by importing @tokentally/meter before them, or through the middleware for the Vercel AI SDK and the handler for LangChain',
      )
    }
    for (const { holder, name } of places) {
      const original: unknown = Reflect.get(holder, name)
      if (isFetch(original)) Reflect.set(holder, name, tap(original))
    }
  }
  meteredClients.add(client)
  return client
}

/** Where a client keeps a `fetch`; there may be none, if it takes the global one. */
interface PlaceOfFetch {
  readonly holder: object
  readonly name: string
}

function placesOfFetch(client: object): readonly PlaceOfFetch[] | undefined {
  return googleGenAi(client) ?? mistral(client) ?? cohere(client) ?? stainless(client)
}

/** OpenAI, Anthropic, Groq and Together (made by Stainless), Ollama: in the client itself. */
function stainless(client: object): readonly PlaceOfFetch[] | undefined {
  return isFetch(Reflect.get(client, 'fetch')) ? [{ holder: client, name: 'fetch' }] : undefined
}

/** Models, chats, files and so on share one `apiClient`. */
function googleGenAi(client: object): readonly PlaceOfFetch[] | undefined {
  const options = objectAt(objectAt(client, 'apiClient'), 'clientOptions')
  if (options === undefined || objectAt(client, 'models') === undefined) return undefined
  const httpOptions = objectAt(options, 'httpOptions')
  return httpOptions === undefined ? [] : [{ holder: httpOptions, name: 'fetch' }]
}

/** The parts of the client (`chat`, `embeddings` …) are made when they are first used, with the same HTTP client. */
function mistral(client: object): readonly PlaceOfFetch[] | undefined {
  const options = objectAt(client, '_options')
  // The SDK keeps its hooks there, under a name of its generator's.
  if (objectAt(options, 'hooks') === undefined || !('chat' in client)) return undefined
  const httpClient = objectAt(options, 'httpClient')
  return httpClient === undefined ? [] : [{ holder: httpClient, name: 'fetcher' }]
}

/** `CohereClientV2` holds two clients, each with options of its own, and has a method `fetch` that is no transport. */
function cohere(client: object): readonly PlaceOfFetch[] | undefined {
  const holders = [client, objectAt(client, 'client'), objectAt(client, 'clientV2')].filter(isCohere)
  if (holders.length === 0) return undefined
  return holders
    .map((holder) => objectAt(holder, '_options'))
    .filter((options) => options !== undefined)
    .map((options) => ({ holder: options, name: 'fetch' }))
}

function isCohere(client: object | undefined): client is object {
  return (
    client !== undefined &&
    objectAt(client, '_options') !== undefined &&
    ['chat', 'chatStream', 'rerank'].every((name) => typeof Reflect.get(client, name) === 'function')
  )
}

function objectAt(value: object | undefined, name: string): object | undefined {
  const field: unknown = value === undefined ? undefined : Reflect.get(value, name)
  return typeof field === 'object' && field !== null ? field : undefined
}

function isFetch(value: unknown): value is typeof fetch {
  return typeof value === 'function'
}
