import { type BudgetExceededError, REFUSAL_HEADER } from './budget-exceeded-error.ts'

/**
 * How a `fetch` refuses. To most callers by throwing: the promise is rejected with the typed error itself. SDKs made
 * by Stainless (OpenAI, Anthropic, Groq, Together; known by their headers `x-stainless-*`) take whatever is thrown
 * for a broken connection, try twice again and throw an `APIConnectionError` after seconds. They get an answer
 * instead, with the header `x-should-retry: false`, which they obey (`shouldRetry` in their `client.mjs`; read in
 * openai 7, @anthropic-ai/sdk 1, groq-sdk 1, together-ai 0.52): they throw their `RateLimitError` at once. The code
 * `insufficient_quota` is OpenAI's own word, and makes LangChain stop (`async_caller.js` of @langchain/core 1), which
 * retries other 429s. Where all can be had by throwing, throwing is better: Cohere and the Vercel AI SDK retry every
 * 429 after its `Retry-After`.
 */
export function refuseFetch(
  error: BudgetExceededError,
  header: (name: string) => string | null,
): Promise<Response> {
  if (!isStainless(header)) return Promise.reject(error)
  const { body, ...head } = refusedAnswer(error)
  return Promise.resolve(new Response(body, head))
}

/** Whether a request is one of an SDK made by Stainless. */
export function isStainless(header: (name: string) => string | null): boolean {
  return header('x-stainless-lang') !== null || header('x-stainless-retry-count') !== null
}

interface RefusedAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** The answer that such an SDK gets. */
export function refusedAnswer(error: BudgetExceededError): RefusedAnswer {
  const { status, message, retryAfterS, refusalId, code, action } = error
  const isForLong = action !== 'rate_limit' && code !== 'decisions_unavailable'
  const answer = {
    message,
    type: code,
    code: isForLong ? 'insufficient_quota' : 'rate_limit_exceeded',
    param: null,
  }
  return {
    status,
    headers: {
      'content-type': 'application/problem+json',
      'retry-after': String(retryAfterS),
      'x-should-retry': 'false',
      [REFUSAL_HEADER]: refusalId,
    },
    body: JSON.stringify({ ...error.toProblem(), error: answer }),
  }
}
