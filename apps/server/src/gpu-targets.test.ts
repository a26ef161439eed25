import { describe, expect, it } from 'vitest'
import { readConfig } from './config.ts'

const targets = (value: unknown) =>
  readConfig({ TOKENTALLY_GPU_TARGETS: typeof value === 'string' ? value : JSON.stringify(value) }, false)
    .gpuTargets
const HOST = { name: 'node-1', dcgm: 'http://gpu-1:9400/metrics' }

describe('TOKENTALLY_GPU_TARGETS', () => {
  it('is nothing when unset or empty', () => {
    expect(readConfig({}, false).gpuTargets).toEqual([])
    expect(targets('')).toEqual([])
    expect(targets([])).toEqual([])
  })

  it('names what a host serves, by GPU where they differ', () => {
    const [one, two] = targets([
      { ...HOST, vllm: 'http://gpu-1:8000/metrics', model: 'meta-llama/Llama-3.1-8B-Instruct' },
      {
        name: 'node-2',
        dcgm: 'https://gpu-2:9400/metrics',
        vllm: ['http://gpu-2:8000/metrics', 'http://gpu-2:8001/metrics'],
        provider: 'local',
        gpus: { 'GPU-1': { model: 'a' }, 'GPU-2/7': { provider: 'other', model: 'b' } },
      },
    ])
    expect(one).toEqual({
      name: 'node-1',
      dcgmUrl: 'http://gpu-1:9400/metrics',
      vllmUrls: ['http://gpu-1:8000/metrics'],
      served: { provider: 'vllm', model: 'meta-llama/Llama-3.1-8B-Instruct' },
      gpus: new Map(),
    })
    expect(two).toMatchObject({ served: undefined, vllmUrls: { length: 2 } })
    expect([...(two?.gpus ?? [])]).toEqual([
      ['GPU-1', { provider: 'local', model: 'a' }],
      ['GPU-2/7', { provider: 'other', model: 'b' }],
    ])
  })

  it.each([
    ['node-1', 'must be a JSON array of targets'],
    [{ ...HOST, model: 'a' }, 'must be a JSON array of targets'],
    [[HOST], '0: needs a model, or gpus with their models'],
    [[{ ...HOST, model: 'a', name: 'Node 1' }], '0.name: must be 1 to 40 of a-z'],
    [[{ ...HOST, model: 'a', dcgm: 'file:///etc/passwd' }], '0.dcgm: must be an http(s) URL'],
    [[{ ...HOST, model: 'a', dcgm: 'http://u:p@gpu-1' }], '0.dcgm: must not carry a user or password'],
    [[{ ...HOST, model: 'a', vllm: ['gopher://x'] }], '0.vllm'],
    [[{ ...HOST, model: 'a', interval: 5 }], '0: Unrecognized key'],
    [[{ ...HOST, gpus: { 'GPU 1': { model: 'a' } } }], '0.gpus.GPU 1'],
    [
      [
        { ...HOST, model: 'a' },
        { ...HOST, model: 'b' },
      ],
      'has two targets of the name "node-1"',
    ],
  ])('%j is refused in one line', (value, complaint) => {
    expect(() => targets(value)).toThrow(`TOKENTALLY_GPU_TARGETS: ${complaint}`)
  })
})
