import { bedrockModel } from '../bedrock-model.ts'
import type { FamilyCall, Operation } from '../recognize.ts'
import { anthropicCall } from './anthropic.ts'
import { openaiCall } from './openai.ts'

/**
 * Amazon Bedrock's runtime (Amazon Bedrock API reference, read 2026-11), and the APIs of others that it speaks
 * beside its own. Counting tokens (`/count-tokens`) is free, and what runs in the background (`/async-invoke`)
 * leaves its answer elsewhere.
 */
export function bedrockCall(method: string, path: string): FamilyCall | undefined {
  const call = method === 'POST' ? MODEL_CALL.exec(path) : null
  if (call === null) {
    return path.startsWith('/anthropic/')
      ? anthropicCall(method, path.slice('/anthropic'.length))
      : openaiCall(method, path.replace(/^\/openai(?=\/)/, ''))
  }
  const [, segment = '', api = ''] = call
  const model = bedrockModel(decoded(segment))
  return api.startsWith('converse')
    ? { format: 'bedrock-converse', operation: 'chat', model }
    : { format: 'bedrock-invoke', operation: operationOf(model), model }
}

/** Ids that are ARNs have slashes, which not every client encodes. */
const MODEL_CALL = /^\/model\/(.+)\/(converse|converse-stream|invoke|invoke-with-response-stream)$/

/** Models that make something else than text are told by their names. */
function operationOf(model: string): Operation {
  if (/[.-](?:embed|marengo)/.test(model)) return 'embeddings'
  if (/[.-]rerank/.test(model)) return 'rerank'
  if (/(?:^|\.)stability\.|titan-image|nova-canvas/.test(model)) return 'image_generation'
  return 'chat'
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}
