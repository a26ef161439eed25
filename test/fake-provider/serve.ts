import { startFakeProvider } from './index.ts'

/** `npm run fake-provider -w examples/…`: answers instead of OpenAI and Anthropic, for those without a key. */

const provider = await startFakeProvider({ port: Number(process.env['FAKE_PROVIDER_PORT'] ?? 8000) })
process.stdout.write(
  `Fake provider at ${provider.url} (OpenAI: ${provider.url}/v1, Anthropic: ${provider.url})\n`,
)
