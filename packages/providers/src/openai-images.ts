import { findingsOf } from './findings.ts'
import { jsonAnswer } from './json-answer.ts'
import { formField } from './multipart.ts'
import { type ReadQuantities, tokenQuantities } from './openai-usage.ts'
import {
  type ApartUsage,
  countAt,
  type JsonObject,
  objectAt,
  parseJsonObject,
  type ReaderRequest,
  type ReadUsage,
  textAt,
  textsOf,
  type UsageReader,
} from './reader.ts'

/**
 * OpenAI images: generations, edits and variations (OpenAI API reference "Images", openai-node 6.49 types, read
 * 2026-11).
 *
 * `gpt-image-*` reports tokens; the output is image tokens as far as its details do not say otherwise. `dall-e-*`
 * reports nothing and is billed by the image: `images` counts those of the answer. A stream has usage in the
 * event that brings the finished image. The answer names no model; edits are multipart, with the model in a field.
 */
export function readOpenaiImages(request: ReaderRequest): UsageReader {
  const body = parseJsonObject(request.bodyText)
  const model = textAt(body, 'model') || (formField(request.bodyText, 'model') ?? request.model)
  const prompt = textAt(body, 'prompt') ?? formField(request.bodyText, 'prompt')
  let usage: JsonObject | undefined
  let svg: JsonObject | undefined
  let images = 0
  let errorType: string | undefined
  const answer = jsonAnswer({
    isNotable: (events) => NOTABLE.test(events),
    readEvent(event) {
      const error = objectAt(event, 'error')
      if (textAt(event, 'type') === 'error') {
        errorType = textAt(error, 'type') ?? textAt(error, 'code') ?? textAt(event, 'code') ?? 'error'
        return
      }
      usage = objectAt(event, 'usage') ?? usage
      svg = objectAt(event, 'svg_usage') ?? svg
      images += 1
    },
    readBody(read) {
      usage = objectAt(read, 'usage')
      svg = objectAt(read, 'svg_usage')
      const { data } = read
      images = Array.isArray(data) ? data.length : 0
    },
  })
  return {
    requestedModel: model,
    rewrittenBody: undefined,
    promptText: () => textsOf(prompt),
    respond: answer.respond,
    push: answer.push,
    end: answer.end,
    outputText: answer.outputText,
    result(): ReadUsage {
      const read = quantitiesOf(usage, images, answer.isStreamed)
      const error = answer.errorType ?? errorType
      const apart = svg === undefined ? undefined : svgUsage(svg)
      return {
        ...(read !== undefined && { quantities: read.quantities }),
        ...(read?.mismatch !== undefined && { mismatch: read.mismatch }),
        ...findingsOf(usage, answer.problem),
        ...(apart !== undefined && { apart: [apart] }),
        isComplete: answer.isStreamed ? images > 0 : answer.isRead,
        isStreamed: answer.isStreamed,
        ...(error !== undefined && { errorType: error }),
      }
    },
  }
}

/** Events that bring a finished image, or a failure. */
const NOTABLE = /"type"\s*:\s*"(?:image_(?:generation|edit)\.completed|error)"/

/** What writing an SVG took, by another model and beside the tokens of the pictures. */
function svgUsage(usage: JsonObject): ApartUsage | undefined {
  const reasoning = countAt(usage, 'reasoning_tokens') ?? 0
  const read = tokenQuantities(usage, reasoning > 0 ? { reasoning_tokens: reasoning } : {})
  const responseModel = textAt(usage, 'model')
  if (read === undefined) return undefined
  return { ...(responseModel !== undefined && { responseModel }), ...read, ...findingsOf(usage) }
}

function quantitiesOf(
  usage: JsonObject | undefined,
  images: number,
  isStreamed: boolean,
): ReadQuantities | undefined {
  const output = countAt(usage, 'output_tokens') ?? 0
  const hasDetails = objectAt(usage, 'output_tokens_details') !== undefined
  const read =
    usage && tokenQuantities(usage, hasDetails || output === 0 ? {} : { image_output_tokens: output })
  if (read === undefined) return images === 0 ? undefined : { quantities: { images } }
  // Nothing says whether each event has its own usage or that of all: counted once, and said aloud.
  if (isStreamed && images > 1) {
    return { ...read, mismatch: `${images} images came, the usage is that of the last one` }
  }
  return read
}
