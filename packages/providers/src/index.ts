import { READERS } from './formats.ts'
import { sendsStreamUsage } from './openai-dialects.ts'
import type { ReaderRequest, UsageReader } from './reader.ts'
import type { RecognizedCall } from './recognize.ts'

export { numbersAsText } from './billing/amounts.ts'
export { BillingError } from './billing/billing-error.ts'
export { type BillLine, columnName } from './billing/columns.ts'
export {
  LINE_FORMATS,
  type LineFormat,
  lineFormatOf,
  missingColumns,
  REPORT_FORMATS,
  type ReportFormat,
  reportFormatOf,
} from './billing/formats.ts'
export { OPENAI_USAGE_PARTS } from './billing/openai-reports.ts'
export type { BillingReport } from './billing/report.ts'
export type { WireFormat } from './formats.ts'
export { realtimeUsage } from './openai-realtime.ts'
export {
  type ApartUsage,
  type ReaderRequest,
  type ReadUsage,
  type SettledUsage,
  type UsageReader,
  withoutContradictions,
} from './reader.ts'
export {
  type EndpointMapping,
  isKnownProviderHost,
  mayBeCall,
  type Operation,
  parseEndpoints,
  type RecognizedCall,
  recognize,
} from './recognize.ts'
export { type CalledModel, claimsExactness } from './tokenizer/registry.ts'
export {
  countAnswerByBytes,
  countByBytes,
  countRequestByBytes,
  createTokenCounter,
  type SentRequest,
  type TokenCount,
  type TokenCounter,
  type WrittenAnswer,
} from './tokenizer/token-counter.ts'

/** Makes the reader for one exchange. */
export function createReader(
  call: RecognizedCall,
  request: Omit<ReaderRequest, 'model' | 'resultsId'>,
): UsageReader {
  const { provider } = call
  // Requests to Bedrock are signed, body and all: a changed one is refused.
  const isSigned = provider === 'aws.bedrock' || provider === 'bedrock'
  const injectStreamUsage = request.injectStreamUsage && !isSigned && !sendsStreamUsage(provider)
  const reader = READERS[call.format]({
    ...request,
    injectStreamUsage,
    model: call.model,
    resultsId: call.resultsId,
  })
  reader.requestBody = request.bodyText
  return reader
}
