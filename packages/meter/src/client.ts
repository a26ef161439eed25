import { type AwsClient, isAwsClient } from './tap/aws-sdk.ts'
import { type Dispatcher, isDispatcher } from './tap/dispatcher.ts'

/** Clients that carry their own `fetch`: OpenAI, Anthropic, Groq and Together (Stainless), Ollama. */
interface ClientWithFetch {
  fetch: typeof fetch
}

const meteredClients = new WeakSet<object>()

/**
 * Meters a client that was built before the tap was there, by replacing the `fetch` that it copied; a client of
 * the AWS SDK, for what its transport does not tell, by its middleware; or a dispatcher of undici.
 *
 * @returns the same client
 * @throws TypeError when the client is neither of them and has no `fetch` of its own to replace
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
    meteredClients.add(client)
    return client
  }
  if (!hasFetch(client)) {
    throw new TypeError(
      'meter(client) takes an OpenAI, Anthropic, Groq, Together, Ollama or AWS SDK v3 client; other clients are metered by importing @tokentally/meter before them',
    )
  }
  client.fetch = tap(client.fetch)
  meteredClients.add(client)
  return client
}

function hasFetch(client: object): client is ClientWithFetch {
  return 'fetch' in client && typeof client.fetch === 'function'
}
