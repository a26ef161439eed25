import { SpanKind } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node'

// The exporter reads OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS: the service itself, or a
// Collector before it. Nothing of TokenTally runs in here.
const provider = new NodeTracerProvider({
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
})

const span = provider.getTracer('example').startSpan('chat gpt-4o-mini', {
  kind: SpanKind.CLIENT,
  attributes: {
    'gen_ai.operation.name': 'chat',
    'gen_ai.provider.name': 'openai',
    'gen_ai.request.model': 'gpt-4o-mini',
    'gen_ai.usage.input_tokens': 1200,
    'gen_ai.usage.output_tokens': 300,
    'tokentally.customer_id': 'acme',
    'tokentally.feature': 'summarize',
  },
})
span.end()
await provider.forceFlush()
await provider.shutdown()
process.stdout.write('Sent one span: 1200 input and 300 output tokens of gpt-4o-mini for acme\n')
