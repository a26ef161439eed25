import {
  claimsExactness,
  countAnswerByBytes,
  countByBytes,
  countRequestByBytes,
  type ReadUsage,
  type SentRequest,
  type TokenCount,
  type TokenCounter,
  type UsageReader,
  type WireFormat,
  type WrittenAnswer,
} from '@tokentally/providers'
import type { CallIdentity } from './call-identity.ts'

/** What a call is read by; the request's body only where a tap has seen one. */
export type CallReader = UsageReader

/** What a model wrote, as its reader kept it. */
export type WrittenText = Pick<UsageReader, 'outputText' | 'outputToolCalls' | 'keptOutput'>

/** A text whose tokens nobody reported. */
export interface Countable {
  readonly count: () => Promise<TokenCount>
  /** At once, where nothing can be waited for. */
  readonly byBytes: () => TokenCount
}

/** Counts of the request and of the answer, where they were asked for. */
export type Counts = readonly [input: TokenCount | undefined, output: TokenCount | undefined]

/** Largest request and answer that are counted beside the provider, in characters together. */
const SAMPLED_CHARS_MAX = 256 * 1024

/** Meters of what is no text, or of what the text does not show. */
const NOT_TEXT = /audio|image|search|code_interpreter/

/** Counts the tokens of one call's texts: where its provider reported none, and on a sample beside it. */
export class TextCounts {
  readonly #tokenCounter: TokenCounter
  readonly #call: CallIdentity
  readonly #reader: CallReader
  readonly #model: string

  constructor(tokenCounter: TokenCounter, call: CallIdentity, reader: CallReader, usage: ReadUsage) {
    this.#tokenCounter = tokenCounter
    this.#call = call
    this.#reader = reader
    this.#model = usage.responseModel ?? reader.requestedModel ?? ''
  }

  input(): Countable {
    const { format } = this.#call
    if (format === undefined) return this.#text(this.#reader.promptText())
    const request = this.#request(format)
    return {
      count: () => this.#tokenCounter.countRequest(request),
      byBytes: () => countRequestByBytes(request),
    }
  }

  /** @param answer kept by another reader where the answer was made in the background */
  output(answer: WrittenText): Countable {
    const { format } = this.#call
    if (format === undefined) return this.#text(answer.outputText())
    const written = this.#written(format, answer)
    return {
      count: () => this.#tokenCounter.countAnswer(written),
      byBytes: () => countAnswerByBytes(written),
    }
  }

  /**
   * What the tokenizer makes of a call that its provider has counted.
   *
   * @returns undefined where the two need not agree: the tokenizer claims no exactness, there is more than text, or
   *   too much of it
   */
  besideReported(quantities: Readonly<Record<string, number>>): Promise<Counts> | undefined {
    const { provider, format } = this.#call
    if (format === undefined || !claimsExactness({ provider, model: this.#model })) return undefined
    if (Object.keys(quantities).some((meter) => NOT_TEXT.test(meter))) return undefined
    const request = this.#request(format)
    const written = this.#written(format, this.#reader)
    const length = (request.body?.length ?? 0) + written.text.length + written.events.length
    if (length > SAMPLED_CHARS_MAX) return undefined
    // Reasoning is inside the output, and its text is not shown.
    const isShown = (quantities['reasoning_tokens'] ?? 0) === 0
    return Promise.all([
      this.#tokenCounter.countRequest(request),
      isShown ? this.#tokenCounter.countAnswer(written) : undefined,
    ])
  }

  /** Of a call that an adapter saw, there is text alone. */
  #text(text: string): Countable {
    return {
      count: () => this.#tokenCounter.count(text, this.#model),
      byBytes: () => countByBytes(text),
    }
  }

  #request(format: WireFormat): SentRequest {
    return { provider: this.#call.provider, format, model: this.#model, body: this.#reader.requestBody }
  }

  #written(format: WireFormat, answer: WrittenText): WrittenAnswer {
    return {
      provider: this.#call.provider,
      format,
      model: this.#model,
      ...(answer.keptOutput?.() ?? {
        text: answer.outputText(),
        toolCalls: answer.outputToolCalls?.() ?? 0,
        events: '',
      }),
    }
  }
}
