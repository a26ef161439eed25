import { findContradictions, type VendorUsage } from '@tokentally/core'
import type { UsageFindings } from './findings.ts'
import type { Operation } from './recognize.ts'

/** What a call's answer said about usage. Counts are those of the provider; absent means not reported. */
export interface ReadUsage {
  readonly responseModel?: string
  readonly serviceTier?: string
  /** Meters in the words of the usage event: `input_tokens` is all input, `output_tokens` all output. */
  readonly quantities?: Readonly<Record<string, number>>
  /** Whether the answer came to its own end; a stream that was cut has what came until then. */
  readonly isComplete: boolean
  readonly isStreamed: boolean
  /** The provider works on in the background: the usage comes with a later answer of the same `responseId`. */
  readonly isPending?: boolean
  /** The provider's own id of the answer. */
  readonly responseId?: string
  /** Why the provider's counts contradict each other. */
  readonly mismatch?: string
  /** The provider's usage as it came, numbers alone (`vendorUsageOf`). */
  readonly vendorUsage?: VendorUsage
  /**
   * Why counts are missing although the answer came, as a code: `unreadable_body` (not what its type says),
   * `body_too_large` (to be kept for reading), `invalid_usage` (some counts are none; the others stand).
   */
  readonly reason?: string
  /** What the provider says that it charged, in US dollars, as plain decimal text. */
  readonly reportedCostUsd?: string
  /** The provider's name for a failure. */
  readonly errorType?: string
  /** What other models did for this call, each of which becomes an event of its own. */
  readonly apart?: readonly ApartUsage[]
  /** When a batch was made, and under which ids its results are fetched. */
  readonly batch?: { readonly resultIds: readonly string[]; readonly madeAtMs: number }
}

/** A usage of a call that is billed apart from the call's own: another model's, or under another price. */
export interface ApartUsage extends UsageFindings {
  readonly responseModel?: string
  readonly serviceTier?: string
  readonly quantities: Readonly<Record<string, number>>
  readonly mismatch?: string
}

/** The usage of a call that was made before, as a later answer tells: a result of a batch. */
export interface SettledUsage {
  /** Made of the provider's own ids: the same whenever and by whomever it is read. */
  readonly id: string
  readonly operation: Operation
  /** When the call was answered, UTC milliseconds, where the result says so. */
  readonly tsMs?: number
  /** The application's own name for the call. Never stored. */
  readonly customId?: string
  /** The provider's id of the call. */
  readonly requestId?: string
  readonly usage: ReadUsage
}

/** The request as the application sends it. */
export interface ReaderRequest {
  /** The model that the URL names, for formats whose body does not. */
  readonly model?: string | undefined
  /** The file or batch whose results are fetched. */
  readonly resultsId?: string | undefined
  readonly bodyText: string | undefined
  /** Ask the provider for a stream's usage where the application did not, and hide the extra chunk again. */
  readonly injectStreamUsage: boolean
}

/**
 * Reads one exchange: first the request, then the answer's head, then its body as it passes. Never throws on
 * what a provider sends.
 */
export interface UsageReader {
  readonly requestedModel: string | undefined
  /** The request body as the application made it, where there is one; `createReader` sets it. */
  requestBody?: string | undefined
  /** The request body to send instead of the application's. */
  readonly rewrittenBody: string | undefined
  /** Text of the request, for estimating. */
  promptText(): string
  respond(status: number, header: (name: string) => string | null): void
  /**
   * Takes the next decoded bytes of the body.
   *
   * @returns the bytes that the application may see: the very same object when nothing is hidden
   */
  push(bytes: Uint8Array): Uint8Array
  /** The body has ended. @returns bytes that were held back */
  end(): Uint8Array
  result(): ReadUsage
  /** Usages of calls that were made before, which the last bytes told; each is handed out once. */
  takeSettled?(): readonly SettledUsage[]
  /** Text of the answer as far as it came, for estimating; bounded, and never leaves the process. */
  outputText(): string
  /** How often that text calls a tool; absent where the format has no tools, or hides them in text. */
  outputToolCalls?(): number
  /** The same without reading what is not read yet; absent, or undefined, where all is read. */
  keptOutput?(): KeptOutput | undefined
}

/** Text of a streamed answer, of which the end is still in the events that brought it. */
export interface KeptOutput {
  readonly text: string
  readonly toolCalls: number
  /** Whole server-sent events, one character per byte. */
  readonly events: string
}

/** A wire format: makes a reader for one exchange. */
export type ReaderFactory = (request: ReaderRequest) => UsageReader

export const NO_BYTES: Uint8Array = new Uint8Array(0)

/** Longest answer text that is kept for an estimate, in characters; beyond it the text is cut. */
export const OUTPUT_TEXT_MAX = 1_048_576

/** While it is being made: field by field, which costs less than spreading what is there. */
export type Writable<T> = { -readonly [K in keyof T]: T[K] }

/** A JSON object as it arrives: nothing about it is known. */
export type JsonObject = Readonly<Record<string, unknown>>

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Parses JSON that may be anything. @returns undefined when it is no JSON object */
export function parseJsonObject(text: string | undefined): JsonObject | undefined {
  if (text === undefined) return undefined
  try {
    const value: unknown = JSON.parse(text)
    return isJsonObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

/** A request's body, which may hold a long prompt: parsed only when something asks for more than its model. */
export class LazyBody {
  readonly #text: string | undefined
  #json: JsonObject | undefined
  #isParsed = false

  constructor(text: string | undefined) {
    this.#text = text
  }

  /** The body, when it is a JSON object. */
  get json(): JsonObject | undefined {
    if (!this.#isParsed) {
      this.#json = parseJsonObject(this.#text)
      this.#isParsed = true
    }
    return this.#json
  }

  /** The model that is asked for. Clients mostly write it first. */
  get model(): string | undefined {
    return (this.#text && MODEL_FIRST.exec(this.#text)?.[1]) ?? textAt(this.json, 'model')
  }

  /** Whether the text holds the pattern anywhere; if not, the JSON does not either. */
  mayContain(pattern: RegExp): boolean {
    return this.#text !== undefined && pattern.test(this.#text)
  }
}

const MODEL_FIRST = /^\{"model":"([^"\\]+)",/

export function objectAt(object: JsonObject | undefined, key: string): JsonObject | undefined {
  const value = object?.[key]
  return isJsonObject(value) ? value : undefined
}

export function textAt(object: JsonObject | undefined, key: string): string | undefined {
  const value = object?.[key]
  return typeof value === 'string' ? value : undefined
}

/** A count: a whole number that is not negative. Anything else counts as not reported. */
export function countAt(object: JsonObject | undefined, key: string): number | undefined {
  const value = object?.[key]
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined
}

/**
 * Takes out parts that are larger than the whole they belong to. The totals stand, so that the call is counted
 * whatever else the provider says.
 */
export function withoutContradictions(quantities: Readonly<Record<string, number>>): {
  readonly quantities: Readonly<Record<string, number>>
  readonly mismatch?: string
} {
  // Mostly there are the two totals and no parts.
  if (!hasParts(quantities)) return { quantities }
  const consistent = { ...quantities }
  let mismatch: string | undefined
  for (let found = findContradictions(consistent); found.length > 0; found = findContradictions(consistent)) {
    mismatch ??= found.map(({ message }) => message).join('; ')
    for (const { meter } of found) delete consistent[meter]
  }
  return { quantities: consistent, ...(mismatch !== undefined && { mismatch }) }
}

function hasParts(quantities: Readonly<Record<string, number>>): boolean {
  for (const meter in quantities) if (meter !== 'input_tokens' && meter !== 'output_tokens') return true
  return false
}

/** Collects text up to the limit. */
export class BoundedText {
  #text = ''
  #toolCalls = 0

  /** How often a tool is called in the text. */
  get toolCalls(): number {
    return this.#toolCalls
  }

  add(text: unknown): void {
    if (typeof text !== 'string' || this.#text.length >= OUTPUT_TEXT_MAX) return
    this.#text += text.slice(0, OUTPUT_TEXT_MAX - this.#text.length)
  }

  /** Whether more is not kept. */
  get isFull(): boolean {
    return this.#text.length >= OUTPUT_TEXT_MAX
  }

  /** Adds the name of a tool that is called; its arguments follow as text. */
  addToolCall(name: string | undefined): void {
    if (name === undefined || name === '') return
    this.#toolCalls++
    this.add(name)
  }

  toString(): string {
    return this.#text
  }
}

/** Deepest nesting in which texts are looked for; JSON may nest deeper than a stack reaches. */
const TEXT_LEVELS_MAX = 100

/** Members that hold data or name a file, in the words of the vendors. */
const DATA_KEYS: ReadonlySet<string> = new Set([
  'image_url',
  'source',
  'file',
  'input_audio',
  'inlineData',
  'inline_data',
  'fileData',
  'file_data',
  'bytesBase64Encoded',
  'images',
])

/** Joins every string below a value: message texts, tool arguments, nested parts. */
export function textsOf(
  value: unknown,
  into: BoundedText = new BoundedText(),
  levels: number = TEXT_LEVELS_MAX,
): string {
  if (levels === 0) return into.toString()
  if (typeof value === 'string') into.add(`${value}\n`)
  else if (Array.isArray(value)) for (const entry of value) textsOf(entry, into, levels - 1)
  else if (isJsonObject(value)) {
    for (const [key, entry] of Object.entries(value)) {
      // Image and file data are not text, and what they cost does not depend on their length.
      if (!DATA_KEYS.has(key)) textsOf(entry, into, levels - 1)
    }
  }
  return into.toString()
}

/** Writes parsed JSON again. @returns undefined when it nests deeper than a stack reaches, which parsing does not mind */
export function jsonText(value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch {
    return undefined
  }
}

/** Whether an answer of this content type is a stream of server-sent events. */
export function isEventStream(contentType: string | null): boolean {
  if (contentType === null || contentType === 'application/json') return false
  return contentType.toLowerCase().includes('text/event-stream')
}
