const COMMA = Buffer.from(',')
const END = Buffer.from(']}]}]}')

/**
 * The UTF-8 text of an export request of JSON-encoded spans. The service reads the events from their attributes; any
 * OpenTelemetry Collector in between sees ordinary GenAI spans.
 *
 * @param spans UTF-8 of what `spanJson` makes
 */
export function otlpRequest(spans: readonly Uint8Array[], version: string): Buffer<ArrayBuffer> {
  const resource = {
    attributes: [{ key: 'service.name', value: { stringValue: 'tokentally-meter' } }],
  }
  const scope = { name: '@tokentally/meter', version }
  const start = `{"resourceSpans":[{"resource":${JSON.stringify(resource)},"scopeSpans":[{"scope":${JSON.stringify(scope)},"spans":[`
  const parts: Uint8Array[] = [Buffer.from(start)]
  for (const [index, span] of spans.entries()) {
    if (index > 0) parts.push(COMMA)
    parts.push(span)
  }
  parts.push(END)
  return Buffer.concat(parts)
}
