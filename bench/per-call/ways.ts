import { registerHooks } from 'node:module'
import { request as undiciRequest } from 'undici'
import type { Way } from './protocol.ts'

const MODEL = 'gpt-4o-mini'
const PROMPT = 'Say something that takes a while to say.'
const KEY = 'sk-bench'

/** What a way in needs of the application around it. */
export interface WayOptions {
  /** Base URL of the provider, with `/v1`. */
  readonly baseUrl: string
  /** Tokens of an answer. */
  readonly tokens: number
  /** Whether the adapters of the meter are put in: of the Vercel AI SDK, of LangChain, `meter(client)`. */
  readonly isMetered: boolean
}

/**
 * Makes a plain LLM call by one of the ways that clients go. Only what the way needs is loaded, and of the meter
 * nothing where it is not to be: its import alone taps the process.
 */
export async function openWay(way: Way, options: WayOptions): Promise<() => Promise<unknown>> {
  const { baseUrl, tokens, isMetered } = options
  const body = JSON.stringify({
    model: MODEL,
    max_tokens: tokens,
    messages: [{ role: 'user', content: PROMPT }],
  })
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${KEY}` }
  const url = `${baseUrl}/chat/completions`
  switch (way) {
    case 'undici':
      return async () => {
        const answer = await undiciRequest(url, { method: 'POST', headers, body })
        return answer.body.json()
      }
    case 'node:http': {
      const { default: axios } = await import('axios')
      return () => axios.post(url, body, { headers, adapter: 'http' })
    }
    case 'meter(client)': {
      const { default: OpenAI } = await import('openai')
      const bare = new OpenAI({ apiKey: KEY, baseURL: baseUrl, maxRetries: 0 })
      const client = isMetered ? (await import('@tokentally/meter')).meter(bare) : bare
      return () =>
        client.chat.completions.create({
          model: MODEL,
          max_tokens: tokens,
          messages: [{ role: 'user', content: PROMPT }],
        })
    }
    case 'Vercel AI SDK': {
      withBuiltPackages()
      const { createOpenAI } = await import('@ai-sdk/openai')
      const { generateText, wrapLanguageModel } = await import('ai')
      const bare = createOpenAI({ apiKey: KEY, baseURL: baseUrl }).chat(MODEL)
      const model = isMetered
        ? wrapLanguageModel({ model: bare, middleware: await vercelMiddleware() })
        : bare
      return () => generateText({ model, prompt: PROMPT, maxOutputTokens: tokens, maxRetries: 0 })
    }
    case 'LangChain': {
      const { ChatOpenAI } = await import('@langchain/openai')
      const model = new ChatOpenAI({
        model: MODEL,
        maxTokens: tokens,
        apiKey: KEY,
        maxRetries: 0,
        configuration: { baseURL: baseUrl },
        callbacks: isMetered ? [await langchainHandler()] : [],
      })
      return () => model.invoke(PROMPT)
    }
  }
}

/** A package of theirs names its own sources under the condition that ours run by; Node takes no types from there. */
function withBuiltPackages(): void {
  registerHooks({
    resolve: (specifier, context, nextResolve) =>
      nextResolve(
        specifier,
        context.parentURL?.includes('/node_modules/')
          ? { ...context, conditions: context.conditions.filter((condition) => condition !== 'source') }
          : context,
      ),
  })
}

async function vercelMiddleware() {
  const { tokenTallyMiddleware } = await import('@tokentally/meter/vercel-ai')
  return tokenTallyMiddleware()
}

async function langchainHandler() {
  const { TokenTallyCallbackHandler } = await import('@tokentally/meter/langchain')
  return new TokenTallyCallbackHandler()
}
