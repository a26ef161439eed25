import fc from 'fast-check'
import * as gpt4o from 'gpt-tokenizer/model/gpt-4o'
import { get_encoding } from 'tiktoken'
import { afterAll, describe, expect, it } from 'vitest'
import type { JsonObject } from '../reader.ts'
import { countTask } from './count-task.ts'
import { tokenizerOf } from './registry.ts'
import { loadVocabulary } from './vocabularies.ts'

const o200k = get_encoding('o200k_base')
const cl100k = get_encoding('cl100k_base')
afterAll(() => {
  o200k.free()
  cl100k.free()
})

function tokensOf(
  model: string,
  body: JsonObject,
  format: 'openai-chat' | 'openai-responses' = 'openai-chat',
): number {
  const encoder = model.startsWith('gpt-4o') || model.startsWith('gpt-5') ? o200k : cl100k
  return countTask(
    { kind: 'request', provider: 'openai', model, format },
    JSON.stringify(body),
    (text) => encoder.encode(text, [], []).length,
  ).tokens
}

/** "How to count tokens with tiktoken", section 6: what OpenAI's API counted. */
const JARGON = [
  {
    role: 'system',
    content:
      'You are a helpful, pattern-following assistant that translates corporate jargon into plain English.',
  },
  { role: 'system', name: 'example_user', content: 'New synergies will help drive top-line growth.' },
  {
    role: 'system',
    name: 'example_assistant',
    content: 'Things working well together will increase revenue.',
  },
  {
    role: 'system',
    name: 'example_user',
    content:
      "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
  },
  {
    role: 'system',
    name: 'example_assistant',
    content: "Let's talk later when we're less busy about how to do better.",
  },
  {
    role: 'user',
    content: "This late pivot means we don't have time to boil the ocean for the client deliverable.",
  },
]
/** Section 7. */
const WEATHER = {
  messages: [
    {
      role: 'system',
      content: 'You are a helpful assistant that can answer to questions about the weather.',
    },
    { role: 'user', content: "What's the weather like in San Francisco?" },
  ],
  tools: [
    {
      type: 'function',
      function: {
        name: 'get_current_weather',
        description: 'Get the current weather in a given location',
        parameters: {
          type: 'object',
          properties: {
            location: { type: 'string', description: 'The city and state, e.g. San Francisco, CA' },
            unit: {
              type: 'string',
              description: 'The unit of temperature to return',
              enum: ['celsius', 'fahrenheit'],
            },
          },
          required: ['location'],
        },
      },
    },
  ],
}

describe('a request to OpenAI counts as OpenAI has published', () => {
  it.each([
    ['gpt-4', 129],
    ['gpt-3.5-turbo', 129],
    ['gpt-4o', 124],
    ['gpt-4o-mini', 124],
  ])('messages with names, %s: %i', (model, tokens) => {
    expect(tokensOf(model, { messages: JARGON })).toBe(tokens)
  })

  it.each([
    ['gpt-4', 105],
    ['gpt-3.5-turbo', 105],
    ['gpt-4o', 101],
    ['gpt-4o-mini', 101],
  ])('tools, %s: %i', (model, tokens) => {
    expect(tokensOf(model, WEATHER)).toBe(tokens)
  })

  it('"You are a helpful assistant." and "Hello!": 19', () => {
    const messages = [
      { role: 'developer', content: 'You are a helpful assistant.' },
      { role: 'user', content: 'Hello!' },
    ]
    expect(tokensOf('gpt-4o', { messages })).toBe(19)
  })

  it('the same in the words of the responses API', () => {
    const input = [{ role: 'user', content: [{ type: 'input_text', text: "What's the weather like?" }] }]
    const messages = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: "What's the weather like?" },
    ]
    expect(tokensOf('gpt-4o', { instructions: 'Be brief.', input }, 'openai-responses')).toBe(
      tokensOf('gpt-4o', { messages }),
    )
  })
})

function countOf({ countChatCompletionTokens: count }: typeof gpt4o): NonNullable<typeof count> {
  if (count === undefined) throw new Error('gpt-tokenizer does not count chat completions of gpt-4o')
  return count
}

/** Texts that have a length of at most one piece: a longer one is cut (pieces.test.ts). */
const words = fc.stringMatching(/^[A-Za-z0-9 ,.'äé量-]{0,60}$/)
const name = fc.stringMatching(/^[a-z][a-z_0-9]{0,12}$/)
const message = fc.record(
  {
    role: fc.constantFrom('system', 'user', 'assistant'),
    content: words.filter((text) => text !== ''),
    name,
    function_call: fc.record({ name, arguments: fc.json({ maxDepth: 1 }) }),
  },
  { requiredKeys: ['role', 'content'] },
)
const described = { description: words.filter((text) => text !== '') }
const { schema } = fc.letrec((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3 },
    fc.record({ type: fc.constant('string'), ...described }, { requiredKeys: ['type'] }),
    fc.record({ type: fc.constant('string'), enum: fc.array(words, { minLength: 1, maxLength: 3 }) }),
    fc.record({ type: fc.constantFrom('integer', 'number', 'boolean', 'null'), ...described }),
    fc.record({ type: fc.constant('array'), items: tie('schema') }),
    tie('object'),
  ),
  object: fc
    .array(fc.tuple(name, tie('schema'), fc.boolean()), { minLength: 1, maxLength: 3 })
    .map((properties) => ({
      type: 'object',
      properties: Object.fromEntries(properties.map(([key, value]) => [key, value])),
      required: properties.filter(([, , isRequired]) => isRequired).map(([key]) => key),
    })),
}))
const definition = fc.record(
  {
    name,
    ...described,
    parameters: fc.array(fc.tuple(name, schema), { maxLength: 4 }).map((properties) => ({
      type: 'object',
      properties: Object.fromEntries(properties),
      required: properties.slice(0, 1).map(([key]) => key),
    })),
  },
  { requiredKeys: ['name'] },
)

describe('a request to OpenAI counts as with gpt-tokenizer', () => {
  it('whatever its messages and tools', () => {
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 5 }),
        fc.array(definition, { maxLength: 3 }),
        fc.constantFrom(undefined, 'auto', 'none', { name: 'get_weather' }),
        (messages, functions, choice) => {
          const body = {
            messages,
            ...(functions.length > 0 && {
              functions,
              ...(choice !== undefined && { function_call: choice }),
            }),
          }
          // Its types know fewer schemas than it counts.
          const expected: unknown = Reflect.apply(countOf(gpt4o), undefined, [body])
          expect(tokensOf('gpt-4o', body)).toBe(expected)
        },
      ),
      { numRuns: 500 },
    )
  })
})

describe('records of calls that others published', () => {
  it.each([
    ['gpt-4o-mini', 'Hello there', 9, 'Hello! How can I assist you today?', 9],
    ['gpt-4o', 'hello budd', 10, 'Hello! How can I assist you today?', 9],
    ['gpt-3.5-turbo', 'hi', 8, 'Hello! How can I assist you today?', 9],
    ['gpt-3.5-turbo', "Hi! I'm Bob", 12, 'Hello Bob! How can I assist you today?', 10],
    ['gpt-3.5-turbo', 'good morning good sir', 11, 'Good morning! How can I assist you today?', 10],
  ])('%s, "%s": %i, and "%s": %i', (model, prompt, input, answer, output) => {
    expect(tokensOf(model, { messages: [{ role: 'user', content: prompt }] })).toBe(input)
    const task = { kind: 'answer', provider: 'openai', format: 'openai-chat', model, toolCalls: 0 } as const
    const encoder = model.startsWith('gpt-4o') ? o200k : cl100k
    expect(countTask(task, answer, (piece) => encoder.encode(piece, [], []).length).tokens).toBe(output)
  })

  it('GPT-5 counts one token less around the same messages (pydantic/pydantic-ai#3447)', () => {
    expect(tokensOf('gpt-5', { messages: JARGON })).toBe(tokensOf('gpt-4o', { messages: JARGON }) - 1)
  })
})

describe('a request to another vendor counts as that has published, or near it', () => {
  const question = "What's the weather like in San Francisco?"
  const tool = {
    name: 'get_weather',
    description: 'Get the current weather in a given location',
    input_schema: {
      type: 'object',
      properties: {
        location: { type: 'string', description: 'The city and state, e.g. San Francisco, CA' },
      },
      required: ['location'],
    },
  }
  const greeting = { system: 'You are a scientist', messages: [{ role: 'user', content: 'Hello, Claude' }] }
  const fox = { contents: [{ parts: [{ text: 'The quick brown fox jumps over the lazy dog.' }] }] }
  it.each([
    // 14 and 403: Claude docs, "Token counting". 10: Gemini docs, "Understand and count tokens".
    ['anthropic-messages', 'claude-opus-4-8', greeting, 14],
    [
      'anthropic-messages',
      'claude-opus-4-8',
      { tools: [tool], messages: [{ role: 'user', content: question }] },
      416,
    ],
    ['gemini', 'gemini-2.5-flash', fox, 10],
  ] as const)('%s, %s', async (format, model, body, tokens) => {
    const { encodedLength } = await loadVocabulary(
      format === 'gemini' ? { kind: 'tiktoken', encoding: 'o200k_base' } : tokenizerOf(model).vocabulary,
    )
    const task = { kind: 'request', provider: 'vendor', model, format } as const
    expect(countTask(task, JSON.stringify(body), encodedLength).tokens).toBe(tokens)
  })

  it.each([
    ['claude-3-opus-20240229', undefined, 530],
    ['claude-3-opus-20240229', { type: 'any' }, 281],
    ['claude-3-5-haiku-latest', { type: 'tool', name: 'get_weather' }, 340],
    ['claude-sonnet-4-5', { type: 'auto' }, 346],
    ['claude-sonnet-4-5', { type: 'any' }, 313],
  ])('the tool prompt of %s with %o: %i', (model, tool_choice, prompt) => {
    const request = { messages: [{ role: 'user', content: question }] }
    const task = { kind: 'request', provider: 'anthropic', model, format: 'anthropic-messages' } as const
    const tokens = (body: object) => countTask(task, JSON.stringify(body), (text) => text.length).tokens
    const definition = JSON.stringify({
      name: tool.name,
      description: tool.description,
      parameters: tool.input_schema,
    })
    expect(tokens({ ...request, tools: [tool], tool_choice }) - tokens(request)).toBe(
      prompt + definition.length,
    )
  })

  it('Bedrock Converse as Anthropic', () => {
    const converse = {
      system: [{ text: 'You are a scientist' }],
      messages: [
        { role: 'user', content: [{ text: question }] },
        { role: 'assistant', content: [{ toolUse: { name: 'get_weather', input: { location: 'Rome' } } }] },
        { role: 'user', content: [{ toolResult: { content: [{ text: 'Rain' }] } }] },
      ],
      toolConfig: { tools: [{ toolSpec: { ...tool, inputSchema: { json: tool.input_schema } } }] },
    }
    const anthropic = {
      system: 'You are a scientist',
      messages: [
        { role: 'user', content: question },
        {
          role: 'assistant',
          content: [{ type: 'tool_use', name: 'get_weather', input: { location: 'Rome' } }],
        },
        { role: 'user', content: [{ type: 'tool_result', content: 'Rain' }] },
      ],
      tools: [tool],
    }
    const tokens = (format: 'bedrock-converse' | 'anthropic-messages', body: object) =>
      countTask(
        { kind: 'request', provider: 'p', model: 'claude-sonnet-4-5', format },
        JSON.stringify(body),
        (text) => text.length,
      )
    expect(tokens('bedrock-converse', converse)).toEqual(tokens('anthropic-messages', anthropic))
  })

  it('Gemini: calls of functions and their answers', () => {
    const body = {
      systemInstruction: { parts: [{ text: 'abc' }] },
      contents: [
        { role: 'user', parts: [{ text: 'de' }, { inlineData: { mimeType: 'image/png', data: 'aaaa' } }] },
        { role: 'model', parts: [{ functionCall: { name: 'f', args: { a: 1 } } }] },
        { role: 'user', parts: [{ functionResponse: { name: 'f', response: { b: 2 } } }] },
      ],
      tools: [{ functionDeclarations: [{ name: 'f' }] }],
    }
    const task = { kind: 'request', provider: 'p', model: 'gemini-2.5-pro', format: 'gemini' } as const
    const texts = ['abc', 'de', 'f', '{"a":1}', '{"b":2}', '{"name":"f"}']
    expect(countTask(task, JSON.stringify(body), (text) => text.length).tokens).toBe(texts.join('').length)
  })

  it('speech: its text alone', () => {
    const task = { kind: 'request', provider: 'openai', model: 'tts-1', format: 'openai-speech' } as const
    const body = JSON.stringify({ model: 'tts-1', voice: 'alloy', input: 'abc' })
    expect(countTask(task, body, (text) => text.length).tokens).toBe(3)
  })

  it('embeddings: their texts alone, or the tokens that were sent', () => {
    const task = {
      kind: 'request',
      provider: 'p',
      model: 'text-embedding-3-small',
      format: 'openai-embeddings',
    } as const
    const tokens = (input: unknown) =>
      countTask(task, JSON.stringify({ input }), (text) => text.length).tokens
    expect([tokens('abc'), tokens(['abc', 'de']), tokens([1, 2, 3]), tokens([[1, 2], [3]])]).toEqual([
      3, 5, 3, 3,
    ])
  })
})

describe('a call of a tool in an answer', () => {
  it('counts as OpenAI has published: 17', () => {
    const text = 'get_current_weather{\n"location": "Boston, MA"\n}'
    const task = {
      kind: 'answer',
      provider: 'openai',
      format: 'openai-chat',
      model: 'gpt-4o',
      toolCalls: 1,
    } as const
    expect(countTask(task, text, (piece) => o200k.encode(piece, [], []).length).tokens).toBe(17)
  })

  it('is the same read out of the events of its stream, in whole or in part', () => {
    const events = (calls: object[]) =>
      calls.map((call) => `data: ${JSON.stringify({ choices: [{ delta: call }] })}\n\n`).join('')
    const text = 'get_current_weather{\n"location": "Boston, MA"\n}'
    const stream = events([
      { tool_calls: [{ function: { name: 'get_current_weather', arguments: '' } }] },
      { tool_calls: [{ function: { arguments: '{\n"location": ' } }] },
      { tool_calls: [{ function: { arguments: '"Boston, MA"\n}' } }] },
    ])
    const whole = { kind: 'answer', provider: 'openai', format: 'openai-chat', model: 'gpt-4o' } as const
    const count = (piece: string) => o200k.encode(piece, [], []).length
    expect(countTask({ ...whole, toolCalls: 0, eventsAt: 0 }, stream, count).tokens).toBe(17)
    const head = text.slice(0, 19)
    const rest = events([{ tool_calls: [{ function: { arguments: text.slice(19) } }] }])
    expect(countTask({ ...whole, toolCalls: 1, eventsAt: 19 }, head + rest, count).tokens).toBe(17)
  })
})
