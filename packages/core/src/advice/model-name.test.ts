import { expect, test } from 'vitest'
import { hostlessModel } from './model-name.ts'

test.each([
  ['claude-3-5-haiku-latest', 'claude-3-5-haiku'],
  ['regional.anthropic.claude-3-5-haiku-20241022-v1:0', 'claude-3-5-haiku'],
  ['global.anthropic.claude-opus-4-5-v1:0', 'claude-opus-4-5'],
  ['anthropic/claude-opus-4.5', 'claude-opus-4-5'],
  ['gpt-4o-2024-08-06', 'gpt-4o'],
  ['openai.gpt-oss-120b-1:0', 'gpt-oss-120b'],
  ['openai/gpt-oss-120b', 'gpt-oss-120b'],
  ['meta.llama3-3-70b-instruct-v1:0', 'llama-3-3-70b'],
  ['llama-3.3-70b-versatile', 'llama-3-3-70b'],
  ['Meta-Llama-3_3-70B-Instruct', 'llama-3-3-70b'],
  ['meta-llama/Llama-3.3-70B-Instruct', 'llama-3-3-70b'],
  ['llama-v3p1-8b-instruct', 'llama-3-1-8b'],
  ['llama3.1-8b', 'llama-3-1-8b'],
  ['qwen.qwen3-32b-v1:0', 'qwen3-32b'],
])('%s is %s', (name, hostless) => {
  expect(hostlessModel(name)).toBe(hostless)
})

test.each([
  ['gpt-4o', 'gpt-4o-mini'],
  ['llama-3.1-8b-instruct', 'llama-3.1-8b-instruct-fp8'],
  ['llama-3.1-8b', 'llama-3.2-8b'],
  ['mistral-7b', 'mistral-7b:free'],
  ['Qwen3-235B-A22B-Instruct-2507', 'Qwen3-235B-A22B-Thinking-2507'],
])('%s is not %s', (one, other) => {
  expect(hostlessModel(one)).not.toBe(hostlessModel(other))
})
