import { describe, expect, it } from 'vitest'
import { tokenMultiplier } from './service-tiers.ts'

describe('a service tier', () => {
  it.each<[provider: string, tier: string | undefined, multiplier: string | undefined]>([
    ['anthropic', undefined, '1'],
    ['anthropic', 'standard', '1'],
    ['anthropic', 'batch', '0.5'],
    ['anthropic', 'standard_us', '1.1'],
    ['azure.ai.openai', 'batch', '0.5'],
    ['mistral_ai', 'batch', '0.5'],
    ['gcp.gemini', 'flex', '0.5'],
    ['gcp.vertex_ai', 'on_demand', '1'],
    // Other prices for each model, or capacity by contract: not known, and not guessed.
    ['anthropic', 'fast', undefined],
    ['anthropic', 'batch_us', undefined],
    ['groq', 'batch', undefined],
    ['gcp.vertex_ai', 'on_demand_flex', undefined],
    ['anthropic', 'priority_us', undefined],
    ['gcp.gemini', 'priority', undefined],
    ['gcp.vertex_ai', 'provisioned_throughput', undefined],
    ['gcp.vertex_ai', 'on_demand_offpeak', undefined],
  ])('of %s, %s, multiplies prices by %s', (provider, tier, multiplier) => {
    expect(tokenMultiplier(provider, tier)).toBe(multiplier)
  })
})
