import { describe, expect, it } from 'vitest'
import { isKnownProviderHost, mayBeCall, recognize } from '../recognize.ts'

const at = (host: string, path: string, method = 'POST') => {
  const url = new URL(`https://${host}${path}`)
  return mayBeCall(url.href) ? recognize(url, method) : undefined
}
const HOST = 'bedrock-runtime.us-east-1.amazonaws.com'

describe('hosts of Bedrock', () => {
  it.each([
    [HOST, 'us-east-1'],
    ['bedrock-runtime-fips.us-gov-west-1.amazonaws.com', 'us-gov-west-1'],
    ['bedrock-runtime.eu-central-1.api.aws', 'eu-central-1'],
    ['bedrock-runtime-fips.us-west-2.api.aws', 'us-west-2'],
    ['vpce-1-abc.bedrock-runtime.ap-northeast-1.vpce.amazonaws.com', 'ap-northeast-1'],
  ])('%s is in %s', (host, region) => {
    expect(at(host, '/model/amazon.nova-pro-v1%3A0/converse')).toEqual({
      provider: 'aws.bedrock',
      region,
      format: 'bedrock-converse',
      operation: 'chat',
      model: 'amazon.nova-pro-v1:0',
    })
  })

  it.each([HOST, 'bedrock-runtime-fips.us-gov-west-1.amazonaws.com', 'bedrock-mantle.us-east-1.api.aws'])(
    '%s is known',
    (host) => expect(isKnownProviderHost(host)).toBe(true),
  )

  it.each([
    'bedrock.us-east-1.amazonaws.com',
    'evil-bedrock-runtime.us-east-1.amazonaws.com',
    `${HOST}.evil.com`,
  ])('%s is none', (host) => expect(at(host, '/model/amazon.nova-pro-v1%3A0/converse')).toBeUndefined())

  it('speak the APIs of others too', () => {
    const others = { provider: 'aws.bedrock', region: 'us-east-1', operation: 'chat' }
    const mantle = 'bedrock-mantle.us-east-1.api.aws'
    expect(at(mantle, '/openai/v1/chat/completions')).toEqual({ ...others, format: 'openai-chat' })
    expect(at(mantle, '/v1/responses')).toEqual({ ...others, format: 'openai-responses' })
    expect(at(mantle, '/anthropic/v1/messages')).toEqual({ ...others, format: 'anthropic-messages' })
    expect(at(HOST, '/openai/v1/chat/completions')).toEqual({ ...others, format: 'openai-chat' })
  })
})

describe('models of Bedrock', () => {
  it.each([
    ['amazon.nova-lite-v1:0', 'amazon.nova-lite-v1:0'],
    ['us.anthropic.claude-sonnet-4-5-20250929-v1:0', 'us.anthropic.claude-sonnet-4-5-20250929-v1:0'],
    ['global.anthropic.claude-opus-4-5-20251101-v1:0', 'global.anthropic.claude-opus-4-5-20251101-v1:0'],
    ['arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0', 'amazon.nova-lite-v1:0'],
    [
      'arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:inference-profile/us-gov.anthropic.claude-3-haiku-20240307-v1:0',
      'us-gov.anthropic.claude-3-haiku-20240307-v1:0',
    ],
    [
      'arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123',
      'arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123',
    ],
    [
      'arn:aws:bedrock:us-east-1:123456789012:provisioned-model/xyz',
      'arn:aws:bedrock:us-east-1:123456789012:provisioned-model/xyz',
    ],
  ])('%s', (id, model) => {
    expect(at(HOST, `/model/${encodeURIComponent(id)}/invoke`)?.model).toBe(model)
    expect(at(HOST, `/model/${id}/invoke-with-response-stream`)?.model).toBe(model)
  })

  it.each([
    ['amazon.titan-embed-text-v2:0', 'embeddings'],
    ['cohere.embed-v4:0', 'embeddings'],
    ['us.twelvelabs.marengo-embed-3-0-v1:0', 'embeddings'],
    ['cohere.rerank-v3-5:0', 'rerank'],
    ['amazon.nova-canvas-v1:0', 'image_generation'],
    ['stability.sd3-5-large-v1:0', 'image_generation'],
    ['amazon.titan-text-express-v1', 'chat'],
  ])('%s makes %s', (model, operation) => {
    expect(at(HOST, `/model/${model}/invoke`)?.operation).toBe(operation)
  })

  it.each([
    ['POST', '/model/amazon.nova-lite-v1:0/count-tokens'],
    ['GET', '/model/amazon.nova-lite-v1:0/converse'],
    ['POST', '/async-invoke'],
    ['POST', '/guardrail/g/version/1/apply'],
    ['POST', '/model//converse'],
  ])('%s %s is no call that is counted', (method, path) => {
    expect(at(HOST, path, method)).toBeUndefined()
  })

  it('an id that is not well encoded is taken as it stands', () => {
    expect(at(HOST, '/model/a%E0%A4%A/converse')?.model).toBe('a%E0%A4%A')
  })
})
