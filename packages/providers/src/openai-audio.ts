import { findingsOf } from './findings.ts'
import { jsonAnswer } from './json-answer.ts'
import { formField } from './multipart.ts'
import { quantitiesOf as chatQuantitiesOf } from './openai-chat.ts'
import { type ReadQuantities, tokenQuantities } from './openai-usage.ts'
import {
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
 * OpenAI transcriptions and translations (OpenAI API reference "Audio", openai-node 6.49 types; Groq and Mistral
 * API references, read 2026-11).
 *
 * Usage is of one of two kinds: tokens, with the audio ones inside the input, or seconds. Where there is none,
 * `verbose_json` tells the duration, which is billed to the nearest second; a bare `json` without usage, `text`,
 * `srt` and `vtt` tell nothing, and count as a request that no price is known for. Mistral reports chat usage
 * with `prompt_audio_seconds`. The answer names no model; the request is multipart, with the model in a field.
 */
export function readOpenaiTranscription(request: ReaderRequest): UsageReader {
  const body = parseJsonObject(request.bodyText)
  let answered: JsonObject | undefined
  let isDone = false
  const answer = jsonAnswer({
    isNotable: (events) => TRANSCRIBED.test(events),
    readEvent(event) {
      isDone = true
      answered = event
    },
    readBody(read) {
      answered = read
    },
    addTexts(event, into) {
      into.add(textAt(event, 'delta') ?? textAt(event, 'text'))
    },
  })
  return {
    requestedModel: textAt(body, 'model') || (formField(request.bodyText, 'model') ?? request.model),
    rewrittenBody: undefined,
    promptText: () => textsOf(textAt(body, 'prompt') ?? formField(request.bodyText, 'prompt')),
    respond: answer.respond,
    push: answer.push,
    end: answer.end,
    outputText: answer.outputText,
    result(): ReadUsage {
      const isFailed = answer.errorType !== undefined
      const isCut = answer.isStreamed && !isDone
      const read = isFailed || isCut ? undefined : transcriptionQuantities(answered)
      const responseModel = textAt(answered, 'model') || undefined
      return {
        ...(responseModel !== undefined && { responseModel }),
        ...(read !== undefined && { quantities: read.quantities }),
        ...(read?.mismatch !== undefined && { mismatch: read.mismatch }),
        ...findingsOf(isCut ? undefined : objectAt(answered, 'usage'), answer.problem),
        isComplete: answer.isStreamed ? isDone : answer.isRead,
        isStreamed: answer.isStreamed,
        ...(answer.errorType !== undefined && { errorType: answer.errorType }),
      }
    },
  }
}

/** The end of a transcribed stream (Mistral: `transcription.done`). */
const TRANSCRIBED = /"type"\s*:\s*"(?:transcript\.text|transcription)\.done"/

function transcriptionQuantities(answered: JsonObject | undefined): ReadQuantities {
  const usage = objectAt(answered, 'usage')
  const read = usage && (tokenQuantities(usage) ?? chatQuantitiesOf(usage))
  if (read !== undefined) return read
  const seconds = secondsOf(usage?.['seconds']) ?? secondsOf(answered?.['duration'])
  return { quantities: seconds === undefined ? { requests: 1 } : { audio_seconds: seconds } }
}

/** Seconds as they are billed. Older answers have the duration as text. */
function secondsOf(value: unknown): number | undefined {
  const seconds = Math.round(
    typeof value === 'string' && value !== ''
      ? Number(value)
      : typeof value === 'number'
        ? value
        : Number.NaN,
  )
  return Number.isSafeInteger(seconds) && seconds >= 0 ? seconds : undefined
}

/**
 * OpenAI speech (OpenAI API reference "Create speech", openai-node 6.49 types, read 2026-11).
 *
 * The answer is audio without any usage, which passes unread; `stream_format: "sse"` ends in
 * `speech.audio.done` with usage. `tts-1` models are billed by the characters of the request, which are known
 * exactly; of other models the input can be estimated, and what the audio cost cannot.
 */
export function readOpenaiSpeech(request: ReaderRequest): UsageReader {
  const body = parseJsonObject(request.bodyText)
  const requestedModel = textAt(body, 'model') || request.model
  let usage: JsonObject | undefined
  let isDone = false
  const answer = jsonAnswer({
    isNotable: (events) => SPOKEN.test(events),
    readEvent(event) {
      isDone = true
      usage = objectAt(event, 'usage') ?? usage
    },
    readBody: () => undefined,
  })
  return {
    requestedModel,
    rewrittenBody: undefined,
    promptText: () => textsOf([body?.['instructions'], body?.['input']]),
    respond: answer.respond,
    push: answer.push,
    end: answer.end,
    outputText: answer.outputText,
    result(): ReadUsage {
      const output = countAt(usage, 'output_tokens') ?? 0
      const read = usage && tokenQuantities(usage, output > 0 ? { audio_output_tokens: output } : {})
      const input = textAt(body, 'input')
      const isByCharacter =
        input !== undefined && requestedModel !== undefined && /^tts-1/.test(requestedModel)
      const isFailed = answer.errorType !== undefined
      const quantities =
        read?.quantities ?? (isByCharacter && !isFailed ? { input_characters: [...input].length } : undefined)
      return {
        ...(quantities !== undefined && { quantities }),
        ...(read?.mismatch !== undefined && { mismatch: read.mismatch }),
        ...findingsOf(usage),
        isComplete: answer.isStreamed ? isDone : true,
        isStreamed: answer.isStreamed,
        ...(answer.errorType !== undefined && { errorType: answer.errorType }),
      }
    },
  }
}

const SPOKEN = /"type"\s*:\s*"speech\.audio\.done"/
