import { isJsonObject, type JsonObject, jsonText, objectAt, textAt, textsOf } from '../reader.ts'

/** What a request says to a model, without the words of its wire format. */
export interface Dialogue {
  readonly messages: readonly Message[]
  readonly tools: readonly ToolDefinition[]
  /** Which tool the model must use: `auto` where nothing was said. */
  readonly toolChoice: 'auto' | 'none' | 'any' | { readonly name: string }
  /** Texts that belong to no message: what is embedded, completed, ranked. */
  readonly texts: readonly string[]
  /** Tokens that the application counted out itself, where it sends their numbers. */
  readonly givenTokens: number
  /** Whether there is something that is no text (images, audio, files): its tokens are not counted. */
  readonly hasMedia: boolean
  /** Whether there is something whose tokens nobody documents: a schema of the answer, earlier reasoning. */
  readonly hasUnknown: boolean
}

export interface Message {
  readonly role: string
  readonly name?: string
  readonly texts: readonly string[]
  readonly toolCalls: readonly ToolCall[]
}

export interface ToolCall {
  readonly name: string
  /** JSON. */
  readonly argumentsText: string
}

export interface ToolDefinition {
  readonly name: string
  readonly description?: string
  /** JSON Schema. */
  readonly parameters?: JsonObject
}

/** Deepest nesting of parts that is followed. */
const LEVELS_MAX = 20

/** Members that hold what an application says, where no message does. */
const TEXT_KEYS = [
  'prompt',
  'suffix',
  'input',
  'inputText',
  'query',
  'documents',
  'texts',
  'content',
  'requests',
]

/**
 * Reads a request of any of the wire formats: they use different words for the same things, and no word for two
 * of them, so that hosts which mix formats are read as well.
 *
 * @param isTextAlone whether the texts are not said to anybody: `input` is a conversation elsewhere
 */
export function readDialogue(body: JsonObject, isTextAlone: boolean): Dialogue {
  const reader = new DialogueReader()
  if (isTextAlone) {
    for (const key of TEXT_KEYS) reader.addText(body[key])
    return reader.dialogue()
  }
  for (const key of ['system', 'instructions', 'systemInstruction', 'system_instruction']) {
    if (body[key] !== undefined && body[key] !== null) reader.addMessage('system', body[key])
  }
  for (const key of ['messages', 'contents']) {
    const messages = body[key]
    if (Array.isArray(messages)) for (const message of messages) reader.addEntry(message)
    else if (messages !== undefined) reader.addMessage('user', messages)
  }
  const { input } = body
  if (Array.isArray(input)) for (const item of input) reader.addEntry(item)
  else if (typeof input === 'string') reader.addMessage('user', input)
  for (const key of ['prompt', 'suffix', 'inputText', 'texts', 'query', 'documents'])
    reader.addText(body[key])
  reader.addTools(body['tools'])
  reader.addTools(body['functions'])
  reader.addTools(objectAt(body, 'toolConfig')?.['tools'])
  reader.choose(body['tool_choice'] ?? body['function_call'] ?? objectAt(body, 'toolConfig')?.['toolChoice'])
  // Parts that add tokens in a way that no vendor documents, or that the provider remembers.
  reader.hasUnknown ||=
    isFormatted(body['response_format']) ||
    isFormatted(objectAt(body, 'text')?.['format']) ||
    isJsonObject(body['prompt']) ||
    ['previous_response_id', 'conversation', 'web_search_options', 'prediction'].some((key) => body[key])
  return reader.dialogue()
}

/** Whether the answer must have another form than text. */
function isFormatted(format: unknown): boolean {
  return isJsonObject(format) && format['type'] !== 'text'
}

class DialogueReader {
  readonly #messages: Message[] = []
  readonly #tools: ToolDefinition[] = []
  readonly #texts: string[] = []
  #toolChoice: Dialogue['toolChoice'] = 'auto'
  #givenTokens = 0
  #hasMedia = false
  hasUnknown = false

  dialogue(): Dialogue {
    return {
      messages: this.#messages,
      tools: this.#tools,
      toolChoice: this.#toolChoice,
      texts: this.#texts,
      givenTokens: this.#givenTokens,
      hasMedia: this.#hasMedia,
      hasUnknown: this.hasUnknown,
    }
  }

  /** One entry of a list of messages. */
  addEntry(entry: unknown): void {
    if (!isJsonObject(entry)) {
      if (typeof entry === 'string') this.addMessage('user', entry)
      return
    }
    switch (entry['type']) {
      case 'function_call':
        this.#messages.push({ role: 'assistant', texts: [], toolCalls: [toolCallOf(entry)] })
        return
      case 'function_call_output':
        this.addMessage('tool', entry['output'])
        return
      case 'reasoning':
      case 'item_reference':
        this.hasUnknown = true
        return
    }
    const name = textAt(entry, 'name')
    const parts = new Parts()
    parts.add(entry['content'] ?? entry['parts'])
    const calls = entry['tool_calls']
    if (Array.isArray(calls)) for (const call of calls) parts.addCall(objectAt(asObject(call), 'function'))
    parts.addCall(objectAt(entry, 'function_call'))
    this.#push(textAt(entry, 'role') ?? 'user', parts, name)
  }

  addMessage(role: string, content: unknown): void {
    const parts = new Parts()
    parts.add(content)
    this.#push(role, parts)
  }

  #push(role: string, parts: Parts, name?: string): void {
    this.#hasMedia ||= parts.hasMedia
    this.hasUnknown ||= parts.hasUnknown
    this.#messages.push({
      role,
      texts: parts.texts,
      toolCalls: parts.toolCalls,
      ...(name !== undefined && { name }),
    })
  }

  /** A text, several, or the numbers of tokens. */
  addText(value: unknown): void {
    if (typeof value === 'string') this.#texts.push(value)
    else if (Array.isArray(value)) {
      if (value.every((entry) => typeof entry === 'number')) this.#givenTokens += value.length
      else for (const entry of value) this.addText(entry)
    } else if (isJsonObject(value)) {
      this.#texts.push(textsOf(value))
    }
  }

  addTools(tools: unknown): void {
    if (!Array.isArray(tools)) return
    for (const tool of tools.filter(isJsonObject)) {
      const declared = tool['functionDeclarations'] ?? tool['function_declarations']
      if (Array.isArray(declared)) {
        this.addTools(declared)
        continue
      }
      const definition = objectAt(tool, 'function') ?? objectAt(tool, 'toolSpec') ?? tool
      const name = textAt(definition, 'name')
      // A provider's own tool (web search) has no schema here, and its tokens are not documented.
      if (
        name === undefined ||
        (tool['type'] !== undefined && tool['type'] !== 'function' && tool['type'] !== 'custom')
      ) {
        this.hasUnknown = true
        continue
      }
      const description = textAt(definition, 'description')
      const schema =
        objectAt(definition, 'parameters') ??
        objectAt(definition, 'input_schema') ??
        objectAt(objectAt(definition, 'inputSchema'), 'json')
      this.#tools.push({
        name,
        ...(description !== undefined && { description }),
        ...(schema !== undefined && { parameters: schema }),
      })
    }
  }

  choose(choice: unknown): void {
    const kind = typeof choice === 'string' ? choice : textAt(asObject(choice), 'type')
    const name = textAt(objectAt(asObject(choice), 'function'), 'name') ?? textAt(asObject(choice), 'name')
    if (name !== undefined) this.#toolChoice = { name }
    else if (kind === 'none') this.#toolChoice = 'none'
    else if (kind === 'any' || kind === 'required') this.#toolChoice = 'any'
  }
}

/** The parts of one message. */
class Parts {
  readonly texts: string[] = []
  readonly toolCalls: ToolCall[] = []
  hasMedia = false
  hasUnknown = false

  add(content: unknown, levels: number = LEVELS_MAX): void {
    if (levels === 0) return
    if (typeof content === 'string') {
      if (content !== '') this.texts.push(content)
    } else if (Array.isArray(content)) {
      for (const part of content) this.add(part, levels - 1)
    } else if (isJsonObject(content)) {
      this.#addPart(content, levels - 1)
    }
  }

  addCall(call: JsonObject | undefined): void {
    if (call !== undefined) this.toolCalls.push(toolCallOf(call))
  }

  #addPart(part: JsonObject, levels: number): void {
    const type = textAt(part, 'type')
    if (type === 'thinking' || type === 'redacted_thinking' || part['reasoningContent'] !== undefined) {
      this.hasUnknown = true
    } else if (type === 'tool_use') {
      this.addCall(part)
    } else if (part['toolUse'] !== undefined || part['functionCall'] !== undefined) {
      this.addCall(objectAt(part, 'toolUse') ?? objectAt(part, 'functionCall'))
    } else if (type === 'tool_result') {
      this.add(part['content'], levels)
    } else if (part['toolResult'] !== undefined) {
      this.add(objectAt(part, 'toolResult')?.['content'], levels)
    } else if (part['functionResponse'] !== undefined) {
      this.add(jsonText(objectAt(part, 'functionResponse')?.['response']), levels)
    } else if (part['json'] !== undefined) {
      this.add(jsonText(part['json']), levels)
    } else {
      const text = textAt(part, 'text') ?? textAt(part, 'refusal')
      if (text !== undefined) this.add(text, levels)
      else if (part['parts'] !== undefined) this.add(part['parts'], levels)
      else this.hasMedia = true
    }
  }
}

function toolCallOf(call: JsonObject): ToolCall {
  const given = call['arguments'] ?? call['input'] ?? call['args']
  return {
    name: textAt(call, 'name') ?? '',
    argumentsText: typeof given === 'string' ? given : given === undefined ? '' : (jsonText(given) ?? ''),
  }
}

function asObject(value: unknown): JsonObject | undefined {
  return isJsonObject(value) ? value : undefined
}
