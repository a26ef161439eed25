import {
  data,
  eventStream,
  failure,
  json,
  type Piece,
  present,
  share,
  type Vendor,
  type VendorAnswer,
  type VendorRequest,
} from './answer.ts'
import { anthropic } from './anthropic.ts'
import type { Truth } from './plan.ts'

/**
 * Google's `generateContent` and its stream, of the Gemini API and of Vertex AI, with embeddings (types of
 * @google/genai 3.1; REST reference, read 2026-11). Cached tokens are inside the prompt, thoughts beside the
 * candidates, results of tools beside the prompt; counts of zero are left out; a stream repeats running totals.
 */
export const google: Vendor = {
  answer(request) {
    // Anthropic's models on Vertex AI speak as Anthropic does.
    if (request.path.includes('/publishers/anthropic/')) return anthropic.answer(request)
    if (/:(?:batchEmbedContents|embedContent|predict)$/.test(request.path)) return embeddings(request)
    if (!request.path.includes(':streamGenerateContent')) {
      return json({ ...pieceOf(request, partsOf(request)), ...lastOf(request) })
    }
    return stream(request)
  },
  fail(status, request) {
    if (request.path.includes('/publishers/anthropic/')) return anthropic.fail(status, request)
    const name = status === 429 ? 'RESOURCE_EXHAUSTED' : status === 400 ? 'INVALID_ARGUMENT' : 'INTERNAL'
    const message = `The request failed (${status}). ${request.plan.quoted}`
    return failure(status, { error: { code: status, message, status: name, details: [] } })
  },
}

const isVertex = ({ host }: VendorRequest) => host.includes('aiplatform')

function modelOf({ path }: VendorRequest): string {
  return /models\/([^:/]+)/.exec(path)?.[1] ?? ''
}

type Part = Readonly<Record<string, unknown>>

function partsOf({ plan: { say } }: VendorRequest): Part[] {
  return [
    ...say.reasoning.map((text) => ({ text, thought: true })),
    ...say.text.map((text) => ({ text })),
    ...(say.tool === undefined
      ? []
      : [{ functionCall: { name: say.tool.name, args: JSON.parse(say.tool.arguments.join('')) } }]),
  ]
}

function pieceOf(request: VendorRequest, parts: readonly Part[]) {
  return {
    candidates: [{ content: { parts, role: 'model' }, index: 0 }],
    modelVersion: modelOf(request),
    responseId: `mAcjaZ7tLdSx${request.number}`,
  }
}

function lastOf(request: VendorRequest, parts = partsOf(request)) {
  return {
    candidates: [{ content: { parts, role: 'model' }, finishReason: 'STOP', index: 0 }],
    usageMetadata: usageOf(request, request.plan.truth),
  }
}

function usageOf(request: VendorRequest, truth: Truth): Record<string, unknown> {
  const thoughts = truth.reasoning ?? 0
  const tools = truth.toolInput ?? 0
  const audio = truth.audioInput ?? 0
  const image = truth.imageInput ?? 0
  const prompt = truth.input - tools
  const notZero = (count: number) => (count === 0 ? undefined : count)
  const modalities = [
    { modality: 'TEXT', tokenCount: prompt - audio - image },
    { modality: 'AUDIO', tokenCount: audio },
    { modality: 'IMAGE', tokenCount: image },
  ]
  return present({
    promptTokenCount: prompt,
    candidatesTokenCount: notZero(truth.output - thoughts),
    totalTokenCount: truth.input + truth.output,
    cachedContentTokenCount: truth.cacheRead,
    promptTokensDetails: modalities.filter(({ tokenCount }) => tokenCount > 0),
    thoughtsTokenCount: notZero(thoughts),
    toolUsePromptTokenCount: notZero(tools),
    trafficType: isVertex(request) ? 'ON_DEMAND' : undefined,
  })
}

/** Server-sent events with `alt=sse`; without it one array, its elements as they come. */
function stream(request: VendorRequest): VendorAnswer {
  const { truth, say } = request.plan
  const parts = partsOf(request)
  const elements = parts.map((part, index) => {
    const thoughts = Math.min(truth.reasoning ?? 0, share(truth.output, index + 1, parts.length + 1))
    const runningOutput = share(truth.output, index + 1, parts.length + 1)
    const so = { ...truth, output: runningOutput, ...(thoughts > 0 && { reasoning: thoughts }) }
    const value = { ...pieceOf(request, [part]), usageMetadata: usageOf(request, so) }
    const text = 'text' in part ? String(part['text']) : `${say.tool?.name}${say.tool?.arguments.join('')}`
    return { value, said: { text, runningOutput } }
  })
  const last = { value: { ...pieceOf(request, []), ...lastOf(request, [{ text: '' }]) }, said: {} }
  const all: { value: object; said: Omit<Piece, 'bytes'> }[] = [...elements, last]
  if (request.query.get('alt') === 'sse') return eventStream(all.map(({ value, said }) => data(value, said)))
  const body = all.map(({ value, said }, index) => ({
    bytes: Buffer.from(`${index === 0 ? '[' : '\n,\r\n'}${JSON.stringify(value, null, 2)}`),
    ...said,
  }))
  return {
    headers: { 'content-type': 'application/json; charset=UTF-8' },
    body: [...body, { bytes: Buffer.from('\n]\n') }],
  }
}

/** The Gemini API counts nothing for older models; Vertex AI counts each text. */
function embeddings(request: VendorRequest): VendorAnswer {
  const { truth } = request.plan
  const values = [0.013, -0.008]
  if (!request.path.endsWith(':predict')) {
    const usageMetadata = { promptTokenCount: truth.input }
    return request.path.endsWith(':batchEmbedContents')
      ? json({ embeddings: [{ values }], usageMetadata })
      : json({ embedding: { values }, usageMetadata })
  }
  const statistics = { truncated: false, token_count: truth.input }
  return json({
    predictions: [{ embeddings: { values, statistics } }],
    metadata: { billableCharacterCount: 9 },
  })
}
