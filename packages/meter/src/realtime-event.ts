import type { UsageEventJson } from '@tokentally/core'
import { realtimeUsage } from '@tokentally/providers'

/** What an event of a realtime session does not say. */
export interface RealtimeSession {
  /** The model of the session. */
  readonly model: string
  /** Default `openai`; `azure.ai.openai` for Azure. */
  readonly provider?: string
}

/**
 * The usage event of a `response.done`, under the response's own id, so that a response that is recorded again
 * counts once.
 *
 * @returns undefined for events without usage
 */
export function realtimeEvent(event: unknown, session: RealtimeSession): UsageEventJson | undefined {
  const read = realtimeUsage(event)
  if (read?.quantities === undefined) return undefined
  const { input_tokens, cache_read_tokens, output_tokens, ...meters } = read.quantities
  const { provider = 'openai', model } = session
  return {
    ...(read.responseId !== undefined && {
      event_id: `${provider}-${read.responseId}`,
      provider_request_id: read.responseId,
    }),
    provider,
    model,
    operation: 'chat',
    input_tokens,
    ...(cache_read_tokens !== undefined && { cache_read_tokens }),
    output_tokens,
    meters,
    streamed: true,
    status: read.isComplete ? 'ok' : 'aborted',
    ...(read.reason !== undefined && { reason: read.reason }),
    ...(read.mismatch !== undefined && { mismatch: read.mismatch }),
    ...(read.vendorUsage !== undefined && { vendor_usage: read.vendorUsage }),
  }
}
