import type { UsageEvent } from '@tokentally/core'
import type { ApartUsage } from '@tokentally/providers'
import type { EventSink } from './event-sink.ts'

/** Longest id that the service takes. */
export const EVENT_ID_MAX = 256

/**
 * Appends what other models did for a call, as events of its own under the same `callId`. Their ids follow from
 * that of the call's event, so that what is once there is there once. They count no request of their own, unless
 * the provider says so: the call's event has paid a model's price for each request.
 */
export function appendApart(sink: EventSink, call: UsageEvent, apart: readonly ApartUsage[]): void {
  for (const [index, usage] of apart.entries()) {
    const { responseModel, serviceTier, quantities, ...findings } = usage
    sink.append({
      ...whoAndWhere(call),
      eventId: apartId(call.eventId, index + 1),
      ...(responseModel !== undefined && { model: responseModel, responseModel }),
      ...(serviceTier !== undefined && { serviceTier }),
      quantities: { requests: 0, ...quantities },
      status: 'ok',
      estimated: false,
      ...findings,
    })
  }
}

function apartId(eventId: string, number: number): string {
  const suffix = `.${number}`
  return eventId.slice(0, EVENT_ID_MAX - suffix.length) + suffix
}

/** What an event says of the call as a whole: not its counts, nor how long they took. */
function whoAndWhere(call: UsageEvent): Omit<UsageEvent, 'eventId' | 'quantities' | 'status' | 'estimated'> {
  const {
    eventId: _id,
    model: _model,
    responseModel: _responseModel,
    serviceTier: _serviceTier,
    quantities: _quantities,
    status: _status,
    estimated: _estimated,
    reason: _reason,
    mismatch: _mismatch,
    vendorUsage: _vendorUsage,
    reportedCostUsd: _cost,
    tokenizer: _tokenizer,
    counted: _counted,
    latencyMs: _latency,
    timeToFirstTokenMs: _timeToFirstToken,
    ...rest
  } = call
  return rest
}
