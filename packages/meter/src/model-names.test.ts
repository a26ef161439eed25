import { describe, expect, it } from 'vitest'
import { parseModels } from './model-names.ts'

const PROFILE = 'arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abc123'

describe('models', () => {
  it('are given by name: a deployment, an ARN', () => {
    const models = parseModels(`my-deployment=gpt-4o-mini, ${PROFILE}=eu.anthropic.claude-sonnet-4-5,`)
    expect([...models]).toEqual([
      ['my-deployment', 'gpt-4o-mini'],
      [PROFILE, 'eu.anthropic.claude-sonnet-4-5'],
    ])
  })

  it.each(['my-deployment', '=gpt-4o', 'my-deployment='])('that are wrong are named: %s', (text) => {
    expect(() => parseModels(text)).toThrow(`models "${text}" must be written as NAME=MODEL`)
  })
})
